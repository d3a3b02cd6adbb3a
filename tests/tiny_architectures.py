"""Tiny random models of every architecture whose vocabulary can change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

_WIDTHS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_T5 = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2}
_BART = {
    "d_model": 16,
    **{f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")},
    **{f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")},
}


def _gemma(rows: int, **ids: int) -> Any:
    text = {"vocab_size": rows, "head_dim": 8, "num_key_value_heads": 1, **_WIDTHS, **ids}
    return transformers.Gemma3Config(text_config=text, vision_config=_WIDTHS, **ids)


Config = Callable[..., Any]
ARCHITECTURES: Mapping[str, tuple[str, Config]] = {
    "tied decoder": (
        "LlamaForCausalLM",
        lambda rows, **ids: transformers.LlamaConfig(
            vocab_size=rows, tie_word_embeddings=True, **_WIDTHS, **ids
        ),
    ),
    "untied decoder": (
        "LlamaForCausalLM",
        lambda rows, **ids: transformers.LlamaConfig(
            vocab_size=rows, tie_word_embeddings=False, **_WIDTHS, **ids
        ),
    ),
    "names changed on loading": (
        "GPTNeoXForCausalLM",
        lambda rows, **ids: transformers.GPTNeoXConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "output bias": (
        "PhiForCausalLM",
        lambda rows, **ids: transformers.PhiConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "prefixless names": (
        "GPT2LMHeadModel",
        lambda rows, **ids: transformers.GPT2Config(
            vocab_size=rows, n_embd=16, n_layer=2, n_head=2, n_positions=64, **ids
        ),
    ),
    "text part of a larger model": ("Gemma3ForConditionalGeneration", _gemma),
    "masked encoder": (
        "BertForMaskedLM",
        lambda rows, **ids: transformers.BertConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "masked encoder counting positions": (
        "XLMRobertaForMaskedLM",
        lambda rows, **ids: transformers.XLMRobertaConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "encoder without head": (
        "BertModel",
        lambda rows, **ids: transformers.BertConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "encoder with another head": (
        "BertForSequenceClassification",
        lambda rows, **ids: transformers.BertConfig(vocab_size=rows, **_WIDTHS, **ids),
    ),
    "tied encoder-decoder": (
        "T5ForConditionalGeneration",
        lambda rows, **ids: transformers.T5Config(vocab_size=rows, **_T5, **ids),
    ),
    "untied encoder-decoder": (
        "T5ForConditionalGeneration",
        lambda rows, **ids: transformers.T5Config(vocab_size=rows, tie_word_embeddings=False, **_T5, **ids),
    ),
    "encoder-decoder with bias": (
        "BartForConditionalGeneration",
        lambda rows, **ids: transformers.BartConfig(vocab_size=rows, **_BART, **ids),
    ),
}


def write_architecture(
    folder: Path, kind: str, rows: int, *, ids: Mapping[str, int] | None = None, **save: Any
) -> Path:
    """A model of a kind in `ARCHITECTURES`, its biases and norms random too.

    Args:
        ids: token ids of the configuration; by default pad 1, bos 0, eos 2.
    """
    name, config = ARCHITECTURES[kind]
    given = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2} if ids is None else ids
    torch.manual_seed(0)
    model = getattr(transformers, name)(config(rows, **given))
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor, std=0.3)
    model.save_pretrained(folder, **save)
    if kind == "untied encoder-decoder":  # as T5 1.1 stores it; transformers ties them until values differ
        file = folder / "model.safetensors"
        tensors = load_file(file)
        save_file({**tensors, "lm_head.weight": torch.randn(rows, 16)}, file, metadata={"format": "pt"})
    return folder


def load_architecture(folder: Path, kind: str) -> Any:
    """The model, loaded as anybody does; nothing may be missing or left over."""
    found, report = getattr(transformers, ARCHITECTURES[kind][0]).from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    return found.eval()


def outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits, or without a head for tokens the last hidden states."""
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        result = model(**inputs)
    found: torch.Tensor = result.logits if "logits" in result else result.last_hidden_state
    return found
