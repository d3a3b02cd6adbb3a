"""The recall probe's file: what is written comes back by group, and damage is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cpt.corpus.recall import GROUPS, RECALL, RecallItem, read_recall, write_recall
from cpt.errors import DataError

ITEM = RecallItem(
    group="untrained",
    fact="ulna",
    task="glossary.define",
    question="Which bone lies on the side of the little finger?",
    choices=("the ulna", "the radius", "the fémur"),
    answer=0,
)


def test_items_come_back_by_group_in_one_order(tmp_path: Path) -> None:
    items = [
        dataclasses.replace(ITEM, group=group, fact=f"{group} {number}")
        for number in range(3)
        for group in ("absent", "trained", "untrained")
    ]
    write_recall(tmp_path, iter(items))
    found = read_recall(tmp_path)
    assert list(found) == ["trained", "untrained", "absent"]
    assert list(found) == [group for group in GROUPS if group != "reversed"]
    for group, kept in found.items():
        assert kept == [item for item in items if item.group == group]
    assert [path.name for path in tmp_path.iterdir()] == [RECALL]
    assert "fémur" in (tmp_path / RECALL).read_text(encoding="utf-8")


def test_a_corpus_without_a_probe_has_no_items(tmp_path: Path) -> None:
    assert read_recall(tmp_path) == {}
    write_recall(tmp_path, [])
    assert read_recall(tmp_path) == {}


BAD = {
    "{": "not JSON",
    "[]": "object",
    json.dumps({"group": "trained"}): "fact",
    json.dumps(dataclasses.asdict(ITEM) | {"group": "learnt"}): "`group` must be one of trained, untrained",
    json.dumps(dataclasses.asdict(ITEM) | {"question": " "}): "`question` must not be empty",
    json.dumps(dataclasses.asdict(ITEM) | {"choices": ["the ulna"]}): "at least two texts",
    json.dumps(dataclasses.asdict(ITEM) | {"choices": ["the ulna", ""]}): "not empty",
    json.dumps(dataclasses.asdict(ITEM) | {"choices": ["the ulna"] * 2}): "two choices are equal",
    json.dumps(dataclasses.asdict(ITEM) | {"answer": 3}): "0 to 2",
    json.dumps(dataclasses.asdict(ITEM) | {"answer": -1}): "0 to 2",
    json.dumps(dataclasses.asdict(ITEM) | {"answer": True}): "answer",
    json.dumps(dataclasses.asdict(ITEM) | {"answer": "0"}): "answer",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items())
def test_a_damaged_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    write_recall(tmp_path, [ITEM])
    with (tmp_path / RECALL).open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(DataError) as raised:
        read_recall(tmp_path)
    assert raised.value.message.startswith(f"{tmp_path / RECALL}:3: ")
    assert reason in raised.value.message
    assert "--force corpus" in (raised.value.hint or "")


def test_wrong_items_are_not_made() -> None:
    with pytest.raises(ValueError, match="two choices are equal"):
        dataclasses.replace(ITEM, choices=("the ulna", "the ulna"))
