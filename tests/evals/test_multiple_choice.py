"""Items made from documents, and items of a user's file."""

import json
from pathlib import Path

import numpy as np
import pytest

from cpt.errors import DataError
from evals.multiple_choice import (
    CHOICE_CHARACTERS,
    CHOICES,
    Item,
    chance,
    continuation_items,
    item_problems,
    read_items,
    write_items,
)

ORGANS = ("heart", "lung", "kidney", "liver", "skin", "brain", "bone", "eye", "ear", "nerve", "spleen", "gut")
DOCUMENTS = [
    f"Abnormal {organ} of kind {kind}\nA finding in which the {organ} is {word}, seen in {kind} of ten "
    f"patients with {word} tissue around the {organ}, mostly on the {side} side.\n"
    f"Also called: {word} {organ} sign {kind}."
    for kind, (word, side) in enumerate([("enlarged", "left"), ("shrunken", "right"), ("absent", "upper")])
    for organ in ORGANS
]


def test_the_right_choice_continues_the_document_and_the_others_continue_others() -> None:
    items = continuation_items(DOCUMENTS, 20, seed=3)
    assert len(items) == 20
    for item in items:
        assert len(item.choices) == CHOICES == len(set(item.choices))
        for index, choice in enumerate(item.choices):
            own = [text for text in DOCUMENTS if text.startswith(item.question + choice)]
            assert len(own) == (index == item.answer)
            assert any(choice in text for text in DOCUMENTS)
            assert choice.startswith(" ")


def test_choices_are_of_like_length_and_answers_of_every_place() -> None:
    items = continuation_items(DOCUMENTS, 30, seed=3)
    for item in items:
        lengths = [len(choice) for choice in item.choices]
        assert max(lengths) - min(lengths) <= 16
        assert max(lengths) <= CHOICE_CHARACTERS + 17
    assert {item.answer for item in items} == set(range(CHOICES))


def test_distractors_are_the_likest_continuations() -> None:
    """Documents on two topics: distractors stay in the topic although half of the documents do not."""
    other = [
        f"Clause {n} of the lease: rent of {n} pounds is due on day {n} of every month, in advance, "
        f"and arrears bear interest of {n} per cent until the landlord is paid."
        for n in range(36)
    ]
    for item in continuation_items(DOCUMENTS + other, 30, seed=1):
        legal = [any(choice in text for text in other) for choice in item.choices]
        assert len(set(legal)) == 1


def test_the_seed_decides() -> None:
    assert continuation_items(DOCUMENTS, 9, seed=1) == continuation_items(DOCUMENTS, 9, seed=1)
    assert continuation_items(DOCUMENTS, 9, seed=1) != continuation_items(DOCUMENTS, 9, seed=2)


def test_documents_that_yield_no_items_yield_fewer() -> None:
    assert continuation_items([], 5, seed=1) == []
    assert continuation_items(["too short"] * 50, 5, seed=1) == []
    assert continuation_items([DOCUMENTS[0]] * 50, 5, seed=1) == []
    assert len(continuation_items(DOCUMENTS[:8], 50, seed=1)) <= 8


def test_text_without_spaces_is_cut_between_characters() -> None:
    generator = np.random.default_rng(0)
    signs = [chr(0x4E00 + i) for i in range(300)]
    documents = ["".join(generator.choice(signs, 120)) for _ in range(10)]
    items = continuation_items(documents, 5, seed=1)
    assert len(items) == 5
    for item in items:
        assert any(text.startswith(item.question + item.choices[item.answer]) for text in documents)


def test_items_come_back_from_a_file(tmp_path: Path) -> None:
    items = continuation_items(DOCUMENTS, 5, seed=1)
    write_items(items, tmp_path / "items.jsonl")
    assert read_items(tmp_path / "items.jsonl") == items
    assert read_items(tmp_path / "items.jsonl", limit=2) == items[:2]
    assert chance(items) == 0.25


def test_a_users_choices_are_parted_from_the_question(tmp_path: Path) -> None:
    rows = [
        {"question": "Q: what pumps?\nA:", "choices": ["heart", " lung"], "answer": 0},
        {"question": "It is the\n", "choices": ["heart", "lung"], "answer": 1},
    ]
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_items(file) == [
        Item("Q: what pumps?\nA:", (" heart", " lung"), 0),
        Item("It is the\n", ("heart", "lung"), 1),
    ]


BAD = {
    "{": "not valid JSON",
    "[1]": "an item is an object",
    '{"question": "", "choices": ["a", "b"], "answer": 0}': "`question` must be a text",
    '{"question": "q", "choices": ["a"], "answer": 0}': "at least two",
    '{"question": "q", "choices": ["a", ""], "answer": 0}': "not empty",
    '{"question": "q", "choices": ["a", "a"], "answer": 0}': "two choices are equal",
    '{"question": "q", "choices": ["a", "b"], "answer": 2}': "0 to 1",
    '{"question": "q", "choices": ["a", "b"], "answer": true}': "0 to 1",
    '{"question": "q", "choices": ["a", "b"]}': "0 to 1",
}


def test_every_bad_line_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(BAD))
    problems = item_problems(file)
    assert [problem.line for problem in problems] == list(range(1, len(BAD) + 1))
    for problem, expected in zip(problems, BAD.values(), strict=True):
        assert expected in problem.message
    with pytest.raises(DataError, match=r"items\.jsonl:3"):
        read_items(file)


def test_files_that_hold_no_items_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "latin.jsonl").write_bytes("ä".encode("latin-1"))
    for name, message in (("empty", "no items"), ("latin", "UTF-8"), ("absent", "cannot be read")):
        with pytest.raises(DataError, match=message):
            read_items(tmp_path / f"{name}.jsonl")
