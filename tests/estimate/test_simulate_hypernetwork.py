"""Memory of a hypernetwork's training: what is simulated is what a real step allocates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from cpt.estimate.allocations import Recorder, Timeline, by_part
from cpt.estimate.simulate_hypernetwork import NetworkSimulation, _batch, simulate_network
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import DistributedContext
from cpt.training.distributed.environment import ANY_CPU
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.source import read_source
from tokenizer_tools.hypernetwork.training.backbone import TrainedBackbone, load_backbone
from tokenizer_tools.hypernetwork.training.gradients import Gradients, parameters_of
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

SMALL: dict[str, Any] = {
    "network": {"layers": 2, "heads": 2},
    "sampling": {"vocabulary": 450},
    "texts": 4,
    "sequence_length": 24,
}
FIXED = {"tokenizer": "other", "sampling": {}}
LENGTHS = (1, 1, 2, 3) * 100


def simulated(
    model: Path, dtype: torch.dtype = torch.float32, processes: int = 1, **settings: Any
) -> NetworkSimulation:
    config = HypernetworkTrainingConfig.model_validate({**SMALL, **settings})
    return simulate_network(
        AutoConfig.from_pretrained(model), config, LENGTHS, 450, dtype, torch.float32, ANY_CPU, processes
    )


def tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def parts(found: NetworkSimulation, moment: str = "step") -> dict[str, int]:
    return {str(part): size for part, size in by_part(found.timeline.peak(moment)).items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"micro_batch": 1},
        {"network": {"variant": "zett", "layers": 1, "heads": 2}},
        {**FIXED, "backbone": {}},
    ],
    ids=str,
)
def test_a_real_step_allocates_what_the_simulated_one_does(
    tiny_model: Path, settings: dict[str, Any]
) -> None:
    config = HypernetworkTrainingConfig.model_validate({**SMALL, **settings})
    source = read_source(tiny_model)
    network, backbone = Hypernetwork(config.network, source.rows), load_backbone(source, torch.float32)
    anchor = None
    if config.tokenizer:
        anchor = {name: weight.detach().clone() for name, weight in parameters_of(network).items()}
    trained = TrainedBackbone(backbone, torch.float32) if config.backbone is not None else None
    gradients = Gradients(network, backbone, config, ProcessGroup(DistributedContext()), anchor, trained)
    batch, timeline = _batch(config, LENGTHS, 450), Timeline()
    recorder = Recorder(timeline, torch.Size((450, 32)), on_gpu=False)
    for tensor in (*(anchor or {}).values(), *(each for m in (network, backbone) for each in tensors_of(m))):
        recorder.enter(tensor, "weights")
    with recorder, timeline.moment("step"):
        gradients.of_language_modelling(batch)
    real = sum(block.bytes for block in timeline.peak("step"))
    found = parts(simulated(tiny_model, **settings))
    assert sum(found.values()) - found["optimizer"] == pytest.approx(real, rel=0.002)


def test_weights_and_optimizer_are_those_of_the_objects(tiny_model: Path) -> None:
    source = read_source(tiny_model)
    network = Hypernetwork(HypernetworkTrainingConfig.model_validate(SMALL).network, source.rows)
    backbone = load_backbone(source, torch.float32)
    weights = sum(tensor.nbytes for module in (network, backbone) for tensor in tensors_of(module))
    own = sum(weight.numel() for weight in network.parameters())
    plain, both = simulated(tiny_model), simulated(tiny_model, **FIXED, backbone={})
    assert parts(plain)["weights"] == weights
    moments = [4 * (2 * w.numel() + 1) for w in network.parameters()]
    assert parts(plain)["optimizer"] == sum(moments)
    assert (plain.network, plain.source, plain.widths) == (own, 300, {"tied": 32})
    body = sum(weight.numel() for weight in backbone.parameters()) - 300 * 32
    assert plain.body == body
    assert parts(both)["weights"] == weights + 4 * own
    assert parts(both)["optimizer"] - parts(plain)["optimizer"] > 8 * body


def test_settings_change_the_memory(tiny_model: Path) -> None:
    def peak(**settings: Any) -> int:
        return sum(parts(simulated(tiny_model, **settings)).values())

    whole = peak()
    assert peak(micro_batch=1) < whole
    assert peak(processes=2) < whole
    assert peak(sequence_length=48) > whole
    assert peak(network={"layers": 4, "heads": 2}) > whole
    assert peak(dtype=torch.bfloat16) < whole
    anchored, alone = peak(**FIXED), peak(**FIXED, lexical=0.0)
    assert anchored > alone
    assert peak(**FIXED, backbone={}) > anchored
