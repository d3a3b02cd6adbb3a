"""Random tokens in the place of those that the model reads of documents: which, where, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_objectives import logits_of
from tiny import write_tiny_model
from tiny_runs import SETTINGS, Batches, PlainRun, equal, records, run
from tiny_training import Row
from torch.nn.functional import cross_entropy

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.data import NoisySequence, pack_sequences, pieces, target_weight
from cpt.training.feature import RunFacts
from cpt.training.features import features_of
from cpt.training.features.input_noise import InputNoise, noisy_tokens
from cpt.training.objectives import CrossEntropy, SelfConstraint, SelfDistillation
from cpt.training.settings import TrainingConfig

ORDINARY = tuple(range(2, 280))
NOISY = SETTINGS.with_changes(input_noise=0.3, ordinary_tokens=ORDINARY)
WORDS = np.arange(10, 1_010)


def large_row(count: int = 40_000, **facts: Any) -> Any:
    """One domain row with a piece of each hundred tokens, the first and the last of them special."""
    tokens = np.random.default_rng(1).choice(WORDS, count).astype(np.uint16)
    tokens[::100], tokens[99::100] = 0, 1
    lengths = np.full(count // 100, 100)
    plain = np.ones(len(lengths), dtype=bool)
    row = {"source": "domain", "tokens": tokens, "piece_lengths": lengths, "weights": None, "plain": plain}
    return Row(**row | facts)


def noisy(row: Any, position: int = 0, share: float = 0.1, seed: int = 17) -> np.ndarray:
    return noisy_tokens(row, position, share, WORDS, seed)


def started(share: float = 0.3) -> InputNoise:
    """The feature in a run that has begun."""
    noise = InputNoise(share)
    noise.on_start(SimpleNamespace(settings=NOISY))  # type: ignore[arg-type]
    return noise


# one row


@pytest.mark.parametrize("share", [0.02, 0.1, 0.7])
def test_the_share_is_binomial_and_the_tokens_are_drawn_alike(share: float) -> None:
    row = large_row()
    read = noisy(row, share=share)
    ordinary, replaced = row.tokens > 1, read != row.tokens
    count, chance = int(ordinary.sum()), share * (1 - 1 / len(WORDS))  # a draw may be the true token
    assert abs(replaced.sum() - count * chance) < 3 * (count * chance * (1 - chance)) ** 0.5
    assert not replaced[~ordinary].any()
    drawn = read[replaced]
    assert set(drawn) <= set(WORDS)
    assert abs(drawn.mean() - WORDS.mean()) < 3 * WORDS.std() / len(drawn) ** 0.5
    halves = [int(half.sum()) for half in np.array_split(replaced, 2)]
    assert abs(halves[0] - halves[1]) < 3 * (count * chance * (1 - chance)) ** 0.5


def test_tokens_of_weight_0_and_of_other_documents_are_never_replaced() -> None:
    weights = np.tile(np.array([0, 0.5, 1, 1], np.float16), 10_000)
    replaced = noisy(large_row(weights=weights), share=0.9) != large_row().tokens
    assert not replaced[weights == 0].any()
    assert replaced[weights == 0.5].any()
    plain = np.arange(400) % 3 == 0
    replaced = noisy(large_row(plain=plain), share=0.9) != large_row().tokens
    assert (replaced.reshape(-1, 100).any(1) == plain).all()
    assert (noisy(large_row(plain=None), share=0.9) == large_row().tokens).all()


def test_only_ordinary_tokens_are_replaced_and_drawn() -> None:
    few = np.array([20, 70_000])
    row = large_row()
    read = noisy_tokens(row, 0, 0.9, few, 17)
    assert set(np.flatnonzero(read != row.tokens)) <= set(np.flatnonzero(row.tokens == 20))
    assert 70_000 in read, "more than 16 bits"


def test_noise_follows_from_seed_source_and_position_alone() -> None:
    row = large_row()
    read = noisy(row)
    assert np.array_equal(read, noisy(row))
    others = [noisy(row, position=1), noisy(row, seed=18), noisy(large_row(source="domain.notes"))]
    where = [read != row.tokens, *(other != row.tokens for other in others)]
    for other in where[1:]:
        both = (where[0] & other).sum() / len(row.tokens)
        assert both == pytest.approx(0.01, abs=0.003), "as independent as chance"


def test_noise_is_the_same_on_every_machine_and_version() -> None:
    row = large_row(200)
    read = noisy(row, position=3)
    places = np.flatnonzero(read != row.tokens)
    assert places.tolist()[:6] == [3, 8, 9, 22, 28, 34]
    assert read[places].tolist()[:6] == [297, 68, 924, 963, 927, 400]


def test_a_smaller_share_replaces_some_of_the_same_tokens() -> None:
    row = large_row()
    less, more = noisy(row, share=0.1), noisy(row, share=0.2)
    places = less != row.tokens
    assert (less[places] == more[places]).all()


# batches


def test_replay_rows_and_rows_of_unknown_documents_stay_themselves() -> None:
    batch = Batches().batch(0)
    rows = started().rows(0, batch)
    read = [row.read() for row in rows if isinstance(row, NoisySequence)]
    assert [np.array_equal(seen, row.tokens) for seen, row in zip(read, batch, strict=True)] == [
        row.source == "replay" for row in batch
    ]


def test_targets_are_the_true_tokens() -> None:
    batch = Batches().batch(0)
    before, after = pack_sequences(batch), pack_sequences(started().rows(0, batch))
    assert torch.equal(before.labels, after.labels)
    assert torch.equal(before.target_positions, after.target_positions)
    assert torch.equal(before.position_ids, after.position_ids)
    assert before.layout.boundaries.equal(after.layout.boundaries)
    replaced = before.input_ids != after.input_ids
    assert 0 < replaced.sum() < 0.6 * before.tokens
    assert after.input_ids.dtype == torch.int64
    sizes = [len(row.tokens) for row in batch]
    assert not replaced[0].split(sizes)[1].any(), "replay"
    assert target_weight(batch) == target_weight(started().rows(0, batch))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_batches_read_what_the_whole_batch_does(size: int) -> None:
    rows = started().rows(5, Batches().batch(5))
    parts = [pack_sequences(rows[start : start + size]) for start in range(0, len(rows), size)]
    whole = pack_sequences(rows)
    assert torch.equal(torch.cat([part.input_ids for part in parts], 1), whole.input_ids)


def test_steps_and_rows_of_a_batch_have_noise_of_their_own() -> None:
    row = large_row(1_000)
    rows = [*started().rows(0, [row, row]), *started().rows(1, [row, row])]
    read = [each.read().tobytes() for each in rows if isinstance(each, NoisySequence)]
    assert len(set(read)) == 4


def test_the_loss_is_that_of_the_true_tokens_after_what_was_read(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    rows = started().rows(0, Batches().batch(0))
    ours, _ = CrossEntropy().loss(None)(PackedLanguageModel(model), pack_sequences(rows), rows)
    model.set_attn_implementation("eager")
    total = torch.zeros(())
    for row in rows:
        read = row.read() if isinstance(row, NoisySequence) else row.tokens
        read_pieces = np.split(read, np.cumsum(row.piece_lengths)[:-1])
        for true, seen in zip(pieces(row), read_pieces, strict=True):
            labels = torch.from_numpy(true[1:].astype(np.int64))
            total = total + cross_entropy(logits_of(model, seen)[0], labels, reduction="sum")
    torch.testing.assert_close(ours, total)


# runs


def test_no_noise_is_no_feature(tiny_model: Path, tmp_path: Path, plain_run: PlainRun) -> None:
    without = SETTINGS.with_changes(input_noise=0.0, ordinary_tokens=ORDINARY)
    assert not any(isinstance(each, InputNoise) for each in features_of(without.config))
    weights, result, _ = run(tiny_model, tmp_path, without)
    assert equal(weights, plain_run.weights)
    assert result.ledger == plain_run.result.ledger


def test_noise_changes_the_weights_and_not_what_is_counted(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    weights, result, _ = run(tiny_model, tmp_path, NOISY)
    assert not equal(weights, plain_run.weights)
    assert result.ledger == plain_run.result.ledger
    first = [reading.value for reading in result.readings if reading.step == 0]
    assert first == [reading.value for reading in plain_run.result.readings if reading.step == 0]
    other, _, _ = run(tiny_model, tmp_path / "other", NOISY.with_changes(seed=1))
    assert not equal(weights, other)


class Study(Batches):
    """Rows of which none holds a document: study documents, or conversations."""

    def batch(self, step: int) -> list[Row]:
        rows = super().batch(step)
        for row in rows:
            row.plain = None if row.plain is None else np.zeros(3, dtype=bool)
        return rows


def test_rows_without_documents_train_as_before_to_the_bit(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    weights, _, _ = run(tiny_model, tmp_path, NOISY, stream=Study())
    assert equal(weights, plain_run.weights)


def test_killed_and_continued_equals_uninterrupted(tiny_model: Path, tmp_path: Path) -> None:
    whole, result, _ = run(tiny_model, tmp_path / "whole", NOISY)
    for die_at in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", NOISY, die_at=die_at)
    again, resumed, _ = run(tiny_model, tmp_path / "killed", NOISY)
    assert equal(whole, again)
    assert resumed.ledger == result.ledger


def test_a_run_goes_on_with_the_noise_that_it_began_with(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, NOISY, die_at=3)
    with pytest.raises(StageFailed, match=r"input_noise was 0\.3 and is 0\.1"):
        run(tiny_model, tmp_path, NOISY.with_changes(input_noise=0.1))


def test_micro_batches_train_as_whole_batches(tiny_model: Path, tmp_path: Path) -> None:
    whole, _, _ = run(tiny_model, tmp_path / "whole", NOISY)
    parts, _, _ = run(tiny_model, tmp_path / "parts", NOISY.with_changes(micro_batch=1))
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=2e-6, rtol=1e-4)


def test_noise_needs_tokens_to_draw(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ordinary_tokens"):
        run(tiny_model, tmp_path, SETTINGS.with_changes(input_noise=0.3))


# objectives that compare with another model


def test_self_constraint_compares_on_true_replay(tiny_model: Path, tmp_path: Path) -> None:
    settings = NOISY.with_changes(objective=SelfConstraint(kind="self-constraint", weight=0.5))
    run(tiny_model, tmp_path / "noisy", settings)
    run(tiny_model, tmp_path / "plain", settings.with_changes(input_noise=0.0))
    noisy, plain = (records(tmp_path / name)[0]["loss_parts"] for name in ("noisy", "plain"))
    assert noisy["kl"] == plain["kl"] == 0
    assert noisy["domain"] != plain["domain"]


def test_a_teacher_reads_what_its_student_reads(tiny_model: Path, tmp_path: Path) -> None:
    settings = NOISY.with_changes(
        objective=SelfDistillation(kind="self-distillation", teacher="first", weight=0.1)
    )
    run(tiny_model, tmp_path / "same", settings, teacher=tiny_model)
    assert records(tmp_path / "same")[0]["loss_parts"]["distance"] == 0
    other = write_tiny_model(tmp_path / "teacher", seed=3)
    run(tiny_model, tmp_path / "other", settings, teacher=other)
    assert records(tmp_path / "other")[0]["loss_parts"]["distance"] > 0


# before a run


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_that_cannot_be_are_refused(share: float) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig(input_noise=share)


def test_the_plan_tells_the_noise_and_its_problem_names_the_key() -> None:
    config = TrainingConfig(input_noise=0.1)
    noise = InputNoise.of(config)
    assert noise is not None
    assert noise.describe() == "10% of the tokens read of documents are random (D-AR)"
    assert noise.problems(RunFacts(config)) == noise.problems(RunFacts(config, has_documents=True)) == []
    (problem,) = noise.problems(RunFacts(config, has_documents=False))
    assert problem.key == "input_noise"
