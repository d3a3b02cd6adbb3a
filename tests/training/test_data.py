"""Micro batches that are packed one ahead, and global batches that are counted without reading all rows."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from tiny_runs import SETTINGS, Batches, records, run

from cpt.models import attention
from cpt.models.attention import bucketed_sdpa, cpu_blockwise
from cpt.models.batch import IGNORED, PackedBatch
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training import data
from cpt.training.data import (
    NoisySequence,
    micro_batches,
    one_ahead,
    pack_sequences,
    pieces,
    target_weight,
)
from cpt.training.features.input_noise import InputNoise
from cpt.training.objectives import Objective
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
    lengths: list[int] = []

    def pin(self: PackedBatch) -> PackedBatch:
        events.append(("pinned", threading.current_thread() is threading.main_thread()))
        return self

    def to(self: PackedBatch, device: torch.device) -> PackedBatch:
        lengths.append(self.tokens)
        events.append((str(device), threading.current_thread() is threading.main_thread()))
        return self

    monkeypatch.setattr(PackedBatch, "pin_memory", pin)
    monkeypatch.setattr(PackedBatch, "to", to)
    batch = Batches().batch(0)
    parts = [batch[:2], batch[2:]]
    rows = list(micro_batches(parts, torch.device("cuda")))
    assert lengths == [256, 256]
    assert [row.targets for row in rows] == [row.targets for row in micro_batches(parts, torch.device("cpu"))]
    assert events.count(("pinned", False)) == events.count(("cuda", True)) == 2


@pytest.mark.parametrize("kind", ["plain", "weighted", "noisy"])
def test_a_row_is_filled_with_copies_of_its_longest_document_without_labels(kind: str) -> None:
    rows: list[Any] = Batches().batch(0)
    if kind == "weighted":
        rows[1].weights = np.arange(len(rows[1].tokens), dtype=np.float16) % 3
    if kind == "noisy":
        rows = [NoisySequence(row, lambda row=row: row.tokens[::-1].astype(np.int64)) for row in rows]
    bare, filled = pack_sequences(rows), pack_sequences(rows, 256)
    longest = max((piece for row in rows for piece in pieces(row)), key=len)
    count = bare.tokens
    assert (filled.tokens, count < 256) == (256, True)
    assert torch.equal(filled.input_ids[:, :count], bare.input_ids)
    assert torch.equal(filled.target_positions, bare.target_positions)
    assert (filled.labels[count:] == IGNORED).all()
    assert filled.weights is bare.weights is None or torch.equal(filled.weights, bare.weights)
    copies = filled.input_ids[0, count:].split(len(longest))
    assert all(np.array_equal(copy, longest[: len(copy)]) for copy in copies)
    assert filled.layout.longest == bare.layout.longest
    assert filled.layout.lengths[len(bare.layout.lengths) :] == tuple(map(len, copies))
    assert pack_sequences(rows, count).tokens == count


@pytest.mark.parametrize("attend", [cpu_blockwise.attend, bucketed_sdpa.attend])
def test_no_document_sees_the_filling(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, attend: Any) -> None:
    monkeypatch.setattr(attention, "_backend", lambda _: attend)
    module, rows = PackedLanguageModel(load_model(tiny_model)), Batches().batch(0)
    bare, filled = pack_sequences(rows), pack_sequences(rows, 256)
    ids = filled.input_ids.clone()
    ids[:, bare.tokens :] = 7
    results = []
    for batch in (filled, replace(filled, input_ids=ids), bare):
        module.zero_grad()
        nats = module(batch)
        nats.backward()
        results.append([nats.detach(), *(p.grad.clone() for p in module.parameters())])
    first, other, without = results
    assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    torch.testing.assert_close(first, without, rtol=1e-5, atol=1e-5)


OBJECTIVES = [{"kind": "cross-entropy"}, {"kind": "self-constraint", "weight": 0.5}]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: each["kind"])
def test_a_run_with_filled_rows_is_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: dict[str, Any]
) -> None:
    settings = SETTINGS.with_changes(
        objective=TypeAdapter(Objective).validate_python(objective), micro_batch=2, steps=4
    )
    bare, result, _ = run(tiny_model, tmp_path / "bare", settings)
    monkeypatch.setattr(data, "row_multiple", lambda **_: 256)
    filled, same, _ = run(tiny_model, tmp_path / "filled", settings)
    for key, weight in bare.items():
        torch.testing.assert_close(filled[key], weight, rtol=1e-4, atol=2e-6)
    assert same.ledger == result.ledger
    for one, other in zip(records(tmp_path / "bare"), records(tmp_path / "filled"), strict=True):
        assert [other[key] for key in ("step", "tokens", "sources", "lr")] == [
            one[key] for key in ("step", "tokens", "sources", "lr")
        ]
        for key in ("loss_nats", "grad_norm", "loss_parts"):
            assert other.get(key, {}) == pytest.approx(one.get(key, {}), rel=1e-5)


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
