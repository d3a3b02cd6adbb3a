"""A good recipe: types, defaults, wiring and located references."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.recipe.load import load


def test_numbers_are_read_as_yaml_1_2(recipe_file: Path) -> None:
    pretrain = load(recipe_file).step("pretrain").config
    assert pretrain.tokens == 1000  # type: ignore[attr-defined]
    assert pretrain.schedule.peak == pytest.approx(3e-4)  # type: ignore[attr-defined]


def test_the_seed_has_a_default(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("seed: 17\n", ""))
    assert load(recipe_file).seed == 17


@pytest.mark.parametrize("spelling", ["- report", "- report:", "- report: {}", "- report: null"])
def test_a_stage_without_settings(recipe_file: Path, spelling: str) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("- report", spelling))
    recipe = load(recipe_file)
    assert recipe.steps[-1].kind == "report"
    assert recipe.data["stages"][-1] == {"report": {}}


def test_each_stage_takes_the_newest_of_what_it_needs(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    assert recipe.step("vocabulary").inputs == {"model": "base", "corpus": "corpus"}
    assert recipe.step("pretrain").inputs == {"model": "vocabulary", "corpus": "vocabulary"}
    assert recipe.step("merge").inputs == {"base": "base", "model0": "pretrain"}
    assert recipe.step("evaluate").inputs == {"before": "base", "after": "merge", "corpus": "vocabulary"}


def test_from_picks_another_and_names_tell_stages_apart(recipe_file: Path) -> None:
    text = recipe_file.read_text().replace(
        "  - evaluate:\n", "  - evaluate:\n  - evaluate: {name: unmerged, from: pretrain}\n"
    )
    recipe_file.write_text(text)
    recipe = load(recipe_file)
    assert recipe.step("unmerged").inputs["after"] == "pretrain"
    assert recipe.step("evaluate").inputs["after"] == "merge"


def test_data_is_looked_for_beside_the_recipe(
    recipe_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    step = load(recipe_file).step("corpus")
    notes = str(recipe_file.parent / "notes.txt")
    assert step.references == {"notes.txt": notes}
    assert step.config.domain[0].path == "notes.txt"  # type: ignore[attr-defined]
    assert step.located.domain[0].path == notes  # type: ignore[attr-defined]


def test_anchors_and_merge_keys_are_understood(recipe_file: Path) -> None:
    text = recipe_file.read_text()
    text = text.replace("      schedule:\n", "      schedule: &rate\n")
    text = text.replace(
        "  - merge:", "  - pretrain: {name: again, schedule: {<<: *rate, peak: 1e-4}}\n  - merge:"
    )
    recipe_file.write_text(text)
    again = load(recipe_file).step("again").config
    assert again.schedule.peak == pytest.approx(1e-4)  # type: ignore[attr-defined]
    assert again.schedule.kind == "rewarm-cosine"  # type: ignore[attr-defined]
