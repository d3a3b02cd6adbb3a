"""Define requests to a model and its answers, and keep the answers, so that none is asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

REFUSED, TOO_LONG, SPECIAL = "refused", "prompt_too_long", "special_token"
_NOT_ASKED = frozenset({REFUSED, TOO_LONG, SPECIAL})
"""Reasons of answers that nothing was paid for. They are not kept: another setting of the server may help."""

_VERSION = 1
"""A version that grows when the same request means another answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt for a model.

    Attributes:
        prompt: Message to a model that has a chat template.
        plain: The same for a model without one: a text that the answer continues.
        most: Most tokens of the answer.
        passage: Digest of the passage that it is about.
        seed: Seed of the answer.
    """

    prompt: str
    plain: str
    most: int
    passage: str
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        text: Text of the model.
        read: Number of tokens of the prompt.
        written: Number of tokens of the answer, unseen ones of a reasoning model included.
        cut: Whether it was cut off at the most tokens.
        failed: Reason for which there is no text; else empty.
        detail: Message to the reason.
    """

    text: str = ""
    read: int = 0
    written: int = 0
    cut: bool = False
    failed: str = ""
    detail: str = ""


class Writer(Protocol):
    """A model that answers requests."""

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each request, as they finish."""


class Asker:
    """A model whose answers are kept in a file, one a line. A line that a kill has cut is not read.

    Attributes:
        asked: Number of requests that the model itself answered, not the file.
    """

    def __init__(self, file: Path, identity: str, temperature: float, load: Callable[[], Writer]) -> None:
        """Take up what is kept.

        Args:
            file: File of the answers; it may hold those of other models too.
            identity: Text that tells the model and its settings from all others.
            temperature: Sampling temperature.
            load: Function that makes the model ready. It is called when the first answer is missing.
        """
        self._file, self._load = file, load
        self._writer: Writer | None = None
        self._identity = json.dumps([_VERSION, identity, temperature])
        self._kept = _read(file)
        self.asked = 0

    @property
    def kept(self) -> int:
        """Number of answers in the file."""
        return len(self._kept)

    def ask(self, requests: Sequence[Request], heard: Callable[[Answer], None]) -> list[Answer]:
        """Return the answer to each request; equal requests have the same.

        Args:
            heard: Receiver of each answer that was not kept, as it comes.
        """
        keys = [self._key(request) for request in requests]
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._kept}
        found = dict(self._made(missing, heard)) if missing else {}
        return [found.get(key) or self._kept[key] for key in keys]

    def _made(
        self, missing: dict[str, Request], heard: Callable[[Answer], None]
    ) -> Iterator[tuple[str, Answer]]:
        self._writer = self._writer or self._load()
        names = list(missing)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Flushed line by line: a killed process loses none. A machine that goes down may lose the last ones.
        with self._file.open("ab") as file:
            if file.tell() and not _ends_with_newline(self._file):
                file.write(b"\n")
            for number, answer in self._writer.answers(list(missing.values())):
                self.asked += 1
                if answer.failed not in _NOT_ASKED:
                    self._kept[names[number]] = answer
                    file.write(_line(names[number], answer))
                    file.flush()
                heard(answer)
                yield names[number], answer

    def _key(self, request: Request) -> str:
        facts = json.dumps([self._identity, asdict(request)], sort_keys=True)
        return blake2b(facts.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _line(key: str, answer: Answer) -> bytes:
    content = {"key": key, **asdict(answer)}
    return json.dumps({**content, "sum": _sum(content)}).encode() + b"\n"


def _sum(content: dict[str, object]) -> str:
    return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _read(file: Path) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for line in _lines(file):
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(line)
            if content.pop("sum") == _sum(content):
                key = content.pop("key")
                found[key] = Answer(**content)
    return found


def _lines(file: Path) -> Iterable[bytes]:
    if file.exists():
        with file.open("rb") as lines:
            yield from lines


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"
