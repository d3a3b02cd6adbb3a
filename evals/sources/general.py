"""General data sets: ARC, BLiMP, HellaSwag, LAMBADA, MMLU, OpenBookQA, PIQA, WinoGrande."""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping
from typing import Any
from zipfile import ZipFile

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source, labelled_choices, parse_jsonl, read_csv, read_jsonl

# ARC: grade-school science questions, `easy` or `challenge` (Clark et al. 2018, arXiv:1803.05457).
_ARC_QUESTION = "Question: "


def read_arc(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of allenai/ai2_arc: question, choices (text, label), answerKey.

    The files give every item four choices: those of three repeat one, which is dropped again; of the few
    that had five, one is not there.
    """
    del part  # of the files' names only
    return {split: [_arc_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _arc_row(item: Mapping[str, Any]) -> dict[str, object]:
    choices = list(dict.fromkeys(item["choices"]))
    right = choices.index(item["choices"][item["gold"]])
    return {"question": item["query"].removeprefix(_ARC_QUESTION), **labelled_choices(choices, right)}


ARC = Source(
    name="arc",
    title="ARC",
    licence="CC BY-SA 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Clark et al. 2018, arXiv:1803.05457",
    files={"test": "arc_{part}.jsonl"},
    read=read_arc,
)


# BLiMP: minimal pairs of 67 paradigms of English grammar (Warstadt et al. 2020, arXiv:1912.00582).
_BLIMP_COLUMNS = ("sentence_good", "sentence_bad", "field", "linguistics_term", "UID")


def read_blimp(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of nyu-mll/blimp that tasks read; its one split is called `train`."""
    name = f"data/{part}.jsonl"
    with ZipFile(files["archive"]) as archive:
        lines = archive.read(name).decode("utf-8").split("\n")
    pairs = parse_jsonl(lines, f"{files['archive']}, {name}")
    return {"train": [{column: pair[column] for column in _BLIMP_COLUMNS} for pair in pairs]}


BLIMP = Source(
    name="blimp",
    title="BLiMP",
    licence="CC BY 4.0",
    origin="https://github.com/alexwarstadt/blimp; Warstadt et al. 2020, arXiv:1912.00582",
    files={"archive": "BLiMP.zip"},
    read=read_blimp,
)


# HellaSwag: how a scene or an instruction goes on (Zellers et al. 2019, arXiv:1905.07830).
_HELLASWAG_LINES = 6
_HELLASWAG_BEGUN = re.compile(r'(?<=[.!?"]) +(?=[a-z][^.!?]*$)')
"""Beginning of an unfinished last sentence: in small letters, and without an end."""


def read_hellaswag(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of Rowan/hellaswag: activity_label, ctx_a, ctx_b, endings, label.

    The file has six lines an item: label and context, the right ending's index, four endings; markup is
    taken out as lm-eval does. Where the context's last sentence is only begun, that is `ctx_b`.
    """
    del part
    file = files["validation"]
    lines = bz2.decompress(file.read_bytes()).decode("utf-8").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if len(lines) % _HELLASWAG_LINES:
        raise DataError(f"{file}: {len(lines)} lines are not {_HELLASWAG_LINES} for each item")
    return {
        "validation": [
            _hellaswag_row(lines[at : at + _HELLASWAG_LINES]) for at in range(0, len(lines), _HELLASWAG_LINES)
        ]
    }


def _hellaswag_row(lines: list[str]) -> dict[str, object]:
    (whole, right), endings = lines[:2], lines[2:]
    activity, colon, context = whole.partition(": ")
    if not colon or right not in {"0", "1", "2", "3"}:
        raise DataError(f"not the first two lines of an item: {whole!r}, {right!r}")
    begun = _HELLASWAG_BEGUN.search(context)
    scene, rest = (context[: begun.start()], context[begun.end() :]) if begun else (context, "")
    return {"activity_label": activity, "ctx_a": scene, "ctx_b": rest, "endings": endings, "label": right}


HELLASWAG = Source(
    name="hellaswag",
    title="HellaSwag",
    licence="MIT",
    origin="https://github.com/klosax/hellaswag_text_data; Zellers et al. 2019, arXiv:1905.07830",
    files={"validation": "hellaswag_val_full.txt.bz2"},
    read=read_hellaswag,
)


# LAMBADA: the last word of a passage, in OpenAI's version (Paperno et al. 2016, arXiv:1606.06031).
def read_lambada(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the column of EleutherAI/lambada_openai: text."""
    del part
    return {
        split: [{"text": f"{item['context']} {item['continuation']}"} for item in read_jsonl(file)]
        for split, file in files.items()
    }


LAMBADA = Source(
    name="lambada",
    title="LAMBADA",
    licence="CC BY 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Paperno et al. 2016, arXiv:1606.06031; OpenAI's version, Radford et al. 2019",
    files={"test": "lambada_openai.jsonl"},
    read=read_lambada,
)


# MMLU: four-way questions of 57 subjects (Hendrycks et al. 2021, arXiv:2009.03300).
_MMLU_LETTERS = ("A", "B", "C", "D")


def read_mmlu(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of cais/mmlu: question, subject, choices, answer (index of the right choice)."""
    rows = {split: read_csv(file, columns=6) for split, file in files.items()}
    return {split: [_mmlu_row(record, part) for record in records] for split, records in rows.items()}


def _mmlu_row(record: list[str], subject: str | None) -> dict[str, object]:
    question, *choices, letter = record
    if letter not in _MMLU_LETTERS:
        raise DataError(f"the answer of {question!r} is {letter!r}, not one of A, B, C, D")
    return {
        "question": question,
        "subject": subject,
        "choices": choices,
        "answer": _MMLU_LETTERS.index(letter),
    }


MMLU = Source(
    name="mmlu",
    title="MMLU",
    licence="MIT",
    origin="https://github.com/hendrycks/test; Hendrycks et al. 2021, arXiv:2009.03300",
    files={"dev": "dev/{part}_dev.csv", "test": "test/{part}_test.csv"},
    read=read_mmlu,
)


# OpenBookQA: elementary science questions (Mihaylov et al. 2018, arXiv:1809.02789).
def read_openbookqa(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of allenai/openbookqa, main: question_stem, choices (text, label), answerKey."""
    del part
    return {split: [_openbookqa_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _openbookqa_row(item: Mapping[str, Any]) -> dict[str, object]:
    return {"question_stem": item["query"], **labelled_choices(item["choices"], item["gold"])}


OPENBOOKQA = Source(
    name="openbookqa",
    title="OpenBookQA",
    licence="Apache-2.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Mihaylov et al. 2018, arXiv:1809.02789",
    files={"test": "openbook_qa.jsonl"},
    read=read_openbookqa,
)


# PIQA: two ways to an everyday goal (Bisk et al. 2019, arXiv:1911.11641).
def read_piqa(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of baber/piqa: goal, sol1, sol2, label (0 or 1)."""
    del part
    items = read_jsonl(files["items"])
    labels = files["labels"].read_text(encoding="utf-8").split()
    rows = [
        {**{key: item[key] for key in ("goal", "sol1", "sol2")}, "label": ["0", "1"].index(label)}
        for item, label in zip(items, labels, strict=True)
    ]
    return {"validation": rows}


PIQA = Source(
    name="piqa",
    title="PIQA",
    licence="AFL 3.0",
    origin="https://github.com/ybisk/ybisk.github.io, piqa/data; Bisk et al. 2019, arXiv:1911.11641",
    files={"items": "piqa/valid.jsonl", "labels": "piqa/valid-labels.lst"},
    read=read_piqa,
)


# WinoGrande: who or what a sentence speaks of (Sakaguchi et al. 2019, arXiv:1907.10641).
def read_winogrande(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of allenai/winogrande: sentence (with a blank `_`), option1, option2, answer ("1" or
    "2").

    The files give each sentence up to the blank with either option in it; what both share is put before
    the blank.
    """
    del part
    return {split: [_winogrande_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _winogrande_row(item: Mapping[str, Any]) -> dict[str, str]:
    first, second = item["context_options"]
    differ = next(
        (at for at, pair in enumerate(zip(first, second, strict=False)) if len(set(pair)) > 1), None
    )
    start = first[: first[:differ].rfind(" ") + 1]
    return {
        "sentence": f"{start}_ {item['continuation']}",
        "option1": first[len(start) :],
        "option2": second[len(start) :],
        "answer": str(item["gold"] + 1),
    }


WINOGRANDE = Source(
    name="winogrande",
    title="WinoGrande",
    licence="CC BY 4.0",
    origin="https://github.com/mosaicml/llm-foundry, scripts/eval/local_data; "
    "Sakaguchi et al. 2019, arXiv:1907.10641",
    files={"validation": "winogrande.jsonl"},
    read=read_winogrande,
)
