"""FinanceBench: questions on annual reports with the evidence (Islam et al. 2023, arXiv:2311.11944)."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of PatronusAI/financebench that the tasks read: question_type, question, answer, evidence."""
    rows: Rows = []
    for number, row in enumerate(read_jsonl(files["questions"]), start=1):
        try:
            evidence = [{"evidence_text": str(part["evidence_text"])} for part in row["evidence"]]
            texts = {name: str(row[name]) for name in ("question_type", "question", "answer")}
        except (KeyError, TypeError):
            reason = "not a question with its type, answer and evidence"
            raise DataError(str(Problem(reason, file=str(files["questions"]), line=number))) from None
        rows.append({**texts, "evidence": evidence})
    return {"train": rows}


SOURCE = Source(
    name="financebench",
    title="FinanceBench, the 150 open questions",
    licence="CC BY-NC 4.0, as the hub's card has it (the repository has no licence file)",
    origin="https://github.com/patronus-ai/financebench; Islam et al. 2023, arXiv:2311.11944",
    files={"questions": "financebench_open_source.jsonl"},
    read=read,
)
