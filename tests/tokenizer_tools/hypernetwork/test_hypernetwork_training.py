"""The loop: it learns, and a run that was stopped or killed anywhere ends with the same bits."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_hypernetworks import SMALL, equal, small, training, weights

from cpt.errors import StageFailed
from cpt.progress import NullProgress
from tokenizer_tools.hypernetwork.reference import STEPS
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.hypernetwork.training.loop import HypernetworkTraining
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

ZETT = {"network": {**SMALL["network"], "variant": "zett"}, "warm_start": {"steps": 3, "tokens": 40}}
MERGED = {"dynamic": 0.3, "sampling": {}}
OFTEN = {"checkpoint": {"every": 2}, "probes": {"every": 3, "tokenizers": {"other": "a file"}}}


class Interruption(NullProgress):
    """Does something after a step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        if done == self.step:
            self.act()


class Killed(Exception):
    pass


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def source(tiny_model: Path) -> SourceModel:
    return read_source(tiny_model)


def other_tokenizer(another_model: Callable[..., Path]) -> dict[str, Path]:
    return {"other": another_model("other", vocabulary=420)}


def records(work: Path) -> list[dict[str, Any]]:
    """The log without its times."""
    lines = [json.loads(line) for line in (work / STEPS).read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def state(run: HypernetworkTraining) -> dict[str, Any]:
    """The counts and the readings of a run without its times."""
    found = {k: v for k, v in run.state.state_dict().items() if "seconds" not in k}
    found["readings"] = [{**reading, "seconds": 0} for reading in found["readings"]]
    return found


@pytest.mark.parametrize("settings", [{}, ZETT, MERGED], ids=["residual", "zett", "merged"])
def test_a_hypernetwork_learns(source: SourceModel, tmp_path: Path, settings: dict[str, Any]) -> None:
    fast = {"schedule": {"kind": "constant", "peak": 2e-2}, "steps": 20, "checkpoint": {"every": 1_000}}
    run = training(source, tmp_path, small(**{**settings, **fast}))
    start = weights(run)
    run.run()
    assert not equal(start, weights(run))
    log = records(tmp_path)
    second = [line for line in log if line["stage"] == "language modelling"]
    assert len(second) == 20
    losses = [line["loss_nats"] for line in second]
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.2
    assert run.state.step == len(log) == run._config.total_steps
    assert run.state.tokens == second[-1]["tokens"]
    assert run.state.truncated == sum(line["truncated"] for line in second)


def test_the_first_stage_comes_nearer_to_the_source_rows(source: SourceModel, tmp_path: Path) -> None:
    first = {**ZETT, "warm_start": {"steps": 40, "tokens": 200, "peak": 3e-3}}
    training(source, tmp_path, small(**first, steps=1, checkpoint={"every": 1_000})).run()
    distances = [line["distance"] for line in records(tmp_path) if line["stage"] == "first"]
    assert len(distances) == 40
    assert distances[-1] < 0.8 * distances[0]


@pytest.mark.parametrize("settings", [{}, ZETT], ids=["residual", "zett"])
@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_killed_run_ends_as_one_that_was_not(
    source: SourceModel, tmp_path: Path, another_model, settings: dict[str, Any], step: int
) -> None:
    """Killed after a step is logged and before its probes and its checkpoint."""
    config, others = small(**settings, **OFTEN), other_tokenizer(another_model)
    whole = training(source, tmp_path / "whole", config, tokenizers=others)
    whole.run()
    progress = Interruption(step, die)
    with pytest.raises(Killed):
        training(source, tmp_path / "killed", config, tokenizers=others, progress=progress).run()
    again = training(source, tmp_path / "killed", config, tokenizers=others)
    again.run()
    assert equal(weights(again), weights(whole))
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert state(again) == state(whole)


def test_a_signal_saves_the_step_and_stops(source: SourceModel, tmp_path: Path) -> None:
    config = small(checkpoint={"every": 1_000})
    stop = Interruption(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            training(source, tmp_path / "stopped", config, progress=stop).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(records(tmp_path / "stopped")) == 3
    again = training(source, tmp_path / "stopped", config)
    again.run()
    whole = training(source, tmp_path / "whole", config)
    whole.run()
    assert equal(weights(again), weights(whole))
    assert records(tmp_path / "stopped") == records(tmp_path / "whole")


def test_a_run_may_be_prolonged(source: SourceModel, tmp_path: Path) -> None:
    training(source, tmp_path / "short", small(steps=3)).run()
    longer = training(source, tmp_path / "short", small(steps=6))
    longer.run()
    whole = training(source, tmp_path / "whole", small(steps=6))
    whole.run()
    assert equal(weights(longer), weights(whole)), "at a constant rate the length does not matter"


def test_a_finished_run_changes_nothing_when_it_is_run_again(source: SourceModel, tmp_path: Path) -> None:
    first = training(source, tmp_path, small())
    first.run()
    again = training(source, tmp_path, small())
    again.run()
    assert equal(weights(again), weights(first))
    assert again.state.step == 6


@pytest.mark.parametrize(
    ("changes", "seed", "named"),
    [
        ({"lexical": 0.2}, 17, "lexical was None and is 0.2"),
        ({"sampling": {"vocabulary": 500}}, 17, "sampling.vocabulary was 450 and is 500"),
        ({}, 18, "seed was 17 and is 18"),
    ],
)
def test_a_run_goes_on_only_as_it_began(
    source: SourceModel, tmp_path: Path, changes: dict[str, Any], seed: int, named: str
) -> None:
    training(source, tmp_path, small(steps=2)).run()
    with pytest.raises(StageFailed, match=f"other settings than it began with: {named}"):
        training(source, tmp_path, small(**changes), seed=seed).run()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    source: SourceModel, tmp_path: Path
) -> None:
    config = small(checkpoint={"every": 2})
    whole = training(source, tmp_path / "whole", config)
    whole.run()
    with pytest.raises(Killed):
        training(source, tmp_path / "run", config, progress=Interruption(5, die)).run()
    assert sorted(path.name for path in (tmp_path / "run").glob("step-*")) == [
        "step-000000002",
        "step-000000004",
    ]
    (tmp_path / "run" / "step-000000004" / "weights.safetensors").write_bytes(b"broken")
    again = training(source, tmp_path / "run", config)
    again.run()
    assert equal(weights(again), weights(whole))
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_old_checkpoints_go(source: SourceModel, tmp_path: Path) -> None:
    training(source, tmp_path, small(checkpoint={"every": 1, "keep": 3})).run()
    assert len(list(tmp_path.glob("step-*"))) == 3


def test_probes_read_real_tokenizers_on_the_way(source: SourceModel, tmp_path: Path, another_model) -> None:
    run = training(source, tmp_path, small(**OFTEN), tokenizers=other_tokenizer(another_model))
    run.run()
    steps = [(each["probe"], each["step"]) for each in run.state.readings]
    own = [("source/domain", 0)]
    assert steps == own + [("other/domain", step) for step in (0, 3, 6)]
    values = [each["value"] for each in run.state.readings[1:]]
    assert len(set(values)) == 3
    assert run.state.readings[-1]["rise"] == pytest.approx(values[-1] - values[0])


def test_a_diverging_run_ends_with_a_message(source: SourceModel, tmp_path: Path) -> None:
    run = training(source, tmp_path, small())
    with torch.no_grad():
        run.network.get_parameter("positions")[0, 0] = float("nan")
    with pytest.raises(StageFailed, match="the loss of step 1 is nan"):
        run.run()
    assert not list(tmp_path.glob("step-*"))


def test_seeds_and_settings_of_the_optimizer_matter(source: SourceModel, tmp_path: Path) -> None:
    def trained(
        name: str, config: HypernetworkTrainingConfig | None = None, seed: int = 17
    ) -> dict[str, torch.Tensor]:
        run = training(source, tmp_path / name, config or small(steps=2), seed=seed)
        run.run()
        return weights(run)

    plain = trained("plain")
    assert equal(plain, trained("again"))
    others = [
        {"weight_decay": 0.5},
        {"beta2": 0.5},
        {"clip": 1e-12},  # as small as the optimizer's epsilon: else Adam takes no notice
        {"schedule": {"kind": "constant", "peak": 1e-4}},
        {"precision": "fp32", "sampling": {**SMALL["sampling"], "noise": 1e-3}},
    ]
    for number, changes in enumerate(others):
        assert not equal(plain, trained(f"other-{number}", small(steps=2, **changes))), changes
    assert not equal(plain, trained("seed", seed=3))
