"""Model folders with the rows of new tokens."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bpe_models import NEW_TEXTS, OLD_TEXTS, write_byte_level
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PhiConfig,
)

from tokenizer_tools.bpe_file import load_tokenizer
from tokenizer_tools.embeddings import method
from tokenizer_tools.extend import Extension, extend_tokenizer
from tokenizer_tools.model_folder import extend_model

TOKENS = 30
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "tied": lambda rows: LlamaConfig(vocab_size=rows, tie_word_embeddings=True, **SMALL),
    "untied": lambda rows: LlamaConfig(vocab_size=rows, tie_word_embeddings=False, **SMALL),
    "output bias": lambda rows: PhiConfig(vocab_size=rows, tie_word_embeddings=False, **SMALL),
    "prefixless names": lambda rows: GPT2Config(
        vocab_size=rows, n_embd=16, n_layer=2, n_head=2, n_positions=64
    ),
}


def write_model(folder: Path, kind: str, rows: int | None = None, **save: Any) -> Path:
    """A model of a kind in `CONFIGS`; by default it has as many rows as its tokenizer has tokens."""
    write_byte_level(folder)
    config = CONFIGS[kind](rows or rows_of(folder))
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 1, 1
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    model.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=1, pad_token_id=1, do_sample=True, top_k=7
    )
    model.save_pretrained(folder, **save)
    return folder


def rows_of(folder: Path) -> int:
    return len(load_tokenizer(folder).get_vocab())


def extended(old: Path, new: Path, multiple: int = 64) -> tuple[Extension, int]:
    extension = extend_tokenizer(old, NEW_TEXTS, new, tokens=TOKENS)
    rows = extend_model(
        old, new, extension.pieces, method=method("subtoken-mean"), pad_to_multiple_of=multiple
    )
    return extension, rows


@pytest.fixture(params=list(CONFIGS))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_model(tmp_path / "old", request.param)


def test_old_rows_are_kept_to_the_bit_and_new_ones_are_subtoken_means(old: Path, tmp_path: Path) -> None:
    extension, rows = extended(old, tmp_path / "new")
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (old, tmp_path / "new"))
    assert rows % 64 == 0
    assert after.config.vocab_size == rows
    for part in ("get_input_embeddings", "get_output_embeddings"):
        source, result = getattr(before, part)().weight, getattr(after, part)().weight
        count = len(source)
        assert torch.equal(result[:count], source)
        for token_id, pieces in extension.pieces.items():
            assert torch.allclose(result[token_id], source[list(pieces)].mean(0), atol=1e-6)
        padding = result[count + TOKENS :]
        assert len(padding) == rows - count - TOKENS
        assert torch.allclose(padding, source.mean(0).expand_as(padding), atol=1e-6)
        assert (result[count:].norm(dim=1) > 0).all()
    bias, old_bias = (getattr(m.get_output_embeddings(), "bias", None) for m in (after, before))
    if old_bias is not None:
        assert torch.equal(bias[: len(old_bias)], old_bias)
        token_id, pieces = next(iter(extension.pieces.items()))
        assert bias[token_id].item() == pytest.approx(old_bias[list(pieces)].mean().item(), abs=1e-6)
    tied = before.get_input_embeddings().weight is before.get_output_embeddings().weight
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) == tied


def test_old_text_has_the_old_logits_and_the_new_rows_take_little(old: Path, tmp_path: Path) -> None:
    """KL from before to after is the new rows' share: at most ln(1 + new / old rows) for mean rows."""
    _, rows = extended(old, tmp_path / "new")
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (old, tmp_path / "new")
    )
    ids = AutoTokenizer.from_pretrained(old)(OLD_TEXTS[0], return_tensors="pt")["input_ids"]
    assert torch.equal(
        ids, AutoTokenizer.from_pretrained(tmp_path / "new")(OLD_TEXTS[0], return_tensors="pt")["input_ids"]
    )
    with torch.no_grad():
        source, result = before(ids).logits, after(ids).logits
    count = source.shape[-1]
    assert torch.allclose(result[..., :count], source, atol=1e-5)
    kl = result.logsumexp(-1) - source.logsumexp(-1)
    assert (kl > 0).all()
    assert kl.max() <= math.log(1 + (rows - count) / count) + 0.05


def test_padding_is_never_sampled_and_generation_settings_stay(old: Path, tmp_path: Path) -> None:
    _, rows = extended(old, tmp_path / "new", multiple=256)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    settings = model.generation_config
    assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id, settings.top_k) == (
        0,
        1,
        1,
        7,
    )
    unused = set(settings.suppress_tokens)
    assert unused == set(range(rows_of(tmp_path / "new"), rows))
    torch.manual_seed(0)
    ids = model.generate(
        torch.tensor([[0]] * 32),
        do_sample=True,
        max_new_tokens=30,
        min_new_tokens=30,
        temperature=9.0,
        top_k=0,
    )
    assert not unused & set(ids.flatten().tolist())


def test_without_padding_nothing_is_suppressed(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "tied")
    _, rows = extended(old, tmp_path / "new", multiple=1)
    assert rows == rows_of(tmp_path / "new")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "new").generation_config.suppress_tokens is None


def test_generation_settings_are_made_from_the_configuration_where_there_are_none(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "tied")
    (old / "generation_config.json").unlink()
    extended(old, tmp_path / "new")
    settings = json.loads((tmp_path / "new" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == 1
    assert settings["suppress_tokens"]


def test_files_without_embeddings_are_hard_linked(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "untied", max_shard_size="16KB")
    extended(old, tmp_path / "new")
    files = sorted(old.glob("model-*.safetensors"))
    assert len(files) > 2
    changed = 0
    for file in files:
        with safe_open(file, "pt") as reader:
            has_rows = any("embed" in name or "lm_head" in name for name in reader.keys())  # noqa: SIM118
        same = (tmp_path / "new" / file.name).samefile(file)
        assert same != has_rows
        changed += has_rows
    assert 0 < changed < len(files)
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert index["metadata"]["total_size"] == sum(
        4 * tensor.numel() for tensor in model.state_dict().values()
    )


def test_rows_that_the_old_model_kept_in_reserve_are_used_first(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "tied", rows=384)
    extension, rows = extended(old, tmp_path / "new")
    assert rows == 384
    before, after = (
        AutoModelForCausalLM.from_pretrained(f).get_input_embeddings().weight for f in (old, tmp_path / "new")
    )
    others = [token_id for token_id in range(384) if token_id not in extension.pieces]
    assert torch.equal(before[others], after[others])
    token_id, pieces = next(iter(extension.pieces.items()))
    assert torch.allclose(after[token_id], before[list(pieces)].mean(0), atol=1e-6)


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", "tied")
    AutoModelForCausalLM.from_pretrained(old, dtype=torch.bfloat16).save_pretrained(old)
    extended(old, tmp_path / "new")
    before, after = (AutoModelForCausalLM.from_pretrained(f, dtype="auto") for f in (old, tmp_path / "new"))
    assert after.dtype == torch.bfloat16
    source = before.get_input_embeddings().weight
    assert torch.equal(after.get_input_embeddings().weight[: len(source)], source)
