"""Small tokenizers of every kind that `read_vocabulary` knows, as folders, spelt out token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

TEXTS = [
    "the heart of the matter is the heart; the hearts of others",
    "nine kidneys, said the doctor, are too many kidneys: 1234 or 99",
    "äther über den Ödemen, naïve façade — 心臓 and 心",
    "    indented\n\n\tand   spaced  ",
] * 4
ROLES = {"bos": "<s>", "eos": "</s>"}


def save(tokenizer: Tokenizer, folder: Path, roles: Mapping[str, Any] = ROLES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {f"{role}_token": content for role, content in roles.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def byte_level(folder: Path, *, size: int = 340, pattern: str | None = None, **settings: Any) -> Path:
    """As GPT-2's; with a `pattern` as Llama 3's."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": pattern is None, **settings})
    tokenizer.pre_tokenizer = (
        split
        if pattern is None
        else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), split])
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return save(tokenizer, folder)


PIECES = [*"▁theartofmisdnky,;:1234", "▁t", "he", "▁the", "▁he", "ar", "▁hear", "▁heart", "▁▁", "▁▁▁▁"]
MERGES = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "he"), ("a", "r"), ("▁he", "ar"), ("▁hear", "t")]
MERGES += [("▁", "▁"), ("▁▁", "▁▁")]


def sentence_piece_bpe(folder: Path, *, scheme: str = "prepend") -> Path:
    """As Llama 2's: with a prepending normalizer, or with Metaspace of that prepend scheme."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = dict.fromkeys(["<unk>", "<s>", "</s>", *fallback, *PIECES])
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return save(tokenizer, folder, {**ROLES, "unk": "<unk>"})


def unigram(folder: Path, *, white_space_split: bool = False) -> Path:
    """As T5's; with `white_space_split` as XLM-R's."""
    characters = sorted({character for text in TEXTS for character in text if not character.isspace()})
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [("▁", -4.0), ("▁the", -2.0), ("▁heart", -3.0), ("heart", -5.0), ("s", -4.5), ("ing", -4.5)]
    pieces += [(character, -8.0) for character in characters if character != "s"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Strip(left=False, right=True)]
    )
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
        if white_space_split
        else metaspace
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return save(tokenizer, folder, {**ROLES, "unk": "<unk>"})


def word_piece(folder: Path) -> Path:
    """As uncased BERT's."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", "-", "心", "the", "heart", "he", "of", "a"]
    pieces += ["##a", "##art", "##s", "##he", "##r", "##t", "##art##s", "##,"]
    tokenizer = Tokenizer(
        models.WordPiece({piece: token_id for token_id, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(pieces[:5])
    roles = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return save(tokenizer, folder, roles)


KINDS = {
    "byte-level BPE": byte_level,
    "SentencePiece BPE": sentence_piece_bpe,
    "Unigram": unigram,
    "WordPiece": word_piece,
}


def add_tokens(folder: Path, *contents: str, special: bool = False) -> Path:
    """Add tokens as `add_tokens` of transformers does, behind the vocabulary."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(content, normalized=False, special=special) for content in contents])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def edit(folder: Path, **model: Any) -> Path:
    """Change settings of the model in tokenizer.json."""
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**data, "model": {**data["model"], **model}}), encoding="utf-8")
    return folder


def model_of(folder: Path) -> dict[str, Any]:
    """The model in tokenizer.json."""
    data: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return data["model"]
