"""The corpus stage's replay text from the base model: which samples end, and when they are sampled again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_runs import model_artifact, run_stage
from tiny import clinical_texts, write_jsonl

from cpt.corpus import open_source, read_documents, read_index
from cpt.corpus.self_generated import _Sampler
from cpt.recipe.load import load
from cpt.recipe.plan import Selection
from cpt.recipe.runner import run
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE as CORPUS

SAMPLED = {"tokens": 3000, "length": 16, "batch": 100}
END = 1


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Artifact:
    return model_artifact("base", tiny_model, tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    domain = str(write_jsonl(tmp_path / "domain.jsonl", clinical_texts()))
    settings = {"domain": [{"path": domain}], "heldout": 0.1, "sequence_length": 64}
    return settings | {"replay": {"self_generated": SAMPLED}}


@pytest.fixture
def samplings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Seeds of all batches that are sampled."""
    seeds: list[int] = []
    sample = _Sampler.sample

    def counted(self: _Sampler, batch: int, length: int, temperature: float, seed: int, tell: Any) -> Any:
        seeds.append(seed)
        return sample(self, batch, length, temperature, seed, tell)

    monkeypatch.setattr(_Sampler, "sample", counted)
    return seeds


def ends(corpus: Path) -> int:
    """End tokens in the packed replay text, each the last of its document."""
    source, count = open_source(corpus, "replay"), 0
    for number in range(len(source)):
        row = source.sequence(number)
        lasts = np.cumsum(row.piece_lengths) - 1
        assert set(np.flatnonzero(row.tokens == END)) <= set(lasts.tolist())
        count += int((row.tokens == END).sum())
    return count


@pytest.mark.parametrize(
    "replay",
    [
        {"self_generated": SAMPLED},
        {
            "mixture": [
                {"name": "own", "weight": 1, "self_generated": SAMPLED},
                {"name": "more", "weight": 3, "self_generated": SAMPLED | {"temperature": 0.9}},
            ]
        },
    ],
    ids=["alone", "mixed"],
)
def test_only_samples_that_the_model_ended_have_the_end_token(
    base: Artifact, config: dict[str, Any], tmp_path: Path, replay: dict[str, Any]
) -> None:
    run_stage(CORPUS, config | {"replay": replay}, {"model": base}, tmp_path / "made")
    corpus = tmp_path / "made" / "output" / "corpus"
    ended = [document.ended for document in read_documents(corpus, "replay", "train")]
    assert 0 < sum(ended) < len(ended) / 2
    assert ends(corpus) == sum(ended)
    cut = [counts.splits["train"].cut for name, counts in read_index(corpus).sources.items() if "own" in name]
    assert cut == [] or cut[0] > 0


def test_another_held_out_share_samples_nothing_again_but_what_sampling_depends_on_does(
    base: Artifact, config: dict[str, Any], tmp_path: Path, samplings: list[int]
) -> None:
    def made(name: str, seed: int = 17, model: Artifact = base, **changed: Any) -> list[str]:
        samplings.clear()
        shared = tmp_path / "shared"
        inputs = {"model": model}
        run_stage(CORPUS, config | changed, inputs, tmp_path / name, seed=seed, shared=shared)
        corpus = tmp_path / name / "output" / "corpus"
        return [document.text for document in read_documents(corpus, "replay", "train")]

    first = made("first")
    assert samplings
    assert made("again", heldout=0.2, sequence_length=32) == first
    assert samplings == []
    others = {
        "seed": {"seed": 18},
        "model": {"model": base.model_copy(update={"fingerprint": "other"})},
        "end": {"end_token": None},
        **{
            name: {"replay": {"self_generated": SAMPLED | {name: value}}}
            for name, value in {"tokens": 2000, "length": 17, "batch": 99, "temperature": 0.9}.items()
        },
    }
    for name, changed in others.items():
        made(name, **changed)
        assert samplings, name


def test_a_run_keeps_samples_for_the_next(
    tiny_model: Path, config: dict[str, Any], tmp_path: Path, samplings: list[int]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: adapted\nbase: {tiny_model}\nstages:\n  - corpus:\n"
        f"      domain: [{{path: {config['domain'][0]['path']}}}]\n"
        "      heldout: 0.1\n      sequence_length: 64\n"
        "      replay: {self_generated: {tokens: 300, length: 16}}\n"
    )
    corpora = [
        run(load(recipe, overrides), tmp_path / "runs", Selection()).artifacts["corpus"]
        for overrides in ([], ["corpus.heldout=0.2"])
    ]
    assert corpora[0].fingerprint != corpora[1].fingerprint
    assert samplings == [17]
    run(load(recipe, ["seed=3"]), tmp_path / "runs", Selection())
    assert samplings == [17, 3]
