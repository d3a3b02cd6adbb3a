"""A share of replay that whole rows of a batch change is told, in the plan and by a warning."""

from __future__ import annotations

from typing import Any

import pytest

from cpt.corpus.mixture import trained_share
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.stages.pretrain.trained_replay import rounded_replay


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate(settings)


@pytest.mark.parametrize(
    ("share", "batch", "rows"), [(0.1, 8, 1), (0.12, 8, 1), (0.2, 8, 2), (0.05, 20, 1), (0, 8, 0)]
)
def test_a_difference_above_a_tenth_is_told(share: float, batch: int, rows: int) -> None:
    warnings = rounded_replay(config_of(replay=share, batch_sequences=batch))
    assert trained_share(share, batch) == rows / batch
    assert bool(warnings) == (abs(rows / batch - share) > 0.1 * share)


def test_the_words() -> None:
    (warning,) = rounded_replay(config_of(replay=0.1, batch_sequences=8))
    assert warning == "`replay: 0.1` trains on 0.125 replay: 1 of 8 sequences of a batch"
    phases = [{"replay": 0.1, "until": 0.5}, {"replay": 0.25}]
    (warning,) = rounded_replay(config_of(mixture=phases, batch_sequences=8))
    assert warning.startswith("`mixture.0.replay: 0.1` trains on 0.125")


def test_a_share_that_cannot_be_trained_is_left_to_the_checks() -> None:
    assert rounded_replay(config_of(replay=0.01, batch_sequences=8)) == []


def test_the_plan_says_what_is_trained() -> None:
    forecast = PRETRAIN.forecast(config_of(tokens=1_000, replay=0.1), {}, {})
    assert forecast.startswith("1,000 tokens, 12.5% replay; `replay: 0.1` trains on 0.125 replay: 1 of 8")
    assert PRETRAIN.forecast(config_of(replay=0.1), {}, {}).startswith(
        "1 times the domain text, 12.5% replay;"
    )
    assert PRETRAIN.forecast(config_of(tokens=1_000), {}, {}).startswith("1,000 tokens;")
