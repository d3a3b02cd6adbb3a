"""Schedules as settings: what is refused, and how the mistake is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cpt.recipe.explain import findings
from cpt.stages.pretrain.config import PretrainConfig
from cpt.training.schedules import KINDS, Power, RewarmCosine, ScheduleConfig

NEEDED: dict[str, dict[str, Any]] = {"reuse": {"start": 1e-5}}
RUN: dict[str, dict[str, Any]] = {"power": {"batch": 128, "tokens": 10**9}}


def schedule_of(settings: dict[str, Any]) -> ScheduleConfig:
    return PretrainConfig.model_validate({"tokens": 1, "schedule": settings}).schedule


def problem(settings: dict[str, Any]) -> str:
    """What is told about settings with one mistake: the place below the schedule, the message, the hint."""
    data = {"tokens": 1, "schedule": settings}
    with pytest.raises(ValidationError) as caught:
        PretrainConfig.model_validate(data)
    (found,) = findings(caught.value, PretrainConfig, data)
    assert found.where[0] == "schedule"
    return " ".join([*map(str, found.where[1:]), found.message, found.hint or ""])


def test_without_a_kind_it_is_rewarm_cosine() -> None:
    assert schedule_of({"peak": 1e-3}) == RewarmCosine(peak=1e-3)
    assert schedule_of({}) == PretrainConfig(tokens=1).schedule == RewarmCosine()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_reached_by_its_name_and_survives_being_stored(kind: str) -> None:
    schedule = schedule_of({"kind": kind, **NEEDED.get(kind, {})})
    assert type(schedule) is KINDS[kind]
    assert schedule_of(schedule.model_dump(mode="json")) == schedule


OTHER_VALUES: dict[str, Any] = {
    "peak": 2.5e-4,
    "floor": 2e-5,
    "warmup": 0.2,
    "constant": 1.5e-4,
    "cooldown": "inverse-sqrt",
    "cooldown_share": 0.3,
    "anneal_share": 0.3,
    "decay": "linear",
    "decay_share": 0.3,
    "min_ratio": 0.3,
    "a": 4.0,
    "b": -0.6,
    "batch": 64,
    "tokens": 10**8,
    "start": 2e-5,
}


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (kind, key)
        for kind, cls in KINDS.items()
        for key in cls.model_fields
        if key not in ("kind", "unit", "continues")
    ],
)
def test_every_setting_changes_the_rates(kind: str, key: str) -> None:
    settings = {"kind": kind, **NEEDED.get(kind, {}), **RUN.get(kind, {})}
    plain, other = schedule_of(settings), schedule_of({**settings, key: OTHER_VALUES[key]})
    assert [plain.rate(step, 100) for step in range(100)] != [other.rate(step, 100) for step in range(100)]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"kind": "cosine", "cooldown": "cosine"},
            "cooldown unknown key `cooldown` It is a setting of `infinite`",
        ),
        (
            {"kind": "constant", "floor": 0},
            "floor unknown key `floor` It is a setting of `linear`, `cosine`, ",
        ),
        (
            {"peak": 1, "decay_share": 0.1},
            "decay_share unknown key `decay_share` It is a setting of `wsd`, `power`.",
        ),
        ({"kind": "wsd", "peek": 1}, "peek unknown key `peek` Did you mean `peak`?"),
        ({"kind": "cosin"}, "kind unknown value `cosin` Did you mean `cosine`?"),
        ({"kind": "reuse"}, "start is missing"),
        ({"kind": "wsd", "decay": "sqrt"}, "decay unknown value `sqrt` Did you mean `1-sqrt`?"),
        ({"peak": 1e-6}, "floor 1e-05 is above peak 1e-06"),
        ({"kind": "rex", "floor": 1}, "floor 1 is above peak 0.0001"),
        ({"kind": "infinite", "constant": 1e-5}, "floor 3e-05 is above constant 1e-05"),
        ({"kind": "infinite", "constant": 1e-3}, "constant 0.001 is above peak 0.0003"),
        ({"kind": "infinite", "floor": 0}, "floor must be greater than 0"),
        (
            {"kind": "infinite", "cooldown_share": 0.9},
            "warmup 0.01 + cooldown_share 0.9 + anneal_share 0.15 is more than the whole run",
        ),
        ({"kind": "wsd", "warmup": 0.95}, "warmup 0.95 + decay_share 0.1 is more than the whole run"),
        ({"kind": "infinite", "continues": True, "peak": 1e-3}, "a run that continues has no peak"),
        ({"kind": "infinite", "continues": True, "cooldown": "inverse-sqrt"}, "continues has no cooldown"),
        ({"kind": "infinite", "continues": True, "cooldown_share": 0.1}, "continues has no cooldown_share"),
        ({"warmup": 1}, "warmup must be less than 1"),
        ({"peak": 0}, "peak must be greater than 0"),
        ({"peak": float("inf")}, "peak must be a finite number"),
        ({"unit": "epochs"}, "unit unknown value `epochs` Known here: `steps`, `tokens`."),
        ({"kind": "power", "b": 0.5}, "b must be less than 0"),
    ],
    ids=str,
)
def test_mistakes_are_told_where_they_are(settings: dict[str, Any], told: str) -> None:
    assert told in problem(settings)


def test_planned_power_knows_the_recipes_batch_and_tokens() -> None:
    config = PretrainConfig.model_validate(
        {"tokens": 10**6, "batch_sequences": 4, "schedule": {"kind": "power"}}
    )
    assert config.planned_schedule == Power(batch=4, tokens=10**6)
