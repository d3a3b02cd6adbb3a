"""Make multiple-choice items from held-out documents, or read them from a user's file.

An item made from a document asks for its continuation: the true one, and the continuations of other documents
that are most like it. All have about the same length, so that neither topic nor length gives the answer away.
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
"""Number of documents among which similar ones are searched."""
MIN_CHARACTERS = 80
"""Fewest characters of a document that makes an item."""
QUESTION_CHARACTERS = 240
CHOICE_CHARACTERS = 64

_SNAP = 16
_SHOWN = 10


@dataclass(frozen=True)
class Item:
    """A question, its choices (each with the whitespace before it), and the index of the right choice."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class _Split:
    """A document split into its beginning and its continuation; `lead` is the whitespace between them."""

    question: str
    lead: str
    rest: str


def continuation_items(documents: Sequence[str], count: int, seed: int) -> list[Item]:
    """Make items from documents, at most one of each.

    Args:
        documents: Held-out texts. Distractors are taken from them too, so that no training text leaks in.
        count: Most items; the documents may make fewer.
        seed: Seed of the choice of documents and of the order of the choices.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(documents))
    splits = [split for index in order if (split := _split(documents[index])) is not None][:POOL]
    if len(splits) < CHOICES:
        return []
    items: list[Item] = []
    for split, alike in zip(splits, _most_alike(splits), strict=True):
        if len(items) == count:
            break
        distractors = _distractors(split, (splits[other] for other in alike))
        if len(distractors) == CHOICES - 1:
            items.append(_shuffled(split, distractors, generator))
    return items


def can_be_continued(document: str) -> bool:
    """Return True if a document is long enough to ask for its continuation."""
    return _split(document) is not None


def read_items(file: Path, limit: int | None = None) -> list[Item]:
    """Read items from JSONL with the fields `question`, `choices`, `answer` (index of the right choice).

    Raises:
        DataError: Names the lines that are not such items.
    """
    items, problems = _parse(file)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*map(str, problems[:_SHOWN]), *more]))
    return items[:limit]


def item_problems(file: Path) -> list[Problem]:
    """Return the problems of a file of items, line by line."""
    return _parse(file)[1]


def write_items(items: Sequence[Item], file: Path) -> None:
    """Write items as JSONL."""
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in items)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def spaced_item(question: str, choices: Sequence[str], answer: int) -> Item:
    """Return an item whose choices begin with a space, unless there is white space already."""
    parted = question[-1].isspace()
    spaced = (choice if parted or choice[0].isspace() else f" {choice}" for choice in choices)
    return Item(question, tuple(spaced), answer)


def chance(items: Sequence[Item]) -> float:
    """Compute the expected score of guessing."""
    return float(np.mean([1 / len(item.choices) for item in items]))


def _split(document: str) -> _Split | None:
    text = document.strip()
    if len(text) < MIN_CHARACTERS:
        return None
    at = _boundary(text, min(len(text) // 3, QUESTION_CHARACTERS))
    question, rest = text[:at].rstrip(), text[at:].lstrip()
    if not question or len(rest) < MIN_CHARACTERS // 4:
        return None
    return _Split(question, " " if text[len(question)].isspace() else "", rest)


def _boundary(text: str, at: int) -> int:
    """Return the first position between words from `at` on; `at` itself where words are not spaced."""
    for place in range(at, min(at + _SNAP, len(text))):
        if text[place].isspace():
            return place
    return at


def _most_alike(splits: Sequence[_Split]) -> np.ndarray:
    """Find the documents with the closest continuations, the closest first: [documents, neighbours]."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
    from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
    documents = vectorizer.fit_transform(f"{split.question}{split.lead}{split.rest}" for split in splits)
    continuations = vectorizer.transform(split.rest[:CHOICE_CHARACTERS] for split in splits)
    nearest = NearestNeighbors(n_neighbors=min(len(splits), 8 * CHOICES), metric="cosine").fit(continuations)
    return np.asarray(nearest.kneighbors(documents, return_distance=False))


def _distractors(split: _Split, alike: Iterator[_Split]) -> list[str]:
    """Return continuations of other documents, as long as this one's, and all different."""
    length = min(len(split.rest), CHOICE_CHARACTERS)
    seen = {_truncate(split.rest, length).casefold()}
    chosen: list[str] = []
    for other in alike:
        candidate = _truncate(other.rest, length)
        if other is split or len(other.rest) < length or candidate.casefold() in seen:
            continue
        seen.add(candidate.casefold())
        chosen.append(candidate)
        if len(chosen) == CHOICES - 1:
            break
    return chosen


def _truncate(text: str, length: int) -> str:
    return text[: _boundary(text, length)]


def _shuffled(split: _Split, distractors: Sequence[str], generator: np.random.Generator) -> Item:
    right = _truncate(split.rest, min(len(split.rest), CHOICE_CHARACTERS))
    texts = [right, *distractors]
    order = generator.permutation(len(texts))
    choices = tuple(split.lead + texts[index] for index in order)
    return Item(split.question, choices, int(np.flatnonzero(order == 0)[0]))


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
    """Parse one line of a user's file.

    Raises:
        ValueError: Names the mistake.
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
    return spaced_item(question, choices, answer)
