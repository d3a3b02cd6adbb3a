"""Unite several tokenizers into one, or find a model whose vocabulary has all tokens.

The first tokenizer keeps its ids; the others' tokens are appended, with the merges (BPE) or scores (Unigram)
that produce them. This is possible where the tokenizers split text by the same rules and differ only in their
tokens: the same kind of model, normalisation, pre-tokenisation and decoding, and, for BPE, shared
merges in the same order.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import CannotMerge
from cpt.models.tokenizer import chat_template, read_data
from cpt.models.tokenizer import out_of_reach as unreachable
from merging.candidates import Candidate, Vocabulary

_SAME = ("normalizer", "pre_tokenizer", "decoder")
_SAME_MODEL = ("type", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")


def contains_all(models: Sequence[Candidate], *, same: bool = False) -> Candidate | None:
    """Return the model whose vocabulary has every token of all models; None if there is none.

    Of several, one with a chat template comes before one without, then the first.

    Args:
        models: Models to choose from.
        same: True if all vocabularies are known to be the same.
    """
    if same:
        return max(models, key=lambda model: chat_template(model.tokenizer_folder) is not None)

    def rank(model: Candidate) -> tuple[int, int, bool]:
        return (
            len(model.vocabulary.ids),
            model.vocabulary.rows,
            chat_template(model.tokenizer_folder) is not None,
        )

    largest = max(models, key=rank)
    has_all = all(model.vocabulary.ids.keys() <= largest.vocabulary.ids.keys() for model in models)
    return largest if has_all else None


def union(candidates: Sequence[Candidate]) -> tuple[Vocabulary, dict[str, Any]]:
    """Return vocabulary and tokenizer.json with every token of all models; the first model's keep their ids.

    Raises:
        CannotMerge: The tokenizers contradict each other; the problems say in what.
    """
    first, *others = candidates
    data = copy.deepcopy(read_data(first.tokenizer_folder))
    problems = [line for other in others for line in _conflicts(first, data, other)]
    if problems:
        raise CannotMerge(
            problems,
            hint="Choose one model's vocabulary instead: tokenizer: base, or the name of a model.",
        )
    if max(first.tokens.values()) >= first.vocabulary.rows:
        raise CannotMerge(
            [f"the tokenizer of {first.name} has tokens without a row in the embedding"],
            hint="Choose one model's vocabulary instead: tokenizer: base, or the name of a model.",
        )
    ids = dict(first.vocabulary.ids)
    free = max(first.tokens.values()) + 1
    for other in others:
        new = sorted(other.vocabulary.ids.keys() - ids.keys(), key=other.vocabulary.ids.__getitem__)
        numbered = {token: free + place for place, token in enumerate(new)}
        free += len(new)
        ids |= numbered
        _add(data, read_data(other.tokenizer_folder), numbered)
    return Vocabulary(ids, max(first.vocabulary.rows, free), first.vocabulary.roles), data


def out_of_reach(data: Mapping[str, Any], tokens: Mapping[str, int]) -> tuple[str, ...]:
    """Return the tokens that a tokenizer.json has but never produces, in the order of their ids.

    Merges of another model may be applied before those that a token needs.

    Args:
        data: Content of tokenizer.json.
        tokens: Id by token of the tokens to check; added tokens are left out.
    """
    added = {entry["content"] for entry in data.get("added_tokens") or ()}
    by_id = {token_id: token for token, token_id in tokens.items() if token not in added}
    return tuple(by_id[each] for each in unreachable(Tokenizer.from_str(json.dumps(data)), sorted(by_id)))


def _conflicts(first: Candidate, data: dict[str, Any], other: Candidate) -> Iterator[str]:
    theirs = read_data(other.tokenizer_folder)
    for key in _SAME:
        if data.get(key) != theirs.get(key):
            yield f"the tokenizers of {first.name} and {other.name} have different {key.replace('_', '-')}s"
    for key in _SAME_MODEL:
        if (data["model"].get(key) or None) != (theirs["model"].get(key) or None):
            yield (
                f"the tokenizers of {first.name} and {other.name} differ in {key}: "
                f"{data['model'].get(key)!r} and {theirs['model'].get(key)!r}"
            )
    shared = [_pair(merge) for merge in data["model"].get("merges") or ()]
    known = set(shared)
    order = [pair for merge in theirs["model"].get("merges") or () if (pair := _pair(merge)) in known]
    among = set(order)
    if order != [pair for pair in shared if pair in among]:
        yield f"the tokenizers of {first.name} and {other.name} apply their shared merges in different orders"


def _add(data: dict[str, Any], theirs: dict[str, Any], numbered: dict[str, int]) -> None:
    """Add tokens with given ids to a tokenizer.json, in place."""
    added = {entry["content"]: entry for entry in theirs.get("added_tokens") or ()}
    special = {entry["content"] for entry in data.get("added_tokens") or ()}
    for token, token_id in numbered.items():
        if token in added and token not in special:
            data.setdefault("added_tokens", []).append({**added[token], "id": token_id})
    plain = {token: token_id for token, token_id in numbered.items() if token not in added}
    model, other = data["model"], theirs["model"]
    if isinstance(model["vocab"], list):  # Unigram: the place in the list is the id
        scores = dict(map(tuple, other["vocab"]))
        _check_no_gap(len(model["vocab"]), plain)
        model["vocab"] += [[token, scores[token]] for token in plain]
        return
    model["vocab"] |= plain
    if "merges" in model:
        known = {_pair(merge) for merge in model["merges"]}
        tokens = model["vocab"].keys()
        model["merges"] += [
            merge
            for merge in other["merges"]
            if (pair := _pair(merge)) not in known and {*pair, "".join(pair)} <= tokens
        ]


def _check_no_gap(length: int, plain: dict[str, int]) -> None:
    """Refuse Unigram tokens behind added ones: Unigram numbers its tokens from 0 without gaps."""
    if plain and list(plain.values()) != list(range(length, length + len(plain))):
        raise CannotMerge(
            ["tokens cannot be added to a Unigram tokenizer behind its special tokens"],
            hint="Choose one model's vocabulary instead: tokenizer: base, or the name of a model.",
        )


def _pair(merge: Any) -> tuple[str, str]:
    """Return a merge in either of tokenizer.json's forms, "a b" or ["a", "b"]."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
