"""Token ids in a model folder's settings after a change of vocabulary, and positions that depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.errors import StageFailed
from cpt.models import loading, vocabulary
from cpt.models.token_ids import GENERATION, IdMap, never_sampling, read_generation
from tokenizer_tools.transfer import Transfer


def id_map(transfer: Transfer) -> IdMap:
    """New ids by old ones."""
    rows: dict[int, int] = {}
    for source, target in zip(transfer.shared_source.tolist(), transfer.shared_target.tolist(), strict=True):
        rows.setdefault(source, target)
    return IdMap(rows, transfer.source.roles, transfer.target.roles)


def require_same_positions(transfer: Transfer) -> None:
    """Raise if the model would give tokens other positions.

    Raises:
        StageFailed: it numbers positions from the padding token's id on, and that id changes.
    """
    old = getattr(loading.settings(transfer.model), "pad_token_id", None)
    new = id_map(transfer).settings({"pad_token_id": old}).get("pad_token_id")
    if old != new and loading.counts_positions_from_padding(transfer.model):
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
    ids = id_map(transfer)
    config = vocabulary.read_config(output)
    defaults = loading.settings(transfer.model).to_dict()
    _update(config, defaults, ids)
    if isinstance(config.get("text_config"), dict):
        _update(config["text_config"], defaults["text_config"], ids)
    vocabulary.write_json(output / "config.json", config)
    settings = read_generation(transfer.model)
    settings |= ids.settings(settings)
    if len(without_token) and loading.generates(transfer.model):
        settings = never_sampling(settings, without_token, config)
    if settings:
        vocabulary.write_json(output / GENERATION, settings)


def _update(config: dict[str, Any], old: Mapping[str, Any], ids: IdMap) -> None:
    """Set the new ids; one that the configuration left to its default is named only if it changed."""
    new = ids.settings(old)
    config.update({name: value for name, value in new.items() if name in config or value != old[name]})
