"""Advice on schedules: warm-ups of no step, rates of `power` for models in muP, and blends of `reuse`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from stage_runs import artifact

from cpt.stages.base import Artifact
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.schedule_advice import continued_advice, schedule_advice
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


@pytest.mark.parametrize("kind", ["constant", "rewarm-cosine", "wsd", "infinite", "rex"])
@pytest.mark.parametrize(
    ("share", "steps", "offered"),
    [(0.01, 20, 0.2), (0.02, 40, 0.1), (0.01, 60, 0.07), (0.01, 150, None), (0.0, 20, None), (0.1, 9, None)],
)
def test_a_warm_up_without_a_step_below_the_peak_is_told(
    kind: str, share: float, steps: int, offered: float | None
) -> None:
    def told(warmup: float) -> list[str]:
        settings = {"schedule": {"kind": kind, "warmup": warmup}}
        return schedule_advice(PRETRAIN.Config.model_validate(settings), {}, steps, RUN)

    said = told(share)
    if offered is None:
        assert said == []
        return
    assert said[0].endswith(f"Some runs break so. 4 steps are warmup: {offered:g}")
    schedule = PRETRAIN.Config.model_validate({"schedule": {"kind": kind, "warmup": offered}}).schedule
    assert schedule.rate(0, steps) < schedule.highest == pytest.approx(schedule.rate(4, steps), rel=0.05)
    assert told(offered) == []


@pytest.mark.parametrize(("kind", "steps"), [("constant", 20), ("wsd", 60), ("infinite", 60), ("power", 60)])
def test_a_share_that_is_left_out_is_the_schedule_s_own(kind: str, steps: int) -> None:
    schedule = PRETRAIN.Config.model_validate({"schedule": {"kind": kind}})
    assert any("is none: the first step" in said for said in schedule_advice(schedule, {}, steps, RUN))


def test_a_schedule_that_goes_on_without_a_warm_up_is_not_told() -> None:
    schedule = {"kind": "infinite", "continues": True}
    assert schedule_advice(PRETRAIN.Config.model_validate({"schedule": schedule}), {}, 20, RUN) == []


def test_the_published_peak_is_warned_of_and_a_usual_one_offered(tmp_path: Path) -> None:
    """The offer keeps the ratio of the published a and peak, 4.6 / 0.02, and is not warned of."""
    inputs = model(tmp_path)
    (said,) = advice(inputs)
    assert "reaches a rate of 0.02" in said
    found = re.search(r"peak: ([\d.e-]+), a: ([\d.e-]+)", said)
    assert found is not None
    assert float(found[1]) == 3e-4
    assert float(found[2]) / float(found[1]) == pytest.approx(4.6 / 0.02, rel=0.01)
    assert advice(inputs, peak=float(found[1]), a=float(found[2])) == []


def test_low_rates_and_models_in_mup_are_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = model(tmp_path / "plain")
    assert advice(plain, peak=1e-3) == []
    assert advice(plain, peak=0.0089, a=2.0) != []  # what muP's division would give
    for name, changes in {
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


INFINITE = {"kind": "infinite", "peak": 2e-4, "constant": 1e-4, "floor": 1e-5}
GOES_ON = {"kind": "infinite", "continues": True, "constant": 1e-4, "floor": 1e-5}
BEFORE_ANNEAL = {"checkpoint": "pre-anneal"}


def training(schedule: dict[str, Any], **more: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({"schedule": schedule, "tokens": 100_000, **more})


def test_the_rate_of_a_power_law_of_unknown_tokens_is_not_told() -> None:
    before = PretrainConfig.model_validate({"schedule": {"kind": "power", "peak": 3e-4}})
    assert before.tokens is None
    assert continued_advice(training(GOES_ON, start=BEFORE_ANNEAL), before) == []


@pytest.mark.parametrize("unit", ["steps", "tokens"])
@pytest.mark.parametrize(
    ("own", "start", "earlier", "says"),
    [
        (GOES_ON, BEFORE_ANNEAL, INFINITE, None),
        (GOES_ON, None, INFINITE, "first ends at 1e-05: set start: {checkpoint: pre-anneal}"),
        (GOES_ON, {"checkpoint": "last"}, INFINITE, "first ends at 1e-05"),
        (GOES_ON, {"checkpoint": 40}, INFINITE, None),  # the rate of a milestone is not known
        (GOES_ON | {"constant": 5e-5}, BEFORE_ANNEAL, INFINITE, "at 0.0001: set constant: 0.0001"),
        (GOES_ON, BEFORE_ANNEAL, {"kind": "wsd", "peak": 3e-4}, "at 0.0003: set constant: 0.0003"),
        (GOES_ON, BEFORE_ANNEAL, {"kind": "wsd", "peak": 1e-4}, None),
        (GOES_ON, None, {"kind": "constant", "peak": 1e-4}, None),
        (GOES_ON, None, {"kind": "constant", "peak": 2e-4}, "first ends at 0.0002: set constant: 0.0002"),
        (
            GOES_ON,
            None,
            {"kind": "linear", "floor": 5e-6},
            "ends at 5e-06: set constant: 5e-06, floor: 5e-07",
        ),
        (GOES_ON, None, {"kind": "cosine", "floor": 0.0}, "ends at 0: leave `continues` out"),
        (GOES_ON, BEFORE_ANNEAL, {"kind": "power", "peak": 1e-4, "a": 1.0}, None),
        (GOES_ON, BEFORE_ANNEAL, {"kind": "power", "peak": 2e-4, "a": 1.0}, "set constant: 0.0002"),
        (GOES_ON, None, None, "comes from no pretrain stage"),
        (INFINITE, BEFORE_ANNEAL, INFINITE, "rises to 0.0002 once more"),
        (INFINITE, None, INFINITE, None),
        (INFINITE, None, None, None),
        ({"kind": "wsd", "peak": 2e-4}, BEFORE_ANNEAL, INFINITE, None),
    ],
)
def test_a_training_that_continues_is_told_if_it_does_not_begin_at_the_rate_before(
    own: dict[str, Any], start: Any, earlier: dict[str, Any] | None, says: str | None, unit: str
) -> None:
    before = None if earlier is None else training(earlier | {"unit": unit}, name="first")
    said = continued_advice(training(own, start=start), before)
    assert len(said) == (says is not None)
    assert says is None or says in said[0]


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


def test_a_floor_above_a_fifth_of_the_start_is_told() -> None:
    (said,) = blend(0.3, 1_000)
    assert "falls to 0.3 of its start and never to a fifth" in said
    assert blend(0.3, 1_000, 0.9) == blend(0.3, 1_000, "rate/2") == []  # blends that change elsewhere


@pytest.mark.parametrize(("steps", "told"), [(3, False), (1, True)])
def test_a_run_without_a_step_after_the_fall_is_told(steps: int, told: bool) -> None:
    """By hand: the cosine from 1 to 0.01 is at a fifth where (1 + cos πt)/2 = 0.19/0.99, t = 0.711."""
    falls = math.acos(2 * 0.19 / 0.99 - 1) / math.pi
    assert falls == pytest.approx(0.711, abs=1e-3)
    said = blend(0.01, steps, "rate/5")
    assert bool(said) is told is (round(falls * steps) >= steps)
    assert not told or "no step is left after rate/5: the rate gets there after 71%" in said[0]
    assert not told or "which has 1 step." in said[0]


def test_an_end_that_is_reached_too_late_is_told_and_no_other() -> None:
    (said,) = blend(0.1999, 20)
    assert "no step is left after rate/5" in said
    assert "20 steps" in said
    assert "the blend stays the same" in blend(0.1999, 20_000)[0]
    assert blend(0.1999, 20, 0.9) == []
    assert blend(0.01, 10, "rate/50") == []
    (said,) = blend(0.01, 10, "rate/5", "rate/90")
    assert "no step is left after rate/90: the rate gets there after 98%" in said
