"""Compiled layers: the same function, a bounded number of graphs, and no crash where they cannot be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from compiling import counting_compiler, kernel_on_cpu
from tiny_runs import SETTINGS, records, run
from torch._dynamo.utils import counters

from cpt.errors import StageFailed
from cpt.models.batch import pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training import compilation
from cpt.training.activation_checkpointing import checkpoint_layers
from cpt.training.compilation import compile_layers, compiler_obstacle


def rows(count: int) -> list:
    """Packed rows of random documents; every row has other lengths and another number of them."""
    generator = np.random.default_rng(0)
    sizes = [generator.integers(2, 40, number + 1) for number in range(count)]
    return [pack([generator.integers(2, 280, int(size)) for size in each]) for each in sizes]


def gradients(model, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    PackedLanguageModel(model)(batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_on_a_gpu_a_layer_is_one_graph_with_its_attention_for_rows_of_any_length(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled, batches = load_model(tiny_model), load_model(tiny_model), rows(5)
    compiler = counting_compiler(monkeypatch, "aot_eager")
    kernel_on_cpu(monkeypatch)
    counters.clear()
    compile_layers(compiled)
    checkpoint_layers(compiled)
    made = []
    for batch in batches:
        expected, found = gradients(plain, batch), gradients(compiled, batch)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)
        made.append(compiler.graphs)
    assert made[1] == made[-1] <= 2
    assert not counters["graph_break"]
    expected = PackedLanguageModel(plain).per_token_loss(batches[0])
    torch.testing.assert_close(PackedLanguageModel(compiled).per_token_loss(batches[0]), expected)
    assert compiler.graphs == made[-1] + 1, "a reading needs no gradients, and so a graph of its own"


def test_on_a_cpu_attention_runs_as_it_is_and_a_run_makes_its_graphs_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.with_changes(micro_batch=2, steps=3)
    run(tiny_model, tmp_path / "plain", settings)
    compiler = counting_compiler(monkeypatch)
    made = []

    def counting(model) -> None:
        compile_layers(model)
        made.append(compiler.graphs)

    monkeypatch.setattr("cpt.training.loop.compile_layers", counting)
    _, _, said = run(tiny_model, tmp_path / "compiled", settings.with_changes(compile=True))
    assert made == [0]
    assert "the model's layers are compiled in the first step, which takes longer" in said
    first = compiler.graphs
    run(tiny_model, tmp_path / "again", settings.with_changes(compile=True))
    assert compiler.graphs == first > 0
    plain, compiled = (
        [each["loss_nats"] for each in records(tmp_path / name)] for name in ("plain", "compiled")
    )
    assert compiled == pytest.approx(plain, rel=1e-5)


def test_auto_compiles_on_a_gpu_and_what_is_written_there_holds() -> None:
    on_gpu = SETTINGS.with_changes(on_gpu=True)
    assert SETTINGS.config.compile == "auto"
    assert not SETTINGS.compiles
    assert on_gpu.compiles
    assert not on_gpu.with_changes(compile=False).compiles
    assert SETTINGS.with_changes(compile=True).compiles
    assert SETTINGS.fixed_values()["compile"] is False
    assert on_gpu.fixed_values()["compile"] is True


def test_a_machine_without_a_compiler_trains_without_unless_it_must_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "compiled layers need Triton"
    monkeypatch.setattr(compilation, "compiler_obstacle", lambda **_: reason)
    _, _, said = run(tiny_model, tmp_path / "auto", SETTINGS.with_changes(on_gpu=True, steps=1))
    assert any(each.endswith(f"so training is slower: {reason}") for each in said)
    with pytest.raises(StageFailed, match=reason):
        run(tiny_model, tmp_path / "true", SETTINGS.with_changes(compile=True, steps=1))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "g++" in (compiler_obstacle(on_gpu=False) or "")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    assert "Triton" in (compiler_obstacle(on_gpu=True) or "")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "gcc" in (compiler_obstacle(on_gpu=True) or "")


def test_an_error_of_the_compiler_says_what_to_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of registers")

    counting_compiler(monkeypatch)
    monkeypatch.setattr(compilation, "BACKEND", fails)
    with pytest.raises(StageFailed, match=r"cannot be compiled: .*out of registers") as caught:
        run(tiny_model, tmp_path, SETTINGS.with_changes(compile=True), probes=[])
    assert caught.value.hint == "Set compile: false."
