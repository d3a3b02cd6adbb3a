"""A rehearsed step against closed forms, and against a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import job
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cpt.errors import StageFailed
from cpt.estimate.recorder import Recorder
from cpt.estimate.rehearsal import rehearse, step
from cpt.estimate.timeline import Part, Timeline, by_part
from cpt.packed.batch import pack
from cpt.packed.model import PackedLanguageModel, load_model
from cpt.training.master import MasterWeights

WORDS, WIDTH = 300, 32


def parts(rehearsed: object, moment: str) -> Mapping[Part, int]:
    return by_part(rehearsed.timeline.peak(moment))  # type: ignore[attr-defined]


def watching(model: nn.Module) -> tuple[Timeline, Recorder]:
    """A recorder that knows a real model's weights."""
    timeline = Timeline()
    recorder = Recorder(timeline, torch.Size((WORDS, WIDTH)), casts=True)
    with recorder.filing_under("weights"):
        for tensor in (*model.parameters(), *model.buffers()):
            recorder.enter(tensor)
    return timeline, recorder


def sizes(model: Path) -> tuple[int, int]:
    """Weights and tensors of a model."""
    parameters = list(load_model(model).parameters())
    return sum(p.numel() for p in parameters), len(parameters)


def test_weights_are_those_of_the_real_model(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    weights = rehearse(job(tiny_model, (20, 12))).weights
    assert (weights.total, weights.multiplied, weights.trained) == (count, count, count)


def test_an_embedding_that_is_only_looked_up_does_not_multiply(tiny_model: Path) -> None:
    untied = job(tiny_model, (20, 12))
    untied.architecture.tie_word_embeddings = False
    weights = rehearse(untied).weights
    assert weights.total - weights.multiplied == WORDS * WIDTH


def test_masters_and_working_copies_and_moments(tiny_model: Path) -> None:
    count, tensors = sizes(tiny_model)
    half, full = (rehearse(job(tiny_model, (20, 12), dtype=d)) for d in (torch.bfloat16, torch.float32))
    buffers = 2 * 4 * 4  # inverse frequencies of the rotary embedding and their original
    assert parts(half, "step")["weights"] == (4 + 2) * count + buffers
    assert parts(full, "step")["weights"] == 4 * count + buffers
    assert parts(half, "step")["optimizer"] == parts(full, "step")["optimizer"] == 8 * count + 4 * tensors
    assert 8 * count < parts(half, "load")["weights"] <= 10 * count + buffers


def test_gradients_of_masters_are_held_only_between_micro_batches(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    sequences = ((60,), (60,))
    held = [parts(rehearse(job(tiny_model, *sequences, micro_batch=n)), "step")["gradients"] for n in (1, 2)]
    assert 4 * count <= held[0] <= held[1] + 4 * count


@pytest.mark.parametrize(("dtype", "width"), [(torch.bfloat16, 2 + 4), (torch.float32, 4 + 4)])
def test_a_probe_holds_the_logits_of_one_chunk(tiny_model: Path, dtype: torch.dtype, width: int) -> None:
    many, few = (job(tiny_model, (20,), dtype=dtype, probe=(100,) * count) for count in (20, 5))
    for each, positions in ((many, 1024), (few, 5 * 99)):
        each.architecture.vocab_size = 4001
        assert parts(rehearse(each), "probe")["logits"] == positions * 4001 * width
    assert "probe" not in rehearse(job(tiny_model, (20,))).timeline.moments


def test_what_the_forward_pass_keeps_is_what_a_real_one_allocates(tiny_model: Path) -> None:
    """PyTorch's own count of allocations after a forward pass."""
    lengths = (60, 40, 17)
    model = load_model(tiny_model)
    MasterWeights(model, torch.bfloat16)
    module = PackedLanguageModel(model)
    batch = pack([np.arange(length) % WORDS for length in lengths])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        nats = module(batch)
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert nats.requires_grad
    counted = sum(event.nbytes() for event in events)
    timeline, recorder = watching(model)
    with recorder:
        kept = module(batch)
    held = sum(block.bytes for block in timeline.held(10**9) if block.part != "weights")
    assert kept.requires_grad
    assert held == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("accumulates", [False, True])
def test_a_real_step_allocates_what_the_rehearsed_one_does(
    tiny_model: Path, dtype: torch.dtype, accumulates: bool
) -> None:
    lengths, count = (60, 40, 17), 2 if accumulates else 1
    rehearsed = parts(rehearse(job(tiny_model, *[lengths] * count, micro_batch=1, dtype=dtype)), "step")
    model = load_model(tiny_model)
    master = MasterWeights(model, dtype)
    timeline, recorder = watching(model)
    with recorder:
        batch = pack([np.arange(length) % WORDS for length in lengths])
        with timeline.moment("step"):
            step(PackedLanguageModel(model), master, batch, recorder, accumulates=accumulates)
    real = by_part(timeline.peak("step"))
    for part in ("gradients", "activations", "logits"):
        assert real[part] == rehearsed[part], part


def test_activations_grow_with_tokens_and_with_the_length_of_documents(tiny_model: Path) -> None:
    held = [
        parts(rehearse(job(tiny_model, lengths)), "step")["activations"]
        for lengths in ((16,) * 4, (16,) * 8, (128,))
    ]
    assert held == sorted(set(held))


def test_on_a_gpu_no_scores_are_kept(tiny_model: Path) -> None:
    """The kernel keeps a number per query where products keep a weight per query and key."""
    layers, heads, length = 2, 4, 128
    scores = layers * heads * length * length * 2
    cpu, gpu = (rehearse(job(tiny_model, (length,)), on_gpu=on_gpu) for on_gpu in (False, True))
    assert parts(cpu, "step")["activations"] - parts(gpu, "step")["activations"] > 0.9 * scores


def test_a_model_that_cannot_be_trained_is_refused(tiny_model: Path) -> None:
    from transformers import ViTConfig

    with pytest.raises(StageFailed, match="ViTConfig cannot be told"):
        rehearse(job(tiny_model, (20,), architecture=ViTConfig()))


def test_other_architectures_are_rehearsed_as_they_are(tiny_model: Path) -> None:
    from transformers import GPT2Config, Qwen2Config

    for architecture in (
        Qwen2Config(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=0,
            eos_token_id=1,
        ),
        GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1),
    ):
        rehearsed = rehearse(job(tiny_model, (20,), architecture=architecture))
        assert rehearsed.weights.total > WORDS * WIDTH
