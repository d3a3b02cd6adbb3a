"""`gradient_sync: last`: the same training as with a sum after every micro batch, with fewer sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import several
from several import FSDP2, facts, weights
from tiny_runs import SETTINGS, records
from torch.testing import assert_close

from cpt.recipe.fingerprint import config_data
from cpt.stages.pretrain.config import PretrainConfig

STEPS, MICRO_BATCHES = 3, 3
"""Steps of a run, and micro batches of each process, of which one has no row for its last."""

KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "rounded": {"dtype": "bfloat16", "master_weights": "stochastic-rounding"},
    "rows": {"new_tokens": [5, 290], "trainable": {"kind": "all", "embeddings_first": 0.5}},
}
ROUNDING = {"bfloat16": (1e-4, 1e-3), "rounded": (5e-4, 0.03)}
"""Largest relative difference of a loss, and largest difference of a weight; 1e-6 in float32."""


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained in both ways."""
    plain = {"micro_batch": 1, "steps": STEPS}
    jobs = {
        f"{kind}-{when}": {
            "rows": 5,
            "counted": True,
            "environment": FSDP2,
            "settings": plain | settings | {"gradient_sync": when},
        }
        for kind, settings in KINDS.items()
        for when in ("every", "last")
    }
    return several.run_in(tmp_path_factory.mktemp("two"), tiny_model, jobs)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sum_a_step_trains_as_one_a_micro_batch_does(done: Path, kind: str) -> None:
    every, last = (
        [each["loss_nats"] for each in records(done / "work" / f"{kind}-{when}")]
        for when in ("every", "last")
    )
    of_losses, of_weights = ROUNDING.get(kind, (1e-6, 1e-6))
    assert last == pytest.approx(every, rel=of_losses)
    moved = weights(done, f"{kind}-last")
    for name, weight in weights(done, f"{kind}-every").items():
        assert_close(moved[name], weight, atol=of_weights, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_summed_once_per_step(done: Path, kind: str) -> None:
    sums = 1 + 1 + 3 if kind == "rows" else STEPS * 3  # two layers and the rest; the rest alone at first
    assert facts(done, f"{kind}-last")["sums"] == sums
    assert facts(done, f"{kind}-every")["sums"] == MICRO_BATCHES * sums


def test_a_run_may_go_on_with_the_other_value() -> None:
    assert SETTINGS.with_changes(gradient_sync="last").fixed_values() == SETTINGS.fixed_values()
    every, last = (PretrainConfig.model_validate({"gradient_sync": when}) for when in ("every", "last"))
    assert config_data(every) == config_data(last)
