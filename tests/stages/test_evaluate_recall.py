"""The recall probe in the evaluate stage: all models answer the corpus's questions, by groups of facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import ttest_rel
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from tiny import CHANGES, COURSES, ORGANS
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.corpus import read_index
from cpt.corpus.recall import RECALL, RecallItem, write_recall
from cpt.errors import DataError
from cpt.report.schema import Task
from cpt.stages.base import Artifact
from cpt.stages.evaluate.stage import ITEMS, STAGE
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY
from evals.comparing.statistics import compare_accuracy

CONFIG = {"heldout_tokens": 200, "precision": "fp32"}
SIZES = {"trained": 5, "untrained": 8, "absent": 1}


def items(group: str) -> list[RecallItem]:
    """Questions whose choices differ in length, and in bytes per character."""
    made = []
    for number in range(SIZES[group]):
        organ, change, course = (each[number % len(each)] for each in (ORGANS, CHANGES, COURSES))
        choices = (f"{change} {course}", CHANGES[number % 6 - 1], f"é{organ[:2]}")
        answer = number % 3
        question = f"In {group} carcinoma, the {organ} becomes:"
        made.append(RecallItem(group, organ, "glossary.define", question, choices, answer))
    return made


PROBE = {group: items(group) for group in SIZES}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base, and the base with more tokens; the corpus is that of the vocabulary stage."""
    folder = tmp_path_factory.mktemp("artifacts")
    base = model_artifact("base", tiny_model, folder)
    corpus = make_corpus(base, folder)
    write_recall(corpus.path("corpus"), (item for group in reversed(PROBE) for item in PROBE[group]))
    run_stage(VOCABULARY, {"extend": {"tokens": 30}}, {"model": base, "corpus": corpus}, folder / "extended")
    after = model_artifact("after", folder / "extended/output/model", folder)
    return {"before": base, "after": after, "corpus": artifact("again", folder / "extended/output", "corpus")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def evaluated(inputs: dict[str, Artifact], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores and the metrics of a comparison with the base, and with the model itself."""
    given = inputs | {"against:1": inputs["after"]}
    metrics = run_stage(STAGE, CONFIG | {"against": ["base", "early"]}, given, folder)
    return json.loads((folder / "output/scores/scores.json").read_text()), metrics


def answers(model_folder: Path, start: str, asked: list[RecallItem]) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and p_gold, [items] each, one choice at a time through transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def nats(question: str, choice: str) -> float:
        prompt, whole = (
            tokenizer.encode(start + text, add_special_tokens=False) for text in (question, question + choice)
        )
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return sum(logits[at - 1, whole[at]].item() for at in range(len(prompt), len(whole)))

    right, likelihoods = [], []
    for item in asked:
        choices = [f" {choice}" for choice in item.choices]
        found = np.array([nats(item.question, choice) for choice in choices])
        characters = np.array([len(choice) for choice in choices])
        sizes = np.array([len(choice.encode()) for choice in choices])
        right.append(float((found / characters).argmax() == item.answer))
        likelihoods.append(softmax(found / sizes)[item.answer])
    return np.array(right), np.array(likelihoods)


def test_figures_are_those_of_one_question_at_a_time(
    inputs: dict[str, Artifact], evaluated: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    scores, metrics = evaluated
    assert list(scores["recall"]) == list(PROBE)
    start = read_index(inputs["corpus"].path("corpus")).start_token or ""
    for group, found in scores["recall"].items():
        asked = PROBE[group]
        assert (found["metric"], found["items"]) == ("acc_norm", len(asked))
        assert found["chance"] == pytest.approx(1 / 3)
        (right, likely), (right_after, likely_after) = (
            answers(inputs[role].path("model"), start, asked) for role in ("before", "after")
        )
        expected = compare_accuracy(right, right_after, confidence=0.95)
        for when in ("before", "after", "difference"):
            level = getattr(expected, when)
            assert found[when] == pytest.approx({"value": level.value, "low": level.low, "high": level.high})
            assert metrics["recall"][group][when] == found[when]["value"]
            assert metrics["recall"][group]["p_gold"][when] == found["p_gold"][when]["value"]
        by_p_gold = found["p_gold"]
        assert by_p_gold["before"]["value"] == pytest.approx(likely.mean(), rel=1e-4)
        assert by_p_gold["after"]["value"] == pytest.approx(likely_after.mean(), rel=1e-4)
        change = by_p_gold["difference"]
        assert change["value"] == pytest.approx((likely_after - likely).mean(), abs=1e-5)
        if len(asked) > 1:
            theirs = ttest_rel(likely_after, likely).confidence_interval(0.95)
            assert (change["low"], change["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-5)
        else:
            assert (change["low"], change["high"]) == (None, None)
        assert Task(**found).p_gold is not None  # the report's form
    assert any(found["p_gold"]["difference"]["value"] for found in scores["recall"].values())


def test_further_models_answer_too(evaluated: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """A model does not differ from itself."""
    scores, metrics = evaluated
    early = scores["against"]["early"]["recall"]
    for group, found in scores["recall"].items():
        assert early[group]["before"] == early[group]["after"] == found["after"]
        assert early[group]["difference"]["value"] == early[group]["p_gold"]["difference"]["value"] == 0.0
        assert metrics["against"]["early"]["recall"][group]["after"] == found["after"]["value"]


@pytest.mark.usefixtures("evaluated")
def test_every_group_has_a_fingerprint_of_its_items(folder: Path) -> None:
    marks = json.loads((folder / "output/scores" / ITEMS).read_text())
    assert list(marks) == [f"recall:{group}" for group in PROBE]
    assert len(set(marks.values())) == len(PROBE)


def test_a_damaged_probe_is_named_before_any_model_is_measured(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.stages.evaluate.stage.measure", None)
    made = tmp_path / "damaged" / "corpus"
    made.mkdir(parents=True)
    for path in inputs["corpus"].path("corpus").iterdir():
        (made / path.name).symlink_to(path)
    (made / RECALL).unlink()
    (made / RECALL).write_text('{"group": "trained"}\n')
    damaged = inputs | {"corpus": artifact("corpus", tmp_path / "damaged", "corpus")}
    with pytest.raises(DataError, match=r"recall\.jsonl:1: .*fact"):
        run_stage(STAGE, CONFIG, damaged, tmp_path / "run")


def test_a_corpus_without_a_probe_has_no_recall(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    plain = inputs | {"corpus": make_corpus(inputs["before"], tmp_path / "plain")}
    metrics = run_stage(STAGE, CONFIG, plain, tmp_path / "run")
    scores = json.loads((tmp_path / "run/output/scores/scores.json").read_text())
    assert json.loads((tmp_path / "run/output/scores" / ITEMS).read_text()) == {}
    assert "recall" not in scores
    assert "recall" not in metrics


def test_what_a_model_has_answered_is_not_asked_again(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    first = run_stage(STAGE, CONFIG, inputs, tmp_path / "first")
    monkeypatch.setattr("cpt.models.packed_model.load_model", None)
    assert run_stage(STAGE, CONFIG, inputs, tmp_path / "again") == first
    same = inputs | {"after": inputs["before"]}  # answers belong to a model
    found = run_stage(STAGE, CONFIG, same, tmp_path / "same")
    assert found["recall"]["trained"]["after"] == first["recall"]["trained"]["before"]
    assert found["bits_per_byte"]["domain"]["after"] == first["bits_per_byte"]["domain"]["before"]
    for other in ({"precision": "bf16"}, {"heldout_tokens": 100}):  # another rounding, another text
        with pytest.raises(TypeError):
            run_stage(STAGE, CONFIG | other, inputs, tmp_path / next(iter(other)))
