"""Every way back to an earlier state with the model on a GPU: no tensor is on another device than it must be.

A run on the CPU leaves checkpoints; the same run goes on from them on a GPU of fake tensors.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_gpu import CUDA, allow_guards, fake, fake_gpu, on_gpu
from gated import Phased
from several import changed
from tiny_runs import SETTINGS, run
from tiny_training import KINDS, OPTIMIZERS, Said
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cpt.models.packed_model import load_model
from cpt.monitor.reading import Items
from cpt.monitor.schedule import AtSteps
from cpt.training.checkpoint.stateful import OptimizerState, RandomNumbers
from cpt.training.checkpoint.store import Store, load_weights
from cpt.training.loop import train
from cpt.training.optimizers import OptimizerConfig
from cpt.training.settings import Settings

NEW_ROWS = {"new_tokens": [5, 290], "trainable": {"kind": "all", "embeddings_first": 0.2}}
RUNS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "rows of new tokens": NEW_ROWS,
    "rows of new tokens in bfloat16": NEW_ROWS | {"dtype": "bfloat16"},
    "layers": {"trainable": {"kind": "layers", "layers": "-1", "norms": True}, "dtype": "bfloat16"},
    "more layers": {"trainable": {"kind": "expansion", "every": 2}},
    "lora": {"trainable": {"kind": "lora", "rank": 2}, "dtype": "bfloat16"},
    "adalora": {"trainable": {"kind": "lora", "rank": 2, "variant": "adalora"}},
    "exponential average": {"average": {"kind": "ema"}},
    "latest average": {"average": {"kind": "lawa", "every": 1, "last": 3}},
    "l2_sp": {"l2_sp": {"strength": 1.0}},
    "muon": {"optimizer": {"kind": "muon"}},
    "self-constraint": {"objective": {"kind": "self-constraint"}},
    "anomaly": {"anomalies": {"not_finite": "roll-back", "snapshot_every": 2}},
    "gate that goes back": {"gates": [{"limit": "domain <= +1", "action": "roll-back"}]},
    "gate that stops": {"gates": [{"limit": "domain <= +1", "action": "stop"}]},
}


class Scripted:
    """A probe that finds one value after the other, whatever the weights are."""

    name, kind, unit = "domain", "text", "bits per byte"
    when, work, divisible, relative, items = AtSteps((0, 2, 4, 5)), 1.0, False, False, None

    def __init__(self, values: Sequence[float]) -> None:
        self.values = list(values)

    def read(self, *_: Any) -> Items:
        return Items(self.values.pop(0) * np.linspace(0.99, 1.01, 40), np.ones(40))


def settings_of(changes: dict[str, Any]) -> Settings:
    common = {"checkpoint": {"every": 2, "keep_every": 2, "mode": "blocking"}}
    return SETTINGS.with_changes(**changed(common | changes))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_and_back_and_its_milestones_are_read(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, model, said = settings_of(RUNS[name]), load_model(tiny_model), Said()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, settings, die_at=5, stream=Phased(), probes=[Scripted([1, 1, 1])])
    with fake_gpu(monkeypatch, faulty=[2] if settings.config.anomalies.rolls_back else []):
        result = train(model, Phased(), [Scripted([9, 1, 1])], settings, tmp_path, said)
        assert said.messages[0] == "continues after step 4; step 5 is run again"
        assert on_gpu(model)
        if settings.config.trainable.kind != "lora":
            load_weights(tmp_path, 2, model, settings.new_tokens)
            assert on_gpu(model)
    went_back = settings.config.anomalies.rolls_back or settings.config.gates
    assert bool(result.dropped or result.ended) == bool(went_back)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=KINDS)
def test_moments_are_where_their_weights_are_or_stay_on_the_host(
    tiny_model: Path, tmp_path: Path, optimizer: OptimizerConfig
) -> None:
    settings = settings_of({}).with_changes(optimizer=optimizer)
    run(tiny_model, tmp_path, settings, probes=[])
    found, _ = Store(tmp_path, keep=9).newest()
    assert found is not None
    data = found[""].data["optimizer"]
    saved = {key: tensor.clone() for key, tensor in found[""].tensors["optimizer"].items()}
    names = {key.rpartition("/")[0] for key in saved}
    allow_guards()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        weights = {
            name: nn.Parameter(torch.empty(found[""].tensors["weights"][name].shape, device=CUDA))
            for name in names
        }
        restored = SimpleNamespace(state=defaultdict(dict))
        moments = OptimizerState(restored, weights)  # type: ignore[arg-type]
        moments.load_state_dict({**data, **{key: fake(mode, tensor) for key, tensor in saved.items()}})
    (host,) = data.values()
    for key in saved:
        name, _, moment = key.rpartition("/")
        assert (restored.state[weights[name]][moment].device == CUDA) == (key not in host)


def test_random_numbers_of_gpus_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.full((16,), number, dtype=torch.uint8) for number in range(2)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in states])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    set_again: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: set_again.update({number: state}))
    saved = dict(RandomNumbers().state_dict())
    drawn = random.random()
    RandomNumbers().load_state_dict(saved)
    assert random.random() == drawn
    assert all(torch.equal(set_again[number], state) for number, state in enumerate(states))
