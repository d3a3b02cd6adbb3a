"""The study benchmark: every arm is a right recipe of equal tokens, and differs from the one before."""

import argparse
import sys
from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl

from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.evaluate.config import EvaluateConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.mixture import part_problems

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def study(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import study

    return study


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    texts = {
        kind: write_jsonl(tmp_path / f"{kind}.jsonl", varied_texts(9, kind))
        for kind in ("domain", "replay", "tasks", "general")
    }
    return argparse.Namespace(
        **texts, runs=tmp_path / "runs", model="models/tiny", start_token="auto", tokens=40_000, length=256,
        documents=24, ratio=1.0, ontology=None, terms=200, peak=3e-4, heldout=0.15, probe=200, forms=8,
        probe_tokens=2_000, suites="medical:smoke", data=None, tested=(),
    )  # fmt: skip


def test_every_arm_is_a_recipe_of_equal_tokens(study, options) -> None:
    made = {arm: study.recipe(options, arm, 17, Path("model")) for arm in study.ARMS}
    assert {recipe["name"] for recipe in made.values()} == {"study-17"}  # the corpus is made once
    stages = [str(recipe["stages"]) for recipe in made.values()]
    assert len(set(stages)) == 8
    for recipe in made.values():
        corpus, pretrain, evaluate = (next(iter(stage.values())) for stage in recipe["stages"])
        text, training = CorpusConfig.model_validate(corpus), PretrainConfig.model_validate(pretrain)
        assert training.tokens == 40_000
        assert part_problems(training, text.parts) == []
        assert EvaluateConfig.model_validate(evaluate).against == ("base", "model")


def test_an_arm_is_compared_only_if_there_is_a_model_to_compare_with(study, options) -> None:
    with pytest.raises(SystemExit, match="no model of the arm replay to compare with, seed 17"):
        study.measure(options, "study", 17)


def test_suites_are_run_for_the_arms_that_are_tested_alone(study, options) -> None:
    options.tested = ["study"]
    asked = [study.recipe(options, arm, 17, Path("model"))["stages"][-1]["evaluate"] for arm in study.ARMS]
    assert [arm for arm, found in zip(study.ARMS, asked, strict=True) if "suites" in found] == ["study"]


def test_the_finished_folder_of_a_stage_is_found(study, tmp_path) -> None:
    for name in ("learn-a.partial", "learn-b", "corpus-a"):
        (tmp_path / name).mkdir()
    assert study.only(tmp_path, "learn-") == tmp_path / "learn-b"


def row(arm: str, seed: int, change: float, text: float = -0.1) -> dict[str, object]:
    difference = {"value": change, "low": change - 0.3, "high": change + 0.3}
    recall = {"untrained": {"difference": difference, "p_gold": {"difference": difference}}}
    gained = {"domain": {"difference": {"value": text, "low": text - 1, "high": text + 1}}}
    parts = {"domain.documents": {"epochs": seed / 10}}
    base = {"bits_per_byte": gained, "averages": {"medical": {"difference": change, "interval": [0, 1]}}}
    ledger = {"domain": {"parts": parts}}
    return {"arm": arm, "seed": seed, "base": base, "replay": {"recall": recall}, "ledger": ledger}


def test_seeds_are_averaged_with_the_interval_of_trainings(study) -> None:
    """Student's t over the seeds: 4.303 standard errors with three of them."""
    found = study.means([row("study", 1, 0.1), row("study", 2, 0.3), row("study", 3, 0.5)])["study"]
    change = found["untrained: p_gold"]
    assert change["seeds"] == [0.1, 0.3, 0.5]
    assert change["mean"] == pytest.approx(0.3)
    assert change["high"] == pytest.approx(0.3 + 4.303 * 0.2 / 3**0.5, abs=1e-3)
    assert {"untrained: accuracy", "domain: bits per byte", "medical: accuracy"} <= set(found)
    assert found["documents: epochs"] == pytest.approx(0.2)
    one = study.means([row("study", 1, 0.1)])["study"]["untrained: p_gold"]
    assert (one["low"], one["high"]) == (pytest.approx(-0.2), pytest.approx(0.4))  # of the items


def test_the_share_of_the_gain_is_that_of_the_same_seeds(study) -> None:
    rows = [row("replay", 1, 0, text=-0.1), row("replay", 2, 0, text=-0.5), row("study", 2, 0, text=-0.25)]
    found = study.means(rows)
    assert found["study"]["share"] == pytest.approx(0.5)
    assert found["replay"]["share"] == 1


@pytest.mark.parametrize("arm", ["raw + study", "+ phases", "+ shuffle"])
def test_the_ratio_of_documents_to_study_holds_in_the_main_phase(study, options, arm) -> None:
    for options.ratio in (1.0, 2.0):
        mixture = study.weights(arm, options.ratio)
        main = mixture["weights"] if isinstance(mixture, dict) else mixture[1]["weights"]
        documents = main["documents"] + main.get("shuffled", 0)
        assert documents == options.ratio * (main["reading"] + main["questions"])
