"""Objectives on a tiny model, against the same losses in plain torch, and through every kind of run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import write_tiny_model
from tiny_runs import SETTINGS, Batches, equal, records, run
from tiny_training import Row
from torch.nn.functional import cross_entropy, kl_div

from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.data import pack_sequences, pieces, target_weight
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.objectives import SelfConstraint, SelfDistillation
from cpt.training.objectives.base import Loss
from cpt.training.objectives.reference_model import StartingModel, Teacher
from cpt.training.objectives.self_constraint import SelfConstraintLoss
from cpt.training.objectives.self_distillation import SelfDistillationLoss
from cpt.training.optimizers.groups import group_weights
from cpt.training.settings import Settings
from cpt.training.trainable import Expansion, Layers, Lora, Setup

CONSTRAINED = SETTINGS.with_changes(objective=SelfConstraint(kind="self-constraint", weight=0.5))
DISTILLED = SETTINGS.with_changes(
    objective=SelfDistillation(kind="self-distillation", teacher="first", weight=0.1),
)
CASES = [pytest.param(CONSTRAINED, id="self-constraint"), pytest.param(DISTILLED, id="self-distillation")]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("teacher") / "model", seed=3)


def perturbed(model: Any, tied: bool) -> Any:
    """A copy whose weights are others."""
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    if not tied:
        untie(other)
    return other


def untie(model: Any) -> None:
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone() * 1.1)


def logits_of(model: Any, piece: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and last hidden states of one document alone, but for its last token, with eager attention."""
    ids = torch.from_numpy(np.asarray(piece, dtype=np.int64))[None]
    output = model(ids, output_hidden_states=True, use_cache=False)
    return output.logits[0, :-1], output.hidden_states[-1][0, :-1]


def naive(settings: Settings, model: Any, other: Any, batch: list[Any]) -> torch.Tensor:
    """The mean loss of a global batch, document by document, by torch's own functions."""
    total: torch.Tensor = torch.zeros(())
    for row in batch:
        for piece in pieces(row):
            labels = torch.from_numpy(np.asarray(piece[1:], dtype=np.int64))
            logits, hidden = logits_of(model, piece)
            with torch.no_grad():
                other_logits, other_hidden = logits_of(other, piece)
            nats = cross_entropy(logits, labels, reduction="sum")
            weight = settings.config.objective.weight  # type: ignore[union-attr]
            if settings is DISTILLED:
                nats = nats + weight * (hidden - other_hidden).square().sum()
            elif row.source == "replay":
                ours, theirs = logits.log_softmax(-1), other_logits.log_softmax(-1)
                nats = weight * kl_div(theirs, ours, reduction="sum", log_target=True)
            total = total + nats
    return total / target_weight(batch)


def loss_of(settings: Settings, other: Any) -> Loss:
    module = PackedLanguageModel(other)
    kind = SelfDistillationLoss if settings is DISTILLED else SelfConstraintLoss
    return kind(module, settings.config.objective.weight)  # type: ignore[union-attr]


def summed(loss: Loss, module: PackedLanguageModel, batch: list[Any], micro: int) -> torch.Tensor:
    """The mean loss of a global batch, by micro batches of some rows."""
    parts = [batch[start : start + micro] for start in range(0, len(batch), micro)]
    by_kind = [[row for row in part if loss.kind(row) == kind] for part in parts for kind in (0, 1)]
    lots = [lot for lot in by_kind if lot]
    return sum(loss(module, pack_sequences(lot), lot)[0] for lot in lots) / target_weight(batch)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("micro", [1, 3, 4])
@pytest.mark.parametrize("settings", CASES)
def test_loss_and_gradient_are_those_of_plain_torch(
    tiny_model: Path, settings: Settings, micro: int, tied: bool
) -> None:
    model = load_model(tiny_model)
    if not tied:
        untie(model)
    other, batch = perturbed(model, tied), Batches().batch(0)
    ours = summed(loss_of(settings, other), PackedLanguageModel(model), batch, micro)
    found = torch.autograd.grad(ours, list(model.parameters()))
    for each in (model, other):
        each.set_attn_implementation("eager")
    plain = naive(settings, model, other, batch)
    expected = torch.autograd.grad(plain, list(model.parameters()))
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    for gradient, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_the_start_divergence_and_gradient_are_zero_to_the_bit(
    tiny_model: Path, dtype: torch.dtype
) -> None:
    model = load_model(tiny_model, dtype)
    rows = [row for step in range(3) for row in Batches().batch(step) if row.source == "replay"]
    loss = SelfConstraintLoss(PackedLanguageModel(copy.deepcopy(model)), 1.0)
    nats, parts = loss(PackedLanguageModel(model), pack_sequences(rows), rows)
    nats.backward()
    assert (nats.item(), parts.tolist()) == (0, [0, 0])
    assert all(p.grad.count_nonzero() == 0 for p in model.parameters())


@pytest.mark.parametrize("settings", CASES)
def test_a_run_equals_the_same_steps_in_plain_torch(
    tiny_model: Path, teacher: Path, tmp_path: Path, settings: Settings
) -> None:
    run(tiny_model, tmp_path, settings, teacher=teacher)
    model, other = load_model(tiny_model), load_model(teacher if settings is DISTILLED else tiny_model)
    for each in (model, other):
        each.set_attn_implementation("eager")
    optimizer = settings.config.optimizer.build(group_weights(model, dict(model.named_parameters())))
    losses = []
    for step in range(settings.steps):
        loss = naive(settings, model, other, Batches().batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.config.clip)
        for group in optimizer.param_groups:
            group["lr"] = settings.config.schedule.rate(step, settings.steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [record["loss_nats"] for record in records(tmp_path)] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("settings", CASES)
def test_micro_batches_give_the_same_run(
    tiny_model: Path, teacher: Path, tmp_path: Path, settings: Settings
) -> None:
    whole, _, _ = run(tiny_model, tmp_path / "whole", settings, teacher=teacher)
    parts, _, _ = run(tiny_model, tmp_path / "parts", settings.with_changes(micro_batch=1), teacher=teacher)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=1e-3, rtol=1e-2)
    assert records(tmp_path / "whole")[-1]["loss_nats"] == pytest.approx(
        records(tmp_path / "parts")[-1]["loss_nats"], rel=1e-3
    )


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [(CONSTRAINED, torch.bfloat16), (DISTILLED, torch.float32)],
    ids=["self-constraint", "self-distillation"],
)
def test_killed_and_continued_equals_uninterrupted(
    tiny_model: Path, teacher: Path, tmp_path: Path, settings: Settings, dtype: torch.dtype
) -> None:
    settings = settings.with_changes(dtype=dtype)
    whole, _, _ = run(tiny_model, tmp_path / "whole", settings, teacher=teacher)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", settings, die_at=5, teacher=teacher)
    again, _, _ = run(tiny_model, tmp_path / "killed", settings, teacher=teacher)
    assert equal(whole, again)
    logs = [
        [(r["loss_nats"], r["loss_parts"]) for r in records(tmp_path / name)] for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("settings", CASES)
def test_gradient_checkpointing_changes_nothing(
    tiny_model: Path, teacher: Path, tmp_path: Path, settings: Settings
) -> None:
    kept, _, _ = run(tiny_model, tmp_path / "kept", settings, teacher=teacher)
    again, _, _ = run(
        tiny_model,
        tmp_path / "again",
        settings.with_changes(gradient_checkpointing=True),
        teacher=teacher,
    )
    assert equal(kept, again)


def test_parts_are_means_over_their_own_targets_and_make_up_the_loss(
    tiny_model: Path, teacher: Path, tmp_path: Path
) -> None:
    run(tiny_model, tmp_path / "constrained", CONSTRAINED)
    for step, record in enumerate(records(tmp_path / "constrained")):
        batch, parts = Batches().batch(step), record["loss_parts"]
        general = target_weight([row for row in batch if row.source == "replay"])
        domain = target_weight(batch) - general
        total = domain * parts["domain"] + 0.5 * general * parts["kl"]
        assert record["loss_nats"] == pytest.approx(total / target_weight(batch))
        assert (parts["kl"] == 0) == (step == 0)
    run(tiny_model, tmp_path / "distilled", DISTILLED, teacher=teacher)
    for record in records(tmp_path / "distilled"):
        parts = record["loss_parts"]
        assert record["loss_nats"] == pytest.approx(parts["cross_entropy"] + 0.1 * parts["distance"])


def test_plain_cross_entropy_has_no_parts(tiny_model: Path, tmp_path: Path) -> None:
    run(tiny_model, tmp_path)
    assert not any("loss_parts" in record for record in records(tmp_path))


class DomainOnly(Batches):
    """Batches without replay rows."""

    def batch(self, step: int) -> list[Row]:
        return [row for row in super().batch(step) if row.source == "domain"]

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        return {"domain": super().ledger(steps)["domain"]}


def test_without_replay_rows_self_constraint_is_cross_entropy(tiny_model: Path, tmp_path: Path) -> None:
    plain, _, _ = run(tiny_model, tmp_path / "plain", stream=DomainOnly())
    constrained, _, _ = run(tiny_model, tmp_path / "other", CONSTRAINED, stream=DomainOnly())
    assert equal(plain, constrained)
    assert records(tmp_path / "other")[0]["loss_parts"].keys() == {"domain"}


@pytest.mark.parametrize(
    "change",
    [
        {"objective": SelfConstraint(kind="self-constraint", weight=5)},
        {"objective": DISTILLED.config.objective},
    ],
    ids=["weight", "kind"],
)
def test_a_setting_of_the_objective_changes_the_run(
    tiny_model: Path, teacher: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    first, _, _ = run(tiny_model, tmp_path / "first", CONSTRAINED)
    other, _, _ = run(tiny_model, tmp_path / "other", CONSTRAINED.with_changes(**change), teacher=teacher)
    assert not equal(first, other)


def test_the_constraint_keeps_general_rows_closer_to_the_start(tiny_model: Path, tmp_path: Path) -> None:
    settings = CONSTRAINED.with_changes(steps=12, checkpoint=Checkpoints(every=100))
    weak, strong = (
        settings.with_changes(objective=SelfConstraint(kind="self-constraint", weight=weight))
        for weight in (1e-6, 3.0)
    )
    run(tiny_model, tmp_path / "weak", weak)
    run(tiny_model, tmp_path / "strong", strong)
    drifts = [records(tmp_path / name)[-1]["loss_parts"]["kl"] for name in ("weak", "strong")]
    assert drifts[1] < 0.7 * drifts[0]


def test_a_student_comes_closer_to_its_teacher(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    settings = DISTILLED.with_changes(steps=12, checkpoint=Checkpoints(every=100))
    run(tiny_model, tmp_path, settings, teacher=teacher)
    distances = [record["loss_parts"]["distance"] for record in records(tmp_path)]
    assert distances[-1] < 0.9 * distances[0]


LORA = Lora(kind="lora", rank=4, embeddings="all")


@pytest.mark.parametrize(
    ("trainable", "own"),
    [
        (Lora(kind="lora", rank=4), 0),
        (LORA, 0),
        (Lora(kind="lora", rank=4, embeddings="new-tokens"), 0),
        (Layers(kind="layers", layers="-1", embeddings="frozen"), 1),
        (Expansion(kind="expansion", every=2, embeddings="frozen"), 0),
    ],
    ids=["lora", "lora-embeddings", "lora-new-tokens", "layers", "expansion"],
)
def test_only_what_trains_is_held_twice(tiny_model: Path, trainable: Any, own: int) -> None:
    model = load_model(tiny_model)
    reference = StartingModel(model)
    trainable.apply(model, Setup(steps=6, new_tokens=[5, 290]))
    reference.prepare(torch.float32, torch.device("cpu"))
    mine = {id(weight) for weight in model.parameters()}
    theirs = [weight for weight in reference.module.parameters() if id(weight) not in mine]
    layer = sum(p.numel() for p in load_model(tiny_model).model.layers[1].parameters())
    assert sum(weight.numel() for weight in theirs) == own * layer
    assert not any(weight.requires_grad for weight in theirs)


@pytest.mark.parametrize(
    "trainable",
    [
        Lora(kind="lora", rank=4),
        LORA,
        Lora(kind="lora", rank=4, variant="dora", embeddings="new-tokens"),
        Lora(kind="lora", rank=2, variant="adalora"),
        Layers(kind="layers", layers="-1", embeddings="new-tokens"),
        Expansion(kind="expansion", every=2),
    ],
    ids=lambda trainable: f"{trainable.kind}-{getattr(trainable, 'variant', '')}-{trainable.embeddings}",
)
def test_the_start_is_the_reference_whatever_trains(tiny_model: Path, tmp_path: Path, trainable: Any) -> None:
    """Divergence is nothing in the first step, something later; and a kill changes nothing."""
    settings = CONSTRAINED.with_changes(trainable=trainable, new_tokens=[5, 290])
    whole, _, _ = run(tiny_model, tmp_path / "whole", settings)
    drifts = [record["loss_parts"]["kl"] for record in records(tmp_path / "whole")]
    assert drifts[0] == pytest.approx(0, abs=1e-7)
    assert drifts[-1] > 1e-6
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", settings, die_at=5)
    again, _, _ = run(tiny_model, tmp_path / "killed", settings)
    assert equal(whole, again)


def test_a_teacher_is_held_frozen_in_working_precision(teacher: Path) -> None:
    reference = Teacher(load_model(teacher))
    reference.prepare(torch.bfloat16, torch.device("cpu"))
    assert {weight.dtype for weight in reference.module.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in reference.module.buffers()} == {torch.float32}
    assert not any(weight.requires_grad for weight in reference.module.parameters())
