"""Multiple-choice items: made from held-out documents, or read from a user's file.

An item made from a document asks how the document goes on: the true continuation against those
continuations of other documents that are most like it, all of about the same length, so that neither topic
nor length gives it away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpt.errors import DataError, Problem

CHOICES = 4
POOL = 4000
"""Documents among which look-alikes are searched."""
MIN_CHARACTERS = 80
"""A shorter document makes no item."""
QUESTION_CHARACTERS = 240
CHOICE_CHARACTERS = 64

_SNAP = 16
_SHOWN = 10


@dataclass(frozen=True)
class Item:
    """A question, its choices (each with the whitespace that parts it from the question), the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class _Cut:
    """A document cut into its beginning and its continuation; `lead` is the whitespace between them."""

    question: str
    lead: str
    rest: str


def continuation_items(documents: Sequence[str], count: int, seed: int) -> list[Item]:
    """Make items from documents, at most one of each.

    Args:
        documents: held-out texts; distractors come from among them too, so nothing trained on leaks in.
        count: items wanted; fewer come back if the documents do not make so many.
        seed: decides which documents are asked about, and the order of the choices.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(documents))
    cuts = [cut for index in order if (cut := _cut(documents[index])) is not None][:POOL]
    if len(cuts) < CHOICES:
        return []
    items: list[Item] = []
    for cut, alike in zip(cuts, _most_alike(cuts), strict=True):
        if len(items) == count:
            break
        distractors = _distractors(cut, (cuts[other] for other in alike))
        if len(distractors) == CHOICES - 1:
            items.append(_shuffled(cut, distractors, generator))
    return items


def read_items(file: Path, limit: int | None = None) -> list[Item]:
    """Items of a JSONL file with the fields `question`, `choices`, `answer` (index of the right choice).

    Raises:
        DataError: names the lines that are not such items.
    """
    items, problems = _parse(file)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*map(str, problems[:_SHOWN]), *more]))
    return items[:limit]


def item_problems(file: Path) -> list[Problem]:
    """What is wrong with a file of items, line by line."""
    return _parse(file)[1]


def write_items(items: Sequence[Item], file: Path) -> None:
    """Write items as JSONL."""
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in items)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def chance(items: Sequence[Item]) -> float:
    """Expected score of guessing."""
    return float(np.mean([1 / len(item.choices) for item in items]))


def _cut(document: str) -> _Cut | None:
    text = document.strip()
    if len(text) < MIN_CHARACTERS:
        return None
    at = _boundary(text, min(len(text) // 3, QUESTION_CHARACTERS))
    question, rest = text[:at].rstrip(), text[at:].lstrip()
    if not question or len(rest) < MIN_CHARACTERS // 4:
        return None
    return _Cut(question, " " if text[len(question)].isspace() else "", rest)


def _boundary(text: str, at: int) -> int:
    """The first place between words from `at` on; `at` itself where words are not spaced."""
    for place in range(at, min(at + _SNAP, len(text))):
        if text[place].isspace():
            return place
    return at


def _most_alike(cuts: Sequence[_Cut]) -> np.ndarray:
    """For each document those with the likest continuations, the likest first: [documents, neighbours]."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
    from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
    documents = vectorizer.fit_transform(f"{cut.question}{cut.lead}{cut.rest}" for cut in cuts)
    continuations = vectorizer.transform(cut.rest[:CHOICE_CHARACTERS] for cut in cuts)
    nearest = NearestNeighbors(n_neighbors=min(len(cuts), 8 * CHOICES), metric="cosine").fit(continuations)
    return np.asarray(nearest.kneighbors(documents, return_distance=False))


def _distractors(cut: _Cut, alike: Iterator[_Cut]) -> list[str]:
    """Continuations of other documents, as long as this one's, none equal to it or to each other."""
    length = min(len(cut.rest), CHOICE_CHARACTERS)
    seen = {_truncate(cut.rest, length).casefold()}
    chosen: list[str] = []
    for other in alike:
        candidate = _truncate(other.rest, length)
        if other is cut or len(other.rest) < length or candidate.casefold() in seen:
            continue
        seen.add(candidate.casefold())
        chosen.append(candidate)
        if len(chosen) == CHOICES - 1:
            break
    return chosen


def _truncate(text: str, length: int) -> str:
    return text[: _boundary(text, length)]


def _shuffled(cut: _Cut, distractors: Sequence[str], generator: np.random.Generator) -> Item:
    right = _truncate(cut.rest, min(len(cut.rest), CHOICE_CHARACTERS))
    texts = [right, *distractors]
    order = generator.permutation(len(texts))
    choices = tuple(cut.lead + texts[index] for index in order)
    return Item(cut.question, choices, int(np.flatnonzero(order == 0)[0]))


def _parse(file: Path) -> tuple[list[Item], list[Problem]]:
    items: list[Item] = []
    problems: list[Problem] = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return [], [Problem(f"cannot be read as UTF-8 text: {error}", file=str(file))]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            items.append(_item(json.loads(line)))
        except (ValueError, RecursionError) as error:
            is_syntax = isinstance(error, json.JSONDecodeError | RecursionError)
            reason = f"not valid JSON: {error}" if is_syntax else str(error)
            problems.append(Problem(reason, file=str(file), line=number))
    if not items and not problems:
        problems.append(Problem("holds no items", file=str(file)))
    return items, problems


def _item(row: Any) -> Item:
    """One line of a user's file.

    Raises:
        ValueError: says what is wrong with it.
    """
    if not isinstance(row, dict):
        raise ValueError("an item is an object with question, choices and answer")
    question, choices, answer = row.get("question"), row.get("choices"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` must be a text")
    if not isinstance(choices, list) or len(choices) < 2:
        raise ValueError("`choices` must be a list of at least two texts")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError("every choice must be a text that is not empty")
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are equal")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise ValueError(f"`answer` must be the index of the right choice, 0 to {len(choices) - 1}")
    parted = question[-1].isspace()
    spaced = (choice if parted or choice[0].isspace() else f" {choice}" for choice in choices)
    return Item(question, tuple(spaced), answer)
