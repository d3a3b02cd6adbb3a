"""Float8 without a GPU: when it is refused, which layers it is for, and its rounding, emulated."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compiling import EmulatedFloat8Linear, emulated_float8
from tiny_runs import SETTINGS, records, run

from cpt.errors import StageFailed
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.float8 import float8_obstacle, plain_products, to_float8


@pytest.fixture
def gpu(monkeypatch):
    """Pretends to have a GPU of some compute capability, and torchao."""

    def pretend(capability: tuple[int, int], torchao: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
        monkeypatch.setattr("cpt.models.packed_model.has_fast_bfloat16", lambda: True)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if torchao else None)

    return pretend


class Router(torch.nn.Linear):
    """A linear layer that returns more than a product, as routers of experts do."""

    def forward(self, input: torch.Tensor) -> Any:
        return super().forward(input), "chosen"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="needs an NVIDIA GPU, and there is none"):
        run(tiny_model, tmp_path, SETTINGS.with_changes(precision="fp8"))


@pytest.mark.parametrize(
    ("capability", "torchao", "reason"),
    [
        ((8, 0), True, r"8\.9 or more \(Ada, Hopper\), and Some GPU has 8\.0"),
        ((9, 0), False, r"pip install 'cpt-workbench\[float8\]'"),
    ],
)
def test_a_gpu_or_a_package_that_is_missing_is_named(gpu, capability, torchao: bool, reason: str) -> None:
    gpu(capability, torchao)
    with pytest.raises(StageFailed, match=reason):
        to_float8(None)


def test_linear_layers_of_fitting_size_multiply_in_float8_but_the_head_does_not(
    gpu, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu((8, 9), torchao=True)
    assert float8_obstacle() is None
    emulated_float8(monkeypatch)
    model = load_model(tiny_model)
    model.model.layers[0].mlp.up_proj.out_features = 63
    model.model.layers[1].mlp.up_proj.__class__ = Router
    to_float8(model)
    with plain_products(model):
        assert model.model.layers[1].mlp.up_proj(torch.ones(1, 32))[1] == "chosen"
    parts = model.named_modules()
    converted = [name for name, part in parts if isinstance(part, EmulatedFloat8Linear)]
    assert len(converted) == 2 * 7 - 2
    assert "lm_head" not in converted
    assert "model.layers.0.mlp.up_proj" not in converted


@pytest.mark.parametrize("by", ["the emulation", "torchao"])
def test_products_are_rounded_but_for_the_proof(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "torchao":
        torchao = pytest.importorskip("torchao.float8")
        monkeypatch.setattr("cpt.training.float8.float8_obstacle", lambda *_: None)
        emulated = functools.partial(torchao.Float8LinearConfig, emulate=True)
        monkeypatch.setattr(torchao, "Float8LinearConfig", emulated)
    else:
        emulated_float8(monkeypatch)
    model = load_model(tiny_model)
    module, document = PackedLanguageModel(model), pack([np.arange(1, 17)])
    before = module.per_token_loss(document)
    to_float8(model)
    rounded = module.per_token_loss(document)
    with plain_products(model):
        assert torch.equal(module.per_token_loss(document), before)
    assert torch.equal(module.per_token_loss(document), rounded)
    assert 1e-4 < (rounded - before).abs().max() < 0.2


def test_documents_are_seen_to_be_apart_though_they_share_a_scale(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated_float8(monkeypatch)
    run(tiny_model, tmp_path, SETTINGS.with_changes(precision="fp8"))
    losses = [record["loss_nats"] for record in records(tmp_path)]
    plain = tmp_path / "plain"
    run(tiny_model, plain, SETTINGS)
    assert losses == pytest.approx([each["loss_nats"] for each in records(plain)], rel=0.05)
    assert losses != [each["loss_nats"] for each in records(plain)]
