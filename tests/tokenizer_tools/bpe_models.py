"""Small BPE tokenizers of every kind that real ones come in, as Hugging Face folders."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

OLD_TEXTS = ["the cat sat on the mat and the other cat sat there", "what is that thing in the hat"] * 3
NEW_TEXTS = [
    "the hypertrophic cardiomyopathy of the cardiac septum",
    "a cardiomyopathy is hypertrophic or dilated; cardiomyopathies differ",
    "cardiac hypertrophy, septal hypertrophy: hypertrophic heart, 100 g",
    "äther über Ödem ÄÖÜ ödematös",
    "the  cardiac    septum:\n\n   the heart,   100 g",
] * 4


def write_byte_level(folder: Path, **changes: Any) -> Path:
    """A byte-level BPE tokenizer with two special tokens; `changes` go into tokenizer.json's model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(OLD_TEXTS, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    edit(folder, **changes)
    return folder


def write_with_merges_as_text(folder: Path) -> Path:
    """Merges in the older format, one string each."""
    write_byte_level(folder)
    merges = read_json(folder)["model"]["merges"]
    return edit(folder, merges=[" ".join(merge) for merge in merges])


def write_ignoring_merges(folder: Path) -> Path:
    """A whole word that is in the vocabulary is taken as it is, even one that no merge reaches."""
    write_byte_level(folder)
    vocabulary = read_json(folder)["model"]["vocab"]
    return edit(folder, ignore_merges=True, vocab={**vocabulary, "Ġcardiac": len(vocabulary)})


def write_with_added_beyond(folder: Path) -> Path:
    """Special tokens that lie after the vocabulary and are not in it."""
    write_byte_level(folder)
    data = read_json(folder)
    vocabulary = data["model"]["vocab"]
    kept = sorted((token for token in vocabulary if token not in ("<s>", "</s>")), key=vocabulary.__getitem__)
    data["model"]["vocab"] = {token: index for index, token in enumerate(kept)}
    for place, token in enumerate(data["added_tokens"]):
        token["id"] = len(kept) + place
    write_json(folder, data)
    return folder


def write_byte_fallback(folder: Path) -> Path:
    """Words of characters; what is not a known character falls back to bytes."""
    return _write_marked(folder, pre_tokenizer=pre_tokenizers.Metaspace())


def write_unsplit(folder: Path) -> Path:
    """The same, but whole texts are merged (Mistral)."""
    return _write_marked(folder, pre_tokenizer=pre_tokenizers.Metaspace(split=False))


def write_normalized(folder: Path) -> Path:
    """The same without any pre-tokenizer: the normalizer marks words (Llama 2)."""
    marks = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return _write_marked(folder, normalizer=marks)


def _write_marked(folder: Path, **parts: Any) -> Path:
    characters = sorted(
        {character for text in [*OLD_TEXTS, "▁,;:1"] for character in text if character != " "}
    )
    merges = [("▁", "t"), ("h", "e"), ("▁", "▁"), ("▁t", "he"), ("▁▁", "▁▁"), ("▁▁", "the")]
    products = [left + right for left, right in merges]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *products, "the"]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


WRITERS = {
    "byte-level": write_byte_level,
    "merges as text": write_with_merges_as_text,
    "ignore_merges": write_ignoring_merges,
    "added tokens beyond": write_with_added_beyond,
    "byte_fallback": write_byte_fallback,
    "unsplit": write_unsplit,
    "normalized": write_normalized,
}


def read_json(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def write_json(folder: Path, data: dict[str, Any]) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")


def edit(folder: Path, **changes: Any) -> Path:
    """Change settings of the model in tokenizer.json."""
    data = read_json(folder)
    write_json(folder, {**data, "model": {**data["model"], **changes}})
    return folder
