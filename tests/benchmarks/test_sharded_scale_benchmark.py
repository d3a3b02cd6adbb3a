"""The benchmark of sharded memory: it makes no real tensor of the model's size, and the estimate agrees."""

import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scale(monkeypatch):
    """The script, as a module, with a shape of its own."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import sharded_scale

    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    monkeypatch.setitem(sharded_scale.SHAPES, "tiny", shape)
    return sharded_scale


@pytest.mark.parametrize(("micro_batches", "gradient_sync"), [(1, "every"), (3, "every"), (3, "last")])
def test_what_is_counted_is_what_is_estimated_and_nothing_is_real(
    scale, monkeypatch, micro_batches: int, gradient_sync: str
) -> None:
    shards = []
    load_shards = scale.sharding.load_shards

    def noted(module, *given) -> None:
        load_shards(module, *given)
        shards.extend(p.to_local() for p in module.parameters())

    monkeypatch.setattr(scale.sharding, "load_shards", noted)
    kind = ("tiny", 4, micro_batches, gradient_sync)
    counted, estimated = scale.run(*kind), scale.estimated(*kind)
    assert shards
    assert all(isinstance(shard.detach(), FakeTensor) for shard in shards)
    for moment, size in estimated.items():
        assert counted[moment] == pytest.approx(size, rel=0.01), moment
    assert counted["resume"] < counted["step"]
    assert not torch.distributed.is_initialized()
