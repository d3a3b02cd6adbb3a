"""Read a model's answers as texts, as questions with answers, and as lists."""
# ruff: noqa: RUF001 - quotes, dashes and full-width marks of texts

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REST_OF_THOUGHTS = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
"""Some chat templates open the thoughts in the prompt, so that only their end stands in the answer."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_FENCE = re.compile(r"\A```[^\n]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d{1,2}[.):]|#+)\s*")
_BOLD = "*_"
_PAIR = re.compile(
    r"^\W{0,4}(?:\d{1,2}[.)]\s*)?\W{0,4}(?P<side>q(?:uestion)?|a(?:nswer)?)\s*\d{0,2}\W{0,3}:\W{0,3}?(?P<text>.*)$",
    re.IGNORECASE,
)
_ONE_LINE = re.compile(r"(?<=[?？])[ \t]+(?=\**A(?:nswer)?\**\s*:)", re.IGNORECASE)
"""Space between a question and its answer in the same line."""

_WHOLE_SENTENCE = 6
"""Number of words from which on an answer may be a sentence, which keeps its full stop."""


def cleaned(text: str) -> str:
    """Return an answer without a model's thoughts, control characters and a fence around all of it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _REST_OF_THOUGHTS.sub("", _THOUGHTS.sub("", text))
    text = _CONTROLS.sub("", text).strip()
    fenced = _FENCE.match(text)
    return fenced[1].strip() if fenced else text


def without_introduction(text: str, introductions: Sequence[str]) -> str:
    """Return a text without a first line that introduces it: one of these words, a colon at its end."""
    first, newline, rest = text.partition("\n")
    bare = first.strip(f"{_BOLD}# ").casefold()
    introduces = bare.endswith(":") and bare.startswith(tuple(introductions))
    return rest.strip() if introduces and newline and rest.strip() else text


def whole_sentences(text: str) -> str:
    """Return a text that was cut off up to its last line or sentence; empty if it has none."""
    ends = [found.end() for found in re.finditer(r"[.!?。！？][\"”’)\]]*(?=\s)|[。！？]|\n", text)]
    return text[: ends[-1]].rstrip() if ends else ""


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the questions of a text, each with its answer: lines `Q: …` and `A: …` in their usual forms."""
    question = ""
    said: list[str] | None = None
    for line in _ONE_LINE.sub("\n", text).split("\n"):
        found = _PAIR.match(line)
        if found is None:
            if said is not None and line.strip() and not line.lstrip().startswith("#"):
                said.append(line)
            elif said:
                yield question, _joined(said)
                question, said = "", None
            continue
        if found["side"][0].lower() == "q":
            if said:
                yield question, _joined(said)
            question, said = found["text"].strip(f"{_BOLD} "), None
        elif question and said is None:
            said = [found["text"]] if found["text"].strip(f"{_BOLD} ") else []
    if question and said:
        yield question, _joined(said)


def _joined(lines: Sequence[str]) -> str:
    """Return the lines of an answer as one; a few words lose their full stop."""
    text = " ".join(" ".join(lines).split()).strip(f"{_BOLD} ")
    return text if len(text.split()) > _WHOLE_SENTENCE else text.removesuffix(".")


def listed(text: str) -> Iterator[str]:
    """Yield the entries of a list, one on each line, without their marks and numbers."""
    for line in text.split("\n"):
        entry = _BULLET.sub("", line).strip(f"{_BOLD} ")
        if entry:
            yield entry
