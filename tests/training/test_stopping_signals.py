"""Stopped by signals: the step ends, a checkpoint is saved, and a run that goes on ends the same."""

import signal
import threading
from pathlib import Path

import pytest
import torch
from tiny_runs import Batches, equal, records, run, with_checkpoints

from cpt.models.batch import PackedBatch
from cpt.models.packed_model import PackedLanguageModel
from cpt.training.checkpoint.store import Store

MODES = pytest.mark.parametrize("mode", ["blocking", "async"])


class Signalling(Batches):
    """Sends this process signals while a step is under way."""

    def __init__(self, step: int, *numbers: signal.Signals) -> None:
        self.step, self.numbers = step, numbers

    def batch(self, step: int) -> list:
        if step == self.step:
            for number in self.numbers:
                signal.raise_signal(number)
        return super().batch(step)


class Stopped(KeyboardInterrupt):
    """An error that a handler raises."""


@pytest.fixture
def handled():
    """SIGTERM raises, as under `cpt run`."""

    def stop(*_: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [2, 3, 6])
@MODES
def test_a_signal_ends_the_step_saves_and_then_stops(
    tiny_model: Path, tmp_path: Path, handled: None, number: signal.Signals, step: int, mode: str
) -> None:
    settings = with_checkpoints(every=2, mode=mode)
    expected, whole, _ = run(tiny_model, tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(tiny_model, tmp_path / "run", settings, stream=Signalling(step - 1, number))
    assert (caught.type is Stopped) == (number == signal.SIGTERM)
    assert Store(tmp_path / "run", 9).steps()[0] == step
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    weights, result, messages = run(tiny_model, tmp_path / "run", settings)
    assert messages[0] == f"continues after step {step}"
    assert equal(weights, expected)
    assert result.ledger == whole.ledger


@pytest.mark.parametrize("during", [1, 2])
def test_a_signal_within_a_long_step_drops_it_after_the_micro_batch(
    tiny_model: Path, tmp_path: Path, handled: None, monkeypatch: pytest.MonkeyPatch, during: int
) -> None:
    settings = with_checkpoints(every=9).with_changes(micro_batch=1)  # four in a step
    expected, whole, _ = run(tiny_model, tmp_path / "whole", settings)
    passes: list[int] = []
    forward = PackedLanguageModel.forward

    def signalled(module: PackedLanguageModel, batch: PackedBatch) -> torch.Tensor:
        passes.append(1)
        if len(passes) == 2 * 4 + during:
            signal.raise_signal(signal.SIGTERM)
        return forward(module, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PackedLanguageModel, "forward", signalled)
        with pytest.raises(Stopped):
            run(tiny_model, tmp_path / "run", settings)
    assert len(passes) == 2 * 4 + during
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2]
    weights, result, messages = run(tiny_model, tmp_path / "run", settings)
    assert messages[0] == "continues after step 2"
    assert equal(weights, expected)
    assert (result.ledger, result.dropped) == (whole.ledger, [])


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_ctrl_c_stops_at_once(
    tiny_model: Path, tmp_path: Path, handled: None, first: signal.Signals
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, stream=Signalling(2, first, signal.SIGINT))
    assert Store(tmp_path, 9).steps() == [2]


def test_sigterm_from_scheduler_and_launcher_saves_all_the_same(
    tiny_model: Path, tmp_path: Path, handled: None
) -> None:
    with pytest.raises(Stopped):
        run(tiny_model, tmp_path, stream=Signalling(2, signal.SIGTERM, signal.SIGTERM))
    assert Store(tmp_path, 9).steps() == [3, 2]


def test_a_handler_that_goes_on_does_not_make_an_unfinished_run_a_result(
    tiny_model: Path, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path, stream=Signalling(2, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored(tiny_model: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        _, result, _ = run(tiny_model, tmp_path, stream=Signalling(2, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert result.steps == 6


def test_training_outside_the_main_thread_holds_no_signals(tiny_model: Path, tmp_path: Path) -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(run(tiny_model, tmp_path)[1].steps))
    thread.start()
    thread.join()
    assert done == [6]
