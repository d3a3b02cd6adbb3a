"""LexGLUE: classification of legal texts, `scotus`, `ledgar` or `unfair_tos` (Chalkidis et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_jsonl

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

_SPLITS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of coastalcph/lex_glue: text, and label (or labels of `unfair_tos`) as numbers."""
    row = _ROWS.get(part or "")
    if row is None:
        raise DataError(f"LexGLUE's part must be one of {', '.join(_ROWS)}, not {part!r}")
    splits: dict[str, Rows] = {}
    for item in read_jsonl(files["all"]):
        splits.setdefault(_SPLITS[item["data_type"]], []).append({"text": item["text"], **row(item)})
    return splits


def _issue_area(item: Mapping[str, Any]) -> dict[str, object]:
    area = int(item["issueArea"])
    if not 1 <= area <= len(ISSUE_AREAS):
        raise DataError(f"no such issue area: {area}")
    return {"label": area - 1}


def _provision(item: Mapping[str, Any]) -> dict[str, object]:
    return {"label": PROVISIONS.index(item["clause_type"])}


def _unfair(item: Mapping[str, Any]) -> dict[str, object]:
    return {"labels": sorted(UNFAIR.index(label) for label in set(item["labels"]))}


_ROWS = {"scotus": _issue_area, "ledgar": _provision, "unfair_tos": _unfair}

SOURCE = Source(
    name="lexglue",
    title="LexGLUE",
    licence="CC BY 4.0",
    origin="https://zenodo.org/record/5532997; Chalkidis et al. 2022, arXiv:2110.00976",
    files={"all": "{part}.jsonl"},
    read=read,
)
