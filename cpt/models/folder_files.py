"""The JSON files of a model folder, and the names of its weight files; nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cpt.errors import ModelError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ROLES = ("eos", "bos", "unk", "sep", "cls", "mask", "pad")

_AGAIN = "Save or fetch the model again."
_TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL = "special_tokens_map.json"
_OBJECTS = (CONFIG, "generation_config.json", _TOKENIZER_CONFIG, _SPECIAL, "added_tokens.json")


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ModelError: it does not; names the file.
        FileNotFoundError: there is no such file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ModelError(f"{file} is no text in UTF-8: {error.reason}", hint=_AGAIN) from error
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}", hint=_AGAIN) from error
    except RecursionError as error:
        raise ModelError(f"{file} is nested too deep for JSON", hint=_AGAIN) from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds no JSON object, but a {type(content).__name__}", hint=_AGAIN)
    return content


def is_sharded(folder: Path) -> bool:
    """Return True if the index says in which files the weights are.

    Where there is an index and a single file, transformers loads the single file.
    """
    return (folder / INDEX).is_file() and not (folder / SINGLE).is_file()


def weight_names(folder: Path) -> list[str]:
    """Return the names of the safetensors files that a model folder has or should have, sorted.

    Raises:
        ModelError: the index is damaged.
    """
    if not is_sharded(folder):
        return [SINGLE]
    index = read_object(folder / INDEX)
    names = index.get("weight_map")
    wrong = None
    if not isinstance(names, dict) or not names:
        wrong = "its `weight_map` names no file"
    elif strange := [name for name in names.values() if not _is_plain_name(name)]:
        wrong = f"its `weight_map` names {strange[0]!r}, which is no file of this folder"
    elif not isinstance(index.get("metadata"), dict):
        wrong = "it has no `metadata`, without which transformers does not load it"
    if wrong:
        raise ModelError(f"{folder / INDEX} is damaged: {wrong}", hint=_AGAIN)
    assert isinstance(names, dict)
    return sorted(set(names.values()))


def check_settings_files(folder: Path) -> None:
    """Check that the JSON files of a model or tokenizer folder are objects with usable special tokens.

    Raises:
        ModelError: names every file that is not.
    """
    problems = []
    for name in _OBJECTS:
        try:
            content = read_object(folder / name) if (folder / name).is_file() else {}
        except ModelError as error:
            problems.append(error.message)
            continue
        if name in (_TOKENIZER_CONFIG, _SPECIAL):
            problems += [
                f"{folder / name}: {role}_token: {content[f'{role}_token']!r} is no token"
                for role in ROLES
                if not _is_token(content.get(f"{role}_token"))
            ]
    if problems:
        raise ModelError("\n".join(problems), hint=_AGAIN)


def _is_plain_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", "..") and Path(name).name == name


def _is_token(value: Any) -> bool:
    """Return True for a special token as transformers saves it: text, an object with text, or nothing."""
    if isinstance(value, dict):
        value = value.get("content")
        return isinstance(value, str)
    return value is None or isinstance(value, str)
