"""TAT-QA: questions on a table and paragraphs of financial reports (Zhu et al. 2021, arXiv:2105.07624)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of next-tat/TAT-QA: table, paragraphs, questions; every answer is made a list of texts."""
    return {split: _rows(file) for split, file in files.items()}


def answers(answer: Any) -> list[str]:
    """A question's answer, in the data a list of texts, a number or a text, as texts."""
    return [str(one) for one in answer] if isinstance(answer, list) else [str(answer)]


def _rows(file: Path) -> Rows:
    contexts = read_json(file)
    if not isinstance(contexts, list):
        raise DataError(str(Problem("not a list of contexts", file=str(file))))
    try:
        return [_row(context) for context in contexts]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"not a table, paragraphs and questions ({error!r})"
        raise DataError(str(Problem(reason, file=str(file)))) from None


def _row(context: Mapping[str, Any]) -> dict[str, object]:
    return {
        "table": {"table": [[str(cell) for cell in line] for line in context["table"]["table"]]},
        "paragraphs": [
            {"order": int(paragraph["order"]), "text": paragraph["text"]}
            for paragraph in context["paragraphs"]
        ],
        "questions": [
            {
                "question": asked["question"],
                "answer": answers(asked["answer"]),
                "answer_type": asked["answer_type"],
                "scale": asked["scale"],
            }
            for asked in context["questions"]
        ],
    }


SOURCE = Source(
    name="tatqa",
    title="TAT-QA, test split with its answers",
    licence="CC BY 4.0 (README of the repository)",
    origin="https://github.com/NExTplusplus/TAT-QA (dataset_raw); Zhu et al. 2021, arXiv:2105.07624",
    files={"test": "tatqa_dataset_test_gold.json"},
    read=read,
)
