"""`cpt estimate`, and what `cpt plan` says of memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cpt.cli import main
from cpt.errors import StageFailed
from cpt.estimate.allocations import PARTS


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(words)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = call(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_json_tells_the_peak_by_part(recipe_file: Path, capsys: Any) -> None:
    told = as_json(capsys, "estimate", "recipe.yaml")
    (stage,) = told["stages"]
    assert stage["stage"] == "pretrain"
    assert set(stage["parts"]) == set(PARTS)
    assert stage["peak_bytes"] == sum(stage["parts"].values())
    assert stage["parts"] == stage["moments"][stage["moment"]]
    assert stage["peak_bytes"] == max(sum(parts.values()) for parts in stage["moments"].values())
    assert stage["parts"]["optimizer"] > 0
    assert (stage["fits"], stage["suggestion"], stage["time"], stage["cost"]) == (True, None, None, None)
    assert told["device"]["count"] == 1


def test_a_gpu_by_name_has_time_and_cost(recipe_file: Path, capsys: Any) -> None:
    words = ("estimate", "recipe.yaml", "--gpu", "h100", "--gpus", "2", "--price", "3600")
    (stage,) = as_json(capsys, *words)["stages"]
    assert stage["cost"] == pytest.approx(2 * stage["time"]["seconds"])
    assert stage["limit_bytes"] == 80 * 10**9
    assert stage["parts"]["other"] == 600_000_000
    assert stage["suggestion"]["micro_batch"] == 2, "two GPUs share four sequences"
    code, shown, _ = call(capsys, *words)
    assert code == 0
    assert "on 2 of h100" in shown
    assert "That costs" in shown


def test_gpus_may_divide_the_model(recipe_file: Path, capsys: Any) -> None:
    words = ("estimate", "recipe.yaml", "--gpu", "NVIDIA H100 80GB HBM3", "--gpus", "2")
    (whole,), (divided,) = (as_json(capsys, *words, *more)["stages"] for more in ((), ("--fsdp",)))
    assert (whole["sharded"], divided["sharded"], divided["processes"]) == (False, True, 2)
    assert divided["parts"]["optimizer"] < 0.6 * whole["parts"]["optimizer"]
    assert divided["host_bytes"] == pytest.approx(whole["host_bytes"], rel=0.3)
    _, shown, _ = call(capsys, *words, "--fsdp")
    assert "4 sequences per step shared by 2" in shown
    assert "once per step on each of 2" in shown
    assert "main memory holds up to" in shown


def test_a_gpu_is_judged_by_its_own_abilities(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.models.packed_model.has_fast_bfloat16", lambda: False)
    monkeypatch.setattr("cpt.training.optimizers.adamw_8bit.find_spec", lambda name: None)
    small = ("pretrain.optimizer.kind=adamw-8bit", "pretrain.precision=fp8")
    (eight_bit,) = as_json(capsys, "estimate", "recipe.yaml", "--gpu", "h100", *small)["stages"]
    (half,) = as_json(capsys, "estimate", "recipe.yaml", "--gpu", "h100")["stages"]
    (full,) = as_json(capsys, "estimate", "recipe.yaml", "--gpu", "t4")["stages"]
    assert eight_bit["parts"]["optimizer"] < half["parts"]["optimizer"]
    assert half["moments"]["save"]["weights"] > half["moments"]["step"]["weights"] * 0.9
    assert half["parts"]["weights"] > full["parts"]["weights"], "in working precision, too"
    assert "67" not in half["time"]["basis"]
    assert "8 TFLOP/s (NVIDIA T4" in full["time"]["basis"]
    code, _, err = call(capsys, "estimate", "recipe.yaml", "--gpu", "a100", "pretrain.precision=fp8")
    assert (code, "a100 has 8.0" in err) == (2, True)


def test_what_fits_with_gradient_checkpointing_is_told(recipe_file: Path, capsys: Any) -> None:
    words = ("estimate", "recipe.yaml", "--gpu", "l4", "corpus.sequence_length=2048")
    (stage,) = as_json(capsys, *words)["stages"]
    alone = as_json(capsys, *words, "pretrain.batch_sequences=1")["stages"][0]["peak_bytes"]
    again = ("pretrain.batch_sequences=1", "pretrain.gradient_checkpointing=true")
    less = as_json(capsys, *words, *again)["stages"][0]["peak_bytes"]
    between = str(int((alone + less) / 2 * 1.1))
    words = (*words, "pretrain.batch_sequences=1", "--memory", between)
    (stage,) = as_json(capsys, *words)["stages"]
    assert stage["suggestion"] is None
    assert stage["suggestion_with_gradient_checkpointing"] == {
        "micro_batch": 1,
        "accumulation": 1,
        "peak": less,
    }
    _, shown, _ = call(capsys, *words)
    assert "With gradient_checkpointing: true, the largest that fits is micro_batch_sequences: 1" in shown


def test_what_does_not_fit_gets_advice(recipe_file: Path, capsys: Any) -> None:
    code, shown, _ = call(capsys, "estimate", "recipe.yaml", "--memory", "1MB")
    assert code == 0
    assert "does not fit in 1.0 MB" in shown
    assert "Not even one sequence" in shown
    assert "no variant of it fits" in shown
    assert "assumed: every sequence" in shown


def test_overrides_change_the_estimate(recipe_file: Path, capsys: Any) -> None:
    small, large = (
        as_json(capsys, "estimate", "recipe.yaml", "--gpu", "l4", *more)["stages"][0]["parts"]["activations"]
        for more in ((), ("pretrain.batch_sequences=16",))
    )
    assert large > 2 * small


def test_calibration_tells_the_time_here(recipe_file: Path, capsys: Any) -> None:
    (stage,) = as_json(capsys, "estimate", "recipe.yaml", "--calibrate", "--price", "1")["stages"]
    assert stage["time"]["seconds"] > 0
    assert stage["calibration"]["product_flops"] > 0
    assert stage["cost"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpu", "h1000"), "Did you mean `h100`?"),
        (("--gpus", "2"), "--gpu h100 --gpus 8"),
        (("--fsdp",), "--gpu h100 --gpus 8"),
        (("--gpu", "h100", "--calibrate"), "Leave one out"),
        (("--memory", "lots"), "is no size"),
        (("pretrain.batch_sequence=3",), "Did you mean `batch_sequences`?"),
    ],
)
def test_mistakes_are_explained(recipe_file: Path, capsys: Any, words: Any, message: str) -> None:
    code, out, err = call(capsys, "estimate", "recipe.yaml", *words)
    assert code == 2
    assert out == ""
    assert message in err


def test_a_recipe_that_trains_nothing(recipe_file: Path, capsys: Any) -> None:
    lines = [line for line in recipe_file.read_text().splitlines() if "pretrain" not in line]
    recipe_file.write_text("\n".join(lines) + "\n")
    code, _, err = call(capsys, "estimate", "recipe.yaml")
    assert code == 2
    assert "no pretrain or hypernetwork stage" in err


def test_the_plan_tells_the_peak(recipe_file: Path, capsys: Any) -> None:
    _, shown, _ = call(capsys, "plan", "recipe.yaml")
    assert "of memory at the peak" in shown
    stages = {stage["stage"]: stage for stage in as_json(capsys, "plan", "recipe.yaml")["stages"]}
    assert stages["pretrain"]["peak_bytes"] > 10**7
    assert stages["corpus"]["peak_bytes"] is None


def test_the_plan_remembers_the_peak_until_something_changes(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peak(*overrides: str) -> int:
        return int(as_json(capsys, "plan", "recipe.yaml", *overrides)["stages"][2]["peak_bytes"])

    first = peak()
    monkeypatch.setattr("cpt.estimate.memory.heap_holes", lambda held: 10**9)
    assert peak() == first
    assert peak("pretrain.batch_sequences=5") > 10**9


def test_a_model_that_cannot_be_rehearsed_does_not_spoil_the_plan(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StageFailed("no such thing")

    monkeypatch.setattr("cpt.estimate.cached_peaks.memory_of", fail)
    assert "memory" not in call(capsys, "plan", "recipe.yaml")[1]


def test_the_plan_says_nothing_of_a_model_that_is_not_at_hand(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.estimate.model.architecture", lambda reference, fetch: None)
    assert "memory" not in call(capsys, "plan", "recipe.yaml")[1]


@pytest.mark.parametrize(
    ("batch", "message"), [(1_000_000_000, "batch_sequences"), (1_000_000, "at most 2,048 are simulated")]
)
def test_a_batch_too_large_to_be_simulated_is_refused_at_once(
    recipe_file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, batch: int, message: str
) -> None:
    monkeypatch.setattr("cpt.estimate.simulate._simulate_replica", lambda *_, **__: pytest.fail("simulated"))
    override = f"pretrain.batch_sequences={batch}"
    assert main(["estimate", "recipe.yaml", "--gpu", "l4", override]) == 2
    assert message in capsys.readouterr().err
    assert main(["plan", "recipe.yaml", override]) == (2 if batch > 1_000_000 else 0)


def test_time_and_cost_are_of_the_variant_that_fits(recipe_file: Path, capsys: Any) -> None:
    words = ("estimate", "recipe.yaml", "--gpu", "h100", "--price", "3600", "corpus.sequence_length=512")
    (whole,) = as_json(capsys, *words)["stages"]
    assert whole["priced"] == {"micro_batch_sequences": 4, "gradient_checkpointing": False}
    one = as_json(capsys, *words, "pretrain.micro_batch_sequences=1")["stages"][0]["peak_bytes"]
    assert one < whole["peak_bytes"]
    memory = ("--memory", str(int(one * 1.11)))
    (smaller,) = as_json(capsys, *words, *memory)["stages"]
    assert not smaller["fits"]
    assert smaller["priced"]["micro_batch_sequences"] == smaller["suggestion"]["micro_batch"] < 4
    assert smaller["cost"] == pytest.approx(smaller["time"]["seconds"])
    _, shown, _ = call(capsys, *words, *memory)
    fitting = smaller["priced"]["micro_batch_sequences"]
    assert f"With what fits (micro_batch_sequences: {fitting}, gradient_checkpointing: false) " in shown
    assert "in the currency of --price." in shown
    again = ("pretrain.micro_batch_sequences=1", "pretrain.gradient_checkpointing=true")
    least = as_json(capsys, *words, *again)["stages"][0]["peak_bytes"]
    (recomputed,) = as_json(capsys, *words, "--memory", str(int(least * 1.11)))["stages"]
    if least * 1.11 < one * 1.1:
        assert recomputed["priced"]["gradient_checkpointing"]
        assert recomputed["flops_per_token"] > whole["flops_per_token"]
        assert recomputed["time"]["seconds"] > whole["time"]["seconds"]


def test_what_does_not_fit_at_all_has_no_price(recipe_file: Path, capsys: Any) -> None:
    words = ("estimate", "recipe.yaml", "--gpu", "h100", "--price", "2", "--memory", "1MB")
    (stage,) = as_json(capsys, *words)["stages"]
    assert (stage["priced"], stage["time"], stage["cost"]) == (None, None, None)
    assert "no time and no cost: no variant of it fits" in call(capsys, *words)[1]
