"""Legal data sets: CaseHOLD, ContractNLI, LexGLUE, LegalBench, LSAT of AGIEval."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpt.errors import DataError, Problem
from evals.sources.base import Files, Rows, Source, read_csv, read_json, read_jsonl

# CaseHOLD: which holding a US court opinion cites a case for (Zheng et al. 2021, arXiv:2104.08671).
_CASEHOLD_ITEMS = {"train": 45_000, "validation": 3_900, "test": 3_600}
_CASEHOLD_CHOICES = 5


def read_casehold(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of coastalcph/lex_glue, case_hold: contexts (five times the excerpt), endings,
    label.

    LexGLUE's splits are the file's rows in order (Chalkidis et al. 2022, arXiv:2110.00976).
    """
    del part
    rows = [_casehold_row(record) for record in read_csv(files["all"], columns=13)[1:]]
    if len(rows) != sum(_CASEHOLD_ITEMS.values()):
        raise DataError(
            f"{files['all']}: {len(rows)} items; LexGLUE's file has {sum(_CASEHOLD_ITEMS.values())}"
        )
    splits: dict[str, Rows] = {}
    for split, count in _CASEHOLD_ITEMS.items():
        splits[split], rows = rows[:count], rows[count:]
    return splits


def _casehold_row(record: list[str]) -> dict[str, object]:
    _, excerpt, *rest, label = record
    if label not in {str(choice) for choice in range(_CASEHOLD_CHOICES)}:
        raise DataError(f"item {record[0]}: the label is {label!r}, not 0 to {_CASEHOLD_CHOICES - 1}")
    return {
        "contexts": [excerpt] * _CASEHOLD_CHOICES,
        "endings": rest[:_CASEHOLD_CHOICES],
        "label": int(label),
    }


CASEHOLD = Source(
    name="casehold",
    title="CaseHOLD",
    licence="CC BY 4.0 (as part of LexGLUE)",
    origin="https://zenodo.org/record/5532997, casehold.tar.gz; Zheng et al. 2021, arXiv:2104.08671",
    files={"all": "casehold.csv"},
    read=read_casehold,
)


# ContractNLI: what non-disclosure agreements say of 17 hypotheses (Koreeda and Manning 2021).
CONTRACT_NLI_LABELS = ("Contradiction", "Entailment", "NotMentioned")
"""Labels in the order of kiddothe2b/contract-nli: contradiction, entailment, neutral."""


def read_contract_nli(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of kiddothe2b/contract-nli: premise (the whole agreement), hypothesis, label."""
    del part
    return {split: list(_contract_nli_pairs(read_json(file))) for split, file in files.items()}


def _contract_nli_pairs(published: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    hypotheses = {key: label["hypothesis"] for key, label in published["labels"].items()}
    for document in published["documents"]:
        (annotated,) = document["annotation_sets"]
        for key, annotation in annotated["annotations"].items():
            if annotation["choice"] not in CONTRACT_NLI_LABELS:
                raise DataError(f"document {document['id']}, {key}: no such choice: {annotation['choice']!r}")
            label = CONTRACT_NLI_LABELS.index(annotation["choice"])
            yield {"premise": document["text"], "hypothesis": hypotheses[key], "label": label}


CONTRACT_NLI = Source(
    name="contract_nli",
    title="ContractNLI",
    licence="CC BY 4.0",
    origin="https://stanfordnlp.github.io/contract-nli; Koreeda and Manning 2021, arXiv:2110.01799",
    files={"test": "contract_nli/test.json"},
    read=read_contract_nli,
)


# LegalBench: short tasks of legal reasoning (Guha et al. 2023, arXiv:2308.11462).
#
# The files are those of the repository's commit a7bdadb of 8 March 2023, the last that has them with all
# labels: fewer tasks than the paper's 162, under older names. A part is a path below the folder of tasks
# without its ending: `abercrombie/test`, `CUAD_Audit Rights/test`, `unfair_tos/data`. No task reads `eurlex`,
# which has numbers of concepts for labels, no prompt, and no place in the paper.
_LEGALBENCH_EXAMPLES = Path(__file__).with_name("legalbench_examples.jsonl")
_LEGALBENCH_NAMES = {"label": "answer"}
_LEGALBENCH_MISNAMED = {
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
"""Meaning of the labels of a task that were published in another order than their names: the clauses that are
called Arbitration limit liability, and so on (compare LexGLUE, from which they were taken)."""


def read_legalbench(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of nguha/legalbench: answer, and the texts that the task's prompt names.

    `train` are the examples of the benchmark's own prompt, which the hub has as that split too; the files do
    not. Some were items of the files' tests in 2023: they are left out of `test`.
    """
    folder = (part or "").partition("/")[0]
    examples = [
        _legalbench_without_task(row) for row in read_jsonl(_LEGALBENCH_EXAMPLES) if row["task"] == folder
    ]
    items = [_legalbench_named_rightly(item, folder) for item in _legalbench_items(files["test"])]
    if not examples:
        return {"test": items}
    columns = examples[0].keys()
    missing = sorted(columns - items[0].keys()) if items else []
    if missing:
        raise DataError(str(Problem(f"lacks the columns {', '.join(missing)}", file=str(files["test"]))))
    cut = [{column: item[column] for column in columns} for item in items]
    return {"train": examples, "test": [item for item in cut if item not in examples]}


def _legalbench_items(file: Path) -> Rows:
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        items: Rows = []
        for record in reader:
            if None in record or None in record.values():
                reason = f"not {len(reader.fieldnames or ())} fields"
                raise DataError(str(Problem(reason, file=str(file), line=reader.line_num)))
            items.append({_LEGALBENCH_NAMES.get(column, column): value for column, value in record.items()})
    if items and "answer" not in items[0]:
        raise DataError(str(Problem("has neither a column `label` nor `answer`", file=str(file))))
    return items


def _legalbench_named_rightly(item: dict[str, str], folder: str) -> dict[str, str]:
    return {**item, "answer": _LEGALBENCH_MISNAMED.get(folder, {}).get(item["answer"], item["answer"])}


def _legalbench_without_task(row: dict[str, str]) -> dict[str, str]:
    return {column: value for column, value in row.items() if column != "task"}


LEGALBENCH = Source(
    name="legalbench",
    title="LegalBench",
    licence="CC BY 4.0; statutory_reasoning_assessment MIT (the tasks' READMEs)",
    origin="https://github.com/HazyResearch/legalbench, commit a7bdadb; Guha et al. 2023, arXiv:2308.11462",
    files={"test": "{part}.tsv"},
    read=read_legalbench,
)


# LexGLUE: classification of legal texts, `scotus`, `ledgar` or `unfair_tos` (Chalkidis et al. 2022).
ISSUE_AREAS = (
    "Criminal Procedure", "Civil Rights", "First Amendment", "Due Process", "Privacy", "Attorneys", "Unions",
    "Economic Activity", "Judicial Power", "Federalism", "Interstate Relations", "Federal Taxation",
    "Miscellaneous",
)  # fmt: skip
"""Issue areas 1 to 13 of the Supreme Court Database, which are the labels 0 to 12 of `scotus`."""

PROVISIONS = (
    "Adjustments", "Agreements", "Amendments", "Anti-Corruption Laws", "Applicable Laws", "Approvals",
    "Arbitration", "Assignments", "Assigns", "Authority", "Authorizations", "Base Salary", "Benefits",
    "Binding Effects", "Books", "Brokers", "Capitalization", "Change In Control", "Closings",
    "Compliance With Laws", "Confidentiality", "Consent To Jurisdiction", "Consents", "Construction",
    "Cooperation", "Costs", "Counterparts", "Death", "Defined Terms", "Definitions", "Disability",
    "Disclosures", "Duties", "Effective Dates", "Effectiveness", "Employment", "Enforceability",
    "Enforcements", "Entire Agreements", "Erisa", "Existence", "Expenses", "Fees", "Financial Statements",
    "Forfeitures", "Further Assurances", "General", "Governing Laws", "Headings", "Indemnifications",
    "Indemnity", "Insurances", "Integration", "Intellectual Property", "Interests", "Interpretations",
    "Jurisdictions", "Liens", "Litigations", "Miscellaneous", "Modifications", "No Conflicts", "No Defaults",
    "No Waivers", "Non-Disparagement", "Notices", "Organizations", "Participations", "Payments", "Positions",
    "Powers", "Publicity", "Qualifications", "Records", "Releases", "Remedies", "Representations", "Sales",
    "Sanctions", "Severability", "Solvency", "Specific Performance", "Submission To Jurisdiction",
    "Subsidiaries", "Successors", "Survival", "Tax Withholdings", "Taxes", "Terminations", "Terms", "Titles",
    "Transactions With Affiliates", "Use Of Proceeds", "Vacations", "Venues", "Vesting",
    "Waiver Of Jury Trials", "Waivers", "Warranties", "Withholdings",
)  # fmt: skip
"""Titles of contract provisions: the labels of `ledgar`."""

UNFAIR = (
    "Limitation of liability", "Unilateral termination", "Unilateral change", "Content removal",
    "Contract by using", "Choice of law", "Jurisdiction", "Arbitration",
)  # fmt: skip
"""Kinds of unfair terms: the labels of `unfair_tos`, of which a sentence may have any number."""

_LEXGLUE_SPLITS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}


def read_lexglue(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of coastalcph/lex_glue: text, and label (or labels of `unfair_tos`) as numbers."""
    row = _LEXGLUE_ROWS.get(part or "")
    if row is None:
        raise DataError(f"LexGLUE's part must be one of {', '.join(_LEXGLUE_ROWS)}, not {part!r}")
    splits: dict[str, Rows] = {}
    for item in read_jsonl(files["all"]):
        splits.setdefault(_LEXGLUE_SPLITS[item["data_type"]], []).append({"text": item["text"], **row(item)})
    return splits


def _lexglue_issue_area(item: Mapping[str, Any]) -> dict[str, object]:
    area = int(item["issueArea"])
    if not 1 <= area <= len(ISSUE_AREAS):
        raise DataError(f"no such issue area: {area}")
    return {"label": area - 1}


def _lexglue_provision(item: Mapping[str, Any]) -> dict[str, object]:
    return {"label": PROVISIONS.index(item["clause_type"])}


def _lexglue_unfair(item: Mapping[str, Any]) -> dict[str, object]:
    return {"labels": sorted(UNFAIR.index(label) for label in set(item["labels"]))}


_LEXGLUE_ROWS = {"scotus": _lexglue_issue_area, "ledgar": _lexglue_provision, "unfair_tos": _lexglue_unfair}

LEXGLUE = Source(
    name="lexglue",
    title="LexGLUE",
    licence="CC BY 4.0",
    origin="https://zenodo.org/record/5532997; Chalkidis et al. 2022, arXiv:2110.00976",
    files={"all": "{part}.jsonl"},
    read=read_lexglue,
)


# LSAT of AGIEval: `ar`, `lr` or `rc` of the law school admission test (Zhong et al. 2023).
_LSAT_AGIEVAL_LETTERS = ("A", "B", "C", "D", "E")


def read_lsat_agieval(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Return the columns of hails/agieval-lsat-*: query (AGIEval's zero-shot prompt), choices, gold."""
    del part  # of the files' names only
    return {split: [_lsat_agieval_row(item) for item in read_jsonl(file)] for split, file in files.items()}


def _lsat_agieval_row(item: Mapping[str, Any]) -> dict[str, object]:
    options = item["options"]
    if item["label"] not in _LSAT_AGIEVAL_LETTERS[: len(options)]:
        raise DataError(f"the answer of {item['question']!r} is {item['label']!r}, not one of its options")
    query = (
        f"{item['passage'] or ''}Q: {item['question']} Answer Choices: {' '.join(options)}\n"
        f"A: Among A through {_LSAT_AGIEVAL_LETTERS[len(options) - 1]}, the answer is"
    )
    return {"query": query, "choices": options, "gold": [_LSAT_AGIEVAL_LETTERS.index(item["label"])]}


LSAT_AGIEVAL = Source(
    name="lsat_agieval",
    title="LSAT of AGIEval",
    licence="MIT",
    origin="https://github.com/ruixiangcui/AGIEval, data; Zhong et al. 2023, arXiv:2304.06364",
    files={"test": "lsat-{part}.jsonl"},
    read=read_lsat_agieval,
)
