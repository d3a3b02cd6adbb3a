"""`cpt estimate` of a recipe with hypernetwork stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import varied_texts, write_jsonl, write_tiny_model

from cpt.cli import main
from cpt.estimate.hypernetwork import (
    RowCounts,
    assumed_counts,
    assumed_lengths,
    distinct_tokens,
    network_flops,
)
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

SMALL: dict[str, Any] = {
    "network": {"layers": 2, "heads": 2},
    "texts": 4,
    "sequence_length": 24,
    "steps": 100,
}


@pytest.fixture
def estimated(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """The estimate of a recipe of a corpus and these stages: as JSON, or as it is printed."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "texts.jsonl", varied_texts(60))
    corpus = {"domain": [{"path": "texts.jsonl"}], "heldout": 0.1, "sequence_length": 64}
    corpus["heldout_min"] = {"documents": 1, "bytes": 1}

    def call(stages: list[Any], *words: str, shown: bool = False) -> Any:
        recipe = {"name": "r", "base": str(tiny_model), "stages": [{"corpus": corpus}, *stages]}
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        code = main(["estimate", "r.yaml", *words, *([] if shown else ["--json"])])
        found = capsys.readouterr()
        assert code == 0, found.err
        return " ".join(found.out.split()) if shown else json.loads(found.out)["stages"]

    return call


def test_the_plan_tells_the_peak(estimated: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = estimated([network()])[0]

    assert main(["plan", "r.yaml", "--json"]) == 0
    stage = json.loads(capsys.readouterr().out)["stages"][1]
    assert stage["peak_bytes"] == pytest.approx(
        made["peak_bytes"], rel=0.1
    )  # what the process itself takes differs


def network(**settings: Any) -> dict[str, Any]:
    return {"hypernetwork": {**SMALL, "sampling": {"vocabulary": 450}, **settings}}


def test_a_stage_stands_beside_those_that_train_models(estimated: Any) -> None:
    pretrain = {"pretrain": {"tokens": 1000, "batch_sequences": 4}}
    gpu = ("--gpu", "h100", "--price", "2")
    made, trained = estimated([network(), pretrain], *gpu)
    assert (made["stage"], trained["stage"]) == ("hypernetwork", "pretrain")
    assert (made["steps"], made["tokens"], made["rows"], made["predicted_rows"]) == (100, 9_600, 450, 450)
    assert made["peak_bytes"] == sum(made["parts"].values())
    assert made["moment"] == "step"
    assert made["fits"]
    rate = 0.4 * 989e12
    assert made["time"]["seconds"] == pytest.approx(100 * made["flops_per_step"] / rate)
    assert made["cost"] == pytest.approx(made["time"]["seconds"] / 3600 * 2)
    shown = estimated([network(), pretrain], *gpu, shown=True)
    assert "hypernetwork 4 texts per step, 4 at once, 450 of 450 rows predicted" in shown
    assert "assumed: probes are not counted" in shown
    (here,) = estimated([network()])
    assert here["time"] is None
    (measured,) = estimated([network()], "--calibrate")
    assert "as measured here, so at least that" in measured["time"]["basis"]


def test_a_fixed_tokenizer_and_a_model_that_trains_are_counted(estimated: Any, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", vocabulary=330)
    fixed = {"sampling": {}, "tokenizer": str(other), "name": "fixed"}
    first = network(name="first", steps=5)
    frozen = estimated([first, network(**fixed)], "--gpu", "h100")[1]
    both = estimated([first, network(**fixed, backbone={})], "--gpu", "h100")[1]
    assert (frozen["rows"], both["rows"]) == (330, 330)
    assert both["flops_per_step"] > frozen["flops_per_step"]
    assert both["parts"]["optimizer"] > frozen["parts"]["optimizer"]
    later = {"pretrain": {"tokens": 1000, "batch_sequences": 4}}
    *_, alone = estimated([later], "--gpu", "h100")
    *_, after = estimated([first, network(**fixed, backbone={}), later], "--gpu", "h100")
    assert after["parts"]["weights"] > alone["parts"]["weights"], "384 rows, not 300"


def test_several_gpus_share_a_step(estimated: Any) -> None:
    (one,), (two,) = (estimated([network()], "--gpu", "h100", "--gpus", n) for n in ("1", "2"))
    assert two["time"]["seconds"] == pytest.approx(one["time"]["seconds"] / 2)
    assert two["parts"]["activations"] < one["parts"]["activations"]


def test_what_does_not_fit_gets_advice(estimated: Any) -> None:
    shown = estimated([network()], "--memory", "1MB", shown=True)
    assert "It does not fit in" in shown
    assert "Set `micro_batch` or `predicted` lower" in shown


def test_assumed_rows_follow_the_settings() -> None:
    def counts(size: int = 8_000, **settings: Any) -> RowCounts:
        return assumed_counts(HypernetworkTrainingConfig.model_validate({**SMALL, **settings}), size, 300_000)

    plain = counts()
    assert (plain.rows, plain.predicted, plain.pieces) == (8_000, 8_000, 16_000)
    assert plain.different == 4_000
    some = counts(predicted=800)
    assert (some.rows, some.predicted, some.pieces) == (800, 800, 1_600)
    few = counts(predicted=5)
    assert few.rows == distinct_tokens(4 * 24, 8_000) > 30, "the tokens of the batch all get rows"
    copied = counts(shared="copied")
    assert (copied.rows, copied.predicted, copied.pieces) == (8_000, 5_000, 13_000)
    assert counts(network={"pieces": 1}).pieces == 8_000
    assert assumed_counts(HypernetworkTrainingConfig(), 8_000, 300).different == 300
    merged = HypernetworkTrainingConfig.model_validate(
        {"dynamic": 0.5, "texts": 10, "sequence_length": 80, "shared": "copied"}
    )
    assert assumed_lengths(merged, 500) == ([2] * 20, 520)


def test_different_tokens_of_a_text_by_zipf() -> None:
    """One token of many is one; three of two that occur 2 : 1 are 1.67 on average; long texts have all."""
    assert distinct_tokens(1, 1_000) == 1
    assert distinct_tokens(10**6, 50) == 50
    expected = (1 - (1 / 3) ** 3) + (1 - (2 / 3) ** 3)
    assert distinct_tokens(3, 2) == round(expected)
    sampled = np.random.default_rng(0).choice(500, size=(200, 300), p=(p := 1 / np.arange(1, 501)) / p.sum())
    assert distinct_tokens(300, 500) == pytest.approx(np.mean([len(set(row)) for row in sampled]), abs=2)


def test_the_first_stage_and_biases_are_counted() -> None:
    shape, counts = HypernetworkConfig(), RowCounts.of([1] * 10, 10, 10)
    tied = network_flops(shape, {"tied": 64}, counts)
    assert network_flops(shape, {"tied": 64, "bias": 1}, counts) - tied == 10 * 2 * 64
    assert network_flops(shape, {"input": 64, "output": 64}, counts) > tied
