"""Sequences laid down with their common beginnings once, against each by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from cpt.models import attention, batch
from cpt.models.batch import IGNORED, PrefixTree, TreeBatch, batches, grow, pack
from cpt.models.packed_model import PackedLanguageModel


def test_learned_positions_are_those_with_a_label() -> None:
    batch = pack([np.arange(4), np.array([9]), np.arange(3)])
    assert (
        batch.target_positions.tolist()
        == (batch.labels != IGNORED).nonzero().squeeze(1).tolist()
        == [0, 1, 2, 5, 6]
    )
    assert batch.targets == 5
    assert batch.layout.boundaries.tolist() == [0, 4, 5, 8]


def test_moving_a_batch_moves_all_of_it() -> None:
    moved = pack([np.arange(4), np.arange(3)]).to("meta")
    tensors = [
        moved.input_ids,
        moved.position_ids,
        moved.labels,
        moved.target_positions,
        moved.layout.boundaries,
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.tokens, moved.targets, moved.layout.lengths) == (7, 5, (4, 3))


@pytest.mark.parametrize("lengths", [[5, 3, 1], [1]])
def test_forward_never_asks_the_device_for_a_number(lengths: list[int], monkeypatch) -> None:
    """Refuse what makes the host wait for a GPU: sizes that depend on values, and values themselves."""
    from test_attention import documents, tiny

    model = PackedLanguageModel(tiny())
    batch = pack(documents(lengths))
    model(batch)  # lays the documents out, on the host

    def refuse(*args, **kwargs):
        raise AssertionError("the host waits for the device")

    for name in ("nonzero", "item", "tolist", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    nats = model(batch)
    (nats / batch.targets if batch.targets else nats).backward()


SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def sequences(seed: int = 0, count: int = 40) -> list[list[int]]:
    """Random sequences of a few tokens that fork at random places, some of them beginnings of others."""
    generator = np.random.default_rng(seed)
    made: list[list[int]] = [generator.integers(0, 64, 12).tolist()]
    while len(made) < count:
        before = made[generator.integers(len(made))]
        kept = before[: generator.integers(0, len(before) + 1)]
        made.append(kept + generator.integers(0, 64, generator.integers(1, 9)).tolist())
    return sorted(map(list, {tuple(sequence) for sequence in made}))


def spelled(tree: PrefixTree, number: int) -> list[int]:
    return [tree.tokens[node] for node in tree.paths[number]]


@pytest.mark.parametrize("most", [16, 60, 10_000])
def test_every_sequence_is_a_path_and_sees_its_own_path_alone(most: int) -> None:
    given = sequences()
    trees = grow(given, most)
    held = {number: tree for tree in trees for number in tree.paths}
    assert sorted(held) == list(range(len(given)))
    for number, tree in held.items():
        path = tree.paths[number]
        assert spelled(tree, number) == given[number]
        assert [tree.depth[node] for node in path] == list(range(len(path)))
        laid = tree.laid_out()
        visible = torch.ones(laid.length, laid.length, dtype=torch.bool).tril()
        visible[laid.trunk :] = laid.visible
        for place, node in enumerate(path):
            assert visible[node].nonzero().squeeze(1).tolist() == sorted(path[: place + 1])
    for tree in trees:
        longest = max(len(path) for path in tree.paths.values())
        assert len(tree.tokens) <= max(most, longest)


def test_common_beginnings_are_laid_down_once() -> None:
    question = list(range(20))
    [tree] = grow([[*question, 30], [*question, 31, 32], [*question, 33]], 100)
    assert len(tree.tokens) == 24
    assert tree.laid_out().trunk == 21
    assert len(grow([[1, 2, 3], [4], [5, 2, 3]], 100)) == 3  # nothing in common
    [chain] = grow([[1, 2], [1, 2, 3]], 100)
    assert (chain.tokens, chain.laid_out().trunk) == ([1, 2, 3], 3)


def test_a_tree_grows_as_long_as_it_saves_more_than_attention_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_WORTH", 10)
    given = [[1, 2, 3, fork, 0, 0] for fork in range(9)]  # 3 shared, 3 new: at most 10 besides
    assert [len(tree.paths) for tree in grow(given, 100)] == [4, 4, 1]
    assert [len(tree.paths) for tree in grow(given, 9)] == [2, 2, 2, 2, 1]


def test_batches_hold_so_many_tokens_the_largest_first() -> None:
    trees = grow(sequences(1), 30)
    parted = list(batches(trees, 50))
    assert [tree for batch in parted for tree in batch] == trees
    sizes = [[len(tree.tokens) for tree in batch] for batch in parted]
    assert all(sum(batch) <= 50 or len(batch) == 1 for batch in sizes)
    assert sizes[0][0] == max(size for batch in sizes for size in batch)
    assert list(batches([], 50)) == []


@pytest.mark.parametrize("window", [None, 6])
def test_a_models_scores_are_those_of_each_sequence_alone(window: int | None) -> None:
    attention.register()
    torch.manual_seed(0)
    model = (
        LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation=attention.NAME))
        if window is None
        else MistralForCausalLM(
            MistralConfig(**SIZES, sliding_window=window, attn_implementation=attention.NAME)
        )
    ).eval()
    given = sequences(2)
    trees = grow(given, 40)
    nodes, labels, expected, greedy = [], [], [], []
    model.set_attn_implementation("eager")
    offset = 0
    for tree in trees:
        for number, path in tree.paths.items():
            with torch.no_grad():
                logp = model(torch.tensor([given[number]])).logits[0, -1].log_softmax(-1)
            for label in (5, int(logp.argmax())):
                nodes.append(offset + path[-1])
                labels.append(label)
                expected.append(float(logp[label]))
                greedy.append(label == int(logp.argmax()))
        offset += len(tree.tokens)
    model.set_attn_implementation(attention.NAME)
    order = np.argsort(nodes, kind="stable")
    batch = TreeBatch.of(trees, np.array(nodes)[order], np.array(labels)[order])
    nats, likeliest = PackedLanguageModel(model).score(batch)
    assert np.allclose(nats.numpy(), np.array(expected)[order], atol=1e-5)
    assert likeliest.tolist() == np.array(greedy)[order].tolist()
