"""Token ids in config.json and generation_config.json, carried over to another vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import StageFailed
from cpt.model_folder import architecture, vocabulary
from cpt.model_folder.tokenizer import ROLES
from tokenizer_tools.transfer import Transfer

GENERATION = "generation_config.json"
SUPPRESSED = "suppress_tokens"

_ID = "_token_id"
_LISTS = (SUPPRESSED, "begin_suppress_tokens")
_SEQUENCES = "bad_words_ids"


def role_of(setting: str) -> str:
    """The role that a setting names: "eos" of "eos_token_id" and of "forced_eos_token_id"; "" for none."""
    return next((role for role in ROLES if f"_{setting}".endswith(f"_{role}{_ID}")), "")


class IdMap:
    """New ids by old ones.

    An id that is the old tokenizer's token of a role becomes the new tokenizer's token of that role; any
    other follows its row. Ids whose token is gone take their role's token where there is one, or go too.
    """

    def __init__(self, transfer: Transfer) -> None:
        pairs = zip(transfer.shared_source.tolist(), transfer.shared_target.tolist(), strict=True)
        self._rows: dict[int, int] = {}
        for source, target in pairs:
            self._rows.setdefault(source, target)
        self._source, self._target = transfer.source.roles, transfer.target.roles

    def of(self, token_id: int, setting: str = "") -> int | None:
        """The new id, or None.

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
        """The new ids of several, each once, without those that are gone."""
        found = (self.of(token_id, setting) for token_id in ids)
        return list(dict.fromkeys(token_id for token_id in found if token_id is not None))

    def settings(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that hold token ids, with the new ids; None where none is left."""
        new: dict[str, Any] = {}
        for name, value in old.items():
            if name.endswith(_ID) and isinstance(value, int):
                new[name] = self.of(value, name)
            elif name.endswith(_ID) and value is not None:
                new[name] = self.all_of(value, name) or None
            elif name in _LISTS and value is not None:
                new[name] = self.all_of(value) or None
            elif name == _SEQUENCES and value is not None:
                mapped = [[self.of(token_id) for token_id in sequence] for sequence in value]
                new[name] = [sequence for sequence in mapped if None not in sequence] or None
        return new


def require_same_positions(transfer: Transfer) -> None:
    """Raise if the model would give tokens other positions.

    Raises:
        StageFailed: it numbers positions from the padding token's id on, and that id changes.
    """
    old = getattr(architecture.settings(transfer.model), "pad_token_id", None)
    new = IdMap(transfer).settings({"pad_token_id": old}).get("pad_token_id")
    if old != new and architecture.counts_positions_from_padding(transfer.model):
        raise StageFailed(
            f"the model in {transfer.model} numbers positions from its padding token's id on: that id must "
            f"stay {old}, in the new tokenizer it is {new}",
            hint="Choose a tokenizer whose padding token has that id.",
        )


def write_token_ids(output: Path, transfer: Transfer, without_token: Sequence[int]) -> None:
    """Carry the ids over into the configuration and the generation settings of the new folder.

    Args:
        output: model folder, its config.json with the old ids.
        without_token: ids that must never be sampled.
    """
    ids = IdMap(transfer)
    config = vocabulary.read_config(output)
    defaults = architecture.settings(transfer.model).to_dict()
    _update(config, defaults, ids)
    if isinstance(config.get("text_config"), dict):
        _update(config["text_config"], defaults["text_config"], ids)
    vocabulary.write_json(output / "config.json", config)
    settings = _generation_settings(transfer.model, ids)
    if len(without_token) and architecture.generates(transfer.model):
        if settings is None:
            settings = {name: value for name, value in config.items() if name.endswith(_ID)}
        settings[SUPPRESSED] = sorted({*(settings.get(SUPPRESSED) or ()), *without_token})
        settings.pop(
            "_from_model_config", None
        )  # else transformers may derive the settings anew, without ours
    if settings is not None:
        vocabulary.write_json(output / GENERATION, settings)


def _update(config: dict[str, Any], old: Mapping[str, Any], ids: IdMap) -> None:
    """Set the new ids; one that the configuration left to its default is named only if it changed."""
    new = ids.settings(old)
    config.update({name: value for name, value in new.items() if name in config or value != old[name]})


def _generation_settings(folder: Path, ids: IdMap) -> dict[str, Any] | None:
    """The old folder's settings with new ids, or None where it has no file of them."""
    file = folder / GENERATION
    if not file.is_file():
        return None
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return settings | ids.settings(settings)
