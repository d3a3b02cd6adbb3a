"""Give the tokens of a tokenizer other ids, in every file of its folder that holds an id."""

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
        data: Content of its tokenizer.json.
        ids: New id by old id, for the tokens that it still has.
    """

    data: Mapping[str, Any]
    ids: Mapping[int, int]

    def write(self, source: Path, output: Path) -> None:
        """Write the tokenizer as a folder, with the settings of its source folder."""
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
    """Remove tokens and close the gaps between ids. Added tokens and the unknown token must stay."""
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
    """Return a tokenizer.json with another model, and new ids in added tokens, post-processor and padding."""
    added = [{**token, "id": ids[token["id"]]} for token in data["added_tokens"]]
    changes = {
        "model": model,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "post_processor": _post_processor(data["post_processor"], ids),
        "padding": _padding(data["padding"], ids),
    }
    return Renumbered({**data, **changes}, ids)


def framing_ids(data: Mapping[str, Any]) -> set[int]:
    """Return the ids that a tokenizer.json's post-processor names; their tokens have to stay."""
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
    """Return the padding with the new id; None if its token is gone."""
    if padding is None or padding["pad_id"] not in ids:
        return None
    return {**padding, "pad_id": ids[padding["pad_id"]]}


def product(pair: Sequence[str], model: Mapping[str, Any]) -> str:
    """Return the token that a merge of a BPE makes of its two parts."""
    left, right = pair
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _pieces(model: Mapping[str, Any], removed: Collection[str], ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the new entries of a Unigram, whose ids are indices in its list of pieces."""
    kept = [scored for scored in model["vocab"] if scored[0] not in removed]
    return {"vocab": kept, "unk_id": None if model["unk_id"] is None else ids[model["unk_id"]]}


def _vocabulary(
    model: Mapping[str, Any], added: Sequence[Mapping[str, Any]], ids: Mapping[int, int]
) -> dict[str, int]:
    """Return the new vocabulary of other kinds, with added tokens whose ids are among the others.

    On loading, `tokenizers` numbers added tokens outside the vocabulary from its size on, so those behind it
    need no entry.
    """
    vocabulary = {token: ids[token_id] for token, token_id in model["vocab"].items() if token_id in ids}
    last = max(vocabulary.values())
    vocabulary |= {token["content"]: ids[token["id"]] for token in added if ids[token["id"]] < last}
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def _post_processor(part: dict[str, Any] | None, ids: Mapping[int, int]) -> dict[str, Any] | None:
    """Return a post-processor with new ids."""
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
