"""The tokenizer side of a model folder: its files, the roles of special tokens, the tokenizer itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models

from cpt.errors import ModelError
from cpt.models.folder_files import ROLES, check_settings_files, read_object

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
SETTINGS = (CONFIG, SPECIAL, ADDED, TEMPLATE, "chat_template.json")
"""Files beside tokenizer.json that go with it. vocab.json, merges.txt and tokenizer.model hold the vocabulary
once more, in which they may contradict it."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the folder's fast tokenizer, without truncation and padding.

    Text that spells a special token is tokenised as plain text: data never yields special tokens.

    Raises:
        ModelError: the folder has no usable tokenizer.json.
    """
    file = folder / FILE
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise ModelError(
            f"{file}: cannot be read as a tokenizer: {error}",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes it for most models.",
        ) from error
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_as_transformers(folder: Path, config: Any = None) -> Any:
    """Load a folder's tokenizer as transformers' AutoTokenizer does, running no code of the folder.

    Args:
        config: the model's configuration, where another folder holds it.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    check_settings_files(folder)
    try:
        return AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises whatever a damaged file makes it raise
        if "auto_map" in read_settings(folder / CONFIG) and "trust_remote_code" in str(error):
            raise ModelError(
                f"{folder / CONFIG}: auto_map: the tokenizer needs code of its own, which is never run",
                hint="Save its tokenizer.json with a class of transformers, and remove auto_map.",
            ) from error
        raise ModelError(
            f"transformers cannot load the tokenizer in {folder}: {type(error).__name__}: {error}",
            hint=f"Check its {FILE} and {CONFIG}, or save or fetch them again.",
        ) from error


def read_data(folder: Path) -> dict[str, Any]:
    """Return the content of the folder's tokenizer.json.

    Raises:
        ModelError: there is none, or it is not a tokenizer's.
    """
    file = folder / FILE
    if not file.is_file():
        raise ModelError(
            f"{folder} has no {FILE}",
            hint="Load the tokenizer with transformers' AutoTokenizer and save it again to get one.",
        )
    return read_settings(file)


def read_settings(file: Path) -> dict[str, Any]:
    """Return the content of one of a tokenizer's JSON files; empty if there is no such file.

    Raises:
        ModelError: it is no JSON object.
    """
    return read_object(file) if file.is_file() else {}


def special_tokens(folder: Path) -> dict[str, str]:
    """Return special tokens by role ("bos", ...), from tokenizer_config.json or special_tokens_map.json."""
    said = {**read_settings(folder / SPECIAL), **read_settings(folder / CONFIG)}
    tokens = {role: said.get(f"{role}_token") for role in ROLES}
    contents = {
        role: token.get("content") if isinstance(token, dict) else token for role, token in tokens.items()
    }
    return {role: content for role, content in contents.items() if isinstance(content, str) and content}


def ordinary_ids(folder: Path, *others: str | None) -> list[int]:
    """Return the ids of a folder's tokens but for special ones and some others, ascending."""
    tokenizer = load_tokenizer(folder)
    added = tokenizer.get_added_tokens_decoder().values()
    left_out = {*special_tokens(folder).values(), *others, *(each.content for each in added if each.special)}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(token_id for token, token_id in vocabulary.items() if token not in left_out)


def chat_template(folder: Path) -> str | None:
    """Return the folder's chat template, from its own file or the tokenizer's settings; None if none."""
    file = folder / TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = read_settings(folder / CONFIG).get("chat_template")
    return found if isinstance(found, str) else None


def out_of_reach(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """Return the ids of the tokens that the tokenizer's model does not make of their own spelling.

    Merges have to lead to a BPE token: that `ignore_merges` may look up a whole word does not count.
    WordPiece takes the longest piece and WordLevel whole words, so none of their tokens is out of reach.
    Added tokens are found in a text before the model sees it: they are none of its tokens.
    """
    model = Tokenizer.from_str(tokenizer.to_str()).model
    if isinstance(model, models.WordPiece | models.WordLevel):
        return []
    if isinstance(model, models.BPE):
        model.ignore_merges = False
    return [
        token_id
        for token_id in ids
        if [piece.id for piece in model.tokenize(tokenizer.id_to_token(token_id) or "")] != [token_id]
    ]


def write_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Write a tokenizer.json."""
    write_settings(folder / FILE, data)


def write_settings(file: Path, content: Mapping[str, Any]) -> None:
    """Write one of a tokenizer's JSON files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def copy_settings(source: Path, target: Path) -> None:
    """Copy what goes with a tokenizer.json from one folder to another."""
    target.mkdir(parents=True, exist_ok=True)
    for name in SETTINGS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def load_as_written(folder: Path) -> None:
    """Name the class that takes tokenizer.json as it is: classes of models build parts of it anew."""
    settings = read_settings(folder / CONFIG)
    settings.pop("auto_map", None)
    write_settings(folder / CONFIG, {**settings, "tokenizer_class": "PreTrainedTokenizerFast"})
