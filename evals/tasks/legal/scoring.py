"""Make the prompts of legal tasks, and score them: LexGLUE, ContractNLI, LegalBench.

LexGLUE's prompts and scoring follow Chalkidis 2023, arXiv:2304.12202, ContractNLI's scoring Koreeda and
Manning 2021 (section 5.1), LegalBench's its evaluation.py (HazyResearch/legalbench).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evals.metrics import rouge_l
from evals.sources.legal import ISSUE_AREAS, PROVISIONS, UNFAIR

_WORDS = 3000
_NONE = "None"


def scotus(doc: Mapping[str, Any]) -> str:
    """Return the prompt for the issue area of an opinion of the US Supreme Court."""
    return _prompt(
        "Given the following opinion from the Supreme Court of USA (SCOTUS):",
        " ".join(doc["text"].split(" ")[:_WORDS]),
        "Which topics are relevant out of the following options:",
        ISSUE_AREAS,
        "The relevant option is:",
    )


def ledgar(doc: Mapping[str, Any]) -> str:
    """Return the prompt for the title of a contract's provision."""
    return _prompt(
        "Given the following contractual section:",
        _mended(doc["text"]),
        "There is an appropriate section title out of the following options:",
        PROVISIONS,
        "The most appropriate option is:",
    )


def unfair_tos(doc: Mapping[str, Any]) -> str:
    """Return the prompt for the kinds of unfairness of a sentence of terms of service."""
    return _prompt(
        "Given the following sentence from an online Term of Services:",
        _mended(doc["text"]),
        "The sentence is unfair with respect to some of the following options:",
        [*UNFAIR, _NONE],
        "The relevant options are:",
    )


def case_hold(doc: Mapping[str, Any]) -> str:
    """Return the prompt for the holding that an excerpt of an opinion cites."""
    return _prompt(
        "Given the following excerpt from a US court opinion:",
        doc["contexts"][0].replace("<HOLDING>", "[Masked Holding]"),
        "The [Masked Holding] is a placeholder for one of the following options:",
        doc["endings"],
        "The relevant option is:",
    )


def issue_areas(doc: Mapping[str, Any]) -> list[str]:
    """Return the choices of `scotus`."""
    del doc
    return list(ISSUE_AREAS)


def provisions(doc: Mapping[str, Any]) -> list[str]:
    """Return the choices of `ledgar`."""
    del doc
    return list(PROVISIONS)


def unfair_terms(doc: Mapping[str, Any]) -> str:
    """Return the right answer of `unfair_tos`."""
    return ", ".join(UNFAIR[label] for label in sorted(doc["labels"])) or _NONE


def named_terms(doc: Mapping[str, Any], texts: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Count the labels that the answer names rightly, the labels that it names, and the right labels."""
    text = texts[0].lower()
    named = {label for label in (*UNFAIR, _NONE) if label.lower() in text}
    right = {UNFAIR[label] for label in doc["labels"]} or {_NONE}
    return {"micro_f1": (len(named & right), len(named), len(right))}


def _prompt(introduction: str, text: str, presentation: str, options: Iterable[str], question: str) -> str:
    listed = "\n".join(f"- {option}" for option in options)
    return f'{introduction}\n"{text}"\n\n{presentation}\n{listed}\n{question}'


def _mended(text: str) -> str:
    """Return the text without the spaces and quotation marks of its tokeniser."""
    for written, meant in ((" ,", ","), (" .", "."), ("\n", " "), ("`` ", "'"), (" ''", "'")):
        text = text.replace(written, meant)
    return text.strip()


_CONTRADICTION, _ENTAILMENT = 0, 1


def conclusion(doc: Mapping[str, Any], choices: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Score the likeliest conclusion: right or wrong, and as a contradiction and as an entailment."""
    likelihoods = [likelihood for likelihood, _ in choices]
    chosen, right = likelihoods.index(max(likelihoods)), doc["label"]
    return {
        "acc": float(chosen == right),
        "f1_contradiction": (doc["hypothesis"], right == _CONTRADICTION, chosen == _CONTRADICTION),
        "f1_entailment": (doc["hypothesis"], right == _ENTAILMENT, chosen == _ENTAILMENT),
    }


Choices = Sequence[tuple[float, bool]]
Values = dict[str, Any]

_WITHIN = 0.1
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def choosing(labels: Sequence[str]) -> Callable[[Mapping[str, str], Choices], Values]:
    """Return a scoring by the likelihoods of labels in this order: the likeliest is the answer."""

    def score(doc: Mapping[str, str], choices: Choices) -> Values:
        likelihoods = [likelihood for likelihood, _ in choices]
        chosen = likelihoods.index(max(likelihoods))
        right = labels.index(doc["answer"])
        return {"balanced_accuracy": (right, chosen), "acc": float(chosen == right)}

    return score


yes_no = choosing(["Yes", "No"])
entailment = choosing(["Entailment", "Contradiction"])
rule = choosing(["trademarks", "hearsay", "personal jurisdiction"])
unfair_term = choosing(
    [
        "Arbitration",
        "Unilateral change",
        "Content removal",
        "Jurisdiction",
        "Choice of law",
        "Limitation of liability",
        "Unilateral termination",
        "Contract by using",
        "Other",
    ]
)


def written_label(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """Compare the written label with the right one, without case, punctuation and spaces around."""
    right, written = _normalised(doc["answer"]), _normalised(texts[0])
    return {"balanced_accuracy": (right, written), "exact_match": float(right == written)}


def amount(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """Score 1 if the first number of the answer is within a tenth of the right one."""
    found = re.search(r"\d+", texts[0].replace(",", "").replace(".", ""))
    predicted = int(found.group()) if found else 0
    right = int(doc["answer"].replace("$", ""))
    return {"acc": float(abs(predicted / (right + 0.1) - 1) < _WITHIN)}


def written_rule(doc: Mapping[str, str], texts: Sequence[str]) -> Values:
    """Compute ROUGE-L with the rule as experts state it; in the paper, people judge."""
    return {"rougeL": rouge_l(doc["answer"], texts[0])}


def distinct(dataset: Any) -> Any:
    """Drop items that the data repeat."""
    seen: dict[tuple[Any, ...], int] = {}
    for place, row in enumerate(dataset):
        seen.setdefault(tuple(row[column] for column in _content_columns(row)), place)
    return dataset.select(sorted(seen.values()))


def statements(dataset: Any) -> Any:
    """Choose the entailments of SARA, which early files mix with amounts."""
    return dataset.filter(lambda row: not row["answer"].startswith("$"))


def amounts(dataset: Any) -> Any:
    """Choose the amounts of SARA, which early files mix with entailments."""
    return dataset.filter(lambda row: row["answer"].startswith("$"))


def _normalised(text: str) -> str:
    return text.translate(_NO_PUNCTUATION).strip().lower()


def _content_columns(row: Mapping[str, Any]) -> list[str]:
    """Return the columns that make an item; others number it or name its document."""
    return [column for column in row if column not in {"index", "document_name"}]
