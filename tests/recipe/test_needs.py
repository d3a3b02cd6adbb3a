"""What later stages need of held-out text is checked as soon as the corpus exists, in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import Problem, RecipeError
from cpt.recipe.load import load
from cpt.recipe.plan import Selection, make_plan
from cpt.recipe.runner import run
from cpt.recipe.store import Store

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
