"""Weights of tokens in the loss, from packed rows to trained weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_objectives import logits_of
from tiny_runs import SETTINGS, Batches, equal, run
from tiny_training import Row
from torch.nn.functional import cross_entropy, kl_div

from cpt.errors import StageFailed
from cpt.models.batch import IGNORED, pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.data import pack_sequences, pieces, target_weight
from cpt.training.objectives import CrossEntropy, SelfConstraint
from cpt.training.objectives.base import Loss
from cpt.training.objectives.self_constraint import SelfConstraintLoss
from cpt.training.objectives.self_distillation import SelfDistillationLoss


class Weighted(Batches):
    """The same documents; some tokens of each domain row count 0 or a half."""

    def batch(self, step: int) -> list[Row]:
        rows = super().batch(step)
        for number, row in enumerate(rows):
            if row.source == "domain" and number:  # the first row has no weights
                chosen = np.random.default_rng(7 * step + number).integers(0, 3, len(row.tokens))
                row.weights = np.array([0, 0.5, 1], dtype=np.float16)[chosen]
        return rows

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        result = super().ledger(steps)
        rows = [row for step in range(steps) for row in self.batch(step) if row.source == "domain"]
        rows = [row for row in rows if row.weights is not None]
        result["domain"]["tokens_without_loss"] = sum(int((row.weights == 0).sum()) for row in rows)
        return result


class Prompts(Weighted):
    """Rows of nothing but prompts from the third batch on."""

    def batch(self, step: int) -> list[Row]:
        rows = super().batch(step)
        for row in rows if step >= 2 else []:
            row.weights = np.zeros(len(row.tokens), dtype=np.float16)
        return rows

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        result = super().ledger(steps)
        rows = [row for step in range(steps) for row in self.batch(step) if row.source == "replay"]
        zeros = [int((row.weights == 0).sum()) for row in rows if row.weights is not None]
        return result | {"replay": result["replay"] | {"tokens_without_loss": sum(zeros)}}


def weights_of(row: Any) -> list[torch.Tensor]:
    """The weights of each piece's predicted tokens."""
    weights = np.ones(len(row.tokens)) if row.weights is None else row.weights
    parts = np.split(weights, np.cumsum(row.piece_lengths)[:-1])
    return [torch.from_numpy(part[1:].astype(np.float32)) for part in parts]


def loss_by_hand(kind: str, model: Any, other: Any, rows: list[Any]) -> torch.Tensor:
    """The mean loss, token by token, each document alone."""
    total = torch.zeros(())
    for row in rows:
        for piece, weights in zip(pieces(row), weights_of(row), strict=True):
            logits, hidden = logits_of(model, piece)
            other_logits, other_hidden = (each.detach() for each in logits_of(other, piece))
            labels = torch.from_numpy(np.asarray(piece[1:], dtype=np.int64))
            nats = cross_entropy(logits, labels, reduction="none")
            if kind == "self-distillation":
                nats = nats + 0.1 * (hidden - other_hidden).square().sum(-1)
            elif kind == "self-constraint" and row.source == "replay":
                log_p, log_q = logits.log_softmax(-1), other_logits.log_softmax(-1)
                nats = 0.5 * kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
            total = total + (weights * nats).sum()
    return total / sum(float(each.sum()) for row in rows for each in weights_of(row))


def eager(model: Any) -> Any:
    """A copy that reads one document at a time."""
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager")
    return other


def compare_gradients(ours: torch.Tensor, model: Any, theirs: torch.Tensor, other: Any) -> None:
    for one, another in zip(
        torch.autograd.grad(ours, list(model.parameters())),
        torch.autograd.grad(theirs, list(other.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-6)


def packed_loss(loss: Loss, module: PackedLanguageModel, rows: list[Any], micro: int) -> torch.Tensor:
    parts = [rows[start : start + micro] for start in range(0, len(rows), micro)]
    by_kind = [[row for row in part if loss.kind(row) == kind] for part in parts for kind in (0, 1)]
    lots = [lot for lot in by_kind if lot]
    return sum(loss(module, pack_sequences(lot), lot)[0] for lot in lots) / target_weight(rows)


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("kind", ["cross-entropy", "self-constraint", "self-distillation"])
def test_every_objective_weighs_every_token(tiny_model: Path, kind: str, micro: int) -> None:
    model, other = load_model(tiny_model), load_model(tiny_model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.05)
    module = PackedLanguageModel(other)
    losses = {
        "cross-entropy": CrossEntropy().loss(None),
        "self-constraint": SelfConstraintLoss(module, 0.5),
        "self-distillation": SelfDistillationLoss(module, 0.1),
    }
    rows = Weighted().batch(3)
    for row in rows:  # those of replay, too
        row.weights = np.ones(len(row.tokens), np.float16) if row.weights is None else row.weights
        row.weights[::3] = 0.25
    ours = packed_loss(losses[kind], PackedLanguageModel(model), rows, micro)
    plain = eager(model)
    theirs = loss_by_hand(kind, plain, eager(other), rows)
    torch.testing.assert_close(ours, theirs)
    compare_gradients(ours, model, theirs, plain)


def test_weights_of_one_are_the_plain_loss_to_the_bit(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    rows = Batches().batch(0)
    found = []
    for weights in (None, 1):
        for row in rows:
            row.weights = None if weights is None else np.ones(len(row.tokens), np.float16)
        nats = packed_loss(CrossEntropy().loss(None), PackedLanguageModel(model), rows, 2)
        found.append((nats, *torch.autograd.grad(nats, list(model.parameters()))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_gradient_of_an_answer_is_that_of_its_probability_alone(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    ids = np.arange(20, 32).astype(np.uint32)
    answer = slice(7, 11)
    weights = np.zeros(12, np.float16)
    weights[answer] = 1
    row = Row(source="domain", tokens=ids, piece_lengths=np.array([12]), weights=weights)
    ours = packed_loss(CrossEntropy().loss(None), PackedLanguageModel(model), [row], 1)
    plain = eager(model)
    log_p = logits_of(plain, ids)[0].log_softmax(-1)[torch.arange(6, 10), torch.arange(27, 31)]
    compare_gradients(ours, model, -log_p.mean(), plain)


def test_targets_of_weight_0_are_no_targets() -> None:
    weights = np.array([1, 0, 0.5, 1, 1, 0, 1], dtype=np.float16)
    batch = pack([np.arange(10, 14), np.arange(20, 23)], weights)
    assert batch.labels.tolist() == [IGNORED, 12, 13, IGNORED, IGNORED, 22, IGNORED]
    assert batch.target_positions.tolist() == [1, 2, 5]
    assert batch.weights is not None
    assert batch.weights.tolist() == [0.5, 1, 1]
    assert batch.to("meta").weights.device.type == "meta"  # type: ignore[union-attr]
    row = Row(source="domain", tokens=np.arange(7), piece_lengths=np.array([4, 3]), weights=weights)
    assert target_weight([row]) == float(batch.weights.sum())


def test_a_run_counts_tokens_without_loss_and_resumes_to_the_bit(tiny_model: Path, tmp_path: Path) -> None:
    plain, _, _ = run(tiny_model, tmp_path / "plain")
    whole, result, _ = run(tiny_model, tmp_path / "whole", stream=Weighted())
    assert not equal(plain, whole)
    assert 0 < result.ledger["domain"]["tokens_without_loss"] < result.ledger["domain"]["tokens"]
    assert "tokens_without_loss" not in result.ledger["replay"]
    for die_at in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", stream=Weighted(), die_at=die_at)
    resumed, again, _ = run(tiny_model, tmp_path / "killed", stream=Weighted())
    assert equal(whole, resumed)
    assert again.ledger == result.ledger


def test_other_weights_than_the_ledgers_are_an_error(tiny_model: Path, tmp_path: Path) -> None:
    class Lying(Weighted):
        def ledger(self, steps: int) -> dict[str, dict[str, float]]:
            honest = super().ledger(steps)
            honest["domain"]["tokens_without_loss"] += 1
            return honest

    with pytest.raises(StageFailed, match="tokens without loss of domain"):
        run(tiny_model, tmp_path, stream=Lying())


def test_batches_of_prompts_alone_have_no_gradient(tiny_model: Path, tmp_path: Path) -> None:
    settings = SETTINGS
    weights, result, _ = run(tiny_model, tmp_path / "a", settings, stream=Prompts())
    assert result.steps == 6
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    constrained = settings.with_changes(objective=SelfConstraint(kind="self-constraint", weight=0.5))
    run(tiny_model, tmp_path / "b", constrained, stream=Prompts())
