"""Approximate likelihood matching on tiny models, against brute force, and through every kind of run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alm_runs import (
    Documents,
    WeightedDocuments,
    aligned,
    aligner,
    brute_force,
    entropy,
    formula,
    write_marked_model,
)
from test_objectives import summed, untie
from tiny import sharpen, write_tiny_model
from tiny_runs import SETTINGS, equal, records, run
from torch.nn.functional import sigmoid

from cpt.models import attention
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.data import pack_sequences
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.objectives import Alm
from cpt.training.objectives.alm import AlmLoss, Chunks, chunk_losses, join
from cpt.training.settings import Settings
from cpt.training.trainable import Layers, Lora
from tokenizer_tools.alignment import Aligner
from tokenizer_tools.vocabulary import read_vocabulary

ALM = Alm(kind="alm")
MATCHING = SETTINGS.with_changes(objective=ALM)


def settings_with(**changes: Any) -> Settings:
    return SETTINGS.with_changes(objective=ALM.model_copy(update=changes))


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a byte-level vocabulary of longer tokens."""
    return sharpen(write_tiny_model(tmp_path_factory.mktemp("longer") / "model", seed=3, vocabulary=360))


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a Unigram tokenizer."""
    return sharpen(write_marked_model(tmp_path_factory.mktemp("marked") / "model"))


@pytest.mark.parametrize(("tied", "micro"), [(True, 1), (False, 3), (True, 4)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"boundary": None},
        {"boundary": 0.0},
        {"boundary": 0.6},
        {"temperature": 100.0},
        {"temperature": 1.0, "cross_entropy": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["longer", "marked"])
def test_loss_and_gradient_are_those_of_brute_force(
    tiny_model: Path, longer: Path, marked: Path, kind: str, changes: dict[str, Any], tied: bool, micro: int
) -> None:
    folder, objective = {"longer": longer, "marked": marked}[kind], ALM.model_copy(update=changes)
    model, other, alignment = load_model(tiny_model), load_model(folder), aligner(tiny_model, folder)
    if not tied:
        untie(model)
    batch = WeightedDocuments(tiny_model).batch(0)
    loss = AlmLoss(PackedLanguageModel(other), alignment, objective)
    ours = summed(loss, PackedLanguageModel(model), batch, micro)
    found = torch.autograd.grad(ours, list(model.parameters()))
    for each in (model, other):
        each.set_attn_implementation("eager")
    plain, left_out = brute_force(objective, model, other, alignment, batch)
    expected = torch.autograd.grad(plain, list(model.parameters()))
    torch.testing.assert_close(ours, plain.float(), rtol=1e-4, atol=1e-5)
    for gradient, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, theirs, rtol=5e-3, atol=2e-6)
    _, parts = loss(PackedLanguageModel(model), pack_sequences(batch), batch)
    targets = loss.targets(batch)
    assert list(targets) == ["alm", "left_out", *(["cross_entropy"] if objective.cross_entropy else [])]
    assert parts[1].item() / targets["left_out"] == pytest.approx(left_out, abs=1e-5)
    assert left_out < 0.9
    assert left_out > 0.01 or not objective.boundary


def test_documents_and_teachers_may_have_no_start_token(tiny_model: Path, marked: Path) -> None:
    """Then the text up to the end of the first chunk is not predicted, by one of both or by either."""
    model, other = load_model(tiny_model), load_model(marked)
    mine, its = read_vocabulary(tiny_model), read_vocabulary(marked)
    bare, framed = Documents(tiny_model).batch(0), Documents(tiny_model).batch(0)
    for row in bare:
        row.tokens = np.where(row.tokens < 2, row.tokens[2], row.tokens)  # text in the place of <s> and </s>
    cases = [(framed, Aligner(mine, its, start=(0, None))), (bare, Aligner(mine, its))]
    for batch, alignment in cases:
        loss = AlmLoss(PackedLanguageModel(other), alignment, ALM)
        ours = summed(loss, PackedLanguageModel(model), batch, 2)
        for each in (model, other):
            each.set_attn_implementation("eager")
        plain, left_out = brute_force(ALM, model, other, alignment, batch)
        for each in (model, other):
            each.set_attn_implementation(attention.NAME)
        torch.testing.assert_close(ours, plain.float(), rtol=1e-4, atol=1e-5)
        assert 0.05 < left_out < 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_model_and_tokenizer_give_binary_entropy_and_no_gradient(
    longer: Path, dtype: torch.dtype
) -> None:
    objective = ALM.model_copy(update={"boundary": None})
    teacher = aligned(longer, longer)
    teacher.prepare(dtype, torch.device("cpu"))
    module = PackedLanguageModel(load_model(longer, dtype))
    batch = Documents(longer).batch(1)
    for row in batch:  # documents as the tokenizer makes them, and no parts of them
        row.tokens, row.piece_lengths = whole_documents(longer, row)
    rows = [batch[0]]
    nats, parts = AlmLoss(teacher.module, teacher.aligner, objective)(module, pack_sequences(rows), rows)
    nats.backward()
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.count_nonzero() == 0 for gradient in gradients)
    log_p = -module.per_token_loss(pack := pack_sequences(rows))[pack.target_positions]
    targets = len(pack.target_positions)
    assert nats.item() / targets == pytest.approx(entropy(log_p, 5.0).mean().item(), rel=1e-5)
    assert parts.tolist() == pytest.approx([nats.item(), 0], abs=1e-4)


def whole_documents(folder: Path, row: Any) -> tuple[np.ndarray, np.ndarray]:
    from alm_runs import TEXTS
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [[0, *tokenizer.encode(text, add_special_tokens=False).ids, 1] for text in TEXTS[:6]]
    return np.concatenate(texts).astype(np.uint32), np.array([len(text) for text in texts])


# the formulas alone

EXTREMES = torch.tensor([-200.0, -40.0, -3.0, -0.7, -0.1, -1e-3, -1e-6, 0.0])


@pytest.mark.parametrize("temperature", [1.0, 5.0, 100.0])
def test_losses_of_chunks_are_the_formula(temperature: float) -> None:
    teacher, student = torch.meshgrid(EXTREMES, EXTREMES, indexing="ij")
    student = student.clone().requires_grad_()
    found = chunk_losses(teacher, student, temperature)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    exact = student.detach().double().requires_grad_()
    expected = formula(teacher.double(), exact, temperature)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(found, expected.float(), rtol=2e-4, atol=1e-6)
    inside = student < -1e-4  # where the formula itself has digits left
    torch.testing.assert_close(gradient[inside], slope.float()[inside], rtol=2e-4, atol=1e-7)
    assert gradient.isfinite().all()
    assert (gradient.diagonal() == 0).all()


def test_the_gradient_pulls_towards_the_teacher() -> None:
    student = torch.tensor([-3.0, -3.0], requires_grad=True)
    chunk_losses(torch.tensor([-1.0, -9.0]), student, 5.0).sum().backward()
    assert student.grad is not None
    assert student.grad[0] < 0 < student.grad[1]


def test_probabilities_a_rounding_above_one_count_as_one() -> None:
    losses = chunk_losses(torch.tensor([1e-6]), torch.tensor([1e-6]), 1.0)
    assert losses.item() == pytest.approx(entropy(torch.tensor(0.0), 1.0).item(), rel=1e-3)


@pytest.mark.parametrize("least", [None, 0.0, 0.1, 0.9])
def test_chunks_are_joined_as_one_by_one(least: float | None) -> None:
    draw = torch.Generator().manual_seed(4)
    count = 60
    chunks = Chunks(*(-3 * torch.rand(4, count, generator=draw)))
    chunks = chunks._replace(teacher_boundary=sigmoid(torch.randn(count, generator=draw) * 3).log())
    follows = torch.rand(count, generator=draw) < 0.8
    follows[0] = False
    special = torch.rand(count, generator=draw) < 0.1
    expected, sums, closed = [], [0.0, 0.0], True
    for at in range(count):
        if not follows[at] or closed:
            sums = [0.0, 0.0]
            expected.append((0.0, 0.0, 0.0))
        sums = [sums[0] + chunks.teacher[at].item(), sums[1] + chunks.student[at].item()]
        closed = least is None or bool(special[at]) or chunks.teacher_boundary[at].exp().item() > least
        if closed:
            if least is not None and not special[at]:
                sums[0] += chunks.teacher_boundary[at].item()
                sums[1] += chunks.student_boundary[at].item()
            expected[-1] = (1.0, *sums)
    found = join(chunks, follows, special, least)
    used = len(expected)
    rows = torch.stack([found.whole, found.teacher, found.student], 1)
    torch.testing.assert_close(rows[:used], torch.tensor(expected))
    assert not rows[used:].any()
    assert found.number.max().item() == used - 1


# runs


def trained(student: Path, work: Path, settings: Settings, teacher: Path, **more: Any) -> Any:
    return run(student, work, settings, teacher=aligned(student, teacher), stream=Documents(student), **more)


def test_micro_batches_give_the_same_run(tiny_model: Path, longer: Path, tmp_path: Path) -> None:
    whole, _, _ = trained(tiny_model, tmp_path / "whole", MATCHING, longer)
    parts, _, _ = trained(tiny_model, tmp_path / "parts", MATCHING.with_changes(micro_batch=1), longer)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=1e-3, rtol=1e-2)
    last = [records(tmp_path / name)[-1] for name in ("whole", "parts")]
    assert last[0]["loss_nats"] == pytest.approx(last[1]["loss_nats"], rel=1e-3)
    assert last[0]["loss_parts"] == pytest.approx(last[1]["loss_parts"], rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_killed_and_continued_equals_uninterrupted(
    tiny_model: Path, longer: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    settings = settings_with(cross_entropy=0.1).with_changes(dtype=dtype)
    whole, _, _ = trained(tiny_model, tmp_path / "whole", settings, longer)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_model, tmp_path / "killed", settings, longer, die_at=5)
    again, _, _ = trained(tiny_model, tmp_path / "killed", settings, longer)
    assert equal(whole, again)
    logs = [
        [(r["loss_nats"], r["loss_parts"]) for r in records(tmp_path / name)] for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]


def test_gradient_checkpointing_changes_nothing(tiny_model: Path, longer: Path, tmp_path: Path) -> None:
    kept, _, _ = trained(tiny_model, tmp_path / "kept", MATCHING, longer)
    settings = MATCHING.with_changes(gradient_checkpointing=True)
    again, _, _ = trained(tiny_model, tmp_path / "again", settings, longer)
    assert equal(kept, again)


def test_parts_make_up_the_loss(tiny_model: Path, longer: Path, tmp_path: Path) -> None:
    trained(tiny_model, tmp_path, settings_with(cross_entropy=0.5), longer)
    for record in records(tmp_path):
        parts = record["loss_parts"]
        assert record["loss_nats"] == pytest.approx(parts["alm"] + 0.5 * parts["cross_entropy"])
        assert 0 < parts["left_out"] < 0.9


@pytest.mark.parametrize("kind", ["longer", "marked"])
def test_a_student_gives_chunks_the_probability_that_its_teacher_gives_them(
    tiny_model: Path, longer: Path, marked: Path, tmp_path: Path, kind: str
) -> None:
    """The loss less the teacher's own entropy falls; the same text is read in the first and the last step."""

    class Same(Documents):
        def batch(self, step: int) -> list[Any]:
            return super().batch(0)

    teacher = {"longer": longer, "marked": marked}[kind]
    settings = MATCHING.with_changes(steps=30, checkpoint=Checkpoints(every=100))
    run(tiny_model, tmp_path, settings, teacher=aligned(tiny_model, teacher), stream=Same(tiny_model))
    losses = [record["loss_parts"]["alm"] for record in records(tmp_path)]
    assert losses[-1] < losses[0]
    assert losses[-1] < min(losses[:10])


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 50.0}, {"boundary": None}, {"boundary": 0.7}, {"cross_entropy": 0.5}],
    ids=str,
)
def test_every_setting_changes_the_run(
    tiny_model: Path, longer: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first, _, _ = trained(tiny_model, tmp_path / "first", MATCHING, longer)
    other, _, _ = trained(tiny_model, tmp_path / "other", settings_with(**changes), longer)
    assert not equal(first, other)


@pytest.mark.parametrize(
    "trainable",
    [Lora(kind="lora", rank=4, embeddings="new-tokens"), Layers(kind="layers", layers="-1")],
    ids=["lora", "layers"],
)
def test_parts_of_a_model_train(tiny_model: Path, longer: Path, tmp_path: Path, trainable: Any) -> None:
    settings = MATCHING.with_changes(trainable=trainable, new_tokens=[5, 290])
    weights, _, _ = trained(tiny_model, tmp_path, settings, longer)
    start = dict(load_model(tiny_model).named_parameters())
    assert any(not torch.equal(weights[name], start[name]) for name in weights if name in start)


def test_rows_without_chunks_or_without_loss_have_no_gradient(
    tiny_model: Path, longer: Path, tmp_path: Path
) -> None:
    teacher = aligned(tiny_model, longer)
    loss = AlmLoss(teacher.module, teacher.aligner, ALM)
    module = PackedLanguageModel(load_model(tiny_model))
    rows = Documents(tiny_model).batch(0)[:2]
    rows[0].tokens, rows[0].piece_lengths = np.array([0, 1, 0, 1]), np.array([1, 1, 1, 1])
    rows[1].weights = np.zeros(len(rows[1].tokens), dtype=np.float16)
    nats, parts = loss(module, pack_sequences(rows), rows)
    nats.backward()
    assert (nats.item(), parts.tolist()) == (0, [0, 0])
    assert all(weight.grad is None or weight.grad.count_nonzero() == 0 for weight in module.parameters())
    assert math.isfinite(nats.item())
