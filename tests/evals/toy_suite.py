"""A suite of one's own over tiny data sets in their original form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from general_files import write_lines

SUITE = """\
name: toy
about: Toys.
tasks:
  - {task: arc_easy, source: "arc:easy", metric: acc_norm, smoke: 4, quick: 8}
  - {task: openbookqa, source: openbookqa, metric: acc, group: books, smoke: 4}
  - {task: winogrande, source: winogrande, metric: acc}
"""
_WORDS = "what the nerve conducts in the night the muscle of the heart contracts with number"


def arc(count: int) -> list[dict[str, Any]]:
    """Different questions, the right answer in every place."""
    return [
        {
            "query": f"Question: {_WORDS} {number}?",
            "choices": [f"kidney {number}", "the fever", f"a doctor of {number}", "nine"],
            "gold": number % 4,
        }
        for number in range(count)
    ]


def write_toy(folder: Path) -> Path:
    """`toy.yaml`, and `data` with all but the data of WinoGrande."""
    (folder / "toy.yaml").write_text(SUITE)
    write_lines(folder / "data" / "arc_easy.jsonl", arc(24))
    books = [{"query": f"Frog {n} is", "choices": ["a", "b", "c", "d"], "gold": n % 4} for n in range(6)]
    write_lines(folder / "data" / "openbook_qa.jsonl", books)
    return folder
