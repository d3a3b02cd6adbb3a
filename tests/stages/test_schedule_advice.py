"""Advice on schedules: rates of the power schedule that are for models in muP, and blends of `reuse`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from stage_runs import artifact

from cpt.stages.base import Artifact
from cpt.stages.pretrain.schedule_advice import schedule_advice
from cpt.stages.pretrain.stage import STAGE as PRETRAIN

STEPS, RUN = 1_000, 10_000_000


def model(folder: Path, **changes: Any) -> dict[str, Artifact]:
    """The settings of a Llama of the width of SmolLM2-135M."""
    (folder / "model").mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 576}
    config |= {"intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    (folder / "model" / "config.json").write_text(json.dumps(config | changes))
    return {"model": artifact("base", folder, "model")}


def advice(inputs: dict[str, Artifact], **schedule: Any) -> list[str]:
    config = PRETRAIN.Config.model_validate({"schedule": {"kind": "power", **schedule}})
    return schedule_advice(config, inputs, STEPS, RUN)


def test_the_published_peak_is_divided_by_the_width(tmp_path: Path) -> None:
    """0.02 · 256 / 576 = 0.0089 and 4.6 · 256 / 576 = 2.0; what is offered is not warned of."""
    inputs = model(tmp_path)
    (said,) = advice(inputs)
    assert "reaches a rate of 0.02" in said
    found = re.search(r"peak: ([\d.e-]+), a: ([\d.e-]+)}", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(0.02 * 256 / 576, rel=0.01)
    assert float(found[2]) == pytest.approx(4.6 * 256 / 576, rel=0.05)
    assert advice(inputs, peak=float(found[1]), a=float(found[2])) == []


def test_low_rates_narrow_models_and_models_in_mup_are_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    assert advice(model(tmp_path / "wide"), peak=3e-4) == []
    for name, changes in {
        "narrow": {"hidden_size": 252},
        "minicpm": {"dim_model_base": 256},
        "granite": {"logits_scaling": 8.0},
    }.items():
        (tmp_path / name).mkdir()
        assert advice(model(tmp_path / name, **changes)) == []
    assert advice({}) == []


def test_other_schedules_have_no_such_advice(tmp_path: Path) -> None:
    inputs = model(tmp_path)
    config = PRETRAIN.Config.model_validate({"schedule": {"kind": "wsd", "peak": 0.02}})
    assert schedule_advice(config, inputs, STEPS, RUN) == []


def blend(min_ratio: float, steps: int, *ends: str | float) -> list[str]:
    """Return the advice on a `reuse` schedule and a mixture of phases with these ends, and one after them."""
    settings = {"schedule": {"kind": "reuse", "start": 3e-5, "min_ratio": min_ratio}}
    phases = [{"until": end, "replay": 0.1} for end in ends]
    mixture = {"mixture": [*phases, {"replay": 0.2}]} if ends else {}
    return schedule_advice(PRETRAIN.Config.model_validate(settings | mixture), {}, steps, RUN)


def test_a_blend_that_changes_as_published_is_not_warned_of() -> None:
    assert blend(0.01, 1_000, "rate/5") == []
    assert blend(0.01, 1_000, 0.9) == []
    (said,) = blend(0.01, 1_000)
    assert "the blend stays the same" in said


@pytest.mark.parametrize("ends", [(), (0.9,)])
def test_a_floor_above_a_fifth_of_the_start_is_told(ends: tuple[float, ...]) -> None:
    (said,) = blend(0.3, 1_000, *ends)
    assert "falls to 0.3 of its start and never to a fifth" in said


@pytest.mark.parametrize(("steps", "told"), [(3, False), (1, True)])
def test_a_run_without_a_step_after_the_fall_is_told(steps: int, told: bool) -> None:
    """By hand: the cosine from 1 to 0.01 is at a fifth where (1 + cos πt)/2 = 0.19/0.99, t = 0.711."""
    falls = math.acos(2 * 0.19 / 0.99 - 1) / math.pi
    assert falls == pytest.approx(0.711, abs=1e-3)
    said = blend(0.01, steps, "rate/5")
    assert bool(said) is told is (round(falls * steps) >= steps)
    assert not told or "gets to rate/5 after 71% of the run, which has 1 step" in said[0]


def test_a_floor_of_just_a_fifth_is_reached_too_late_for_a_short_run() -> None:
    (said,) = blend(0.1999, 20, "rate/5")
    assert "no step is left for another blend" in said
    assert "20 steps" in said
    assert blend(0.1999, 20_000, "rate/5") == []
    (said,) = blend(0.01, 7, "rate/50")
    assert "gets to rate/50 after 94% of the run, which has 7 steps" in said
