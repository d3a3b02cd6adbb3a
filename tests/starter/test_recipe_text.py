"""The text of a first recipe: which blocks and tasks it has, by the facts of the text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ruamel.yaml import YAML
from test_choices import BASE, FACTS, LAPTOP

from cpt.starter.choices import Wishes, choose
from cpt.starter.recipe_text import Sources, recipe_text


def stages(beside: tuple[str | None, ...] = ("en",), **changed: Any) -> dict[str, Any]:
    """Return the stages of the recipe for a text with other facts, by kind."""
    facts, wishes = replace(FACTS, **changed), Wishes(hours=2)
    choices = choose(facts, BASE, wishes, LAPTOP)
    sources = Sources("notes", "base", ["notes.jsonl"])
    text = recipe_text(sources, facts, choices, wishes, LAPTOP, beside)
    return {kind: stage for each in YAML(typ="safe").load(text)["stages"] for kind, stage in each.items()}


@pytest.mark.parametrize(
    ("languages", "beside", "kept"),
    [
        ({"ko": 0.9, "fi": 0.1}, ("en",), ["ko", "en"]),
        ({"ko": 0.9, "fi": 0.1}, ("en", "de"), ["ko", "en", "de"]),
        ({"ko": 0.9, "en": 0.1}, ("en",), None),  # nothing would be left out
        ({"en": 0.99, "fi": 0.01}, ("en",), None),
        ({"en": 0.9, "fi": 0.1}, (None,), ["en"]),
        ({}, ("en",), None),
    ],
)
def test_other_languages_are_left_out_but_not_those_of_general_text_and_replay(
    languages: dict[str, float], beside: tuple[str | None, ...], kept: list[str] | None
) -> None:
    blocks = [
        each for each in stages(beside, languages=languages)["corpus"]["clean"] if isinstance(each, dict)
    ]
    assert blocks == ([] if kept is None else [{"kind": "language", "keep": kept}])


def test_continuations_are_a_task_where_documents_are_long() -> None:
    assert stages()["evaluate"]["tasks"][0]["continuation_of"] == "domain"
    assert stages(continuable=0.0)["evaluate"] is None
