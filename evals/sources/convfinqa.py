"""ConvFinQA: conversations that lead to a calculation over a report (Chen et al. 2022, arXiv:2210.03849)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json

INSTRUCTION = (
    "In the context of this series of interconnected finance-related queries and the additional information "
    "provided by the pretext, table data, and posttext from a company's financial filings, please provide a "
    "response to the final question. This may require extracting information from the context and performing "
    "mathematical calculations. Please take into account the information provided in the preceding questions "
    "and their answers when formulating your response:"
)


def read(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Columns of TheFinAI/flare-convfinqa: query, answer, turn, dialogue_id.

    The turns of the authors' development file (the test labels are private), which is FLARE's test split. The
    answers of earlier turns in a prompt are the right ones.
    """
    entries = read_json(files["dev"])
    if not isinstance(entries, list):
        raise DataError(str(Problem("not a list of turns", file=str(files["dev"]))))
    rows: Rows = []
    dialogue = -1
    for number, entry in enumerate(entries):
        try:
            dialogue += entry["annotation"]["turn_ind"] == 0
            rows.append(_row(entry["annotation"], dialogue))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            reason = f"entry {number} is no turn of a conversation ({error!r})"
            raise DataError(str(Problem(reason, file=str(files["dev"])))) from None
    return {"test": rows}


def _row(turn: Mapping[str, Any], dialogue: int) -> dict[str, object]:
    index = int(turn["turn_ind"])
    pairs = zip(turn["dialogue_break"][:index], turn["exe_ans_list"][:index], strict=True)
    history = "".join(f"\nq{number}: {question} {answer}" for number, (question, answer) in enumerate(pairs))
    context = f"{turn.get('amt_pre_text', '')} {turn.get('amt_table', '')} {turn.get('amt_post_text', '')}"
    asked = f"Conversations: {history}\nQuestion: {turn['dialogue_break'][index]}\nAnswer:"
    return {
        "query": f"{INSTRUCTION}\nContext: {context}\n{asked}",
        "answer": str(turn["exe_ans_list"][index]),
        "turn": index,
        "dialogue_id": dialogue,
    }


SOURCE = Source(
    name="convfinqa",
    title="ConvFinQA, turns of the development split",
    licence="MIT",
    origin="https://github.com/czyssrs/ConvFinQA (data.zip); Chen et al. 2022, arXiv:2210.03849",
    files={"dev": "dev_turn.json"},
    read=read,
)
