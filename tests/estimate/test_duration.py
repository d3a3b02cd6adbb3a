"""Operations, time and money against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch
from jobs import job
from transformers import LlamaConfig

from cpt.errors import StageFailed
from cpt.estimate.devices import TYPICAL_UTILISATION, gpu
from cpt.estimate.duration import (
    Calibration,
    Duration,
    _needed,
    _seconds,
    by_peak,
    calibrate,
    flops_per_token,
)
from cpt.estimate.job import mean_context
from cpt.estimate.simulate import simulate
from cpt.estimate.simulated_model import Weights
from cpt.training.distributed.environment import ANY_CPU
from cpt.training.optimizers import Muon
from cpt.training.trainable import All, Expansion, Layers, Lora

HALF = torch.bfloat16
ALL = Weights(total=1000, multiplied=900, trained=1000, layers=2)


def test_operations_are_6n_and_12ldt(tiny_model: Path) -> None:
    documents = job(tiny_model, (30, 10), (20,))
    context = (900 + 100 + 400) / 60
    assert mean_context(documents.sequences) == pytest.approx(context)
    assert flops_per_token(documents, ALL) == pytest.approx(6 * 900 + 12 * 2 * 32 * context)


def test_a_published_figure_is_met(tiny_model: Path) -> None:
    """field.md: Llama-3.2-1B at 45% of an H100, 4096 tokens: 49,000 tokens/s."""
    llama = LlamaConfig(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32)
    weights = Weights(1_235_814_400, 1_235_814_400, 1_235_814_400, 16)
    rate = by_peak(job(tiny_model, (4096,), architecture=llama), weights, gpu("h100")).tokens_per_second
    assert rate * 0.45 / TYPICAL_UTILISATION == pytest.approx(49_000, rel=0.02)


def test_frozen_weights_have_no_gradient_of_their_own(tiny_model: Path) -> None:
    run = job(tiny_model, (20,))
    frozen = flops_per_token(run, replace(ALL, trained=0))
    assert flops_per_token(run, ALL) - frozen == pytest.approx(2 * 900)


def test_checkpointing_does_the_forward_pass_once_more(tiny_model: Path) -> None:
    run = job(tiny_model, (20,))
    again = flops_per_token(job(tiny_model, (20,), gradient_checkpointing=True), ALL)
    assert again - flops_per_token(run, ALL) == pytest.approx(2 * 900 + 4 * 2 * 32 * 20)


def test_time_on_gpus(tiny_model: Path) -> None:
    run = job(tiny_model, (20,), tokens=10**6)
    one = by_peak(run, ALL, gpu("a100"))
    assert one.seconds == pytest.approx(10**6 * flops_per_token(run, ALL) / (312e12 * TYPICAL_UTILISATION))
    assert by_peak(replace(run, processes=4), ALL, gpu("a100")).seconds == pytest.approx(one.seconds / 4)
    assert "312 TFLOP/s" in one.basis


def test_cost_is_per_device_and_hour() -> None:
    assert Duration(7200, 1.0, "").cost(4, 2.5) == pytest.approx(20)


def test_a_step_is_its_micro_batches_and_the_optimizer(tiny_model: Path) -> None:
    run = job(tiny_model, (20,), (20,), (20,), micro_batch=1, steps=10, tokens=600)
    took = Calibration("bfloat16", 1e9, 2, 2, 2.0, 0.5, ALL).duration(run)
    assert took.seconds == pytest.approx(10 * (3 * 2.0 + 0.5))
    assert took.tokens_per_second == pytest.approx(600 / 65)


def test_a_measurement_is_adapted_by_the_numbers_of_operations(tiny_model: Path) -> None:
    """A micro batch of longer documents takes longer, by more than its tokens: attention grows with both."""
    measured, other = job(tiny_model, (20,), tokens=600), job(tiny_model, (40,), tokens=600)
    calibration = Calibration("bfloat16", 1e9, 2, 2, 2.0, 0.5, ALL)
    assert calibration.adapted(measured, measured) == calibration
    growth = 2 * flops_per_token(other, ALL) / flops_per_token(measured, ALL)
    assert growth > 2
    assert calibration.adapted(measured, other).micro_batch_seconds == pytest.approx(2.0 * growth)


def test_calibration_trains_here(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = job(tiny_model, (20, 12))
    count = Weights(27_000, 27_000, 27_000, 2)
    measured = calibrate(run, count, ANY_CPU)
    assert (measured.precision, measured.of_layers) == ("bfloat16", 2)
    assert measured.layers == 2
    assert min(measured.product_flops, measured.micro_batch_seconds, measured.optimizer_seconds) > 0
    monkeypatch.setattr("cpt.estimate.duration.SECONDS", 0.0)
    assert calibrate(run, count, ANY_CPU).layers == 1, "what takes too long is tried with fewer layers"
    last = replace(run, settings=run.settings.with_changes(trainable=Layers(kind="layers", layers="1")))
    assert calibrate(last, count, ANY_CPU).layers == 1, "though what is to train is not among them"


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": Muon()},
        {"trainable": Lora(kind="lora", rank=4)},
        {"trainable": Expansion(kind="expansion", every=1)},
        {"gradient_checkpointing": True, "master_weights": "stochastic-rounding"},
        {"trainable": All(embeddings_first=0.5), "new_tokens": (3, 5), "steps": 2},
    ],
)
def test_calibration_trains_as_the_run_will(tiny_model: Path, settings: dict[str, Any]) -> None:
    run = job(tiny_model, (20, 12), **settings)
    measured = calibrate(run, simulate(run).weights, ANY_CPU)
    assert measured.layers == (4 if isinstance(run.settings.config.trainable, Expansion) else 2)
    assert measured.duration(run).seconds > 0


def test_calibration_prepares_the_model_as_the_loop_does(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Any] = []
    monkeypatch.setattr(
        "cpt.estimate.duration.prepare",
        lambda model, settings, compiles: prepared.append((settings, compiles)),
    )
    converted: list[Any] = []
    monkeypatch.setattr("cpt.estimate.duration.to_float8", converted.append)
    monkeypatch.setattr("cpt.training.compilation.compiler_obstacle", lambda **_: None)
    run = job(tiny_model, (20, 12), compile=True, precision="fp8")
    measured = calibrate(run, simulate(run).weights, ANY_CPU)
    assert prepared == [(run.settings, True)]
    assert len(converted) == 1
    assert measured.precision == "float8"
    assert " in float8, " in measured.duration(run).basis


def test_calibration_takes_the_layers_that_fit_in_free_memory(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job(tiny_model, (20, 12))
    count = simulate(run).weights
    whole = _needed(run, run.architecture, ANY_CPU)
    monkeypatch.setattr("cpt.estimate.duration.available_bytes", lambda: whole)
    measured = calibrate(run, count, ANY_CPU)
    assert measured.layers == 1, "some of the memory is left free"
    assert measured.duration(run).basis.endswith("on 1 of 2 layers")
    monkeypatch.setattr("cpt.estimate.duration.available_bytes", lambda: whole // 10)
    monkeypatch.setattr("cpt.estimate.duration._measured_model", lambda *_: pytest.fail("it was tried"))
    with pytest.raises(StageFailed, match="cannot measure the model: one layer of it takes"):
        calibrate(run, count, ANY_CPU)


def test_the_first_time_only_warms_up() -> None:
    times = iter((0.5, 0.01, 0.01))
    assert 0.01 <= _seconds(lambda: sleep(next(times)), torch.device("cpu")) < 0.4


def test_probes_read_at_the_forward_passs_share(tiny_model: Path) -> None:
    run = job(tiny_model, (20,), steps=10, tokens=600, probe_tokens=90)
    measured = Calibration("bfloat16", 1e9, 2, 2, 2.0, 0.5, ALL)
    share = (2 * 900 + 4 * 2 * 32 * 20) / flops_per_token(run, ALL)
    assert share == pytest.approx(1 / 3)
    took = measured.duration(run)
    assert took.probe_seconds == pytest.approx(90 * 2.0 / 20 * share)
    assert took.seconds == pytest.approx(600 * 2.0 / 20 + 10 * 0.5 + took.probe_seconds)
    assert took.tokens_per_second == pytest.approx(600 / 65)
    one, four = (by_peak(replace(run, processes=count), ALL, gpu("h100")) for count in (1, 4))
    assert (
        one.probe_seconds
        == four.probe_seconds
        == pytest.approx(90 * share * flops_per_token(run, ALL) / (989e12 * TYPICAL_UTILISATION))
    )


def test_float32_takes_as_long_as_float32_products_do(tiny_model: Path) -> None:
    half, full = (by_peak(job(tiny_model, (20,), dtype=d), ALL, gpu("h100")) for d in (HALF, torch.float32))
    assert full.seconds / half.seconds == pytest.approx(989 / 67)
