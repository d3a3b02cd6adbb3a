"""A model folder with a small real tokenizer: byte-level BPE with a few merges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = ["the heart of the matter is the heart", "a fever is a fever, the fever of the night"] * 20


def make_model_folder(folder: Path, merges: int = 40) -> Path:
    """`tokenizer.json` (256 bytes, `<s>`, `</s>`, `merges` merges) and the two configurations beside it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258 + merges,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    )
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return folder


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "model")


@pytest.fixture
def new_model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes further model folders: `new_model_folder("other", merges=0)`."""
    return lambda name, **options: make_model_folder(tmp_path / name, **options)
