"""A rehearsed step with sharded weights (FSDP2), feature by feature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import job
from pydantic import TypeAdapter

from cpt.estimate.allocations import Part, by_part
from cpt.estimate.devices import GPUS
from cpt.estimate.simulate import Simulation, simulate
from cpt.monitor.gates import Gate
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.objectives import Alm, SelfConstraint, SelfDistillation
from cpt.training.optimizers import AdamW8bit, Muon
from cpt.training.trainable import Layers, Lora

WORDS, WIDTH = 300, 32
SEQUENCES = ((60, 40),) * 4
GATE = TypeAdapter(Gate)
H100 = GPUS["h100"].hardware
BFLOAT16 = 2
BUFFERS = 2 * 4 * 4  # of the other model: inverse frequencies of the rotary embedding, and their original


def sharded(model: Path, **more: Any) -> Simulation:
    return simulate(job(model, *SEQUENCES, processes=2, sharded=True, micro_batch=1, **more), H100)


def parts(simulated: Simulation, moment: str = "step") -> Mapping[Part, int]:
    return by_part(simulated.timeline.peak(moment))


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Simulation:
    return sharded(tiny_model)


def test_replicas_of_shards_hold_as_much_as_fewer_processes_do(tiny_model: Path, plain: Simulation) -> None:
    kind: dict[str, Any] = {"processes": 4, "replicas": 2, "sharded": True, "micro_batch": 1}
    hybrid = simulate(job(tiny_model, *SEQUENCES, *SEQUENCES, **kind), H100)
    assert parts(hybrid) == parts(plain)


def test_gradients_that_are_summed_once_are_whole_until_then(tiny_model: Path, plain: Simulation) -> None:
    count = plain.weights.trained
    once = sharded(tiny_model, gradient_sync="last")
    assert parts(once)["gradients"] - parts(plain)["gradients"] == 4 * count - 4 * count // 2
    assert parts(once, "update") == parts(plain, "update")
    whole = simulate(job(tiny_model, *SEQUENCES, processes=2, sharded=True, gradient_sync="last"), H100)
    assert parts(whole) == parts(simulate(job(tiny_model, *SEQUENCES, processes=2, sharded=True), H100))


def test_checkpointed_layers_keep_their_inputs_only(tiny_model: Path, plain: Simulation) -> None:
    saved = sharded(tiny_model, gradient_checkpointing=True)
    assert parts(saved)["activations"] < 0.8 * parts(plain)["activations"]


def test_a_reference_model_is_sharded_too(tiny_model: Path, plain: Simulation) -> None:
    count = plain.weights.total
    for objective in (
        SelfConstraint(kind="self-constraint"),
        SelfDistillation(kind="self-distillation", teacher="base"),
        Alm(kind="alm"),
    ):
        found = sharded(tiny_model, objective=objective, replay_rows=2)
        more = parts(found, "load")["weights"] - parts(plain, "load")["weights"]
        whole = BFLOAT16 * (WORDS + 1) * WIDTH  # embeddings and the last norm
        assert more == BFLOAT16 * count // 2 + whole + BUFFERS
        assert parts(found)["weights"] > parts(plain)["weights"] + more, "layers are gathered"


def test_stochastic_rounding_shards_two_bytes_and_widens_them(tiny_model: Path, plain: Simulation) -> None:
    found = sharded(tiny_model, dtype=torch.bfloat16, master_weights="stochastic-rounding")
    count = plain.weights.total
    assert parts(plain, "load")["weights"] - parts(found, "load")["weights"] == count
    assert parts(found, "update")["weights"] >= parts(found, "load")["weights"] + 2 * count


def test_an_adapter_has_the_only_gradients_and_moments(tiny_model: Path, plain: Simulation) -> None:
    found = sharded(tiny_model, trainable=Lora(kind="lora", rank=4))
    trained = found.weights.trained
    assert 0 < trained < plain.weights.trained
    assert parts(found)["optimizer"] == pytest.approx(8 * trained / 2, rel=0.1)
    assert parts(found)["gradients"] < parts(plain)["gradients"]


def test_an_adapter_is_drawn_whole_before_it_is_sharded(tiny_model: Path, plain: Simulation) -> None:
    found = sharded(tiny_model, trainable=Lora(kind="lora", rank=4))
    assert plain.host.models == 2 * 4 * WORDS * WIDTH // 2
    assert found.host.models - plain.host.models == 2 * 4 * found.weights.trained


def test_a_model_that_is_put_together_on_loading_is_read_whole(
    tiny_model: Path, plain: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.estimate.sharded.stores_its_parameters", lambda _: False)
    assert sharded(tiny_model).host.models == 2 * 4 * plain.weights.total


def test_rows_of_new_tokens_are_sharded_weights_of_their_own(tiny_model: Path) -> None:
    rows = Layers(kind="layers", layers="0", embeddings="new-tokens")
    without = sharded(tiny_model, trainable=Layers(kind="layers", layers="0"), new_tokens=())
    found = sharded(tiny_model, trainable=rows, new_tokens=list(range(40)))
    assert parts(found, "load")["weights"] - parts(without, "load")["weights"] == 4 * 20 * WIDTH
    assert found.weights.trained - without.weights.trained == 40 * WIDTH


@pytest.mark.parametrize(("optimizer", "bytes_each"), [(Muon(), 4), (AdamW8bit(), 2)])
def test_the_state_of_matrices_is_sharded_and_one_matrix_gathered(
    tiny_model: Path, plain: Simulation, optimizer: Any, bytes_each: int
) -> None:
    found = sharded(tiny_model, optimizer=optimizer)
    matrices = plain.weights.total - WORDS * WIDTH - 5 * WIDTH
    saved = parts(plain)["optimizer"] - parts(found)["optimizer"]
    assert saved == pytest.approx((8 - bytes_each) * matrices / 2, rel=0.05)
    assert parts(found, "update")["optimizer"] > parts(found)["optimizer"]


def test_states_to_go_back_to_are_shards(tiny_model: Path, plain: Simulation) -> None:
    count = plain.weights.total
    stop = GATE.validate_python({"limit": "general <= 0.1", "action": "stop"})
    back = GATE.validate_python({"limit": "general <= 0.2", "action": "roll-back"})
    found = parts(sharded(tiny_model, gates=(stop, back)))
    assert found["gates"] == pytest.approx((4 + 12) * count / 2, rel=0.01)


def test_snapshots_for_rollbacks_and_copies_to_write_are_shards(tiny_model: Path) -> None:
    often = {"checkpoint": Checkpoints(every=2), "steps": 9}
    rolls_back = Anomalies(not_finite="roll-back", snapshot_every=3)
    plain = sharded(tiny_model, **often)
    found = sharded(tiny_model, anomalies=rolls_back, **often)
    assert plain.host.copies == pytest.approx(12 * plain.weights.total, rel=0.01)
    assert found.host.copies == 2 * plain.host.copies


def test_of_replicas_of_shards_one_copies_what_is_written(tiny_model: Path) -> None:
    often: dict[str, Any] = {"checkpoint": Checkpoints(every=2), "steps": 9}
    kind = often | {"processes": 4, "replicas": 2, "sharded": True, "micro_batch": 1}
    hybrid = simulate(job(tiny_model, *SEQUENCES, *SEQUENCES, **kind), H100)
    assert hybrid.host.copies == sharded(tiny_model, **often).host.copies
