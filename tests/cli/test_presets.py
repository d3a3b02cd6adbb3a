"""`cpt presets`: the packaged recipes, what they need and what they gave."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpt.cli.presets import _gave, _needs
from cpt.recipe.authoring import template
from cpt.recipe.presets import (
    OTHER_SECONDS,
    SAMPLED_PER_SECOND,
    TRAINED_PER_SECOND,
    Gave,
    Needs,
    preset_of,
    presets,
)

ROOT = Path(__file__).parents[2]


def test_all_recipes_are_listed_with_needs_and_results(called: Any) -> None:
    found = called("presets")
    assert found.code == 0, found.err
    for preset in presets():
        assert f"{preset.name}  {preset.about}" in found.out
    run = [preset for preset in presets() if preset.gave]
    assert found.out.count("not run yet") == len(presets()) - len(run)
    assert found.out.count("tiny variant") == sum(preset.gave.tiny for preset in run)


def test_init_list_is_the_same_list(called: Any) -> None:
    assert called("init", "--list").out == called("presets").out
    assert called("init", "--list", "--json").json == called("presets", "--json").json


def test_a_tiny_variant_and_its_seeds_are_named() -> None:
    change = {"value": -0.1, "low": -0.2, "high": 0.0}
    gave = Gave(75.0, "1 core", change, change, "x.json", seeds=3, tiny=True)
    preset = replace(presets()[0], gave=gave)
    low = "\N{MINUS SIGN}0.100"
    assert _gave(preset) == (
        f"tiny variant, 3 seeds: domain {low}, general {low} bits per byte in 1:15 (1 core)"
    )
    plain = replace(preset, gave=replace(gave, seeds=1, tiny=False))
    assert _gave(plain).startswith(f"domain {low}")


def test_needs_are_those_of_the_settings() -> None:
    medical = preset_of("medical", template("medical"))
    assert (medical.data, medical.tokens, medical.sampled) == (("data/medical.jsonl",), 20_000_000, 1_000_000)
    assert medical.bound == "general <= +0.01"
    changed = template("medical").replace("tokens: 20_000_000", "tokens: 10_000_000")
    assert preset_of("medical", changed).tokens == 10_000_000
    seconds = 20_000_000 / TRAINED_PER_SECOND + 1_000_000 / SAMPLED_PER_SECOND + OTHER_SECONDS
    assert medical.cpu_seconds == pytest.approx(seconds)
    larger = template("medical").replace("SmolLM2-135M", "SmolLM2-1.7B")
    assert preset_of("medical", larger).cpu_seconds is None


def test_tokens_of_several_trainings_and_of_epochs_are_counted() -> None:
    infinite = preset_of("infinite", template("infinite"))
    assert (infinite.tokens, infinite.sampled) == (3 * 20_000_000, 3 * 1_000_000)
    assert infinite.data == ("data/medical.jsonl", "data/legal.jsonl", "data/finance.jsonl")
    assert preset_of("instruct", template("instruct")).bound == "general <= +0.01"  # of the second merge
    stability = preset_of("stability", template("stability"))
    assert stability.tokens == pytest.approx(4 * 5_000_000 / (1 - 0.18), abs=1)
    assert preset_of("zett-smollm2", template("zett-smollm2")).tokens is None


def test_a_gpu_is_estimated_for_every_recipe_that_trains(called: Any) -> None:
    as_json = {each["name"]: each for each in called("presets", "--json").json}
    for preset in presets():
        if preset.tokens is None:
            assert preset.needs is None
            continue
        assert preset.needs is not None, f"{preset.name}: python benchmarks/preset_needs.py"
        assert as_json[preset.name]["needs"]["cost"] == preset.needs.cost > 0
        assert preset.needs.tokens == pytest.approx(preset.tokens, rel=0.02)  # whole steps, whole passes


def test_the_memory_time_and_cost_of_a_gpu_are_shown() -> None:
    needs = Needs(gpu="h100", tokens=1, memory_bytes=11_100_000_000, training_seconds=5_400.0, price=2.0)
    preset = replace(presets()[0], needs=needs)
    assert "; training on h100: 11.1 GB, 1 h 30 min, $3.00; " in _needs(preset)
    short = replace(preset, needs=replace(needs, training_seconds=10.0))
    assert "10 s, less than a cent; " in _needs(short)


def test_figures_are_those_of_the_committed_run() -> None:
    gave = {preset.name: preset.gave for preset in presets() if preset.gave}
    found = gave.pop("quickstart")
    run = json.loads((ROOT / found.source).read_text())["figures"]["runs"]["idle"]
    assert found.seconds == pytest.approx(run["seconds"])
    for source in ("domain", "general"):
        assert getattr(found, source) == run["bits_per_byte"][source]["difference"]
    for name, found in gave.items():
        measured = json.loads((ROOT / found.source).read_text())["figures"][name]
        assert (found.seconds, found.seeds) == (measured["seconds"]["value"], len(measured["runs"]))
        for source in ("domain", "general"):
            assert getattr(found, source) == measured["texts"][source]["change"]


def test_the_time_of_the_quickstart_is_estimated_as_it_was_measured() -> None:
    (quickstart,) = (preset for preset in presets() if preset.name == "quickstart")
    assert quickstart.gave is not None
    assert quickstart.cpu_seconds == pytest.approx(quickstart.gave.seconds, rel=0.02)
