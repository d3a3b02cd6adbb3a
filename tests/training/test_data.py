"""Micro batches that are packed one ahead, and global batches that are counted without reading all rows."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import SETTINGS, Batches

from cpt.models.batch import PackedBatch
from cpt.training.data import micro_batches, one_ahead, pack_sequences, target_weight
from cpt.training.features.input_noise import InputNoise
from cpt.training.objectives.self_constraint import SelfConstraintLoss
from cpt.training.state import State


def test_order_is_kept_and_never_more_than_one_is_made_ahead() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.002 * (number % 3))
        made.append(number)
        return number * number

    results = []
    for used, result in enumerate(one_ahead(make, range(8))):
        assert len(made) <= used + 2
        results.append(result)
    assert results == [number * number for number in range(8)]
    assert list(one_ahead(make, [])) == []


def test_an_error_surfaces_where_the_result_would_have_come() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = one_ahead(make, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_no_thread_is_left_when_the_caller_stops_early() -> None:
    before = threading.active_count()
    results = one_ahead(abs, range(5))
    next(results)
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_micro_batches_are_the_batch_in_order(size: int) -> None:
    batch = Batches().batch(0)
    parts = [batch[start : start + size] for start in range(0, len(batch), size)]
    rows = list(micro_batches(parts, torch.device("cpu")))
    assert len(rows) == -(-len(batch) // size)
    whole = pack_sequences(batch)
    assert torch.equal(torch.cat([row.input_ids for row in rows], 1), whole.input_ids)
    assert sum(row.targets for row in rows) == whole.targets


def test_for_a_gpu_rows_are_packed_in_a_thread_into_pinned_memory(monkeypatch) -> None:
    events: list[tuple[str, bool]] = []

    def pin(self: PackedBatch) -> PackedBatch:
        events.append(("pinned", threading.current_thread() is threading.main_thread()))
        return self

    def to(self: PackedBatch, device: torch.device) -> PackedBatch:
        events.append((str(device), threading.current_thread() is threading.main_thread()))
        return self

    monkeypatch.setattr(PackedBatch, "pin_memory", pin)
    monkeypatch.setattr(PackedBatch, "to", to)
    batch = Batches().batch(0)
    parts = [batch[:2], batch[2:]]
    rows = list(micro_batches(parts, torch.device("cuda")))
    assert [row.targets for row in rows] == [row.targets for row in micro_batches(parts, torch.device("cpu"))]
    assert events.count(("pinned", False)) == events.count(("cuda", True)) == 2


class Unread:
    """A row of another process: its counts are known, and reading it is an error."""

    source, length, target_weight, without_loss = "domain", 7, 5.0, 2

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is read")


def test_a_global_batch_is_counted_without_reading_the_rows_of_other_processes() -> None:
    batch: list[Any] = [*Batches().batch(0)[:2], Unread(), Unread()]
    state = State()
    state.count(batch)
    state.drop(batch)
    own = [row for row in batch[:2] if row.source == "domain"]
    assert state.counted["domain"]["sequences"] == len(own) + 2
    assert state.counted["domain"]["tokens"] == sum(row.length for row in own) + 14
    assert state.counted["domain"]["tokens_without_loss"] == 4
    assert state.tokens == 2 * sum(row.length for row in batch)
    noise = InputNoise(0.3)
    run: Any = SimpleNamespace(settings=SETTINGS.with_changes(input_noise=0.3, ordinary_tokens=(2, 3)))
    noise.on_start(run)
    reference: Any = None
    for rows in (batch, noise.rows(0, batch)):
        assert target_weight(rows) == sum(row.target_weight for row in batch)
        assert SelfConstraintLoss(reference, 1).targets(rows)["domain"] == target_weight(own) + 10
    mine = noise.rows(0, batch)[:2]
    assert len(mine[0].tokens) == mine[0].length
