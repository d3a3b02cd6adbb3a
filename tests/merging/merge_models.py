"""Tiny models that share an architecture, with chosen vocabularies, for merging."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from cpt.errors import CannotMerge
from merging.plan import plan
from merging.request import InputModel, MergeRequest
from merging.run import MergeReport, run

WORDS = ("<s>", "</s>", "heart", "lung", "kidney", "skin")
INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


_TEMPLATES = TemporaryDirectory(prefix="merge-models-")
_made: dict[str, Path] = {}


def write_model(
    folder: Path,
    seed: int,
    words: tuple[str, ...] = WORDS,
    rows: int | None = None,
    roles: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Path:
    """A two-layer Llama of width 16 with random weights, and a word tokenizer; made once, then copied."""
    key = repr((seed, words, rows, roles, dtype, sorted(config.items())))
    if key not in _made:
        _made[key] = _write(Path(_TEMPLATES.name, str(len(_made))), seed, words, rows, roles, dtype, config)
    shutil.copytree(_made[key], folder, dirs_exist_ok=True)
    torch.manual_seed(seed)
    return folder


def _write(
    folder: Path,
    seed: int,
    words: tuple[str, ...],
    rows: int | None,
    roles: dict[str, str] | None,
    dtype: torch.dtype,
    config: dict[str, Any],
) -> Path:
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **(roles or {"bos_token": "<s>", "eos_token": "</s>"})
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    settings = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {
        "vocab_size": rows or len(words),
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    model = AutoModelForCausalLM.from_config(LlamaConfig(**settings | config))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, max_new_tokens=10 + seed)
    model.to(dtype).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def input_model(folder: Path, weight: float | None = None, **parameters: Any) -> InputModel:
    """A model of a merge, named as its folder."""
    parameters |= {} if weight is None else {"weight": weight}
    return InputModel(folder.name, folder, f"fingerprint of {folder.name}", parameters)


def merge(
    method: str, base: Path | None, models: list[InputModel], output: Path, **request: Any
) -> MergeReport:
    """Merge into `output`."""
    base_model = None if base is None else input_model(base)
    return run(plan(MergeRequest(method, tuple(models), base_model, **request)), output)


def ties(base: Path, other: Path, **request: Any) -> MergeRequest:
    """One model, half of whose changes are dropped."""
    return MergeRequest("ties", (input_model(other, 0.8, density=0.5),), input_model(base), **request)


def refused(request: MergeRequest, message: str) -> str:
    """The message with which a request is refused as bad input."""
    with pytest.raises(CannotMerge, match=message) as raised:
        plan(request)
    assert raised.value.exit_code == 2
    return str(raised.value)
