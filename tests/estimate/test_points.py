"""The points that gates may go back to take memory of their own, where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import job
from pydantic import TypeAdapter

from cpt.estimate.allocations import by_part
from cpt.estimate.devices import GPUS
from cpt.estimate.simulate import simulate
from cpt.estimate.simulated_model import mark_trainable, take_over
from cpt.models.packed_model import load_model
from cpt.monitor.gates import Gate
from cpt.training.checkpoint.stateful import OptimizerState, Stateful, WeightState
from cpt.training.distributed.environment import ANY_CPU
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.gate_controller import saved_states
from cpt.training.features.weight_averaging import EmaConfig, LawaConfig
from cpt.training.state import State

H100 = GPUS["h100"].hardware
ROWS = ((20, 12), (16, 8))
EMA, LAWA = EmaConfig(kind="ema"), LawaConfig(kind="lawa", last=3)
END, BACK, FAIL = (
    TypeAdapter(Gate).validate_python({"limit": "general <= +0.02", "action": action})
    for action in ("stop", "roll-back", "fail")
)


def memory(model: Path, *gates: Gate, hardware: Any = ANY_CPU, **more: Any) -> tuple[int, int, int]:
    """Bytes of the points where the model is, what main memory keeps beside, a checkpoint's copy."""
    often = {"checkpoint": Checkpoints(every=2, mode="async"), "steps": 9}
    found = simulate(job(model, *ROWS, probe=(20,), gates=gates, **often, **more), hardware)
    held = {by_part(found.timeline.peak(moment))["gates"] for moment in ("probe", "step", "save")}
    assert len(held) == 1
    return held.pop(), found.host.kept, found.host.copies


@pytest.fixture(scope="module")
def sizes(tiny_model: Path) -> tuple[int, int]:
    """Bytes of the float32 weights, and of AdamW's state."""
    parameters = list(load_model(tiny_model).parameters())
    count = sum(p.numel() for p in parameters)
    return 4 * count, 8 * count + 4 * len(parameters)


@pytest.mark.parametrize("hardware", [ANY_CPU, H100], ids=["cpu", "gpu"])
def test_gates_keep_points_to_go_back_to(tiny_model: Path, sizes: tuple[int, int], hardware: Any) -> None:
    """`stop` the weights, `roll-back` the optimizer's state as well; checkpoints hold them, too."""
    model, state = sizes
    for gates, points in [
        ((FAIL,), 0),
        ((END, END), model),
        ((BACK,), model + state),
        ((END, BACK), 2 * model + state),
    ]:
        assert memory(tiny_model, *gates, hardware=hardware) == (points, 0, model + state + points)


def test_points_hold_the_average_where_it_lies(tiny_model: Path, sizes: tuple[int, int]) -> None:
    model, state = sizes
    averaged = [
        memory(tiny_model, END, average=average, hardware=hardware)
        for average, hardware in ((EMA, H100), (LAWA, ANY_CPU), (LAWA, H100))
    ]
    assert averaged == [
        (2 * model, 0, 4 * model + state),
        (4 * model, 0, 8 * model + state),
        (model, 6 * model, 8 * model + state),
    ]


def test_points_are_those_that_a_run_keeps(tiny_model: Path) -> None:
    run = job(tiny_model, *ROWS, average=EMA)
    model = load_model(tiny_model)
    _, trained = take_over(model, mark_trainable(model, run.settings), run.settings)
    optimizer = run.settings.config.optimizer.build(trained.groups(model))
    for weight in trained.weights.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    parts: dict[str, Stateful] = {
        "weights": WeightState(trained.checkpoint_tensors, trained.sync_to_model),
        "optimizer": OptimizerState(optimizer, trained.weights),
        "average": EMA.build(trained.weights, trained.sync_to_model),
    }
    for gates in ((END,), (BACK,), (END, BACK)):
        points = saved_states(gates, parts, State())
        for point in points.values():
            point.take()
        tensors = [t for point in points.values() for t in point.state_dict().values()]
        kept = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
        assert kept == memory(tiny_model, *gates, average=EMA)[0]
