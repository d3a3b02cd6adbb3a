"""LegalBench: short tasks of legal reasoning (Guha et al. 2023, arXiv:2308.11462).

The files are those of the repository's commit a7bdadb of 8 March 2023, the last that has them with all
labels: fewer tasks than the paper's 162, under older names. A part is a path below the folder of tasks
without its ending: `abercrombie/test`, `CUAD_Audit Rights/test`, `unfair_tos/data`. No task reads `eurlex`,
which has numbers of concepts for labels, no prompt, and no place in the paper.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl

_EXAMPLES = Path(__file__).with_name("legalbench_examples.jsonl")
_NAMES = {"label": "answer"}
_MISNAMED = {
    "unfair_tos": {
        "Arbitration": "Limitation of liability",
        "Unilateral change": "Unilateral termination",
        "Content removal": "Unilateral change",
        "Jurisdiction": "Content removal",
        "Choice of law": "Contract by using",
        "Limitation of liability": "Choice of law",
        "Unilateral termination": "Jurisdiction",
        "Contract by using": "Arbitration",
    }
}
"""Of a task whose labels were published in another order than their names', what each stands for: the clauses
that are called Arbitration limit liability, and so on (compare LexGLUE, from which they were taken)."""


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of nguha/legalbench: answer, and the texts that the task's prompt names.

    `train` are the examples of the benchmark's own prompt, which the hub has as that split too; the files do
    not. Some were items of the files' tests in 2023: they are left out of `test`.
    """
    folder = (part or "").partition("/")[0]
    examples = [_without_task(row) for row in read_jsonl(_EXAMPLES) if row["task"] == folder]
    items = [_named_rightly(item, folder) for item in _items(files["test"])]
    if not examples:
        return {"test": items}
    columns = examples[0].keys()
    missing = sorted(columns - items[0].keys()) if items else []
    if missing:
        raise DataError(str(Problem(f"lacks the columns {', '.join(missing)}", file=str(files["test"]))))
    cut = [{column: item[column] for column in columns} for item in items]
    return {"train": examples, "test": [item for item in cut if item not in examples]}


def _items(file: Path) -> Rows:
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        items: Rows = []
        for record in reader:
            if None in record or None in record.values():
                reason = f"not {len(reader.fieldnames or ())} fields"
                raise DataError(str(Problem(reason, file=str(file), line=reader.line_num)))
            items.append({_NAMES.get(column, column): value for column, value in record.items()})
    if items and "answer" not in items[0]:
        raise DataError(str(Problem("has neither a column `label` nor `answer`", file=str(file))))
    return items


def _named_rightly(item: dict[str, str], folder: str) -> dict[str, str]:
    return {**item, "answer": _MISNAMED.get(folder, {}).get(item["answer"], item["answer"])}


def _without_task(row: dict[str, str]) -> dict[str, str]:
    return {column: value for column, value in row.items() if column != "task"}


SOURCE = Source(
    name="legalbench",
    title="LegalBench",
    licence="CC BY 4.0; statutory_reasoning_assessment MIT (the tasks' READMEs)",
    origin="https://github.com/HazyResearch/legalbench, commit a7bdadb; Guha et al. 2023, arXiv:2308.11462",
    files={"test": "{part}.tsv"},
    read=read,
)
