"""Settings of ratings: what they refer to, what is refused, and the histogram of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_runs import byte_model
from pydantic import ValidationError

from cpt.corpus.ratings.concepts import ConceptSettings
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.selection import histogram
from cpt.stages.corpus.stage import STAGE


def config(by: dict[str, Any], **more: Any) -> CorpusConfig:
    return CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "select": {"by": by, **more}})


def test_files_are_references_and_the_forecast_names_the_rating() -> None:
    score = config({"kind": "score", "file": "s.jsonl"}, tokens=5)
    concepts = config({"kind": "concepts", "terms": [{"path": "hp.obo"}], "cap": 9})
    examples = config(
        {"kind": "classifier", "positive": [{"path": "p.jsonl"}], "negative": [{"path": "n.jsonl"}]}, tokens=5
    )
    assert [STAGE.references(each)[1:] for each in (score, concepts, examples)] == [
        ["s.jsonl"],
        ["hp.obo"],
        ["p.jsonl", "n.jsonl"],
    ]
    assert STAGE.forecast(score, {}, {}) == "the 5 best tokens of the domain, by score"
    assert STAGE.forecast(concepts, {}, {}) == "selected documents of the domain, by concepts"


def test_problems_are_found_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "terms.list").write_text("fever")
    monkeypatch.setattr(ConceptSettings, "libraries", {"no_such_module": "concepts"})
    by = {"kind": "concepts", "terms": [{"path": str(tmp_path / "terms.list")}], "cap": 9}
    found = {problem.key: problem for problem in STAGE.check(config(by), {"model": byte_model(tmp_path)})}
    assert found["select.by"].message == (
        "concepts needs no_such_module: pip install 'cpt-workbench[concepts]'"
    )
    assert found["select.by.terms.0.format"].hint == "Set format: text, obo or python."
    target = [{"path": "t.jsonl", "complete": False}]
    problems = STAGE.check(config({"kind": "dsir", "target": target}, tokens=9), {})
    assert [problem.key for problem in problems] == ["select.by.target.0.complete"]


@pytest.mark.parametrize(
    "by",
    [
        {"kind": "dsir"},
        {"kind": "dsir", "target": []},
        {"kind": "classifier", "positive": [{"path": "a"}]},
        {"kind": "score"},
        {"kind": "score", "file": "a", "missing": "guess"},
        {"kind": "predictive-strength", "file": "a"},
        {"kind": "concepts", "terms": []},
        {"kind": "concepts", "terms": [{"path": "a", "format": "jsonl"}]},
        {"kind": "base", "band": [2, 3]},
    ],
)
def test_what_the_schema_refuses(by: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(by, tokens=5)


@pytest.mark.parametrize("by", ["base", {"kind": "concepts", "terms": [{"path": "a"}]}])
def test_a_selection_has_tokens_a_band_or_a_cap(by: Any) -> None:
    with pytest.raises(ValidationError, match="give tokens"):
        CorpusConfig.model_validate({"domain": [{"path": "a"}], "select": {"by": by}})


def test_the_histogram_counts_every_document_with_a_score() -> None:
    scores = np.concatenate([np.linspace(0, 1, 1_000), [np.nan, 50.0, -50.0]])
    selected = scores < 0.5
    found = histogram(scores, selected)
    assert (len(found["edges"]), sum(found["selected"]), sum(found["others"])) == (25, 501, 501)
    assert 0 <= found["edges"][0] < found["edges"][-1] <= 1.001
    alike = histogram(np.array([2.0, 2.0]), np.array([True, False]))
    assert (sum(alike["selected"]), alike["edges"][0], alike["edges"][-1]) == (1, 1.5, 2.5)
    assert histogram(np.array([np.nan]), np.array([True]))["edges"] == []
