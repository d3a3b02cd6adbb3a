"""The instruction files of FLARE (PIXIU, Xie et al. 2023, arXiv:2306.05443, folder data/ of its repository).

A line is a conversation: a person's prompt and the answer. Most items are there under about ten prompts; an
item is taken once, under the first of them, which is the prompt of the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.reading import read_jsonl

ORIGIN = "https://github.com/The-FinAI/PIXIU (data/, commit 79231463); Xie et al. 2023, arXiv:2306.05443"


@dataclass(frozen=True)
class Conversation:
    """A prompt and its answer.

    Attributes:
        text: what is asked about: the prompt without the instruction before it.
        row: the line as it is.
    """

    query: str
    text: str
    answer: str
    row: dict[str, Any]


def conversations(file: Path, instructions: Sequence[str]) -> list[Conversation]:
    """The conversations of a file that begin with one of some instructions.

    Raises:
        DataError: a line is no conversation, or none begins so.
    """
    found = [one for one in _all(file) if one.query.startswith(tuple(instructions))]
    if not found:
        raise DataError(f"{file}: no prompt begins with {instructions[0][:60]!r} …")
    return found


def _all(file: Path) -> Iterator[Conversation]:
    for number, row in enumerate(read_jsonl(file), start=1):
        try:
            prompt, answer = (str(turn["value"]) for turn in row["conversations"])
        except (KeyError, TypeError, ValueError):
            reason = "not a conversation of a prompt and an answer"
            raise DataError(str(Problem(reason, file=str(file), line=number))) from None
        yield Conversation(prompt, _text(prompt), answer.strip(), row)


def _text(prompt: str) -> str:
    _, mark, text = prompt.partition("\nText:")
    rest = text if mark else prompt.partition("\n")[2]
    return rest.removesuffix("Answer:").strip()
