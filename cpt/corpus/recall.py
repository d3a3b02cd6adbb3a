"""Write and read `recall.jsonl` of a corpus folder: the items of the recall probe, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cpt.atomic import write_text
from cpt.json_file import read_rows

RECALL = "recall.jsonl"

GROUPS = ("trained", "untrained", "reversed", "absent")
"""Groups of facts: questions on them are in the training text; only their documents are; the same, asked in
the other direction; they are in no training text. A run that reads its text less than once does not read
all of them."""


def recall_key(group: str) -> str:
    """Return the key of a group's items beside those of tasks, whose names have no colon."""
    return f"recall:{group}"


@dataclass(frozen=True, slots=True)
class RecallItem:
    """A question on a fact of the domain's documents, with answers to choose from.

    Attributes:
        group: One of `GROUPS`.
        fact: Key of the fact that it asks for.
        task: Key of its wordings: `<miner>.<task>`.
        question: Prompt without white space at its end; a choice follows after one space.
        choices: Answers, all different.
        answer: Index of the right choice.

    Raises:
        ValueError: It is no such item; names the mistake.
    """

    group: str
    fact: str
    task: str
    question: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"`group` must be one of {', '.join(GROUPS)}")
        if not self.question.strip():
            raise ValueError("`question` must not be empty")
        if len(self.choices) < 2 or not all(choice.strip() for choice in self.choices):
            raise ValueError("`choices` must be at least two texts that are not empty")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("two choices are equal")
        if not 0 <= self.answer < len(self.choices):
            raise ValueError(f"`answer` must be an index of the choices, 0 to {len(self.choices) - 1}")


def write_recall(corpus: Path, items: Iterable[RecallItem]) -> None:
    """Write the items into a corpus folder, whole or not at all."""
    lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
    write_text(corpus / RECALL, "".join(lines))


def read_recall(corpus: Path) -> dict[str, list[RecallItem]]:
    """Return the items of a corpus folder by group, in the order of `GROUPS`; empty if it has none.

    Raises:
        DataError: The file is damaged; names it and the line.
    """
    path = corpus / RECALL
    if not path.exists():
        return {}
    found: dict[str, list[RecallItem]] = {group: [] for group in GROUPS}
    for row in read_rows(path, RecallItem, hint="Run the corpus stage again (--force corpus)."):
        found[row["group"]].append(RecallItem(**{**row, "choices": tuple(row["choices"])}))
    return {group: items for group, items in found.items() if items}
