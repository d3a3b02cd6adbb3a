"""A rehearsed step against closed forms, and against a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import job
from tiny_training import KINDS, OPTIMIZERS, checkpoint_manager
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cpt.errors import StageFailed
from cpt.estimate.allocations import Part, Recorder, Timeline, by_part
from cpt.estimate.devices import GPUS
from cpt.estimate.simulate import simulate
from cpt.estimate.simulated_model import mark_trainable, step, take_over
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.checkpoint.stateful import OptimizerState, Stateful, WeightState
from cpt.training.distributed.environment import ANY_CPU
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.master_weights import MasterWeights
from cpt.training.optimizers import Muon, OptimizerConfig, state_bytes
from cpt.training.schedules import Wsd
from cpt.training.state import State
from cpt.training.trainable import All, Expansion, Layers, Lora

WORDS, WIDTH = 300, 32
H100, T4 = GPUS["h100"].hardware, GPUS["t4"].hardware


def parts(rehearsed: object, moment: str) -> Mapping[Part, int]:
    return by_part(rehearsed.timeline.peak(moment))  # type: ignore[attr-defined]


def watching(model: nn.Module) -> tuple[Timeline, Recorder]:
    """A recorder that knows a real model's weights."""
    timeline = Timeline()
    recorder = Recorder(timeline, torch.Size((WORDS, WIDTH)), on_gpu=False)
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
    weights = simulate(job(tiny_model, (20, 12))).weights
    assert (weights.total, weights.multiplied, weights.trained) == (count, count, count)


def test_an_embedding_that_is_only_looked_up_does_not_multiply(tiny_model: Path) -> None:
    untied = job(tiny_model, (20, 12))
    untied.architecture.tie_word_embeddings = False
    weights = simulate(untied).weights
    assert weights.total - weights.multiplied == WORDS * WIDTH


def test_masters_and_working_copies_and_moments(tiny_model: Path) -> None:
    count, tensors = sizes(tiny_model)
    half, full = (simulate(job(tiny_model, (20, 12), dtype=d)) for d in (torch.bfloat16, torch.float32))
    buffers = 2 * 4 * 4  # inverse frequencies of the rotary embedding and their original
    assert parts(half, "step")["weights"] == (4 + 2) * count + buffers
    assert parts(full, "step")["weights"] == 4 * count + buffers
    assert parts(half, "step")["optimizer"] == parts(full, "step")["optimizer"] == 8 * count + 4 * tensors
    assert 8 * count < parts(half, "load")["weights"] <= 10 * count + buffers


def test_gradients_of_masters_are_held_only_between_micro_batches(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    sequences = ((60,), (60,))
    held = [parts(simulate(job(tiny_model, *sequences, micro_batch=n)), "step")["gradients"] for n in (1, 2)]
    assert 4 * count <= held[0] <= held[1] + 4 * count


@pytest.mark.parametrize(("dtype", "width", "copies"), [(torch.bfloat16, 2, 2), (torch.float32, 4, 1)])
def test_a_probe_holds_the_logits_of_one_chunk(
    tiny_model: Path, dtype: torch.dtype, width: int, copies: int
) -> None:
    """And in float32 those of as many positions as a cache holds: exact ones, and a softmax."""
    at_once = 2**20 // 4001 * 4001 * 4
    many, few = (job(tiny_model, (20,), dtype=dtype, probe=(100,) * count) for count in (20, 5))
    for each, positions in ((many, 1024), (few, 5 * 99)):
        each.architecture.vocab_size = 4001
        assert parts(simulate(each), "probe")["logits"] == positions * 4001 * width + copies * at_once
    assert "probe" not in simulate(job(tiny_model, (20,))).timeline.moments


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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dtype": torch.float32},
        {"gradient_checkpointing": True},
        {"master_weights": "stochastic-rounding"},
        {"trainable": Lora(kind="lora", rank=4)},
        {
            "trainable": Lora(kind="lora", variant="dora", rank=4, embeddings="new-tokens"),
            "new_tokens": (3, 5),
        },
        {"trainable": Layers(kind="layers", layers="1")},
        {"trainable": Expansion(kind="expansion", every=1)},
        {"trainable": All(embeddings_first=0.5), "new_tokens": (3, 5), "steps": 2},
    ],
)
@pytest.mark.parametrize("accumulates", [False, True])
def test_a_real_step_allocates_what_the_rehearsed_one_does(
    tiny_model: Path, settings: dict[str, Any], accumulates: bool
) -> None:
    lengths, count = (60, 40, 17), 2 if accumulates else 1
    run = job(tiny_model, *[lengths] * count, micro_batch=1, **settings)
    rehearsed = parts(simulate(run), "step")
    model = load_model(tiny_model)
    held, trained = take_over(model, mark_trainable(model, run.settings), run.settings)
    if run.settings.config.gradient_checkpointing:
        checkpoint_layers(model)
    timeline, recorder = watching(model)
    with recorder:
        batch = pack([np.arange(length) % WORDS for length in lengths])
        with timeline.moment("step"):
            step(PackedLanguageModel(model), held, trained, batch, recorder, accumulates=accumulates)
    real = by_part(timeline.peak("step"))
    for part in ("gradients", "activations", "logits"):
        assert real[part] == rehearsed[part], part


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=KINDS)
def test_the_state_of_every_optimizer(tiny_model: Path, optimizer: OptimizerConfig) -> None:
    run = job(tiny_model, (20, 12), optimizer=optimizer)
    foretold = parts(simulate(run), "step")["optimizer"]
    model = load_model(tiny_model)
    _, trained = take_over(model, mark_trainable(model, run.settings), run.settings)
    if optimizer.problems():
        pytest.skip("not installed")
    built = optimizer.build(trained.groups(model))
    for weight in trained.weights.values():
        weight.grad = torch.ones_like(weight)
    built.step()
    assert foretold == state_bytes(built)


def test_an_adapter_trains_little_and_needs_little(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    whole = simulate(job(tiny_model, (20, 12)))
    adapted = simulate(job(tiny_model, (20, 12), trainable=Lora(kind="lora", rank=2)))
    assert adapted.weights.total == count + adapted.weights.trained
    assert adapted.weights.trained < count / 10
    assert parts(adapted, "step")["optimizer"] < parts(whole, "step")["optimizer"] / 10


def test_frozen_weights_are_kept_in_float32_on_a_cpu(tiny_model: Path) -> None:
    """Beside them in bfloat16; a GPU's are kept in host memory."""
    run = job(tiny_model, (20, 12), trainable=Layers(kind="layers", layers="1"))
    weights = [simulate(run, hardware) for hardware in (ANY_CPU, H100)]
    frozen = weights[0].weights.total - weights[0].weights.trained
    cpu, gpu = (parts(each, "step")["weights"] for each in weights)
    assert cpu - gpu == 4 * frozen


def test_stochastic_rounding_has_no_masters_but_widens_the_weights(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    rounded = simulate(job(tiny_model, (20, 12), master_weights="stochastic-rounding", dtype=torch.bfloat16))
    buffers = 2 * 4 * 4
    assert parts(rounded, "step")["weights"] == 2 * count + buffers
    assert parts(rounded, "update")["weights"] >= 4 * count


def test_checkpointing_keeps_less(tiny_model: Path) -> None:
    kept, again = (
        parts(simulate(job(tiny_model, (200,) * 4, gradient_checkpointing=on)), "step")["activations"]
        for on in (False, True)
    )
    assert again < 0.8 * kept


EVERY = Checkpoints(every=1)
ROLLS_BACK = Anomalies(not_finite="roll-back", snapshot_every=2)


@pytest.mark.parametrize(
    ("settings", "weights", "states"),
    [
        ({"checkpoint": EVERY}, 0, 0),  # after the last step the model itself is written
        ({"checkpoint": EVERY, "steps": 2}, 1, 1),
        ({"checkpoint": Checkpoints(minutes=30), "steps": 2}, 1, 1),
        ({"checkpoint": Checkpoints(every=9, keep_every=3), "steps": 4}, 1, 1),
        ({"checkpoint": Checkpoints(every=1, mode="blocking"), "steps": 2}, 0, 0),
        ({"anomalies": ROLLS_BACK, "steps": 2}, 1, 0),
        ({"anomalies": ROLLS_BACK, "steps": 3}, 2, 1),
        ({"anomalies": ROLLS_BACK, "steps": 5}, 2, 2),
        ({"anomalies": ROLLS_BACK, "checkpoint": EVERY, "steps": 2}, 2, 1),
        ({"anomalies": ROLLS_BACK, "checkpoint": EVERY, "steps": 9}, 2, 2),
        ({"schedule": Wsd(decay_share=0.5), "steps": 4}, 1, 1),
    ],
)
def test_copies_for_checkpoints_and_roll_backs(
    tiny_model: Path, settings: dict[str, Any], weights: int, states: int
) -> None:
    count, tensors = sizes(tiny_model)
    run = job(tiny_model, (20, 12), **settings)
    copied = parts(simulate(run), "step")["checkpoint"]
    assert copied == weights * 4 * count + states * (8 * count + 4 * tensors)
    on_gpu = simulate(run, H100)
    assert parts(on_gpu, "step")["checkpoint"] == 0
    assert on_gpu.host.copies == copied


def test_copies_are_those_that_the_checkpoint_manager_makes(tiny_model: Path, tmp_path: Path) -> None:
    run = job(tiny_model, (20, 12), checkpoint=EVERY, anomalies=ROLLS_BACK, steps=9, optimizer=Muon())
    model = load_model(tiny_model)
    _, trained = take_over(model, mark_trainable(model, run.settings), run.settings)
    optimizer = Muon().build(trained.groups(model))
    state = State()
    kept: dict[str, Stateful] = {
        "weights": WeightState(trained.checkpoint_tensors, trained.sync_to_model),
        "optimizer": OptimizerState(optimizer, trained.weights),
    }
    manager = checkpoint_manager(tmp_path, kept, state, run.settings)
    with manager.open():
        manager.resume()
        for _ in range(8):
            for weight in trained.weights.values():
                weight.grad = torch.ones_like(weight)
            optimizer.step()
            state.step += 1
            manager.after_step(manager._run, None)  # type: ignore[arg-type]
        snapshots = [manager._last_good, manager._spare, *manager._being_written]
        held = {
            tensor.data_ptr(): tensor.nbytes
            for snapshot in snapshots
            if snapshot is not None
            for name in ("weights", "optimizer")
            for tensor in snapshot.tensors[name].values()
        }
    assert sum(held.values()) == parts(simulate(run), "step")["checkpoint"]


def test_activations_grow_with_tokens_and_with_the_length_of_documents(tiny_model: Path) -> None:
    held = [
        parts(simulate(job(tiny_model, lengths)), "step")["activations"]
        for lengths in ((16,) * 4, (16,) * 8, (128,))
    ]
    assert held == sorted(set(held))


def test_rows_are_filled_on_a_gpu(tiny_model: Path) -> None:
    full, short = (parts(simulate(job(tiny_model, (length,)), H100), "step") for length in (256, 200))
    assert full["activations"] > short["activations"] > 0.9 * full["activations"], "fewer have a label"
    on_cpu = parts(simulate(job(tiny_model, (200,))), "step")
    assert on_cpu["logits"] == short["logits"]


def test_on_a_gpu_no_scores_are_kept(tiny_model: Path) -> None:
    """The kernel keeps a number per query where products keep a weight per query and key."""
    layers, heads, length, documents = 2, 4, 128, 2
    scores = documents * layers * heads * length * length * 2
    cpu, gpu, without_flash = (
        simulate(job(tiny_model, (length,) * documents), hardware) for hardware in (ANY_CPU, H100, T4)
    )
    assert parts(cpu, "step")["activations"] - parts(gpu, "step")["activations"] > 0.9 * scores
    assert parts(without_flash, "step")["activations"] > parts(gpu, "step")["activations"], (
        "rows are gathered"
    )


def test_gradients_are_laid_side_by_side_to_be_summed_over_processes(tiny_model: Path) -> None:
    count, _ = sizes(tiny_model)
    alone, shared = (simulate(job(tiny_model, (9,), (9,), processes=n, micro_batch=1)) for n in (1, 2))
    assert parts(shared, "step")["gradients"] + parts(shared, "step")["activations"] >= 8 * count
    assert parts(alone, "step")["gradients"] + parts(alone, "step")["activations"] < 8 * count


@pytest.mark.parametrize("processes", [2, 4])
def test_divided_weights_are_parts_and_what_is_gathered(tiny_model: Path, processes: int) -> None:
    count, tensors = sizes(tiny_model)
    kind: dict[str, Any] = {"processes": processes, "sharded": True, "micro_batch": 1}
    run = job(tiny_model, *[(60, 40)] * 8, checkpoint=EVERY, steps=2, **kind)
    divided = simulate(run, H100)
    vocabulary, norm = WORDS * WIDTH, WIDTH
    layer = (count - vocabulary - norm) // 2
    held = parts(divided, "step")
    buffers = 2 * 4 * 4
    assert held["weights"] == 4 * count // processes + 2 * (vocabulary + norm) + 3 * 2 * layer + buffers
    assert held["optimizer"] == 8 * count // processes + 4 * tensors
    assert 4 * count // processes <= held["gradients"] <= 4 * count // processes + 6 * count
    at_once = job(tiny_model, *[(60, 40)] * processes, **kind)
    assert parts(simulate(at_once, H100), "step")["gradients"] in (0, held["gradients"])
    assert divided.host.models == processes * 4 * vocabulary // processes, "one tensor's shard at a time"
    assert divided.host.copies == 12 * count + processes * 4 * tensors, "shards, in every process"
    whole = parts(simulate(job(tiny_model, (60, 40)), H100), "step")
    assert (held["activations"], held["logits"]) == (whole["activations"], whole["logits"])
    assert divided.weights == simulate(job(tiny_model, (60, 40)), H100).weights


def test_what_every_process_has_in_main_memory(tiny_model: Path) -> None:
    count, tensors = sizes(tiny_model)
    run = job(tiny_model, (20, 12), processes=3, anomalies=ROLLS_BACK, checkpoint=EVERY, steps=9)
    host = simulate(run, H100).host
    copy = 12 * count + 4 * tensors
    assert (host.models, host.kept, host.copies) == (3 * 4 * count, 0, 3 * 2 * copy)
    frozen = job(tiny_model, (20, 12), processes=3, trainable=Layers(kind="layers", layers="1"))
    weights = simulate(frozen, H100).weights
    assert simulate(frozen, H100).host.kept == 3 * 4 * (weights.total - weights.trained)


def test_a_model_that_cannot_be_trained_is_refused(tiny_model: Path) -> None:
    from transformers import ViTConfig

    with pytest.raises(StageFailed, match="ViTConfig cannot be told"):
        simulate(job(tiny_model, (20,), architecture=ViTConfig()))


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
        rehearsed = simulate(job(tiny_model, (20,), architecture=architecture))
        assert rehearsed.weights.total > WORDS * WIDTH
