"""`cpt schedule`, and the curve that `cpt plan` draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import varied_texts, write_jsonl, write_tiny_model

from cpt.cli.rate_curve import draw
from cpt.training.schedules import KINDS, Constant, Infinite, Reuse, RewarmCosine, Wsd

Run = Callable[..., tuple[int, str, str]]
QUARTERS = "0.25,0.5,0.75"
NEEDED: dict[str, list[str]] = {"power": ["--batch", "128", "--tokens", "1e11"], "reuse": ["--start", "1e-5"]}


def rates(called: Run, *words: object, at: str = QUARTERS) -> dict[str, list[float]]:
    """Phase -> rates, as printed."""
    code, out, _ = called("schedule", *words, "--at", at, "--json")
    assert code == 0
    return {phase["name"]: list(phase["rates"].values()) for phase in json.loads(out)["phases"]}


@pytest.mark.parametrize(
    ("words", "phase", "expected"),
    [
        (["infinite", "--cooldown", "inverse-sqrt"], "cooldown", [2.1004e-4, 1.8563e-4, 1.7302e-4]),
        (["infinite"], "cooldown", [2.8023e-4, 2.325e-4, 1.8477e-4]),
        (["infinite"], "anneal", [1.0774e-4, 7.0356e-5, 4.5942e-5]),
        (["wsd", "--decay", "1-sqrt", "--peak", 1], "decay", [0.5, 0.2929, 0.1340]),
        (["rex", "--peak", 1], "rex", [0.8571, 0.6667, 0.4]),
    ],
)
def test_published_values(called: Run, words: list[object], phase: str, expected: list[float]) -> None:
    assert rates(called, *words)[phase] == pytest.approx(expected, rel=2e-4, abs=0)


def test_published_values_of_the_power_law(called: Run) -> None:
    words = ["power", "--batch", 128, "--tokens", "1e11", "--warmup", 0, "--decay-share", 0]
    found = rates(called, *words, at="0.01,0.1,1")["power"]
    assert found == pytest.approx([0.015134, 0.004677, 0.001445], abs=5e-7)


def test_factors_are_given_whatever_the_highest_rate(called: Run) -> None:
    _, out, _ = called("schedule", "wsd", "--at", QUARTERS, "--json")
    facts = json.loads(out)
    assert (facts["kind"], facts["total"], facts["anneal_begins"]) == ("wsd", 1000, 900)
    decay = facts["phases"][-1]
    assert decay["of_highest"] == pytest.approx({"0.25": 0.5, "0.5": 0.2929, "0.75": 0.1340}, abs=5e-5)
    assert (decay["first"], decay["last"]) == (900, 999)


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind, cls in KINDS.items() for key in cls.model_fields if key != "kind"],
)
def test_every_setting_of_every_kind_is_an_option(called: Run, kind: str, key: str) -> None:
    other = {
        "cooldown": "inverse-sqrt", "decay": "cosine", "unit": "tokens", "peak": 2.5e-4, "floor": 2e-5,
        "constant": 1e-4, "start": 1e-4, "a": 2, "b": -0.4, "batch": 64, "tokens": 10**6,
    }.get(key, 0.2)  # fmt: skip
    words: list[object] = [f"--{key.replace('_', '-')}"] + ([] if key == "continues" else [other])
    code, out, err = called("schedule", kind, *NEEDED.get(kind, []), *words, "--json")
    assert code == 0, err
    assert json.loads(out)["settings"][key] == (True if key == "continues" else other)


@pytest.mark.parametrize("kind", KINDS)
def test_for_people_there_is_a_table_and_the_curve(called: Run, kind: str) -> None:
    code, out, _ = called("schedule", kind, *NEEDED.get(kind, []), "--steps", 200)
    assert code == 0
    assert "at 25%" in out
    assert "200 steps" in out
    assert "****" in out
    assert out.isascii()


def test_help_describes_every_kind_and_its_options(called: Run) -> None:
    _, out, _ = called("schedule", "--help")
    assert all(kind in out for kind in KINDS)
    _, out, _ = called("schedule", "infinite", "--help")
    assert "--cooldown-share" in out
    assert "0.6" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["infinit"], "there is no schedule `infinit`\n  Did you mean `infinite`?"),
        (["triangle"], "Known here: `constant`, `linear`"),
        (["reuse"], "--start: is missing"),
        (["cosine", "--floor", 1], "floor 1 is above peak 0.0001"),
        (["wsd", "--decay", "sqrt"], "--decay: unknown value `sqrt`\n      Did you mean `1-sqrt`?"),
        (["wsd", "--warmup", 2], "--warmup: must be less than 1"),
        (["power"], "the power schedule depends on the tokens of the run"),
        (["cosine", "--at", "1.5"], "--at 1.5 is no list of fractions"),
        (["cosine", "--at", "half"], "--at half is no list of fractions"),
        (["cosine", "--steps", 0], "--steps 0 is no length of a run"),
        (["cosine", "--steps", 1.5], "--steps 1.5 is no length of a run"),
        (["cosine", "--steps", "nan"], "--steps nan is no length of a run"),
        (["cosine", "--steps", "inf"], "--steps inf is no length of a run"),
        (["cosine", "--cooldown", "cosine"], "No such option"),
    ],
    ids=str,
)
def test_mistakes_exit_with_2_and_say_what_to_do(called: Run, words: list[object], told: str) -> None:
    code, out, err = called("schedule", *words)
    assert (code, out) == (2, "")
    assert told in err
    code, out, _ = called("schedule", *words, "--json")
    assert code == 2
    assert json.loads(out)["error"]


def test_the_curve_is_as_wide_as_there_is_room() -> None:
    for schedule in (Infinite(), Wsd(), Wsd(decay_share=0.01)):
        for width, taken in ((10, 44), (44, 44), (60, 60), (90, 90), (400, 100)):
            assert max(map(len, draw(schedule, 500, width, "steps"))) == taken


def test_the_curve_shows_the_rates() -> None:
    lines = draw(RewarmCosine(peak=1.0, floor=0.0, warmup=0.25), 400, 90, "steps")
    columns = list(zip(*(line.ljust(90) for line in lines[:11]), strict=True))[10:]
    heights = [10 - "".join(column).index("*") for column in columns]
    assert max(heights) == 10
    assert heights[:21] == sorted(heights[:21])
    assert heights[21:] == sorted(heights[21:], reverse=True)
    assert (heights[0], heights[-1]) == (0, 0)
    assert lines[0].startswith("       1 |")
    assert "warmup" in lines[-2]
    assert "cosine" in lines[-2]
    assert lines[-1].endswith("400 steps")


def test_names_of_short_phases_give_way() -> None:
    names = draw(Infinite(), 1000, 60, "steps")[-2]
    assert names.split() == ["warmup", "cooldown", "constant", "anneal"]


def test_the_highest_rate_is_named_even_if_it_lasts_for_one_step_of_many() -> None:
    assert draw(RewarmCosine(), 100_000, 60, "steps")[0].startswith("  0.0001 |")


@pytest.mark.parametrize("schedule", [Constant(), Reuse(start=1e-5), Infinite()], ids=repr)
@pytest.mark.parametrize("total", [1, 2, 7])
def test_runs_of_a_few_steps_can_be_drawn(schedule: Any, total: int) -> None:
    assert len(draw(schedule, total, 60, "steps")) == 14


RECIPE = """\
name: tiny
base: model
stages:
  - corpus: {domain: [{path: domain.jsonl}], heldout: 0.2, sequence_length: 48}
  - pretrain: {tokens: 1500, batch_sequences: 4, schedule: {kind: power, warmup: 0.2}}
"""


def test_plan_draws_the_curve_of_a_training_stage(
    called: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "model")
    write_jsonl(tmp_path / "domain.jsonl", varied_texts(60))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, out, err = called("plan", "recipe.yaml")
    assert code == 0, err
    assert "pretrain  learning rate, power" in out
    assert "1,500 tokens" in out
    assert "decay" in out
    assert out.index("learning rate") < out.index("2 stages to run.")
