"""Convert a tokenizer in its authors' format to a folder with a fast tokenizer (tokenizer.json).

A file is recognised by its content, not by its name: a SentencePiece model, byte-level BPE ranks (tiktoken),
Mistral's tekken, a WordPiece vocabulary, a tokenizer.json by itself. A folder may hold any of these, or
files that transformers can convert.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import CONFIG, FILE, copy_settings, read_settings, special_tokens
from cpt.references import fast_tokenizer, sentence_piece, tiktoken
from cpt.references.fast_tokenizer import FastTokenizer, conventional_roles

CONVERTER = 1
"""Version of the conversions' results; part of a converted tokenizer's name in the cache."""

FILES = ("*.json", "*.model", "*.model.v*", "*.tiktoken", "*.txt", "*.jinja")
"""Patterns of the files of a tokenizer folder, without weights."""

_RAW = ("tekken*.json", "tokenizer.model*", "*.model", "*.model.v*", "*.tiktoken", "vocab.txt")
_FROM_ITS_FILE = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "MistralCommonBackend"}
"""Classes whose ids are those of their file. transformers 5 loses a text's leading space or a piece's name of
Llama's and Gemma's SentencePiece files, so these are converted here. Other classes move ids (XLM-RoBERTa) or
add tokens (T5), which transformers knows."""

_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def convert(source: Path, output: Path) -> Path:
    """Write a tokenizer as a folder that `tokenizers` and transformers load: tokenizer.json, configuration.

    Args:
        source: Tokenizer file, or a folder that holds one.
        output: Folder to write.

    Returns:
        The folder `output`.

    Raises:
        DataError: The format is unknown, or the file is damaged.
    """
    if source.is_dir():
        _convert_folder(source, output)
    else:
        _read_file(source).save(output)
    return output


def _read_file(file: Path) -> FastTokenizer:
    content = file.read_bytes()
    if content.lstrip()[:1] == b"{":
        return _read_json(content, str(file))
    if _TIKTOKEN.match(content):
        return tiktoken.read_tiktoken(content, str(file))
    if b"[UNK]" in content and b"\n##" in content:
        return fast_tokenizer.read_word_piece(content, str(file))
    return sentence_piece.read_sentence_piece(content, str(file))


def _read_json(content: bytes, name: str) -> FastTokenizer:
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DataError(f"{name} is not valid JSON: {error}") from error
    if "config" in data and "vocab" in data:
        return tiktoken.read_tekken(data, name)
    if "model" not in data:
        raise DataError(f"{name} is not a tokenizer of a known format", hint="Name its tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise DataError(f"{name} cannot be read: {error}") from error
    added = tokenizer.get_added_tokens_decoder().values()
    return FastTokenizer(tokenizer, conventional_roles(token.content for token in added if token.special))


def _convert_folder(folder: Path, output: Path) -> None:
    if (folder / FILE).is_file():
        copy_settings(folder, output)
        shutil.copyfile(folder / FILE, output / FILE)
        return
    class_name = _class(folder)
    raw = next((path for pattern in _RAW for path in sorted(folder.glob(pattern))), None)
    if raw is not None and (class_name is None or class_name in _FROM_ITS_FILE):
        read = _read_file(raw)
        replace(read, roles={**read.roles, **_stated_roles(folder, read.tokenizer)}).save(output)
        _copy(folder, output, "chat_template.jinja", "chat_template.json")
    elif class_name is not None:
        _convert_by_class(folder, output)
    else:
        raise DataError(
            f"{folder} has no tokenizer of a known format",
            hint="Known are tokenizer.json, SentencePiece models, tiktoken and tekken files, and vocab.txt.",
        )


def _copy(folder: Path, output: Path, *names: str) -> None:
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, output / name)


def _convert_by_class(folder: Path, output: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.save_pretrained(output)
    except Exception as error:  # on damaged files a converter raises exceptions of any kind
        raise DataError(
            f"transformers cannot convert the tokenizer in {folder}: {type(error).__name__}: {error}",
            hint="Name the tokenizer's own file, or a folder with the tokenizer.json its authors publish.",
        ) from error
    if not (output / FILE).is_file():
        raise DataError(f"the tokenizer in {folder} has no fast counterpart in transformers")
    if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        raise DataError(f"{folder} names a tokenizer's class but lacks its vocabulary")


def _class(folder: Path) -> str | None:
    """Return the tokenizer's class in the configuration; None for a class that fits every tokenizer."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    stated = read_settings(folder / CONFIG).get("tokenizer_class")
    if stated is None:
        stated = TOKENIZER_MAPPING_NAMES.get(read_settings(folder / "config.json").get("model_type", ""))
    name = str(stated or "").removesuffix("Fast")
    return None if name in ("", "PreTrainedTokenizer", "TokenizersBackend") else name


def _stated_roles(folder: Path, tokenizer: Tokenizer) -> dict[str, str]:
    return {
        role: text for role, text in special_tokens(folder).items() if tokenizer.token_to_id(text) is not None
    }


__all__ = ["CONVERTER", "convert"]
