"""Settings of selections and mixtures of replay: what they refer to and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stage_runs import model_artifact

from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.stage import STAGE


def test_references_and_forecast() -> None:
    by = {"kind": "n-gram", "reference": [{"path": "ref.jsonl"}]}
    part = {"name": "b", "weight": 1, "sources": [{"path": "b.jsonl"}]}
    own = {"name": "own", "weight": 3, "self_generated": {"tokens": 9}}
    config = CorpusConfig.model_validate(
        {
            "domain": [{"path": "a.jsonl"}],
            "select": {"tokens": 5_000, "by": by},
            "replay": {"mixture": [part, own]},
        }
    )
    assert STAGE.references(config) == ["a.jsonl", "ref.jsonl", "b.jsonl"]
    assert (
        STAGE.forecast(config, {}, {})
        == "the 5,000 best tokens of the domain, by n-gram; replay of b 25%, own 75%"
    )
    assert STAGE.forecast(CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}]}), {}, {}) == ""


def test_problems_are_found_in_every_source(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.odt").write_text("x")
    wrong = [{"path": str(tmp_path / "x.odt")}]
    own = {"name": "own", "weight": 1, "self_generated": {"tokens": 9, "length": 900}}
    config = CorpusConfig.model_validate(
        {
            "domain": [{"path": "a.jsonl"}],
            "sequence_length": 64,
            "select": {"tokens": 5, "by": {"kind": "n-gram", "reference": wrong}},
            "replay": {"mixture": [{"name": "b", "weight": 1, "sources": wrong}, own]},
        }
    )
    base = model_artifact("base", tiny_model, tmp_path)
    found = {problem.key for problem in STAGE.check(config, {"model": base})}
    assert found == {
        "select.by.reference.0.format",
        "replay.mixture.0.sources.0.format",
        "replay.mixture.1.self_generated.length",
    }


PART = {"name": "b", "weight": 1, "sources": [{"path": "b"}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"select": {}},
        {"select": {"tokens": 0}},
        {"select": {"tokens": 1, "by": "best"}},
        {"select": {"tokens": 1, "by": {"kind": "n-gram"}}},
        {"select": {"tokens": 1, "by": {"kind": "n-gram", "reference": []}}},
        {"select": {"tokens": 1, "by": {"kind": "n-gram", "reference": [{"path": "a"}], "order": 6}}},
        {"select": {"tokens": 1, "min_tokens": 7}},
        {"select": {"tokens": 1, "max_repetition": 1.1}},
        {"replay": {"mixture": [PART]}},
        {"replay": {"mixture": [PART, PART]}},
        {"replay": {"mixture": [PART, {**PART, "name": "C"}]}},
        {"replay": {"mixture": [PART, {**PART, "name": "c", "weight": 0}]}},
        {"replay": {"mixture": [PART, {"name": "c", "weight": 1}]}},
        {"replay": {"mixture": [PART, {**PART, "name": "c", "self_generated": {"tokens": 5}}]}},
        {"replay": {"mixture": [PART, {**PART, "name": "c"}], "sources": [{"path": "a"}]}},
    ],
)
def test_what_the_schema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], **wrong})


def test_two_parts_of_one_name_are_named() -> None:
    config = {"domain": [{"path": "a"}], "replay": {"mixture": [PART, PART]}}
    with pytest.raises(ValidationError, match=re.escape("two parts are named b")):
        CorpusConfig.model_validate(config)
