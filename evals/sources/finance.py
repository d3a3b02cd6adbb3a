"""Finance data sets: ConvFinQA, FinanceBench, FOMC, Financial PhraseBank, Golden Touchstone, TAT-QA."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source, read_json, read_jsonl

# ConvFinQA: conversations that lead to a calculation over a report (Chen et al. 2022, arXiv:2210.03849).
CONVFINQA_INSTRUCTION = (
    "In the context of this series of interconnected finance-related queries and the additional information "
    "provided by the pretext, table data, and posttext from a company's financial filings, please provide a "
    "response to the final question. This may require extracting information from the context and performing "
    "mathematical calculations. Please take into account the information provided in the preceding questions "
    "and their answers when formulating your response:"
)


def read_convfinqa(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-convfinqa: query, answer, turn, dialogue_id.

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
            rows.append(_convfinqa_row(entry["annotation"], dialogue))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            reason = f"entry {number} is no turn of a conversation ({error!r})"
            raise DataError(str(Problem(reason, file=str(files["dev"])))) from None
    return {"test": rows}


def _convfinqa_row(turn: Mapping[str, Any], dialogue: int) -> dict[str, object]:
    index = int(turn["turn_ind"])
    pairs = zip(turn["dialogue_break"][:index], turn["exe_ans_list"][:index], strict=True)
    history = "".join(f"\nq{number}: {question} {answer}" for number, (question, answer) in enumerate(pairs))
    context = f"{turn.get('amt_pre_text', '')} {turn.get('amt_table', '')} {turn.get('amt_post_text', '')}"
    asked = f"Conversations: {history}\nQuestion: {turn['dialogue_break'][index]}\nAnswer:"
    return {
        "query": f"{CONVFINQA_INSTRUCTION}\nContext: {context}\n{asked}",
        "answer": str(turn["exe_ans_list"][index]),
        "turn": index,
        "dialogue_id": dialogue,
    }


CONVFINQA = Source(
    name="convfinqa",
    title="ConvFinQA, turns of the development split",
    licence="MIT",
    origin="https://github.com/czyssrs/ConvFinQA (data.zip); Chen et al. 2022, arXiv:2210.03849",
    files={"dev": "dev_turn.json"},
    read=read_convfinqa,
)


# FinanceBench: questions on annual reports with the evidence (Islam et al. 2023, arXiv:2311.11944).
def read_financebench(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of PatronusAI/financebench: question_type, question, answer, evidence."""
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


FINANCEBENCH = Source(
    name="financebench",
    title="FinanceBench, the 150 open questions",
    licence="CC BY-NC 4.0, as the hub's card has it (the repository has no licence file)",
    origin="https://github.com/patronus-ai/financebench; Islam et al. 2023, arXiv:2311.11944",
    files={"questions": "financebench_open_source.jsonl"},
    read=read_financebench,
)


# FOMC stance: sentences of the Federal Reserve, hawkish, dovish or neutral (Shah et al. 2023, ACL).
FOMC_LABELS = 3


def read_fomc(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of gtfintechlab/fomc_communication: sentence, year, label.

    Labels are 0 for dovish, 1 for hawkish, 2 for neutral.
    """
    return {split: _fomc_rows(file) for split, file in files.items()}


def _fomc_rows(file: Path) -> Rows:
    rows: Rows = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        for record in reader:
            try:
                label, year = int(record["label"]), int(record["year"])
                sentence = record["sentence"].strip()
            except (KeyError, TypeError, ValueError, AttributeError):
                label, year, sentence = -1, 0, ""
            if not sentence or not 0 <= label < FOMC_LABELS:
                reason = "not a sentence, a year and a label of 0, 1, 2"
                raise DataError(str(Problem(reason, file=str(file), line=reader.line_num)))
            rows.append({"sentence": sentence, "year": year, "label": label})
    return rows


FOMC = Source(
    name="fomc",
    title="FOMC stance (Trillion Dollar Words), the hub's two CSV files saved as train.csv and test.csv",
    licence="CC BY-NC 4.0",
    origin="https://huggingface.co/datasets/gtfintechlab/fomc_communication; Shah et al. 2023, "
    "arXiv:2305.07972",
    files={split: f"fomc_communication/{split}.csv" for split in ("train", "test")},
    read=read_fomc,
)


# Financial PhraseBank: sentences of financial news with their sentiment (Malo et al. 2014, JASIST 65(4)).
#
# The file with all 4,846 sentences on whose label at least half of the annotators agreed. Its authors give no
# split; a fifth is asked about and the rest are examples, in the proportion of BloombergGPT and FLARE (3,876
# and 970; their own draws are not published with the file).
FPB_LABELS = ("positive", "negative", "neutral")
_FPB_PARTS = 5


def read_fpb(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of TheFinAI/flare-fpb that the task reads: text, choices, gold (index), answer.

    A sentence's own hash decides on its split, so that one that occurs twice is not in both.
    """
    rows = [_fpb_row(line, number, files["sentences"]) for number, line in _fpb_lines(files["sentences"])]
    test = [_fpb_asked(row["text"]) for row in rows]
    return {
        "train": [row for row, asked in zip(rows, test, strict=True) if not asked],
        "test": [row for row, asked in zip(rows, test, strict=True) if asked],
    }


def _fpb_lines(file: Path) -> list[tuple[int, str]]:
    """Read numbered lines; the authors' own file is in ISO 8859-1, copies of it are in UTF-8."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("iso-8859-1")
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _fpb_row(line: str, number: int, file: Path) -> dict[str, object]:
    sentence, mark, label = line.strip().rpartition("@")
    if not mark or label not in FPB_LABELS:
        reason = "not a sentence, @ and one of " + ", ".join(FPB_LABELS)
        raise DataError(str(Problem(reason, file=str(file), line=number)))
    return {
        "text": sentence.strip(),
        "choices": list(FPB_LABELS),
        "gold": FPB_LABELS.index(label),
        "answer": label,
    }


def _fpb_asked(sentence: object) -> bool:
    digest = hashlib.sha256(str(sentence).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _FPB_PARTS == 0


FPB = Source(
    name="fpb",
    title="Financial PhraseBank, 50 % agreement",
    licence="CC BY-NC-SA 3.0",
    origin="Malo et al. 2014, Good debt or bad debt, JASIST 65(4); FinancialPhraseBank-v1.0",
    files={"sentences": "Sentences_50Agree.txt"},
    read=read_fpb,
)


# Golden Touchstone, English: instructions, inputs and outputs (Wu et al. 2024, arXiv:2411.06272).
_GOLDEN_TOUCHSTONE_COLUMNS = ("instruction", "input", "output")


def read_golden_touchstone(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of IDEA-FinAI/Golden-Touchstone: instruction, input, output, and `label` of a tagged
    file.

    The part is the file's folder and the beginning of its name: `finqa/finqa`.
    """
    rows = read_json(files["test"])
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.keys() >= set(_GOLDEN_TOUCHSTONE_COLUMNS) for row in rows
    ):
        reason = "not a list of objects with " + ", ".join(_GOLDEN_TOUCHSTONE_COLUMNS)
        raise DataError(str(Problem(reason, file=str(files["test"]))))
    tagged = all(isinstance(row.get("label"), list) for row in rows)
    return {
        "test": [
            {
                **{name: str(row[name]) for name in _GOLDEN_TOUCHSTONE_COLUMNS},
                **({"label": row["label"]} if tagged else {}),
            }
            for row in rows
        ]
    }


GOLDEN_TOUCHSTONE = Source(
    name="golden_touchstone",
    title="Golden Touchstone, English",
    licence="Apache-2.0 (the collection; its data sets keep their own)",
    origin="https://huggingface.co/datasets/IDEA-FinAI/Golden-Touchstone; Wu et al. 2024, arXiv:2411.06272",
    files={"test": "EN-benchmark/{part}_test.json"},
    read=read_golden_touchstone,
    version=2,
)


# TAT-QA: questions on a table and paragraphs of financial reports (Zhu et al. 2021, arXiv:2105.07624).
def read_tatqa(files: Files, part: str | None) -> Mapping[str, Rows]:  # noqa: ARG001
    """Return the columns of next-tat/TAT-QA: table, paragraphs, questions, with answers as lists of texts."""
    return {split: _tatqa_rows(file) for split, file in files.items()}


def tatqa_answers(answer: Any) -> list[str]:
    """Return a question's answer as texts; in the data it is a list of texts, a number or a text."""
    return [str(one) for one in answer] if isinstance(answer, list) else [str(answer)]


def _tatqa_rows(file: Path) -> Rows:
    contexts = read_json(file)
    if not isinstance(contexts, list):
        raise DataError(str(Problem("not a list of contexts", file=str(file))))
    try:
        return [_tatqa_row(context) for context in contexts]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"not a table, paragraphs and questions ({error!r})"
        raise DataError(str(Problem(reason, file=str(file)))) from None


def _tatqa_row(context: Mapping[str, Any]) -> dict[str, object]:
    return {
        "table": {"table": [[str(cell) for cell in line] for line in context["table"]["table"]]},
        "paragraphs": [
            {"order": int(paragraph["order"]), "text": paragraph["text"]}
            for paragraph in context["paragraphs"]
        ],
        "questions": [
            {
                "question": asked["question"],
                "answer": tatqa_answers(asked["answer"]),
                "answer_type": asked["answer_type"],
                "scale": asked["scale"],
            }
            for asked in context["questions"]
        ],
    }


TATQA = Source(
    name="tatqa",
    title="TAT-QA, test split with its answers",
    licence="CC BY 4.0 (README of the repository)",
    origin="https://github.com/NExTplusplus/TAT-QA (dataset_raw); Zhu et al. 2021, arXiv:2105.07624",
    files={"test": "tatqa_dataset_test_gold.json"},
    read=read_tatqa,
)
