"""A tokenizer whose tokens get other ids: everything in its folder that holds an id follows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.models.tokenizer import ADDED, CONFIG, copy_settings, read_settings, write_data, write_settings


@dataclass(frozen=True)
class Renumbered:
    """A tokenizer with other ids, not yet written.

    Attributes:
        data: content of its tokenizer.json.
        ids: new id by old id, of the tokens that it still has.
    """

    data: Mapping[str, Any]
    ids: Mapping[int, int]

    def write(self, source: Path, output: Path) -> None:
        """Write it as a folder, with the settings of the folder that it was made from."""
        copy_settings(source, output)
        write_data(output, self.data)
        for name, renumber in ((CONFIG, self._settings), (ADDED, self._added)):
            if (output / name).is_file():
                write_settings(output / name, renumber(read_settings(output / name)))

    def _settings(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if "added_tokens_decoder" not in settings:
            return settings
        by_id = {int(old): token for old, token in settings["added_tokens_decoder"].items()}
        kept = {str(self.ids[old]): token for old, token in by_id.items() if old in self.ids}
        return {**settings, "added_tokens_decoder": kept}

    def _added(self, ids: Mapping[str, int]) -> Mapping[str, Any]:
        return {token: self.ids[token_id] for token, token_id in ids.items() if token_id in self.ids}


def without(tokenizer: Tokenizer, removed: Collection[str]) -> Renumbered:
    """The tokenizer without these tokens; ids close up. Added tokens and the unknown one must stay."""
    data = json.loads(tokenizer.to_str())
    used = sorted(
        token_id
        for token, token_id in tokenizer.get_vocab(with_added_tokens=True).items()
        if token not in removed
    )
    ids = {old: new for new, old in enumerate(used)}
    model = data["model"]
    if model["type"] == "Unigram":
        return with_model(data, {**model, **_pieces(model, removed, ids)}, ids)
    changes: dict[str, Any] = {"vocab": _vocabulary(model, data["added_tokens"], ids)}
    if "merges" in model:
        changes["merges"] = [pair for pair in model["merges"] if product(pair, model) not in removed]
    return with_model(data, {**model, **changes}, ids)


def with_model(data: Mapping[str, Any], model: Mapping[str, Any], ids: Mapping[int, int]) -> Renumbered:
    """A tokenizer.json with another model, and with new ids in its added tokens, frames and padding."""
    added = [{**token, "id": ids[token["id"]]} for token in data["added_tokens"]]
    changes = {
        "model": model,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "post_processor": _post_processor(data["post_processor"], ids),
        "padding": _padding(data["padding"], ids),
    }
    return Renumbered({**data, **changes}, ids)


def framing_ids(data: Mapping[str, Any]) -> set[int]:
    """Ids that a tokenizer.json's frames name; their tokens have to stay."""
    return set(_framing(data["post_processor"]))


def _framing(part: Mapping[str, Any] | None) -> Iterator[int]:
    if part is None:
        return
    for each in part.get("processors", ()):
        yield from _framing(each)
    special = part.get("special_tokens")
    for token in special.values() if isinstance(special, dict) else ():
        yield from token["ids"]
    yield from (part[name][1] for name in ("sep", "cls") if name in part)


def _padding(padding: Mapping[str, Any] | None, ids: Mapping[int, int]) -> Mapping[str, Any] | None:
    """With the new id; without its token there is no padding."""
    if padding is None or padding["pad_id"] not in ids:
        return None
    return {**padding, "pad_id": ids[padding["pad_id"]]}


def product(pair: Sequence[str], model: Mapping[str, Any]) -> str:
    """The token that a merge of a BPE makes of its two parts."""
    left, right = pair
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _pieces(model: Mapping[str, Any], removed: Collection[str], ids: Mapping[int, int]) -> dict[str, Any]:
    """Of a Unigram, whose pieces have their places in the list as ids."""
    kept = [scored for scored in model["vocab"] if scored[0] not in removed]
    return {"vocab": kept, "unk_id": None if model["unk_id"] is None else ids[model["unk_id"]]}


def _vocabulary(
    model: Mapping[str, Any], added: Sequence[Mapping[str, Any]], ids: Mapping[int, int]
) -> dict[str, int]:
    """Of other kinds. Added tokens that lie among the others enter it.

    On loading, `tokenizers` numbers those that are not in it by its size, so behind it they need not.
    """
    vocabulary = {token: ids[token_id] for token, token_id in model["vocab"].items() if token_id in ids}
    last = max(vocabulary.values())
    vocabulary |= {token["content"]: ids[token["id"]] for token in added if ids[token["id"]] < last}
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def _post_processor(part: dict[str, Any] | None, ids: Mapping[int, int]) -> dict[str, Any] | None:
    """A step that frames texts, with the new ids of what it frames them by."""
    if part is None:
        return None
    if part["type"] == "Sequence":
        return {**part, "processors": [_post_processor(each, ids) for each in part["processors"]]}
    if part["type"] == "TemplateProcessing":
        special = {
            name: {**token, "ids": [ids[token_id] for token_id in token["ids"]]}
            for name, token in part["special_tokens"].items()
        }
        return {**part, "special_tokens": special}
    framing = [name for name in ("sep", "cls") if name in part]
    return {**part, **{name: [part[name][0], ids[part[name][1]]] for name in framing}}
