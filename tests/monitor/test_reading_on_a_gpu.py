"""What is read of a model on a GPU of fake tensors: no tensor is on another device than the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_gpu import read_on_gpu
from tiny import SENTENCES

from cpt.models.bits_per_byte import tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import ModelView, Probe
from cpt.monitor.probes.drift import DriftProbe, as_text
from cpt.monitor.probes.early_end import EarlyEndProbe, beginnings
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.probes.weights import WeightsProbe
from cpt.monitor.schedule import AtSteps
from evals.models.language_model import PackedLM

ONCE = AtSteps((0,))
PROBES: dict[str, Callable[[Path], Probe]] = {
    "text": lambda model: TextProbe(
        "domain", tokenise_text(load_tokenizer(model), SENTENCES, 64, "<s>"), ONCE
    ),
    "drift": lambda _: DriftProbe(as_text([[5, 6, 7], [8, 9]], 0), ONCE),
    "early end": lambda model: EarlyEndProbe(
        beginnings(load_tokenizer(model), SENTENCES, 64, "<s>", 100), {1}, ONCE
    ),
    "weights": lambda model: WeightsProbe(
        model, "model.embed_tokens.weight", "model.embed_tokens.weight", ONCE
    ),
}


@pytest.mark.parametrize("name", PROBES)
def test_probes_read_a_model_on_a_gpu(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model, probe = load_model(tiny_model), PROBES[name](tiny_model)
    with read_on_gpu(monkeypatch, model):
        weights = dict(model.named_parameters())
        items = probe.read(ModelView(PackedLanguageModel(model), weights), 1.0)
    assert np.isfinite(items.value)


def test_choices_are_scored_on_a_gpu(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_model)
    asked: list[Any] = [SimpleNamespace(args=(SENTENCES[0], rest)) for rest in (" It is.", " It is not.")]
    with read_on_gpu(monkeypatch, model):
        lm = PackedLM(PackedLanguageModel(model), load_tokenizer(tiny_model), start_token="<s>")
        scored = lm.loglikelihood(asked)
    assert len(scored) == 2


def test_an_index_on_the_cpu_would_be_seen(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(tiny_model)
    with read_on_gpu(monkeypatch, model), pytest.raises(RuntimeError, match="device"):
        next(model.parameters()) + torch.zeros(1, 1)
