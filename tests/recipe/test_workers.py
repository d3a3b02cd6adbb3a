"""Processes of one run that talk through a store: tasks, ends, and failures that one message tells."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from torch.distributed import HashStore

from cpt.errors import StageFailed, UsageError
from cpt.recipe import workers
from cpt.recipe.load import load
from cpt.recipe.runner import run
from cpt.training.distributed import context
from cpt.training.distributed.context import DistributedContext, StopRequest


class Together(fake_stages.Pretrain):
    """A stage for all processes; it notes what each of them got."""

    distributed = True
    got: list[tuple[Any, ...]] = []  # noqa: RUF012

    def run(self, config: Any, inputs: Any, context: Any) -> dict[str, Any]:
        here = workers.distributed_context()
        read = {role: artifact.path(role) for role, artifact in inputs.items()}
        self.got.append((config, read, context.seed, context.output, context.work, context.recipe))
        return super().run(config, inputs, context) if here.is_main else {}


@pytest.fixture
def worlds(
    monkeypatch: pytest.MonkeyPatch, recipe_file: Path
) -> Iterator[tuple[DistributedContext, DistributedContext]]:
    """The main process and another one; tests say which of them they are."""
    store = HashStore()
    monkeypatch.setattr(context, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(workers, "_leave_when_ended", lambda: None)
    monkeypatch.setitem(fake_stages.REGISTRY, "pretrain", Together())
    Together.got.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield DistributedContext(0, 2, store), DistributedContext(1, 2, store)
    for number, handler in before.items():
        signal.signal(number, handler)


def be(world: DistributedContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "distributed_context", lambda: world)
    monkeypatch.setattr("cpt.recipe.failures.distributed_context", lambda: world)


def lead(
    worlds: tuple[DistributedContext, DistributedContext], recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    be(worlds[0], monkeypatch)
    return run(load(recipe_file, ()), recipe_file.parent / "runs")


def test_others_get_what_the_main_process_runs(worlds, recipe_file: Path, monkeypatch) -> None:
    summary = lead(worlds, recipe_file, monkeypatch)
    worlds[0].store.set("end", "0")
    be(worlds[1], monkeypatch)
    monkeypatch.setattr(DistributedContext, "is_shut_down", property(lambda self: self._tasks > 0))
    assert workers.run_worker() == 0
    main, other = Together.got
    assert main == other
    assert set(summary.artifacts) == {step.name for step in load(recipe_file, ()).steps}


def test_others_leave_with_the_main_process_and_its_exit_code(worlds, monkeypatch) -> None:
    be(worlds[1], monkeypatch)
    worlds[0].shutdown(3)
    assert workers.run_worker() == 3
    assert worlds[0].store.add("left", 0) == 1


def test_what_stops_another_process_is_told_by_the_main_one(worlds, recipe_file: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        worlds[1].report_failure("not enough memory in process 1", "Make the batch smaller.")
        raise RuntimeError("Connection closed by peer")

    fake_stages.HOOKS["pretrain"] = fail
    with pytest.raises(StageFailed, match="not enough memory in process 1") as failure:
        lead(worlds, recipe_file, monkeypatch)
    assert failure.value.hint == "Make the batch smaller."


def test_a_process_that_was_lost_is_no_unexpected_error(worlds, recipe_file: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("gloo: Connection closed by peer [127.0.0.1]:1")

    fake_stages.HOOKS["pretrain"] = fail
    with pytest.raises(StageFailed, match="pretrain: another process of this run has ended"):
        lead(worlds, recipe_file, monkeypatch)
    assert not (recipe_file.parent / "runs" / "medical" / "error.log").exists()


@pytest.mark.parametrize("ended", [True, False])
def test_another_process_speaks_only_if_the_main_one_does_not(
    worlds, recipe_file: Path, monkeypatch, ended: bool
) -> None:
    lead(worlds, recipe_file, monkeypatch)

    def fail(*_: object) -> None:
        if ended:
            worlds[0].store.set("end", "1")
        raise StageFailed("the loss is nan", hint="Lower the rate.")

    monkeypatch.setattr(Together, "run", fail)
    be(worlds[1], monkeypatch)
    if ended:
        assert workers.run_worker() == 1
    else:
        with pytest.raises(StageFailed, match="the loss is nan"):
            workers.run_worker()
    assert json.loads(worlds[0].store.get("failure"))["hint"] == "Lower the rate."


def test_a_stage_that_a_signal_has_ended_leaves_the_end_to_the_main_process(
    worlds, recipe_file: Path, monkeypatch
) -> None:
    lead(worlds, recipe_file, monkeypatch)

    def interrupted(*_: object) -> None:
        worlds[0].store.set("end", "143")
        raise KeyboardInterrupt

    monkeypatch.setattr(Together, "run", interrupted)
    be(worlds[1], monkeypatch)
    assert workers.run_worker() == 143


def test_a_process_that_waits_can_be_stopped(worlds, monkeypatch) -> None:
    stop = StopRequest()
    assert not stop.overdue
    signal.raise_signal(signal.SIGTERM)
    assert worlds[1].next_task(stop) is None
    assert stop.overdue


def test_after_a_failure_sigterm_does_not_keep_the_main_process_from_saying_so(
    worlds, recipe_file: Path, monkeypatch
) -> None:
    def fail(*_: object) -> None:
        raise StageFailed("the loss is nan")

    fake_stages.HOOKS["pretrain"] = fail
    with pytest.raises(StageFailed):
        lead(worlds, recipe_file, monkeypatch)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "only through MPI"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "only through MPI"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "not where they meet"),
    ],
)
def test_processes_that_cannot_find_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        context.distributed_context.__wrapped__()


def test_one_process_is_alone_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert context.distributed_context.__wrapped__() == DistributedContext()
