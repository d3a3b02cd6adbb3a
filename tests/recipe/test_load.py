"""A good recipe: types, defaults, wiring and located references.

What later stages need of held-out text is checked as soon as the corpus exists, in one message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import Problem, RecipeError
from cpt.recipe.authoring import templates
from cpt.recipe.load import load
from cpt.recipe.plan import Selection, make_plan
from cpt.recipe.runner import run
from cpt.recipe.store import Store


def test_numbers_are_read_as_yaml_1_2(recipe_file: Path) -> None:
    pretrain = load(recipe_file).step("pretrain").config
    assert pretrain.tokens == 1000  # type: ignore[attr-defined]
    assert pretrain.schedule.peak == pytest.approx(3e-4)  # type: ignore[attr-defined]


def test_the_seed_has_a_default(recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("seed: 17\n", ""))
    assert load(recipe_file).seed == 17


def test_a_missing_file_hides_no_other_problem_of_its_stage(tmp_path: Path) -> None:
    path = tmp_path / "quickstart.yaml"
    path.write_text(templates()["quickstart"])
    missing = "corpus.domain=[{path: nowhere.jsonl, chunk: 500, chat: turns}]"
    with pytest.raises(RecipeError) as caught:
        load(path, [missing, "corpus.decontaminate={suites: [nothing]}", "corpus.replay=null"])
    messages = {problem.key: problem.message for problem in caught.value.problems}
    assert "nowhere.jsonl" in messages["corpus.domain.0.path"]
    assert messages["corpus.domain.0.chunk"] == "conversations cannot be cut into chunks"
    assert "nothing" in messages["corpus.decontaminate.suites.0"]
    assert "pretrain.replay" in messages  # that of a later stage


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


Asked = list[tuple[str, str, bool]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Who was asked about whose corpus, and whether half of it is used up; all of them lack something."""
    found: Asked = []

    def lacking(self: Any, _config: Any, corpus: Any, halved: bool) -> list[Problem]:
        found.append((self.kind, corpus.name, halved))
        key = {"pretrain": "tokens", "evaluate": "items"}.get(self.kind)
        return [Problem(f"{self.kind} needs more held-out text", key=key)]

    for stage in (fake_stages.Vocabulary, fake_stages.Pretrain, fake_stages.Evaluate):
        monkeypatch.setattr(stage, "heldout_problems", lacking)
    return found


def go(recipe_file: Path, **selection: Any) -> None:
    run(load(recipe_file), recipe_file.parent / "runs", Selection(**selection))


def test_all_stages_are_asked_when_the_corpus_ends(recipe_file: Path, asked: Asked) -> None:
    """Those as well whose corpus is tokenised again before they run."""
    with pytest.raises(RecipeError) as caught:
        go(recipe_file)
    assert fake_stages.RAN == ["corpus"]
    assert asked == [(kind, "corpus", False) for kind in ("vocabulary", "pretrain", "evaluate")]
    assert [(problem.message.split()[0], problem.line) for problem in caught.value.problems] == [
        ("vocabulary", 10),
        ("pretrain", 12),
        ("evaluate", 18),
    ]


def test_a_corpus_that_is_there_already_is_checked_before_the_run(recipe_file: Path, asked: Asked) -> None:
    with pytest.raises(RecipeError):
        go(recipe_file)
    fake_stages.RAN.clear()
    with pytest.raises(RecipeError) as caught:
        make_plan(load(recipe_file), Store(recipe_file.parent / "runs" / "medical"))
    assert len(caught.value.problems) == 3
    with pytest.raises(RecipeError):
        go(recipe_file)
    assert fake_stages.RAN == []


def test_stages_that_do_not_run_are_not_asked(recipe_file: Path, asked: Asked) -> None:
    go(recipe_file, until="corpus")
    assert asked == []


def test_a_stage_after_a_choice_on_held_out_text_is_told_so(
    recipe_file: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_stages.Merge, "selects_on_heldout", lambda *_: True)
    with pytest.raises(RecipeError):
        go(recipe_file)
    assert [halved for _, _, halved in asked] == [False, False, True]


def test_nobody_is_asked_twice(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    def enough(self: Any, _config: Any, corpus: Any, halved: bool) -> list[Problem]:
        found.append(self.kind)
        return []

    monkeypatch.setattr(fake_stages.Fake, "heldout_problems", enough)
    go(recipe_file)
    assert found[:3] == ["vocabulary", "pretrain", "evaluate"]
    assert len(set(found)) == len(found)


def test_what_a_stages_own_check_says_of_a_place_is_said_once(
    recipe_file: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_self: Any, _config: Any, inputs: dict[str, Any]) -> list[Problem]:
        return [Problem("too few", key="items")] if "corpus" in inputs else []

    monkeypatch.setattr(fake_stages.Vocabulary, "heldout_problems", lambda *_: [Problem("few", key="items")])
    monkeypatch.setattr(fake_stages.Vocabulary, "check", check)
    with pytest.raises(RecipeError) as caught:
        go(recipe_file)
    assert [problem.message.split()[0] for problem in caught.value.problems] == [
        "too",
        "pretrain",
        "evaluate",
    ]
