"""Models that do not pack, and vLLM, through lm-eval's own classes and the same cache."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from evaluated import TEXT, task
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file
from tiny import capability_is_pretended
from transformers import AutoTokenizer, PhiConfig, PhiForCausalLM

from cpt.errors import ModelError, StageFailed, UsageError
from evals.evaluation import evaluate_tasks
from evals.models import backends
from evals.models.backends import check_backend, dtype_name
from evals.models.language_model import PackedLM
from evals.results import Results

LONG = [{"question": "The heart of the matter " * 40, "choices": ["a", "b"], "answer": 0}]


@pytest.fixture
def with_bias(another_model) -> Path:
    """A model whose output embeddings have a bias: it cannot be packed."""
    folder: Path = another_model("phi")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    rows = len(AutoTokenizer.from_pretrained(folder))
    config = PhiConfig(vocab_size=rows, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, **sizes)
    PhiForCausalLM(config).save_pretrained(folder)
    return folder


def test_what_does_not_pack_is_read_by_lm_evals_own_class_once(
    with_bias: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [
        task(tmp_path, "choices"),
        task(tmp_path, "texts", TEXT, metric="exact_match"),
        task(tmp_path, "long", rows=LONG),
        task(tmp_path, "long_texts", TEXT, rows=LONG, metric="exact_match"),
    ]
    messages: list[str] = []
    options: dict[str, Any] = {"cache": tmp_path / "cache", "precision": "fp32"}
    first = evaluate_tasks(str(with_bias), prepared, on_message=messages.append, **options)
    assert any("bias are not supported" in message and "slower" in message for message in messages)
    assert [score.task for score in first.tasks] == [each.entry.task for each in prepared]
    notes = {score.task: score.note or "" for score in first.tasks}
    assert not notes["choices"]
    assert not notes["texts"]
    assert notes["long"].startswith("2 requests are longer")
    assert notes["long_texts"].startswith("1 requests are longer")

    monkeypatch.setattr(backends, "_padded", lambda *_: pytest.fail("loaded again"))
    again = evaluate_tasks(str(with_bias), prepared, **options)
    assert (again.tasks, again.items) == (first.tasks, first.items)


def test_another_start_token_needs_packing(with_bias: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="bias are not supported"):
        evaluate_tasks(str(with_bias), [task(tmp_path, "choices")], cache=tmp_path, start_token="<s>")


def test_a_model_that_neither_class_loads(tiny_model: Path, another_model, tmp_path: Path) -> None:
    folder = another_model("cut")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        evaluate_tasks(str(folder), [task(tmp_path, "choices")], cache=tmp_path)


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    tensors["model.layers.1.input_layernorm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("packs", [True, False])
def test_a_model_whose_weights_are_no_numbers_is_not_scored(
    packs: bool, with_bias: Path, another_model: Any, tmp_path: Path
) -> None:
    folder = another_model("damaged") if packs else with_bias
    not_a_number(folder)
    with pytest.raises(ModelError, match="weights that are no finite numbers"):
        evaluate_tasks(str(folder), [task(tmp_path, "choices")], cache=tmp_path / "cache", precision="fp32")


@pytest.mark.parametrize("told_at_once", [True, False])
def test_answers_that_are_no_numbers_are_neither_scored_nor_kept(
    told_at_once: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a backend whose weights cannot be looked at."""

    class Model(LM):
        def __init__(self) -> None:
            super().__init__()
            self.truncated: set[str] = set()

        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            answers = [(-1.0, False), *((math.nan, False) for _ in requests[1:])]
            for request, answer in zip(requests, answers, strict=True):
                if told_at_once:
                    self.cache_hook.add_partial("loglikelihood", request.args, answer)
            return answers

        loglikelihood_rolling = generate_until = None

    monkeypatch.setattr(backends, "_vllm", lambda *_: Model())
    monkeypatch.setattr("evals.evaluation.check_backend", lambda *_: None)
    for _ in range(2):
        with pytest.raises(ModelError, match="answers with NaN"):
            evaluate_tasks(
                str(tiny_model), [task(tmp_path, "choices")], cache=tmp_path / "cache", backend="vllm"
            )


def test_a_chat_template_that_does_not_end_ends_the_evaluation(another_model: Any, tmp_path: Path) -> None:
    folder = another_model("chatty")
    loops = "{% for a in range(9999) %}" * 5 + "{% endfor %}" * 5
    (folder / "chat_template.jinja").write_text(loops)
    prepared = [task(tmp_path, "choices"), task(tmp_path, "texts", TEXT, metric="exact_match")]
    with pytest.raises(ModelError, match="takes too long"):
        evaluate_tasks(str(folder), prepared, cache=tmp_path / "cache", chat=True)


def test_a_tokenizer_that_needs_code_is_refused(another_model: Any, tmp_path: Path) -> None:
    folder = another_model("coded")
    file = folder / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: auto_map"):
        evaluate_tasks(str(folder), [task(tmp_path, "choices")], cache=tmp_path / "cache", chat=True)


def assert_same(one: Results, other: Results) -> None:
    """The same scores and values of items; likelihoods up to rounding."""
    for a, b in zip(one.tasks, other.tasks, strict=True):
        assert a.model_copy(update={"measures": {}}) == b.model_copy(update={"measures": {}})
        for name, measure in a.measures.items():
            assert measure.score == pytest.approx(b.measures[name].score, abs=1e-5)
    assert one.items.keys() == other.items.keys()
    for name, items in one.items.items():
        assert items.values == other.items[name].values


def test_both_classes_give_the_same_scores(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = [task(tmp_path, "choices"), task(tmp_path, "texts", TEXT, metric="exact_match")]
    packed = evaluate_tasks(str(tiny_model), prepared, cache=tmp_path / "a", precision="fp32")

    def refuse(*_: object) -> None:
        raise StageFailed("no")

    monkeypatch.setattr(backends, "_packed", refuse)
    padded = evaluate_tasks(str(tiny_model), prepared, cache=tmp_path / "b", precision="fp32")
    assert_same(packed, padded)


def test_vllm_is_named_with_how_to_install_it() -> None:
    check_backend("hf", "<s>")
    with pytest.raises(UsageError, match="vllm is not installed") as caught:
        check_backend("vllm", "auto")
    assert "cpt-workbench[vllm]" in str(caught.value)


def test_vllm_is_lm_evals_own_class(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    class Stub(HFLM):
        def __init__(self, pretrained: str, dtype: str, batch_size: str) -> None:
            made.append({"pretrained": pretrained, "dtype": dtype, "batch_size": batch_size})
            super().__init__(pretrained=pretrained, dtype=dtype, batch_size=2, device="cpu")

    module = ModuleType("lm_eval.models.vllm_causallms")
    module.VLLM = Stub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "vllm" else real(name))
    with pytest.raises(UsageError, match="no other start token"):
        check_backend("vllm", "<s>")
    prepared = [task(tmp_path, "choices")]
    options: dict[str, Any] = {"cache": tmp_path / "cache", "precision": "fp32"}
    found = evaluate_tasks(str(tiny_model), prepared, backend="vllm", **options)
    assert made == [{"pretrained": str(tiny_model), "dtype": "float32", "batch_size": "auto"}]
    assert found.settings["backend"] == "vllm"
    assert_same(found, evaluate_tasks(str(tiny_model), prepared, **options))


@pytest.mark.skipif(capability_is_pretended(), reason="PyTorch asks the processor, not ATEN_CPU_CAPABILITY")
def test_precision_is_named_and_reaches_the_model(tiny_model: Path, tmp_path: Path) -> None:
    assert (dtype_name("fp32"), dtype_name("bf16")) == ("float32", "bfloat16")
    assert dtype_name("auto") in ("float32", "bfloat16")
    seen: list[torch.dtype] = []

    class Seeing(PackedLM):
        def __init__(self, model: Any, *args: Any, **options: Any) -> None:
            seen.append(model.model.dtype)
            super().__init__(model, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evals.models.language_model.PackedLM", Seeing)
        for precision in ("fp32", "bf16"):
            evaluate_tasks(str(tiny_model), [task(tmp_path, "choices")], cache=tmp_path, precision=precision)
    assert seen == [torch.float32, torch.bfloat16]
