"""The hypernetwork stage where something is wrong: another model, damaged checkpoints, changed probes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_hypernetworks import write_hypernetwork
from pydantic import ValidationError
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from tiny import write_tiny_model

from cpt.cli import main
from cpt.errors import DataError, StageFailed
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.hypernetwork.stage import STAGE
from tokenizer_tools.hypernetwork.folder import read_facts

SMALL: dict[str, Any] = {
    "network": {"layers": 1, "heads": 2},
    "sampling": {"vocabulary": 450, "queue": 16},
    "steps": 2,
    "texts": 2,
    "sequence_length": 24,
    "precision": "fp32",
    "schedule": {"kind": "constant", "peak": 1e-3},
}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("inputs")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder)}


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hypernetwork that was trained for two steps, for the model of a stage."""
    folder = tmp_path_factory.mktemp("trained")
    made = inputs["model"].model_copy(update={"stage": "pretrain"})
    run_stage(STAGE, SMALL, inputs | {"model": made}, folder)
    return folder / "output" / "hypernetwork"


def found(config: dict[str, Any], inputs: dict[str, Artifact]) -> list[str]:
    return [problem.message for problem in STAGE.check(STAGE.Config.model_validate(config), inputs)]


def test_a_damaged_start_never_begins_from_random_weights(
    inputs: dict[str, Artifact], trained: Path, tmp_path: Path
) -> None:
    for name, damage in (("gone", None), ("changed", 0xFF)):
        start = Path(shutil.copytree(trained, tmp_path / name))
        weights = start / "checkpoint" / "weights.safetensors"
        if damage is None:
            weights.unlink()
        else:
            content = bytearray(weights.read_bytes())
            content[-1] ^= damage
            weights.write_bytes(content)
        with pytest.raises(StageFailed, match="no readable checkpoint to continue from") as caught:
            run_stage(STAGE, SMALL | {"steps": 4, "start": str(start)}, inputs, tmp_path / f"{name}-run")
        assert "copy it again" in str(caught.value.hint)


def test_a_start_of_another_model_is_refused(
    inputs: dict[str, Artifact], trained: Path, tmp_path: Path
) -> None:
    other = model_artifact("other", write_tiny_model(tmp_path / "other", seed=5), tmp_path / "a")
    config = SMALL | {"steps": 4, "start": str(trained)}
    (message,) = found(config, inputs | {"model": other})
    assert "its embeddings have other values" in message
    with pytest.raises(DataError, match="its embeddings have other values"):
        run_stage(STAGE, config, inputs | {"model": other}, tmp_path / "run")


def test_a_start_without_steps_left_is_refused(inputs: dict[str, Artifact], trained: Path) -> None:
    (message,) = found(SMALL | {"start": str(trained)}, inputs)
    assert "has taken 2 steps, so that none of 2 is left" in message


def test_a_curve_of_other_text_begins_anew(
    inputs: dict[str, Artifact], tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    """Readings of other text are dropped; those of the same text go on."""
    a, b = another_model("a", vocabulary=420), another_model("b", vocabulary=310)
    probes = {"tokenizers": {"other": str(a)}, "every": 1, "bytes": 400}
    run_stage(STAGE, SMALL | {"probes": probes}, inputs, tmp_path / "first")
    start = str(tmp_path / "first" / "output" / "hypernetwork")
    longer = SMALL | {"steps": 4, "start": start}
    curves = {}
    for name, changed in (
        ("same", {}),
        ("bytes", {"bytes": 200}),
        ("tokenizer", {"tokenizers": {"other": str(b)}}),
        ("more", {"tokenizers": {"other": str(a), "more": str(b)}}),
    ):
        metrics = run_stage(STAGE, longer | {"probes": probes | changed}, inputs, tmp_path / name)
        curves[name] = {probe: list(curve) for probe, curve in metrics["zero_shot"].items()}
    assert curves["same"]["other/domain"] == [0, 1, 2, 3, 4]
    assert curves["same"]["source/domain"] == [0]
    assert curves["bytes"]["other/domain"] == [2, 3, 4]
    assert curves["bytes"]["source/domain"] == [2]
    assert curves["tokenizer"]["other/domain"][-1] == 4
    assert 0 not in curves["tokenizer"]["other/domain"]
    assert curves["more"]["other/domain"] == [0, 1, 2, 3, 4]
    assert curves["more"]["more/domain"] == [3, 4]


def test_two_hypernetworks_in_a_row_need_the_same_model() -> None:
    base = UpstreamArtifact("base", frozenset({"model"}))
    corpus = UpstreamArtifact("corpus", frozenset({"corpus"}))
    zero = UpstreamArtifact("zero", frozenset({"hypernetwork"}), inputs={"model": "base"})
    n_shot = UpstreamArtifact(
        "n-shot", frozenset({"hypernetwork", "model", "corpus"}), inputs={"model": "base"}
    )
    config = STAGE.Config.model_validate({"tokenizer": "a/b"})
    wired = STAGE.wire(config, [base, corpus, zero])
    assert wired == {"model": "base", "corpus": "corpus", "hypernetwork": "zero"}
    with pytest.raises(WiringError, match="is for the model of `base`, not of `n-shot`"):
        STAGE.wire(config, [base, corpus, zero, n_shot])


def test_settings_survive_the_way_to_workers_as_they_were_written() -> None:
    """The check of the architecture asks whether `network` was written."""
    config = STAGE.Config.model_validate({"tokenizer": "a/b", "initial": "c/d", "backbone": {}})
    sent = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    received = STAGE.Config.model_validate(json.loads(json.dumps(sent)))
    assert received == config
    assert "network" not in received.model_fields_set


def test_a_hypernetwork_that_was_trained_with_its_model_is_for_no_other(
    inputs: dict[str, Artifact],
    tiny_model: Path,
    tmp_path: Path,
    another_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = another_model("other", vocabulary=330)
    write_hypernetwork(tmp_path / "zett" / "hypernetwork", tiny_model)
    network = artifact("zett", tmp_path / "zett", "hypernetwork")
    config = {"tokenizer": str(other), "backbone": {}, "steps": 1, "texts": 2, "sequence_length": 24}
    run_stage(STAGE, config, inputs | {"hypernetwork": network}, tmp_path / "run")
    made = tmp_path / "run" / "output" / "hypernetwork"
    facts = read_facts(made).training
    assert facts.before is not None
    assert (facts.before.steps, facts.before.data) == (3, ("a.jsonl",))
    assert "| before | 3 steps on a.jsonl |" in (made / "README.md").read_text()
    words = ("--hypernet", made, "--tokenizer", other, "--model", tiny_model, "--out", tmp_path / "out")
    assert main(["tokenizer", "transfer", *map(str, words)]) == 1
    assert "trained together with the model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_of_a_stage_has_no_address(
    inputs: dict[str, Artifact],
    trained: Path,
    another_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = another_model("other", vocabulary=330)
    words = ("tokenizer", "transfer", "--hypernet", trained, "--tokenizer", other, "--out", tmp_path / "out")
    assert main([*map(str, words)]) == 1
    shown = capsys.readouterr().err
    assert "which has no address" in shown
    assert "--model DIR" in shown
    assert main([*map(str, words), "--model", str(inputs["model"].path("model"))]) == 0
    assert "shared=predicted" in (trained / "README.md").read_text()


def test_what_cannot_be_trained_is_refused(
    inputs: dict[str, Artifact], tmp_path: Path, tiny_model: Path
) -> None:
    from transformers import PhiConfig, PhiForCausalLM

    with pytest.raises(ValidationError, match=r"schedule\.kind: power"):
        STAGE.Config.model_validate(SMALL | {"schedule": {"kind": "power"}})
    biased = Path(shutil.copytree(tiny_model, tmp_path / "biased"))
    phi = PhiConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
    )
    PhiForCausalLM(phi).save_pretrained(biased)
    model = model_artifact("biased", biased, tmp_path / "b")
    (message,) = found(SMALL, inputs | {"model": model})
    assert "have a bias" in message
