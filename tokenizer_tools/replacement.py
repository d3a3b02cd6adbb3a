"""Replace a model's tokenizer: by another one, or by one of the same kind trained on text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers, trainers

from cpt.errors import DataError, StageFailed
from cpt.models.folder_files import check_settings_files
from cpt.models.tokenizer import CONFIG, FILE, TEMPLATE, copy_settings, read_settings, write_settings
from tokenizer_tools.bpe_file import cut_words
from tokenizer_tools.compare_tokenizers import chat, load_for_transformers
from tokenizer_tools.remap_ids import framing_ids, with_model
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary


def replace_tokenizer(source: Path, target: Path, output: Path) -> None:
    """Copy the target's tokenizer into a folder, with a chat template that fits it.

    The template is the target's own. Without one, the source's is kept if it works with the target and the
    target has every added token that it names: other names would be noise to the model.

    Args:
        source: Folder of the model's present tokenizer.
        target: Folder of the other tokenizer.
        output: Folder that receives the files.

    Raises:
        DataError: The target has no tokenizer.json.
    """
    if not (target / FILE).is_file():
        raise DataError(f"{target} has no {FILE}", hint="Convert the tokenizer to a fast one first.")
    check_settings_files(target)
    copy_settings(target, output)
    shutil.copyfile(target / FILE, output / FILE)
    _write_config(output)
    loaded = load_for_transformers(output, source)
    if loaded.chat_template is None:
        _keep_template(loaded, source, output)


def _write_config(output: Path) -> None:
    """Name the class that loads the tokenizer, else the model's kind decides; leave code out."""
    config = read_settings(output / CONFIG)
    config.pop("auto_map", None)
    write_settings(output / CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast", **config})


def _template(folder: Path) -> str | None:
    """Return a tokenizer's chat template, from its own file or from the configuration."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    found = read_settings(folder / CONFIG).get("chat_template")
    if isinstance(found, list):
        found = {named["name"]: named["template"] for named in found}.get("default")
    return found


def _keep_template(loaded: Any, source: Path, output: Path) -> None:
    template = _template(source)
    if template is None:
        return
    named, known = (
        {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content.strip()}
        for tokenizer in (Tokenizer.from_file(str(folder / FILE)) for folder in (source, output))
    )
    loaded.chat_template = template
    _, error = chat(loaded, source)
    if error is None and all(token in known for token in named if token in template):
        (output / TEMPLATE).write_text(template, encoding="utf-8")


_BATCH = 1000
_UNIGRAM_SHARE = 0.9
"""Lowest share of the requested size: Unigram training drops pieces that prove useless."""


def train_tokenizer(folder: Path, texts: Iterable[str], output: Path, *, tokens: int) -> None:
    """Train a tokenizer on texts and write its folder.

    Kind, normalizer, pre-tokenizer, decoder, post-processor, added tokens, roles and chat template are those
    of the folder's tokenizer. Added tokens come first, in their old order; then, if the model falls back to
    bytes, the bytes. WordPiece and Unigram of the same texts may differ a little from run to run, since the
    library's trainers process words in no fixed order.

    Args:
        folder: Tokenizer folder of any known kind.
        texts: Texts to train on, read once.
        output: Folder that receives the tokenizer.
        tokens: Size of the vocabulary, added tokens included; Unigram may be up to a tenth smaller.

    Raises:
        DataError: The folder's tokenizer is of no known kind.
        StageFailed: The texts do not yield a vocabulary of that size.
    """
    vocabulary = read_vocabulary(folder)
    data = json.loads(Tokenizer.from_file(str(folder / FILE)).to_str())
    reserved = _reserved(data, vocabulary)
    model = _train(data, vocabulary, texts, tokens, reserved)
    least = _UNIGRAM_SHARE * tokens if vocabulary.kind == "Unigram" else tokens
    if not least <= len(model["vocab"]) <= tokens:
        raise StageFailed(
            f"the text makes a vocabulary of {len(model['vocab']):,} tokens, {tokens:,} were asked for",
            hint="Its characters and the added tokens are the least, all its words the most.",
        )
    former = vocabulary.tokenizer.get_vocab(with_added_tokens=True)
    ids = {former[token]: new for new, token in enumerate(reserved)}
    with_model(data, {**data["model"], **model}, ids).write(folder, output)


def _reserved(data: Mapping[str, Any], vocabulary: Vocabulary) -> list[str]:
    """Return the tokens that are not learned; they come first."""
    named = {token["content"]: token["id"] for token in data["added_tokens"]} | dict(vocabulary.special)
    named |= {vocabulary.tokens[token_id] or "": token_id for token_id in framing_ids(data)}
    fallback = (f"<0x{byte:02X}>" for byte in range(256)) if data["model"].get("byte_fallback") else ()
    return list(dict.fromkeys([*sorted(named, key=lambda token: named[token]), *fallback]))


def _train(
    data: Mapping[str, Any],
    vocabulary: Vocabulary,
    texts: Iterable[str],
    tokens: int,
    reserved: Sequence[str],
) -> dict[str, Any]:
    """Return the learned parts of the model: the vocabulary, and merges or the unknown token's index."""
    model = data["model"]
    options: dict[str, Any] = {"vocab_size": tokens, "special_tokens": [*reserved], "show_progress": False}
    if model["type"] == "Unigram":
        unknown = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
        empty = {"vocab": [[unknown or "<unk>", 0.0]], "unk_id": 0}
        trainer: Any = trainers.UnigramTrainer(unk_token=unknown, **options)
    elif model["type"] == "WordPiece":
        empty = {"vocab": {}}
        prefix = model["continuing_subword_prefix"]
        trainer = trainers.WordPieceTrainer(continuing_subword_prefix=prefix, **options)
    else:
        empty = {"vocab": {}, "merges": []}
        bytes_only = vocabulary.kind == "byte-level BPE"
        alphabet = pre_tokenizers.ByteLevel.alphabet() if bytes_only else []
        trainer = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    tokenizer = _empty(data, vocabulary, {**model, **empty})
    tokenizer.train_from_iterator(_batches(texts), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    return {part: learnt[part] for part in ("vocab", "merges", "unk_id") if part in learnt}


def _empty(data: Mapping[str, Any], vocabulary: Vocabulary, model: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer without its tokens. A BPE that merges whole texts cuts words to learn."""
    nothing: dict[str, Any] = dict.fromkeys(("post_processor", "padding", "truncation"))
    tokenizer = Tokenizer.from_str(json.dumps({**data, **nothing, "added_tokens": [], "model": model}))
    if model["type"] == "BPE" and (words := cut_words(vocabulary.tokenizer).pre_tokenizer) is not None:
        tokenizer.pre_tokenizer = words
    return tokenizer


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
