"""What can be known of float8 without a GPU: when it is refused, and which layers it is for."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tiny_runs import SETTINGS, run

from cpt.errors import StageFailed
from cpt.models.packed_model import load_model
from cpt.training.float8 import float8_obstacle, to_float8


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
    gpu, tiny_model: Path, monkeypatch
) -> None:
    gpu((8, 9), torchao=True)
    assert float8_obstacle() is None
    model, converted = load_model(tiny_model), []
    model.model.layers[0].mlp.up_proj.out_features = 63

    def convert(module, *, config, module_filter_fn) -> None:
        assert config.pad_inner_dim
        linear = [(n, m) for n, m in module.named_modules() if isinstance(m, torch.nn.Linear)]
        converted.extend(name for name, part in linear if module_filter_fn(part, name))

    fake = ModuleType("torchao.float8")
    fake.Float8LinearConfig = SimpleNamespace
    fake.convert_to_float8_training = convert
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.float8", fake)
    to_float8(model)
    assert len(converted) == 2 * 7 - 1
    assert "lm_head" not in converted
    assert "model.layers.0.mlp.up_proj" not in converted


def test_documents_are_seen_to_be_apart_before_they_share_a_scale(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    monkeypatch.setattr("cpt.training.features.proofs.check_isolation", lambda *_: order.append("checked"))
    monkeypatch.setattr("cpt.training.loop.to_float8", lambda _: order.append("converted"))
    run(tiny_model, tmp_path, SETTINGS.with_changes(precision="fp8"))
    assert order == ["checked", "converted"]
