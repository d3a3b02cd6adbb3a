"""What objectives, the pull and averages take besides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import job

from cpt.estimate.allocations import by_part
from cpt.estimate.devices import GPUS
from cpt.estimate.duration import flops_per_token, forward_flops_per_token
from cpt.estimate.simulate import simulate
from cpt.models.packed_model import load_model
from cpt.training.features.l2_sp import L2SPConfig
from cpt.training.features.weight_averaging import EmaConfig, LawaConfig
from cpt.training.objectives import Alm, SelfConstraint, SelfDistillation
from cpt.training.trainable import Lora

H100 = GPUS["h100"].hardware
ROWS = ((20, 12), (16, 8))
CONSTRAINED = {"objective": SelfConstraint(kind="self-constraint"), "replay_rows": 1}
DISTILLED = {"objective": SelfDistillation(kind="self-distillation", teacher="first")}
ALIGNED = {"objective": Alm(kind="alm")}
EMA, LAWA = EmaConfig(kind="ema"), LawaConfig(kind="lawa", last=3)
BUFFERS = 2 * 4 * 4  # of the other model: inverse frequencies of the rotary embedding, and their original


def weights_held(model: Path, moment: str = "step", hardware: Any = None, **more: Any) -> int:
    rehearsed = simulate(job(model, *ROWS, probe=(20,), **more), *([hardware] if hardware else []))
    return by_part(rehearsed.timeline.peak(moment))["weights"]


@pytest.mark.parametrize(
    ("settings", "bytes_each", "buffers"),
    [
        (CONSTRAINED, 2, BUFFERS),
        (DISTILLED, 2, BUFFERS),
        (ALIGNED, 2, BUFFERS),
        ({"l2_sp": L2SPConfig(strength=1)}, 4, 0),
        ({"average": EMA}, 4, 0),
        ({"average": LAWA}, 12, 0),
    ],
    ids=["self-constraint", "self-distillation", "alm", "l2_sp", "ema", "lawa"],
)
def test_another_model_is_held_in_working_precision_and_other_copies_in_float32(
    tiny_model: Path, settings: dict[str, Any], bytes_each: int, buffers: int
) -> None:
    count = sum(p.numel() for p in load_model(tiny_model).parameters())
    assert weights_held(tiny_model, **settings) - weights_held(tiny_model) == bytes_each * count + buffers


def test_beside_an_adapter_the_start_takes_nothing(tiny_model: Path) -> None:
    adapted = {"trainable": Lora(kind="lora", rank=4)}
    assert weights_held(tiny_model, **adapted, **CONSTRAINED) - weights_held(tiny_model, **adapted) == BUFFERS


def test_on_a_gpu_the_checkpoints_that_are_averaged_lie_in_main_memory(tiny_model: Path) -> None:
    count = sum(p.numel() for p in load_model(tiny_model).parameters())
    assert weights_held(tiny_model, hardware=H100, average=LAWA) == weights_held(tiny_model, hardware=H100)
    hosts = [simulate(job(tiny_model, *ROWS, **more), H100).host for more in ({}, {"average": LAWA})]
    assert hosts[1].kept - hosts[0].kept == 12 * count


@pytest.mark.parametrize(("average", "copies"), [(EMA, 2), (LAWA, 5)], ids=["ema", "lawa"])
def test_while_probes_read_an_average_the_weights_wait(tiny_model: Path, average: Any, copies: int) -> None:
    count = sum(p.numel() for p in load_model(tiny_model).parameters())
    plain = weights_held(tiny_model, "probe")
    assert weights_held(tiny_model, "probe", average=average) - plain == copies * 4 * count


def test_checkpoints_hold_the_average(tiny_model: Path) -> None:
    from cpt.training.features.checkpoints import Checkpoints

    often = {"checkpoint": Checkpoints(every=2, mode="async"), "steps": 9}
    count = sum(p.numel() for p in load_model(tiny_model).parameters())
    copied = [
        by_part(simulate(job(tiny_model, *ROWS, **often, **more)).timeline.peak("step"))["checkpoint"]
        for more in ({}, {"average": EMA})
    ]
    assert copied[1] - copied[0] == 4 * count


def test_a_model_beside_reads_what_the_objective_shows_it(tiny_model: Path) -> None:
    plain, constrained, distilled, aligned = (
        job(tiny_model, *ROWS, **more) for more in ({}, CONSTRAINED, DISTILLED, ALIGNED)
    )
    weights = simulate(plain).weights
    forward, whole = forward_flops_per_token(plain, weights), flops_per_token(plain, weights)
    assert flops_per_token(constrained, weights) == pytest.approx(whole + forward / 2)
    for taught in (distilled, aligned):
        assert flops_per_token(taught, weights) == pytest.approx(whole + forward)


def test_logits_of_both_models_are_held_for_one_chunk(tiny_model: Path) -> None:
    """Where the row is long; in float32 those of as many positions as a processor's cache holds."""
    long = job(tiny_model, (2000,), (2000,), dtype=torch.float32, micro_batch=1, **CONSTRAINED)
    long.architecture.vocab_size = 4001
    long.architecture.max_position_embeddings = 2048
    held = by_part(simulate(long).timeline.peak("step"))["logits"]
    assert held < 2 * 1024 * 4001 * 4 + 6 * 2**20 * 4
    settings = long.settings.with_changes(objective=ALIGNED["objective"])
    held = by_part(simulate(replace(long, settings=settings)).timeline.peak("step"))["logits"]
    assert 1024 * 4001 * 4 <= held < 1024 * 4001 * 4 + 6 * 2**20 * 4
