"""The loop on a tiny model: exact after any kill, and every setting has an effect."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import SETTINGS, Batches, PlainRun, equal, run, tiny_probes
from tiny_training import KINDS, OPTIMIZERS, Row

from cpt.errors import StageFailed
from cpt.models.packed_model import load_model
from cpt.training import step as stepping
from cpt.training.data import pack_sequences, target_weight
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.optimizers import AdamW, OptimizerConfig
from cpt.training.optimizers.groups import group_weights
from cpt.training.schedules import RewarmCosine
from cpt.training.state import Result


def changed(tiny_model: Path, tmp_path: Path, plain: PlainRun, **settings) -> bool:
    """Return True if a setting changes the trained weights."""
    other, _, _ = run(tiny_model, tmp_path, SETTINGS.with_changes(**settings))
    return not equal(plain.weights, other)


def test_first_step_equals_a_plain_torch_step(tiny_model: Path, tmp_path: Path) -> None:
    settings = SETTINGS.with_changes(steps=1, schedule=RewarmCosine(peak=1e-2, floor=0, warmup=0))
    ours, _, _ = run(tiny_model, tmp_path, settings)
    model = load_model(tiny_model)
    model.set_attn_implementation("eager")
    optimizer = AdamW().build(group_weights(model, dict(model.named_parameters())))
    total = torch.zeros(())
    for row in Batches().batch(0):
        for piece in np.split(row.tokens.astype(np.int64), np.cumsum(row.piece_lengths)[:-1]):
            logits = model(torch.tensor(piece)[None]).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(
                logits, torch.tensor(piece[1:]), reduction="sum"
            )
    (total / target_weight(Batches().batch(0))).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.detach(), atol=1e-5, rtol=1e-4)


def test_micro_batches_give_the_same_gradient(tiny_model: Path, tmp_path: Path, plain_run: PlainRun) -> None:
    whole = plain_run.weights
    parts, _, _ = run(tiny_model, tmp_path / "parts", SETTINGS.with_changes(micro_batch=1))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kills", [[1], [3, 5], [4, 4]])
def test_killed_and_continued_any_number_of_times_equals_uninterrupted(
    tiny_model: Path, tmp_path: Path, kills: list[int], plain_run: PlainRun
) -> None:
    whole, expected, _ = plain_run
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", die_at=step)
    again, result, messages = run(tiny_model, tmp_path / "killed")
    lost = {1: "begins anew, without a checkpoint; step 1 is", 5: "continues after step 4; step 5 is"}
    if kills[-1] in lost:
        assert messages[0] == f"{lost[kills[-1]]} run again"
    assert equal(whole, again)
    assert (result.ledger, result.tokens, result.steps) == (expected.ledger, expected.tokens, expected.steps)
    assert [r.value for r in result.readings] == [r.value for r in expected.readings]
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed/steps.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_log_holds_what_the_schedule_and_the_stream_say(plain_run: PlainRun) -> None:
    _, result, work = plain_run
    records = [json.loads(line) for line in (work / "steps.jsonl").read_text().splitlines()]
    assert [r["lr"] for r in records] == [SETTINGS.config.schedule.rate(step, 6) for step in range(6)]
    assert (
        records[-1]["tokens"]
        == result.tokens
        == sum(len(row.tokens) for step in range(6) for row in Batches().batch(step))
    )
    # the wait for the device before the last readings is training, too, and comes after the line
    assert records[-2]["seconds"] < records[-1]["seconds"] <= result.seconds
    assert [(r.step, r.probe) for r in result.readings] == [(s, "domain") for s in (0, 1, 2, 4, 6)]


class Same(Batches):
    """The same batch over and over."""

    def batch(self, step: int) -> list[Row]:
        return super().batch(0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=KINDS)
def test_every_optimizer_lowers_the_loss_and_survives_a_kill(
    tiny_model: Path, tmp_path: Path, optimizer: OptimizerConfig
) -> None:
    settings = SETTINGS.with_changes(steps=12, optimizer=optimizer, checkpoint=Checkpoints(every=3))
    whole, _, _ = run(tiny_model, tmp_path / "whole", settings, stream=Same())
    losses = [json.loads(line)["loss_nats"] for line in (tmp_path / "whole/steps.jsonl").open()]
    assert losses[-1] < losses[0] - 0.5
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path / "killed", settings, die_at=8, stream=Same())
    again, _, _ = run(tiny_model, tmp_path / "killed", settings, stream=Same())
    assert equal(whole, again)


def test_training_lowers_the_loss_it_reports(tiny_model: Path, tmp_path: Path) -> None:
    run(tiny_model, tmp_path, SETTINGS.with_changes(steps=12), stream=Same())
    losses = [json.loads(line)["loss_nats"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert losses[0] == pytest.approx(np.log(300), abs=0.2)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": RewarmCosine(peak=2e-2, floor=1e-3, warmup=0.3)},
        {"optimizer": AdamW(beta2=0.999)},
        {"optimizer": AdamW(weight_decay=0.5)},
        {"clip": 0.01},
        {"dtype": torch.bfloat16},
    ],
    ids=["peak", "beta2", "weight_decay", "clip", "dtype"],
)
def test_setting_changes_the_training(
    tiny_model: Path, tmp_path: Path, settings: dict, plain_run: PlainRun
) -> None:
    assert changed(tiny_model, tmp_path, plain_run, **settings)


def test_probe_and_checkpoint_settings_do_not_touch_the_training(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    settings = SETTINGS.with_changes(checkpoint=Checkpoints(every=1, keep=1))
    other, _, _ = run(tiny_model, tmp_path / "other", settings, probes=tiny_probes(tiny_model, 3))
    assert equal(plain_run.weights, other)
    assert len(list(plain_run.work.glob("step-*"))) == 2
    assert len(list((tmp_path / "other").glob("step-*"))) == 1


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stepping, "get_total_norm", lambda gradients: torch.tensor(float("nan")))
    with pytest.raises(StageFailed, match="gradient norm nan at step 1"):
        run(tiny_model, tmp_path)


def test_a_ledger_that_does_not_match_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    class Lying(Batches):
        def ledger(self, steps: int) -> dict[str, dict[str, float]]:
            honest = super().ledger(steps)
            honest["replay"]["tokens"] += 1
            return honest

    with pytest.raises(StageFailed, match="tokens of replay"):
        run(tiny_model, tmp_path, stream=Lying())


def test_a_frozen_parameter_that_should_train_is_an_error(
    tiny_model: Path, tmp_path: Path, monkeypatch
) -> None:
    original = AdamW.build

    def without_norms(self: AdamW, weights) -> torch.optim.AdamW:
        optimizer = original(self, weights)
        optimizer.param_groups.pop()
        return optimizer

    monkeypatch.setattr(AdamW, "build", without_norms)
    with pytest.raises(StageFailed, match=r"left 5 trainable tensors unchanged: .*layernorm"):
        run(tiny_model, tmp_path)


def leaking(query, key, value, layout, scaling, window=None):
    """Attention that forgets where documents end."""
    attended = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=True
    )
    return attended.transpose(1, 2)


def test_leaking_attention_is_found_when_the_model_is_loaded(tiny_model: Path, monkeypatch) -> None:
    from cpt.models import attention

    monkeypatch.setattr(attention, "attend_within_documents", leaking)
    with pytest.raises(StageFailed, match="cannot read packed documents"):
        load_model(tiny_model)


def test_leaking_attention_is_found_before_training(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    from cpt.models import attention, packed_model

    monkeypatch.setattr(packed_model, "_check_faithful", lambda *_: None)
    monkeypatch.setattr(attention, "attend_within_documents", leaking)
    with pytest.raises(StageFailed, match="packed documents see each other"):
        run(tiny_model, tmp_path)


def test_result_is_complete(plain_run: PlainRun) -> None:
    result = plain_run.result
    assert isinstance(result, Result)
    assert result.ledger["replay"]["sequences"] == 6
    batch = Batches().batch(0)
    assert pack_sequences(batch).targets == target_weight(batch)
