"""Medical data sets: MedMCQA, MedQA, MedQuAD, PubMedQA."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source, read_json, read_jsonl

# MedMCQA: questions of Indian medical entrance examinations (Pal et al. 2022, arXiv:2203.14371).
_MEDMCQA_TEXTS = ("question", "opa", "opb", "opc", "opd")
_MEDMCQA_OPTIONS = 4


def read_medmcqa(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of openlifescienceai/medmcqa: question, opa to opd, cop (0 to 3).

    The authors' files count the correct option (cop) from 1, copies of the hub's from 0: which it is shows
    by the numbers that occur. The authors' test has no answers; their `dev` is the hub's `validation`.
    """
    del part
    items = {split: read_jsonl(file) for split, file in files.items()}
    first = _medmcqa_first_option([item["cop"] for rows in items.values() for item in rows])
    return {split: [_medmcqa_row(item, first) for item in rows] for split, rows in items.items()}


def _medmcqa_first_option(correct: Sequence[int]) -> int:
    """Return the number of option A."""
    found = set(correct)
    fitting = [first for first in (0, 1) if found <= set(range(first, first + _MEDMCQA_OPTIONS))]
    if len(fitting) != 1:
        raise DataError(
            f"cop is one of {sorted(found)}: neither numbers from 0 nor from 1"
            if not fitting
            else f"cop is one of {sorted(found)}: too few items to tell numbers from 0 from such from 1"
        )
    return fitting[0]


def _medmcqa_row(item: Mapping[str, Any], first: int) -> dict[str, object]:
    return {**{column: item[column] for column in _MEDMCQA_TEXTS}, "cop": item["cop"] - first}


MEDMCQA = Source(
    name="medmcqa",
    title="MedMCQA",
    licence="MIT",
    origin="https://github.com/medmcqa/medmcqa; Pal et al. 2022, arXiv:2203.14371",
    files={"validation": "medmcqa/dev.json"},
    read=read_medmcqa,
)


# MedQA, US: questions of the medical licensing examination with four options (Jin et al. 2020).
_MEDQA_LETTERS = "ABCD"


def read_medqa(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of GBaker/MedQA-USMLE-4-options-hf: sent1, ending0 to ending3, label."""
    del part
    return {split: [_medqa_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _medqa_row(item: Mapping[str, Any]) -> dict[str, object]:
    options = item["options"]
    if sorted(options) != list(_MEDQA_LETTERS) or options.get(item["answer_idx"]) != item["answer"]:
        raise DataError(f"{item['question'][:60]!r} …: its options are not A to D, or not with its answer")
    endings = {f"ending{place}": options[letter] for place, letter in enumerate(_MEDQA_LETTERS)}
    return {"sent1": item["question"], **endings, "label": _MEDQA_LETTERS.index(item["answer_idx"])}


MEDQA = Source(
    name="medqa",
    title="MedQA (USMLE, four options)",
    licence="MIT",
    origin="https://github.com/jind11/MedQA; Jin et al. 2020, arXiv:2009.13081",
    files={"test": "US/4_options/phrases_no_exclude_test.jsonl"},
    read=read_medqa,
)


# MedQuAD: questions on health answered by US health institutes (Ben Abacha and Demner-Fushman 2019).
def read_medquad(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of lavita/MedQuAD: question, answer (None where it was taken out for copyright)."""
    del part
    with zipfile.ZipFile(files["archive"]) as archive:
        documents = sorted(name for name in archive.namelist() if name.endswith(".xml"))
        return {"train": [pair for name in documents for pair in _medquad_pairs(archive.read(name))]}


def _medquad_pairs(document: bytes) -> Iterator[dict[str, object]]:
    for pair in ElementTree.fromstring(document).iter("QAPair"):
        question, answer = (pair.findtext(tag, "").strip() for tag in ("Question", "Answer"))
        yield {"question": question, "answer": answer or None}


MEDQUAD = Source(
    name="medquad",
    title="MedQuAD",
    licence="CC BY 4.0",
    origin="https://github.com/abachaa/MedQuAD, its archive as GitHub packs it; arXiv:1901.08079",
    files={"archive": "MedQuAD-master.zip"},
    read=read_medquad,
)


# PubMedQA, PQA-L: does an abstract answer its title's question? (Jin et al. 2019, arXiv:1909.06146).
def read_pubmedqa(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of qiaojin/PubMedQA, pqa_labeled: pubid, question, context, final_decision; one
    split of all.

    The task itself chooses the items of the official test.
    """
    del part
    items: Mapping[str, Mapping[str, Any]] = read_json(files["items"])
    return {"train": [_pubmedqa_row(pmid, item) for pmid, item in items.items()]}


def _pubmedqa_row(pmid: str, item: Mapping[str, Any]) -> dict[str, object]:
    return {
        "pubid": int(pmid),
        "question": item["QUESTION"],
        "context": {"contexts": item["CONTEXTS"]},
        "final_decision": item["final_decision"],
    }


PUBMEDQA = Source(
    name="pubmedqa",
    title="PubMedQA (PQA-L)",
    licence="MIT",
    origin="https://github.com/pubmedqa/pubmedqa, data; Jin et al. 2019, arXiv:1909.06146",
    files={"items": "ori_pqal.json"},
    read=read_pubmedqa,
    version=2,
)
