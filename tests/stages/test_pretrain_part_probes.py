"""Probes of the parts of a domain: their held-out documents, their plan, and domains without parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage_runs import make_corpus, make_parted_corpus, model_artifact, run_stage

from cpt.corpus.texts import heldout_texts
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.data import held_out
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment

MONITOR = {
    "every": 50,
    "probe_share": None,
    "samples": None,
    "early_end": None,
    "weights": None,
    "parts": True,
}
PLAIN = {"tokens": 700, "batch_sequences": 4, "monitor": MONITOR, "mixture": {"temperature": 1}}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_parted_corpus(base, folder)}


def test_held_out_texts_of_parts_are_those_of_the_domain(inputs: dict[str, Artifact]) -> None:
    corpus = inputs["corpus"].path("corpus")
    whole, notes, papers = (
        list(heldout_texts(corpus, name)) for name in ("domain", "domain.notes", "domain.papers")
    )
    assert sorted(notes + papers) == sorted(whole)
    assert notes
    assert papers == [text for text in whole if text.startswith("paper ")]
    assert len(heldout_texts(corpus, "domain.web")) == 0
    assert held_out(corpus) == ("domain",)
    assert held_out(corpus, parts=True) == ("domain", "domain.notes", "domain.papers")


def test_parts_are_read_beside_the_domain(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    run_stage(PRETRAIN, PLAIN, inputs, tmp_path / "parts")
    lines = (tmp_path / "parts/output/training/probes.jsonl").read_text().splitlines()
    first = {row["probe"]: row for row in map(json.loads, lines) if row["step"] == 0}
    assert first.keys() == {"domain", "domain.notes", "domain.papers"}
    corpus = inputs["corpus"].path("corpus")
    sizes = {
        name: sum(len(text.encode()) for text in heldout_texts(corpus, f"domain.{name}"))
        for name in ("notes", "papers")
    }
    mean = sum(first[f"domain.{name}"]["value"] * size for name, size in sizes.items()) / sum(sizes.values())
    assert first["domain"]["value"] == pytest.approx(mean)
    without = PLAIN | {"monitor": MONITOR | {"parts": False}}
    run_stage(PRETRAIN, without, inputs, tmp_path / "whole")
    lines = (tmp_path / "whole/output/training/probes.jsonl").read_text().splitlines()
    assert {json.loads(line)["probe"] for line in lines} == {"domain"}


def test_the_plan_names_probes_of_parts(inputs: dict[str, Artifact]) -> None:
    config = PRETRAIN.Config.model_validate(PLAIN)
    known = PRETRAIN.forecast(config, inputs, {"corpus": [], "model": []})
    corpus = CorpusConfig.model_validate({"domain": [{"path": n, "part": n} for n in ("notes", "papers")]})
    unknown = PRETRAIN.forecast(config, {}, {"corpus": [corpus], "model": []})
    for words in (known, unknown):
        assert "domain.papers" in words
    assert "domain.notes <= +0.1" in PRETRAIN.forecast(gated(), inputs, {"corpus": [], "model": []})


def gated() -> Any:
    return PRETRAIN.Config.model_validate(
        PLAIN | {"gates": [{"limit": "domain.notes <= +0.1", "action": "warn"}]}
    )


def test_gates_can_bound_a_part(inputs: dict[str, Artifact]) -> None:
    assert PRETRAIN.check(gated(), inputs) == []
    unknown = gated().model_copy(update={"monitor": gated().monitor.model_copy(update={"parts": False})})
    (problem,) = PRETRAIN.check(unknown, inputs)
    assert "no probe is called `domain.notes`" in problem.message


def test_gates_on_parts_are_checked_before_the_corpus_is_made() -> None:
    def found(*parts: str) -> list[str | None]:
        corpus = CorpusConfig.model_validate({"domain": [{"path": n, "part": n} for n in parts]})
        upstream = {"corpus": [corpus], "model": []}
        return [each.key for each in PRETRAIN.check_environment(gated(), Environment(), upstream)]

    assert PRETRAIN.check(gated(), {}) == []
    assert found("notes", "papers") == []
    assert found("papers", "news") == ["gates.0.limit"]


def test_a_domain_without_parts_has_no_such_probes(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    corpus = make_corpus(inputs["model"], tmp_path)
    config = PRETRAIN.Config.model_validate(PLAIN | {"mixture": None})
    (problem,) = PRETRAIN.check(config, {**inputs, "corpus": corpus})
    assert (problem.key, "no parts whose held-out text" in problem.message) == ("monitor.parts", True)
