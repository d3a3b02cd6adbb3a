"""A snapshot holds what was, whatever training does next."""

import itertools
import random

import numpy as np
import pytest
import torch
from made_parts import Made, equal
from torch import nn

from cpt.errors import StageFailed
from cpt.training.checkpoint.snapshot import Snapshot, pack_blocks
from cpt.training.checkpoint.stateful import OptimizerState, RandomNumbers, WeightState


def test_a_copy_keeps_what_training_changes_and_gives_it_back() -> None:
    made = Made()
    made.train()
    kept = made.snapshot(1).copied()
    before = kept.copied()
    for _ in range(2):
        made.train()
    assert not equal(kept, made.snapshot(1))
    kept.restore(made.parts)
    assert equal(kept, made.snapshot(1))
    made.train()
    assert equal(kept, before)  # what was restored is not the snapshot's own memory


def test_going_on_after_a_restore_repeats_what_was() -> None:
    made = Made()
    made.train()
    kept, generator = made.snapshot().copied(), torch.get_rng_state()
    made.train()
    after = made.snapshot().copied()
    kept.restore(made.parts)
    torch.set_rng_state(generator)
    made.train()
    assert equal(made.snapshot(), after)


def test_a_snapshot_before_the_first_step_takes_the_optimizers_state_away() -> None:
    made = Made()
    kept = made.snapshot().copied()
    made.train()
    kept.restore(made.parts)
    assert not any(made.optimizer.state.values())


def test_memory_is_used_again() -> None:
    made = Made()
    made.train()
    first = made.snapshot().copied()
    made.train()
    second = made.snapshot().copied(first)
    for name, part in second.tensors.items():
        assert all(first.tensors[name][key].data_ptr() == tensor.data_ptr() for key, tensor in part.items())
    assert equal(second, made.snapshot())
    assert second.bytes == sum(t.nbytes for part in second.tensors.values() for t in part.values()) > 0


def test_a_copy_of_another_shape_has_memory_of_its_own() -> None:
    made = Made()
    first = made.snapshot().copied()
    made.train()  # now there are moments
    second = made.snapshot().copied(first)
    assert equal(second, made.snapshot())
    assert second.bytes > first.bytes


def test_tensors_share_blocks_of_which_a_power_of_two_is_little_more() -> None:
    """PyTorch gives pinned memory in powers of two. The state is that of Qwen2.5-7B under AdamW."""
    h, kv, f, words = 3584, 512, 18944, 152064
    layer = [h * h, h, h * kv, kv, h * kv, kv, h * h, h * f, h * f, h * f, h, h]
    sizes = [4 * numbers for numbers in [words * h, *(layer * 28), h, words * h] * 3] + [4] * 300
    blocks, places = pack_blocks(sizes)
    spans = sorted((block, start, start + size) for (block, start), size in zip(places, sizes, strict=True))
    for (block, _, end), (other, start, _) in itertools.pairwise(spans):
        assert block != other or end <= start
    assert all(end <= blocks[block] for block, _, end in spans)
    assert all(start % 64 == 0 for _, start, _ in spans)

    def rounded(sizes: list[int]) -> int:
        return sum(1 << (size - 1).bit_length() for size in sizes)

    assert rounded(sizes) > 1.8 * sum(sizes)
    assert rounded(blocks) < 1.1 * sum(sizes)


def test_tensors_of_all_types_and_none_are_copied() -> None:
    tensors = {
        "whole": torch.tensor(3, dtype=torch.int64),
        "bits": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "half": torch.ones(3, 5, dtype=torch.bfloat16),
        "turned": torch.arange(6.0).view(2, 3).T,
    }
    found = Snapshot(1, {"a": tensors}, {}).copied()
    assert equal(found, Snapshot(1, {"a": tensors}, {}))
    assert equal(Snapshot(1, {}, {}).copied(), Snapshot(1, {}, {}))


def test_masters_are_published_when_they_are_restored() -> None:
    made = Made(dtype=torch.bfloat16)
    kept = made.snapshot().copied()
    rounded = {name: p.detach().clone() for name, p in made.module.named_parameters()}
    made.train()
    kept.restore(made.parts)
    assert all(torch.equal(p, rounded[name]) for name, p in made.module.named_parameters())


def test_parts_can_be_spared() -> None:
    made = Made()
    kept = made.snapshot().copied()
    made.train()
    kept.restore(made.parts, spare=["pattern"])
    assert made.pattern.ranks == {"a": 7}
    assert torch.equal(made.snapshot().tensors["weights"]["0.bias"], kept.tensors["weights"]["0.bias"])


@pytest.mark.parametrize("other", [nn.Linear(3, 2), nn.Linear(2, 3), nn.LayerNorm(3)])
def test_weights_of_another_model_are_refused(other: nn.Module) -> None:
    saved = WeightState(dict(nn.Linear(2, 2).named_parameters()), lambda: None).state_dict()
    weights = WeightState(dict(other.named_parameters()), lambda: None)
    with pytest.raises(StageFailed, match="another model: "):
        weights.load_state_dict(saved)


def test_optimizer_state_that_is_no_tensor_is_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight])
    optimizer.state[weight]["count"] = 3
    with pytest.raises(TypeError, match="w/count is not"):
        OptimizerState(optimizer, {"w": weight}).state_dict()


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [
            random.random(),
            float(np.random.rand()),
            float(torch.rand(())),
            random.gauss(),
            float(np.random.randn()),
        ]

    random.gauss()  # leaves a second number behind, which is part of the state
    np.random.randn()
    larger = WeightState(
        {"w": torch.zeros(5_000)}, lambda: None
    )  # which a copy has before the generator's state
    kept = Snapshot.of({"weights": larger, "random": RandomNumbers()}, 0).copied()
    assert kept.tensors["random"]["torch"].storage_offset() > 0
    drawn = draw()
    kept.restore({"random": RandomNumbers()})
    assert draw() == drawn
