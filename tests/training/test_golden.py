"""Twenty steps give the losses that they always gave, and those of documents that are not packed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import COMMAND, GOLDEN, golden_losses, machine_type, recorded
from tiny_runs import Batches, run
from torch.nn.functional import cross_entropy

from cpt.models.packed_model import load_model
from cpt.training.data import pieces, target_weight
from cpt.training.optimizers.groups import group_weights


def test_losses_are_to_the_last_digit_what_they_were(tiny_model: Path, tmp_path: Path) -> None:
    expected = recorded().get(machine_type())
    if expected is None:
        pytest.skip(f"no losses are recorded for {machine_type()}; record them with: {COMMAND}")
    assert golden_losses(tiny_model, tmp_path) == expected


def test_packed_equals_unpacked(tiny_model: Path, tmp_path: Path) -> None:
    """The same twenty steps in plain torch, each document alone, with the model's own attention."""
    run(tiny_model, tmp_path, GOLDEN)
    packed = [json.loads(line)["loss_nats"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    model = load_model(tiny_model)
    model.set_attn_implementation("eager")
    optimizer = GOLDEN.config.optimizer.build(group_weights(model, dict(model.named_parameters())))
    unpacked = []
    for step in range(GOLDEN.steps):
        batch, total = Batches().batch(step), torch.zeros(())
        for piece in (np.asarray(piece, dtype=np.int64) for row in batch for piece in pieces(row)):
            logits = model(torch.from_numpy(piece)[None]).logits[0, :-1]
            total = total + cross_entropy(logits, torch.from_numpy(piece[1:]), reduction="sum")
        loss = total / target_weight(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GOLDEN.config.clip)
        for group in optimizer.param_groups:
            group["lr"] = GOLDEN.config.schedule.rate(step, GOLDEN.steps)
        optimizer.step()
        optimizer.zero_grad()
        unpacked.append(float(loss.detach()))
    assert packed == pytest.approx(unpacked, rel=1e-5)
