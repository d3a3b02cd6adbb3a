"""Token ids in a model's settings files: their change with the vocabulary, and the ids of new tokens.

New tokens are those that the base of a model did not have. A change of vocabulary writes their ids into the
model folder; training and merges carry them on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cpt.errors import ModelError
from cpt.models.folder_files import ROLES
from cpt.models.tokenizer import read_settings

GENERATION = "generation_config.json"
SUPPRESSED = "suppress_tokens"

_ID = "_token_id"
_LISTS = (SUPPRESSED, "begin_suppress_tokens")
_SEQUENCES = "bad_words_ids"
_BIASES = "sequence_bias"


def role_of(setting: str) -> str:
    """Return the role in a setting's name: "eos" of "eos_token_id" and "forced_eos_token_id"; "" for none."""
    return next((role for role in ROLES if f"_{setting}".endswith(f"_{role}{_ID}")), "")


class IdMap:
    """New ids by old ones.

    An id that is the old vocabulary's token of a role becomes the new vocabulary's token of that role; any
    other follows its row. Ids whose token is gone take their role's token where there is one, or go too.

    Args:
        rows: new row by old row of the same token.
        source: id by role in the old vocabulary; none where every id follows its row if it has one.
        target: id by role in the new vocabulary.
    """

    def __init__(self, rows: Mapping[int, int], source: Mapping[str, int], target: Mapping[str, int]) -> None:
        self._rows, self._source, self._target = rows, source, target

    def of(self, token_id: int, setting: str = "") -> int | None:
        """Return the new id, or None.

        Args:
            setting: where it stands ("eos_token_id"), which may name a role.
        """
        role = role_of(setting)
        roles = [role] if role in ROLES else [name for name in ROLES if self._source.get(name) == token_id]
        if role in self._target and self._source.get(role) == token_id:
            return self._target[role]
        if token_id < 0:
            return token_id
        by_role = next((self._target[name] for name in roles if name in self._target), None)
        return self._rows.get(token_id, by_role)

    def all_of(self, ids: Iterable[int], setting: str = "") -> list[int]:
        """Return the new ids of tokens, each once, without removed tokens."""
        found = (self.of(token_id, setting) for token_id in ids)
        return list(dict.fromkeys(token_id for token_id in found if token_id is not None))

    def settings(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that hold token ids, with the new ids; None if none is left."""
        new: dict[str, Any] = {}
        for name, value in old.items():
            if value is None:
                continue
            if name.endswith(_ID) and isinstance(value, int):
                new[name] = self.of(value, name)
            elif name.endswith(_ID):
                new[name] = self.all_of(value, name) or None
            elif name in _LISTS:
                new[name] = self.all_of(value) or None
            elif name == _SEQUENCES:
                new[name] = [ids for old_ids in value if (ids := self._sequence(old_ids))] or None
            elif name == _BIASES and isinstance(value, list):
                biases = [[self._sequence(ids), bias] for ids, bias in value]
                new[name] = [pair for pair in biases if pair[0]] or None
        return new

    def _sequence(self, ids: Iterable[int]) -> list[int] | None:
        """Return the new ids of a sequence of tokens; None if one of them is removed."""
        found = [self.of(token_id) for token_id in ids]
        known = [token_id for token_id in found if token_id is not None]
        return known if len(known) == len(found) else None


def read_generation(folder: Path) -> dict[str, Any]:
    """Return a model folder's generation settings; empty if there are none."""
    return read_settings(folder / GENERATION)


def never_sampling(
    settings: Mapping[str, Any], rows: Iterable[int], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return generation settings that also keep these rows from being sampled.

    Args:
        settings: empty where there are none yet: then they start with the configuration's token ids, which
            transformers would otherwise have taken.
        rows: rows without a token.
        config: config.json of the same model.
    """
    new = dict(settings) or {name: value for name, value in config.items() if name.endswith(_ID)}
    new[SUPPRESSED] = sorted({*(new.get(SUPPRESSED) or ()), *rows})
    new.pop("_from_model_config", None)  # else transformers may derive the settings anew, without ours
    return new


NEW_TOKENS_FILE = "new_tokens.json"


def write_new_tokens(folder: Path, ids: Iterable[int]) -> None:
    """Write the ids of a model folder's new tokens."""
    content = json.dumps({"ids": sorted({int(token_id) for token_id in ids})})
    (folder / NEW_TOKENS_FILE).write_text(content + "\n", encoding="utf-8")


def read_new_tokens(folder: Path) -> tuple[int, ...]:
    """Return the ids of a model folder's new tokens, ascending; empty if there are none.

    Raises:
        ModelError: the file is not as `write_new_tokens` writes it.
    """
    file = folder / NEW_TOKENS_FILE
    if not file.is_file():
        return ()
    try:
        ids = json.loads(file.read_text(encoding="utf-8"))["ids"]
        return tuple(sorted({int(token_id) for token_id in ids}))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f'{file} is no list of new tokens: {{"ids": [49152, …]}} is expected',
            hint="Remove it if the model has no new tokens.",
        ) from error
