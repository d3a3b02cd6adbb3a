"""Gradient checkpointing: the same gradients from less memory."""

from pathlib import Path

import pytest
import torch
from tiny_runs import SETTINGS, Batches, equal, run

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training import loop
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.data import pack_sequences


def kept_numbers_and_gradients(model) -> tuple[int, dict[str, torch.Tensor]]:
    """How many numbers the forward pass keeps for the backward pass, and what that gives."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        nats = PackedLanguageModel(model)(pack_sequences(Batches().batch(0)))
    kept = sum(storages.values())
    nats.backward()
    return kept, {name: p.grad for name, p in model.named_parameters()}


def test_gradients_are_the_same_to_the_bit_and_less_is_kept(tiny_model: Path) -> None:
    plain, again = load_model(tiny_model), load_model(tiny_model)
    checkpoint_layers(again)
    kept, gradients = kept_numbers_and_gradients(plain)
    kept_again, gradients_again = kept_numbers_and_gradients(again)
    assert equal(gradients, gradients_again)
    assert kept_again < kept / 2


def test_setting_leaves_the_training_as_it_is(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(loop, "checkpoint_layers", lambda model: calls.append(checkpoint_layers(model)))
    plain, _, _ = run(tiny_model, tmp_path / "plain")
    assert not calls
    again, _, _ = run(tiny_model, tmp_path / "again", SETTINGS.with_changes(gradient_checkpointing=True))
    assert len(calls) == 1
    assert equal(plain, again)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(StageFailed, match="Linear does not support gradient checkpointing"):
        checkpoint_layers(torch.nn.Linear(2, 2))
