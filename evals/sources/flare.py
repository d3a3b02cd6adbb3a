"""Finance data sets in the form of FLARE: FinQA, FiQA-SA, Headlines, NER.

FLARE is the folder data/ of PIXIU's repository (Xie et al. 2023, arXiv:2306.05443). A line is a conversation:
a person's prompt and the answer. Most items are there under about ten prompts; an item is taken once, under
the first of them, which is the prompt of the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source, read_jsonl

ORIGIN = "https://github.com/The-FinAI/PIXIU (data/, commit 79231463); Xie et al. 2023, arXiv:2306.05443"


@dataclass(frozen=True)
class Conversation:
    """A prompt and its answer.

    Attributes:
        query: Prompt.
        text: Text that the question is about: the prompt without the instruction before it.
        answer: Right answer.
        row: Line of the file.
    """

    query: str
    text: str
    answer: str
    row: dict[str, Any]


def conversations(file: Path, instructions: Sequence[str]) -> list[Conversation]:
    """Return the conversations of a file that begin with one of some instructions.

    Raises:
        DataError: A line is no conversation, or none begins so.
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


# FinQA: calculations over a table and the text around it (Chen et al. 2021, arXiv:2109.00122).
_FINQA_INSTRUCTION = "Please answer the given financial question based on the context."


def read_finqa(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-finqa: query, text, answer (the result of the annotated
    calculation).

    FLARE's validation file (FinQA's 883 of dev) stands in for the test split, which is not in this form.
    """
    found = conversations(files["valid"], [_FINQA_INSTRUCTION])
    return {"test": [{"query": one.query, "text": one.text, "answer": one.answer} for one in found]}


FINQA = Source(
    name="finqa",
    title="FinQA in FLARE's form, validation split",
    licence="MIT",
    origin=f"Chen et al. 2021, arXiv:2109.00122; {ORIGIN}",
    files={"valid": "FinQA_valid.jsonl"},
    read=read_finqa,
)


# FiQA-SA: sentiment of financial posts and headlines (Maia et al. 2018, WWW), in FLARE's three classes.
FIQA_SA_LABELS = ("negative", "positive", "neutral")
_FIQA_SA_KINDS = ("post", "headline")
_FIQA_SA_INSTRUCTIONS = tuple(
    f"What is the sentiment of the following financial {kind}: Positive, Negative, or Neutral?"
    for kind in _FIQA_SA_KINDS
)


def read_fiqa_sa(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-fiqasa: query, text, answer, choices, gold (label's index)."""
    return {
        split: [_fiqa_sa_row(one) for one in conversations(file, _FIQA_SA_INSTRUCTIONS)]
        for split, file in files.items()
    }


def _fiqa_sa_row(one: Conversation) -> dict[str, object]:
    label = one.answer.lower()
    if label not in FIQA_SA_LABELS:
        raise DataError(
            f"the sentiment of {one.text!r} is {one.answer!r}, not one of {', '.join(FIQA_SA_LABELS)}"
        )
    return {
        "query": one.query,
        "text": one.text,
        "answer": label,
        "choices": list(FIQA_SA_LABELS),
        "gold": FIQA_SA_LABELS.index(label),
    }


FIQA_SA = Source(
    name="fiqa_sa",
    title="FiQA-SA in FLARE's form",
    licence="public, says FLARE",
    origin=f"Maia et al. 2018, WWW'18 Open Challenge; {ORIGIN}",
    files={split: f"fiqasa_{split}.jsonl" for split in ("train", "valid", "test")},
    read=read_fiqa_sa,
)


# Headlines: nine yes/no questions on headlines about gold (Sinha and Khandait 2021, arXiv:2009.04202).
HEADLINES_TAGS = (
    "Price or Not",
    "Direction Up",
    "Direction Down",
    "Direction Constant",
    "PastPrice",
    "FuturePrice",
    "PastNews",
    "FutureNews",
    "Asset Comparision",
)
HEADLINES_CHOICES = ("Yes", "No")
HEADLINES_EXAMPLES = 20
"""Number of headlines at the beginning of the file that are examples."""
_HEADLINES_BEGINNINGS = ("Consider ", "Look for ")


def read_headlines(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-headlines: query, text, answer, label_type, choices, gold (0 for
    Yes).

    FLARE's validation file stands in for the test split, which its repository has not in this form: its first
    headlines are examples, about the others it is asked.
    """
    rows = [_headlines_row(one) for one in conversations(files["valid"], _HEADLINES_BEGINNINGS)]
    headlines = list(dict.fromkeys(str(row["text"]) for row in rows))
    examples = set(headlines[:HEADLINES_EXAMPLES])
    return {
        "train": [row for row in rows if row["text"] in examples],
        "test": [row for row in rows if row["text"] not in examples],
    }


def _headlines_row(one: Conversation) -> dict[str, object]:
    instruction, _, _ = one.query.partition("\nText:")
    tags = [tag for tag in HEADLINES_TAGS if tag in instruction]
    if len(tags) != 1 or one.answer not in HEADLINES_CHOICES:
        raise DataError(
            f"not a yes/no question on one of the nine tags: {one.query!r}, answer {one.answer!r}"
        )
    return {
        "query": one.query,
        "text": one.text,
        "answer": one.answer,
        "label_type": tags[0],
        "choices": list(HEADLINES_CHOICES),
        "gold": HEADLINES_CHOICES.index(one.answer),
    }


HEADLINES = Source(
    name="headlines",
    title="Headlines (gold commodity news) in FLARE's form, validation split",
    licence="CC BY-SA 3.0, says FLARE",
    origin=f"Sinha and Khandait 2021, arXiv:2009.04202; {ORIGIN}",
    files={"valid": "headlines_valid.jsonl"},
    read=read_headlines,
)


# NER: persons, organisations and places in loan agreements (Salinas Alvarado et al. 2015, ALTA).
_NER_INSTRUCTION = (
    "In the sentences extracted from financial agreements in U.S. SEC filings, identify the named entities "
    "that represent a person ('PER'), an organization ('ORG'), or a location ('LOC'). "
    "The required answer format is:"
)


def read_ner(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-ner: query, text, answer, label (a BIO tag per word)."""
    return {
        split: [_ner_row(one) for one in conversations(file, [_NER_INSTRUCTION])]
        for split, file in files.items()
    }


def _ner_row(one: Conversation) -> dict[str, object]:
    text, tags = one.row.get("text"), one.row.get("label")
    if not isinstance(text, str) or not isinstance(tags, list) or len(text.split()) != len(tags):
        raise DataError(f"not a text with one tag for each of its words: {one.query[-80:]!r}")
    return {"query": one.query, "text": text, "answer": one.answer, "label": [str(tag) for tag in tags]}


NER = Source(
    name="ner",
    title="NER of SEC filings in FLARE's form",
    licence="CC BY-SA 3.0, says FLARE",
    origin=f"Salinas Alvarado et al. 2015, ALTA; {ORIGIN}",
    files={split: f"ner_{split}.jsonl" for split in ("valid", "test")},
    read=read_ner,
)
