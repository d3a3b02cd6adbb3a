"""Settings of the monitor, judged without a run."""

from typing import Any

import pytest
from pydantic import ValidationError

from cpt.stages.pretrain.config import Monitor

"""Of a monitor that reads the corpus's held-out text alone, as often as is due."""


NOTHING_MORE = {"probe_share": None, "samples": None, "weights": None, "early_end": None}
"""Of a monitor that reads the corpus's held-out text alone, as often as is due."""


def config(**monitor: Any) -> dict[str, Any]:
    plain = {"tokens": 900, "batch_sequences": 4, "precision": "fp32"}
    return plain | {"schedule": {"peak": 2e-2, "warmup": 0}, "monitor": NOTHING_MORE | monitor}


@pytest.mark.parametrize("name", ["general", "drift", "loss", "Chat", "a b"])
def test_names_that_are_taken_or_no_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Monitor.model_validate({"texts": {name: {"sources": [{"path": "a.jsonl"}]}}})


def test_a_share_may_be_a_percentage_and_is_one() -> None:
    assert Monitor.model_validate({"probe_share": "5%"}).probe_share == 0.05
    for wrong in ("five%", "0%", 0, 1.5):
        with pytest.raises(ValidationError):
            Monitor.model_validate({"probe_share": wrong})
    with pytest.raises(ValidationError, match="write `5%`"):
        Monitor.model_validate({"probe_share": 5})
    with pytest.raises(ValidationError, match="either every"):
        Monitor.model_validate({"every": 3, "every_tokens": 100})
