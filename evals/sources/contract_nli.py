"""ContractNLI: what non-disclosure agreements say of 17 hypotheses (Koreeda and Manning 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cpt.errors import DataError
from evals.sources.base import Files, Rows, Source
from evals.sources.reading import read_json

LABELS = ("Contradiction", "Entailment", "NotMentioned")
"""As kiddothe2b/contract-nli numbers them: contradiction, entailment, neutral."""


def read(files: Files, part: str | None) -> Mapping[str, Rows]:
    """Columns of kiddothe2b/contract-nli, contractnli_b: premise (the whole agreement), hypothesis, label."""
    del part
    return {split: list(_pairs(read_json(file))) for split, file in files.items()}


def _pairs(published: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    hypotheses = {key: label["hypothesis"] for key, label in published["labels"].items()}
    for document in published["documents"]:
        (annotated,) = document["annotation_sets"]
        for key, annotation in annotated["annotations"].items():
            if annotation["choice"] not in LABELS:
                raise DataError(f"document {document['id']}, {key}: no such choice: {annotation['choice']!r}")
            label = LABELS.index(annotation["choice"])
            yield {"premise": document["text"], "hypothesis": hypotheses[key], "label": label}


SOURCE = Source(
    name="contract_nli",
    title="ContractNLI",
    licence="CC BY 4.0",
    origin="https://stanfordnlp.github.io/contract-nli; Koreeda and Manning 2021, arXiv:2110.01799",
    files={"test": "contract_nli/test.json"},
    read=read,
)
