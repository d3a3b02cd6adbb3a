"""Small Unigram and WordPiece tokenizers of the kinds that real ones come in, as Hugging Face folders."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

OLD_TEXTS = [
    "the cat sat on the mat and the other cat sat there <a>",
    "what is that thing in the hat, mask and all? A hypothesis",
    "sphinx of black quartz judge my vow; jinxed wizards pluck ivy from the big quilt",
    "die Katze saß über der Öse; сердце и печень, сердечный ритм",
] * 4
NEW_TEXTS = [
    "the hypertrophic cardiomyopathy of the cardiac septum",
    "a cardiomyopathy is hypertrophic or dilated; cardiomyopathies differ",
    "cardiac hypertrophy, septal hypertrophy: hypertrophic heart, 100 g",
    "ventricular septal defects, atrial fibrillation, ventricular tachycardia, tachycardic septum",
    "äther über Ödem ÄÖÜ ödematös 心臓 hypertrophic 心臓",
] * 4
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def write_unigram(folder: Path, *, behind: Sequence[str] = (), byte_fallback: bool = False) -> Path:
    """A trained Unigram whose words start with "▁"; `behind` are special tokens that are no pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=140, special_tokens=list(SPECIAL.values()), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(OLD_TEXTS, trainer)
    if byte_fallback:
        data = json.loads(tokenizer.to_str())
        pieces = [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
        data["model"] |= {"byte_fallback": True, "vocab": [*data["model"]["vocab"], *pieces]}
        tokenizer = Tokenizer.from_str(json.dumps(data))
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace()]
        )
    tokenizer.add_special_tokens(list(behind))
    return save(tokenizer, folder, **SPECIAL)


def write_white_space_unigram(folder: Path) -> Path:
    """As XLM-R's: cut at white space first, a template puts special tokens around."""
    write_unigram(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return save(tokenizer, folder, **SPECIAL)


UNIGRAMS = {
    "pieces only": write_unigram,
    "white space": write_white_space_unigram,
    "added tokens behind": lambda folder: write_unigram(folder, behind=["<mask>", "<a>"]),
    "byte fallback": lambda folder: write_unigram(folder, byte_fallback=True),
}


def write_toy_unigram(folder: Path, pieces: Mapping[str, float], behind: Sequence[str] = ()) -> Path:
    """A Unigram of given pieces, the unknown token among them."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *pieces.items()], 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(behind))
    return save(tokenizer, folder, unk_token="<unk>")


def write_wordpiece(folder: Path, *, behind: Sequence[str] = (), lowercase: bool = True) -> Path:
    """A trained WordPiece with BERT's normalizer and pre-tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=160, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(OLD_TEXTS, trainer)
    tokenizer.add_special_tokens(list(behind))
    return save(tokenizer, folder, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


WORDPIECES = {
    "lower case": write_wordpiece,
    "cased": lambda folder: write_wordpiece(folder, lowercase=False),
    "added tokens behind": lambda folder: write_wordpiece(folder, behind=["[MASK]", "[a b]"]),
}


def write_toy_wordpiece(folder: Path, pieces: Sequence[str], **model: Any) -> Path:
    """A WordPiece of given pieces after "[UNK]" that cuts words at white space."""
    vocabulary = {piece: token_id for token_id, piece in enumerate(["[UNK]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", **model))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return save(tokenizer, folder, unk_token="[UNK]")


def save(tokenizer: Tokenizer, folder: Path, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def load(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a tokenizer.json's content, special tokens in text read as text."""
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
    return tokens


def segmentations(word: str) -> Iterator[list[str]]:
    """Every way to cut a word."""
    if not word:
        yield []
    for end in range(1, len(word) + 1):
        yield from ([word[:end], *rest] for rest in segmentations(word[end:]))


def random_words(alphabet: str, count: int, longest: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(alphabet, k=draw.randint(1, longest))) for _ in range(count)]
