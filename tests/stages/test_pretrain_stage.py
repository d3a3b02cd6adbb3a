"""The pretrain stage on a tiny model and a real corpus artifact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import varied_texts, write_jsonl
from tiny_training import scalars
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.errors import DataError, GateFailed
from cpt.progress import NullProgress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment
from cpt.training.features.trackers import open_trackers
from cpt.training.schedules import Linear, Power
from cpt.training.settings import Settings

ALL = {"every": 2, "probe_share": None, "samples": None, "weights": None}
"""A monitor that reads whatever is due of held-out text, and nothing else."""

PLAIN = {"tokens": 600, "batch_sequences": 4, "checkpoint": {"every": 2}, "monitor": ALL}


def artifact(name: str, folder: Path, *kinds: str) -> Artifact:
    return Artifact(name=name, stage=name, kinds=kinds, fingerprint=name, folder=folder)


def run_stage(stage: Any, config: dict[str, Any], inputs: Mapping[str, Artifact], folder: Path, **more: Any):
    output, work = folder / "output", folder / "work"
    output.mkdir(parents=True)
    work.mkdir(exist_ok=True)
    context = Context(output, work, more.get("seed", 17), more.get("progress", NullProgress()), {})
    return stage.run(stage.Config.model_validate(config), inputs, context)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base_folder = folder / "base"
    base_folder.mkdir()
    (base_folder / "model").symlink_to(tiny_model)
    base = artifact("base", base_folder, "model")
    config = {
        "domain": [{"path": str(write_jsonl(folder / "domain.jsonl", varied_texts(200)))}],
        "replay": [{"path": str(write_jsonl(folder / "replay.jsonl", varied_texts(60, "old ")))}],
        "general": [{"path": str(write_jsonl(folder / "general.jsonl", varied_texts(20, "general ")))}],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


def pretrain(config: dict[str, Any], inputs: Mapping[str, Artifact], folder: Path, **more: Any) -> Path:
    run_stage(PRETRAIN, PLAIN | config, inputs, folder, **more)
    return folder / "output"


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def differ(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return any(not torch.equal(first[name], second[name]) for name in first)


def test_outputs_are_a_model_and_what_is_known_of_its_training(
    inputs, tmp_path: Path, tiny_model: Path
) -> None:
    metrics = run_stage(PRETRAIN, PLAIN | {"replay": 0.25}, inputs, tmp_path)
    output = tmp_path / "output"
    model = AutoModelForCausalLM.from_pretrained(output / "model")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.generation_config.eos_token_id == 1
    assert AutoTokenizer.from_pretrained(output / "model").get_vocab()
    ledger = json.loads((output / "training/ledger.json").read_text())
    assert ledger["replay"]["sequences"] * 3 == ledger["domain"]["sequences"]
    assert metrics["tokens"] == sum(entry["tokens"] for entry in ledger.values())
    assert set(metrics["stability"]) == {"domain", "general"}
    summary = json.loads((output / "training/summary.json").read_text())
    assert summary["stability"]["domain"]["end"] < summary["stability"]["domain"]["before"]
    steps = [json.loads(line)["step"] for line in (output / "training/steps.jsonl").read_text().splitlines()]
    assert steps == list(range(1, summary["steps"] + 1))
    probes = [json.loads(line) for line in (output / "training/probes.jsonl").read_text().splitlines()]
    assert {probe["step"] for probe in probes} >= {0, 1, 2, summary["steps"]}


def test_same_seed_same_weights_other_seed_other_weights(inputs, tmp_path: Path) -> None:
    first = pretrain({}, inputs, tmp_path / "a")
    assert not differ(first, pretrain({}, inputs, tmp_path / "b"))
    assert differ(first, pretrain({}, inputs, tmp_path / "c", seed=18))


@pytest.mark.parametrize(
    "config",
    [
        {"tokens": 900},
        {"batch_sequences": 2},
        {"micro_batch_sequences": 1},
        {"replay": 0.25},
        {"schedule": {"kind": "constant"}},
        {"schedule": {"peak": 1e-3}},
        {"schedule": {"floor": 1e-4}},
        {"schedule": {"warmup": 0.5}},
        {"schedule": {"unit": "tokens"}},
        {"optimizer": {"beta1": 0.5}},
        {"optimizer": {"beta2": 0.5}},
        {"optimizer": {"eps": 1e-3}},
        {"optimizer": {"weight_decay": 0.9}},
        {"optimizer": {"kind": "muon"}},
        {"clip": 0.01},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_every_setting_of_the_training_changes_the_weights(inputs, tmp_path: Path, config: dict) -> None:
    plain = {"precision": "fp32"}
    assert differ(
        pretrain(plain, inputs, tmp_path / "plain"), pretrain(plain | config, inputs, tmp_path / "changed")
    )


def test_every_setting_of_the_monitor_changes_what_is_read(inputs, tmp_path: Path) -> None:
    def readings(name: str, **monitor: Any) -> list[dict[str, Any]]:
        output = pretrain({"tokens": 1500, "monitor": ALL | monitor}, inputs, tmp_path / name)
        return [json.loads(line) for line in (output / "training/probes.jsonl").read_text().splitlines()]

    plain = readings("plain")
    assert len(readings("every", every=1)) > len(plain)
    assert readings("tokens", tokens=40)[0]["value"] != plain[0]["value"]
    assert readings("window", window=8)[0]["value"] != plain[0]["value"]


def test_tolerance_reaches_the_stability_gap(inputs, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "cpt.monitor.stability.stability", lambda readings, tolerance: seen.append(tolerance) or {}
    )
    pretrain({"monitor": ALL | {"tolerance": 0.25}}, inputs, tmp_path)
    assert seen == [0.25]


@pytest.mark.parametrize(("every", "keep"), [(1, 1), (2, 1), (2, 2)])
def test_checkpoint_settings_decide_what_is_kept(inputs, tmp_path: Path, every: int, keep: int) -> None:
    settings = PLAIN | {"checkpoint": {"every": every, "keep": keep}, "tokens": 1500}
    steps = run_stage(PRETRAIN, settings, inputs, tmp_path)["steps"]
    kept = {int(path.name[5:]) for path in (tmp_path / "work").glob("step-*")}
    assert kept == set(list(range(every, steps, every))[-keep:])


def test_the_schedules_rates_and_phases_are_recorded(inputs, tmp_path: Path) -> None:
    schedule = {"kind": "power", "peak": 1e-3, "warmup": 0.2, "decay_share": 0.4}
    output = pretrain({"tokens": 1000, "schedule": schedule}, inputs, tmp_path)
    summary = json.loads((output / "training/summary.json").read_text())
    expected = Power(batch=4, tokens=summary["tokens"], **{**schedule, "kind": "power"})
    steps = [json.loads(line) for line in (output / "training/steps.jsonl").read_text().splitlines()]
    assert [step["lr"] for step in steps] == [expected.rate(i, len(steps)) for i in range(len(steps))]
    phases = [{"name": phase.name, "first": phase.first} for phase in expected.phases(len(steps))]
    assert summary["schedule"] == {"kind": "power", "unit": "steps", "phases": phases}
    assert [phase["name"] for phase in phases] == ["warmup", "power", "decay"]


def test_a_schedule_in_tokens_follows_the_tokens(inputs, tmp_path: Path) -> None:
    schedule = {"kind": "linear", "warmup": 0.5, "unit": "tokens"}
    output = pretrain({"tokens": 1000, "schedule": schedule}, inputs, tmp_path)
    steps = [json.loads(line) for line in (output / "training/steps.jsonl").read_text().splitlines()]
    total, done = steps[-1]["tokens"], 0
    for step in steps:
        expected = Linear(warmup=0.5, unit="tokens").rate(done, total, step["tokens"] - done)
        assert step["lr"] == expected
        done = step["tokens"]
    summary = json.loads((output / "training/summary.json").read_text())
    assert summary["schedule"]["phases"][1] == {"name": "linear", "first": round(total / 2)}


def test_a_phase_too_short_for_its_fall_is_a_problem(inputs) -> None:
    config = PRETRAIN.Config.model_validate(PLAIN | {"schedule": {"kind": "wsd"}})
    (problem,) = PRETRAIN.check(config, inputs)
    assert problem.key == "schedule"
    assert "the decay (decay_share 0.1) is 0 of 3 steps" in problem.message


def test_trackers_log_beside_the_result(inputs, tmp_path: Path, monkeypatch) -> None:
    seen = []
    opened = open_trackers
    monkeypatch.setattr(
        "cpt.training.features.trackers.open_trackers", lambda *words: seen.append(words) or opened(*words)
    )
    plain = pretrain({}, inputs, tmp_path / "plain")
    tracked = pretrain({"trackers": ["tensorboard"], "name": "adapt"}, inputs, tmp_path / "tracked")
    assert not differ(plain, tracked)
    shown = scalars(tracked / "training/tensorboard")
    assert [step for step, _ in shown["lr"]] == [1, 2, 3]
    assert {"bits_per_byte/domain", "bits_per_byte/general"} <= shown.keys()
    assert not (plain / "training/tensorboard").exists()
    ((names, tracking, *_),) = seen
    assert (names, tracking.run, tracking.settings["tokens"]) == (("tensorboard",), "adapt", 600)
    assert "trackers" in PRETRAIN.Config.not_fingerprinted


def test_a_tracker_that_is_not_installed_is_a_problem_before_training(monkeypatch) -> None:
    monkeypatch.setattr("cpt.training.features.trackers._installed", lambda package: package != "wandb")
    config = PRETRAIN.Config.model_validate(PLAIN | {"trackers": ["tensorboard", "wandb"]})
    (problem,) = PRETRAIN.check_environment(config, Environment(), {})
    assert (problem.key, problem.message) == ("trackers", "the tracker wandb is not installed")
    assert problem.hint == "Install it: pip install 'cpt-workbench[wandb]'"


@pytest.mark.parametrize(
    "config",
    [
        {"checkpoint": {"every": 1, "keep_every": 2, "mode": "blocking"}},
        {"anomalies": {"spike": "skip", "most": 0}},
    ],
    ids=str,
)
def test_checkpoint_and_fault_settings_are_passed_on(
    inputs, tmp_path: Path, monkeypatch, config: dict
) -> None:
    seen: list[Settings] = []

    def keep(*given: Any) -> None:
        seen.extend(each for each in given if isinstance(each, Settings))

    monkeypatch.setattr("cpt.training.loop.Stepper", keep)
    with pytest.raises(AttributeError):
        pretrain(config, inputs, tmp_path)
    (name,) = config
    assert getattr(seen[0].config, name).model_dump(exclude_unset=True) == config[name]


def test_faults_and_seconds_are_in_the_result(inputs, tmp_path: Path) -> None:
    metrics = run_stage(PRETRAIN, PLAIN, inputs, tmp_path)
    assert (tmp_path / "output/training/anomalies.jsonl").read_text() == ""
    assert metrics["anomalies"] == 0
    assert min(metrics["checkpoint_seconds"], metrics["probe_seconds"]) > 0


def test_compile_is_passed_on(inputs, tmp_path: Path, monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr("cpt.training.loop.compile_layers", compiled.append)
    pretrain({"compile": True}, inputs, tmp_path)
    assert len(compiled) == 1


def test_replay_without_replay_text_is_a_problem(inputs, tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "corpus"
    config = {"domain": [{"path": str(write_jsonl(tmp_path / "d.jsonl", varied_texts(100)))}],
              "heldout": 0.1, "sequence_length": 64}  # fmt: skip
    run_stage(CORPUS, config, {"model": inputs["model"]}, folder)
    bare = {"model": inputs["model"], "corpus": artifact("corpus", folder / "output", "corpus")}
    config = PRETRAIN.Config.model_validate(PLAIN | {"replay": 0.25})
    (problem,) = PRETRAIN.check(config, bare)
    assert (problem.key, problem.message) == (
        "replay",
        "a replay share of 0.25 is wanted, but the corpus has no replay text",
    )
    with pytest.raises(DataError, match="no replay text"):
        pretrain({"replay": 0.25}, bare, tmp_path / "run")


def test_more_tokens_than_the_corpus_has_is_a_problem_until_more_epochs_are_allowed(inputs) -> None:
    def problems(**config: Any) -> list[str]:
        settings = PRETRAIN.Config.model_validate(PLAIN | {"tokens": 50_000} | config)
        return [problem.message for problem in PRETRAIN.check(settings, inputs)]

    (message,) = problems()
    assert "the domain text lasts for" in message
    assert problems(epochs=50) == []


def test_a_replay_share_that_rounds_to_no_row_is_a_problem() -> None:
    config = PRETRAIN.Config.model_validate(PLAIN | {"replay": 0.1})
    (problem,) = PRETRAIN.check(config, {})
    assert "rounds to none" in problem.message


def test_a_corpus_in_another_tokenizer_is_a_problem(inputs, another_model, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    another_model("other/model", vocabulary=290)
    other = {"model": artifact("other", folder, "model"), "corpus": inputs["corpus"]}
    (problem,) = PRETRAIN.check(PRETRAIN.Config.model_validate(PLAIN), other)
    assert "another tokenizer" in problem.message


def test_forecast_tells_tokens_and_steps(inputs, tmp_path: Path) -> None:
    config = PRETRAIN.Config.model_validate(PLAIN)
    assert PRETRAIN.forecast(config, {}, {}) == "600 tokens; probes domain, general, early-end"
    forecast = PRETRAIN.forecast(config, inputs, {})
    assert "tokens in 3 steps; probes domain 4 of 4 readings (" in forecast
    metrics = run_stage(PRETRAIN, PLAIN, inputs, tmp_path)
    assert int(forecast.split()[1]) == pytest.approx(metrics["tokens"], rel=0.05)


def test_a_library_that_the_optimizer_misses_is_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from cpt.training.optimizers import adamw_8bit

    monkeypatch.setattr(adamw_8bit, "find_spec", lambda name: None)
    config = PRETRAIN.Config.model_validate(PLAIN | {"optimizer": {"kind": "adamw-8bit"}})
    (problem,) = PRETRAIN.check_environment(config, Environment(), {})
    assert problem.key == "optimizer.kind"
    assert "bitsandbytes" in problem.message


def test_rounding_by_chance_is_for_runs_in_which_every_weight_trains(inputs) -> None:
    settings = PLAIN | {"precision": "bf16", "master_weights": "stochastic-rounding"}
    for trainable, expected in [({"kind": "layers", "layers": "0"}, ["master_weights"]), ({}, [])]:
        config = PRETRAIN.Config.model_validate(settings | {"trainable": trainable})
        assert [problem.key for problem in PRETRAIN.check(config, inputs)] == expected


def test_rounding_by_chance_instead_of_masters_changes_the_weights(inputs, tmp_path: Path) -> None:
    plain = {"precision": "bf16"}
    assert differ(
        pretrain(plain, inputs, tmp_path / "plain"),
        pretrain(plain | {"master_weights": "stochastic-rounding"}, inputs, tmp_path / "rounded"),
    )


def test_gradient_checkpointing_is_passed_on(inputs, tmp_path: Path, monkeypatch) -> None:
    models = []
    monkeypatch.setattr("cpt.training.loop.checkpoint_layers", models.append)
    pretrain({"gradient_checkpointing": True}, inputs, tmp_path)
    assert len(models) == 1


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ({"precision": "fp8"}, "precision", "needs an NVIDIA GPU"),
        (
            {"precision": "fp32", "master_weights": "stochastic-rounding"},
            "master_weights",
            "nothing is left to round",
        ),
    ],
)
def test_what_this_machine_cannot_compute_in_is_a_problem(
    monkeypatch, config: dict, key: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (problem,) = PRETRAIN.check_environment(PRETRAIN.Config.model_validate(PLAIN | config), Environment(), {})
    assert problem.key == key
    assert message in problem.message


def test_a_broken_limit_fails_the_stage_and_keeps_its_result(inputs, tmp_path: Path) -> None:
    monitor = ALL | {"weights": {"every": 2}}
    config = {"monitor": monitor, "gates": [{"limit": "weights <= 0", "action": "lower-rate"}]}
    with pytest.raises(GateFailed, match=r"weights <= 0 is broken") as failed:
        pretrain(config, inputs, tmp_path)
    training = tmp_path / "output" / "training"
    summary = json.loads((training / "summary.json").read_text())
    assert summary["gates"][0]["verdict"] == "broken"
    assert failed.value.metrics["gates"] == summary["gates"]
    assert (tmp_path / "output" / "model" / "model.safetensors").exists()
    actions = [json.loads(line) for line in (training / "actions.jsonl").read_text().splitlines()]
    assert {action["action"] for action in actions} == {"lower-rate"}


def test_gates_may_bring_in_replay_text_that_the_run_begins_without(inputs, tmp_path: Path) -> None:
    monitor = ALL | {"weights": {"every": 2}}
    gate = {"limit": "weights <= 0", "action": "raise-replay", "most": 0.5}
    with pytest.raises(GateFailed):
        pretrain({"monitor": monitor, "gates": [gate]}, inputs, tmp_path)
    ledger = json.loads((tmp_path / "output" / "training" / "ledger.json").read_text())
    assert ledger["replay"]["tokens"] > 0
    kept = json.loads((tmp_path / "output" / "training" / "checkpoints.json").read_text())
    assert kept[-1]["passed"]["replay"] == ledger["replay"]["sequences"]


def test_what_is_wrong_with_gates_is_found_before_the_run(inputs) -> None:
    gates = [
        {"limit": "generl <= +0.02", "action": "warn"},
        {"limit": "general <= +0.02", "action": "raise-replay", "most": 0.1},
    ]
    config = PRETRAIN.Config.model_validate(PLAIN | {"gates": gates})
    found = [str(problem) for problem in PRETRAIN.check(config, inputs)]
    assert len(found) == 2
    assert "Did you mean `general`?" in found[0]
    assert "nothing is left to raise" in found[1]


def test_the_domain_text_must_last_with_the_least_replay(inputs) -> None:
    gates = [{"limit": "general <= +0.02", "action": "raise-replay", "least": 0.25, "most": 0.9}]
    config = PLAIN | {"replay": 0.75, "tokens": 16_000, "batch_sequences": 8, "epochs": 1}
    plain, gated = (PRETRAIN.Config.model_validate(c) for c in (config, config | {"gates": gates}))
    assert not PRETRAIN.check(plain, inputs)
    assert "lasts for" in str(PRETRAIN.check(gated, inputs)[0])
