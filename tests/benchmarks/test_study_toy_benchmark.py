"""The toy benchmark of study: differences of arms over seeds, by the place of a thing, and its texts."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def toy(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import study_toy

    return study_toy


def row(arm: str, seed: int, right: str, places: str = "1 1 5 5") -> dict[str, object]:
    answers = {"facts": "a b c d", "places": places, "right": right, "p_gold": right}
    return {"arm": arm, "tokens": 100, "seed": seed, "trained": answers, "untrained": answers}


def test_arms_are_compared_over_seeds_and_by_place(toy) -> None:
    rows = [
        *(row("documents", 1, "0 0 0 0"), row("questions", 1, "1 1 0 0")),
        *(row("documents", 2, "0 0 0 1"), row("questions", 2, "1 1 1 1")),
        row("documents", 3, "0 0 0 0"),  # without its other arm
    ]
    found = {each["place"]: each for each in toy.compared(rows)}
    assert {each["after"] for each in found.values()} == {"questions"}
    assert found[None]["questions"] == 8
    assert found[None]["right"]["seeds"] == [0.5, 0.75]
    assert found[None]["right"]["mean"] == pytest.approx(0.625)
    assert (found[None]["right"]["before"], found[None]["right"]["after"]) == (0.125, 0.75)
    half = 12.706 * 0.125  # t of one degree of freedom, times the standard error of two values 0.25 apart
    assert found[None]["right"]["high"] == pytest.approx(0.625 + half, abs=1e-3)
    assert found[1]["right"]["seeds"] == [1.0, 1.0]
    assert found[5]["right"]["seeds"] == [0.0, 0.5]


def test_no_form_of_a_document_asks_for_what_it_tells(toy) -> None:
    assert not any("?" in form for form in toy.FORMS)
    assert all("{name}" in form and "{what}" in form for form in toy.FORMS)


def test_things_are_invented_and_different(toy) -> None:
    told = toy.facts(6, 17)
    assert [len(document) for document in told] == [toy.PLACES] * 6
    names, things = zip(*(pair for document in told for pair in document), strict=True)
    assert len(set(names)) == len(set(things)) == 6 * toy.PLACES
    assert told != toy.facts(6, 18)
