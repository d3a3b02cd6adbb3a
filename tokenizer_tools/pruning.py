"""Remove the tokens that a text needs least from a tokenizer, without breaking others.

BPE is pruned by its leaves (arXiv 2512.03989): a leaf is a token that no merge joins to another. The least
used leaf is removed first; of equally used leaves, the one with the highest id. Its uses become uses of the
two parts that its first merge joined, and a part that no other merge needs becomes a leaf. So no token gets
out of reach, and text without removed tokens is cut as before. In Unigram and WordPiece the least used pieces
are removed.

Single characters, bytes, special and other added tokens stay, so no text becomes unknown.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import StageFailed
from cpt.models.encoding import token_ids
from cpt.models.tokenizer import FILE
from tokenizer_tools.measure import ordinary_ids
from tokenizer_tools.remap_ids import framing_ids, product, without
from tokenizer_tools.vocabulary import read_vocabulary

_BATCH = 1000


@dataclass(frozen=True)
class Pruning:
    """The tokens removed from a tokenizer.

    Attributes:
        removed: Tokens in the order of removal.
        uses: Number of their uses in the text, as the old tokenizer cut it.
    """

    removed: Sequence[str]
    uses: int


def prune_tokenizer(folder: Path, texts: Iterable[str], output: Path, *, remove: int) -> Pruning:
    """Write a tokenizer without the tokens that a text needs least; ids leave no gap.

    Args:
        folder: Tokenizer folder of any known kind.
        texts: Texts that the tokenizer is for, read once.
        output: Folder that receives the pruned tokenizer.
        remove: Number of tokens to remove.

    Raises:
        DataError: The tokenizer is of no known kind.
        StageFailed: Fewer tokens can be removed.
    """
    vocabulary = read_vocabulary(folder)
    counts = count_tokens(vocabulary.tokenizer, texts)
    uses = {token: counts[token_id] for token_id, token in enumerate(vocabulary.tokens) if token is not None}
    data = json.loads(vocabulary.tokenizer.to_str())
    model, framing = data["model"], framing_ids(data)
    removable = [vocabulary.tokens[at] or "" for at in ordinary_ids(vocabulary) if at not in framing]
    order = leaves(model, uses, removable) if model["type"] == "BPE" else least_used(model, uses, removable)
    removed = list(islice(order, remove))
    if len(removed) < remove:
        raise StageFailed(
            f"{len(removed):,} tokens can be removed from the tokenizer in {folder}, {remove:,} were to go",
            hint="Single characters, bytes and special tokens stay. Remove fewer tokens.",
        )
    without(Tokenizer.from_file(str(folder / FILE)), set(removed)).write(folder, output)
    return Pruning(removed, sum(uses[token] for token in removed))


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """Count the uses of each token in texts, by id."""
    counts: Counter[int] = Counter()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for ids in token_ids(tokenizer, batch):
            counts.update(ids.tolist())
    return counts


def leaves(model: Mapping[str, Any], uses: Mapping[str, int], removable: Collection[str]) -> Iterator[str]:
    """Yield the tokens of a BPE in the order in which they can be removed.

    Args:
        model: Model in tokenizer.json, its merges as pairs.
        uses: Number of uses of each token in the text.
        removable: Tokens that may be removed, if a merge makes them.
    """
    ids, uses, removable = model["vocab"], dict(uses), set(removable)
    made_by: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    needed: Counter[str] = Counter()
    for left, right in model["merges"]:
        made_by[product((left, right), model)].append((left, right))
        needed.update((left, right))
    free = made_by.keys() & removable
    heap = [(uses[token], -ids[token], token) for token in free if not needed[token]]
    heapq.heapify(heap)
    while heap:
        _, _, leaf = heapq.heappop(heap)
        yield leaf
        for part in made_by[leaf][0]:
            uses[part] += uses[leaf]
        for merge in made_by[leaf]:
            needed.subtract(merge)
        for part in {part for merge in made_by[leaf] for part in merge}:
            if part in free and not needed[part]:
                heapq.heappush(heap, (uses[part], -ids[part], part))


def least_used(
    model: Mapping[str, Any], uses: Mapping[str, int], removable: Collection[str]
) -> Iterator[str]:
    """Yield the pieces of a Unigram or WordPiece, the least used first; of equally used ones the last first.

    A piece stays if its characters are not all pieces. So does the piece with the lowest score, since the
    cost of unknown characters depends on it.
    """
    if model["type"] == "Unigram":
        ids = {piece: token_id for token_id, (piece, _) in enumerate(model["vocab"])}
        lowest, _ = min(model["vocab"], key=lambda scored: scored[1])
        prefix = ""
    else:
        ids, lowest, prefix = model["vocab"], "", model["continuing_subword_prefix"]
        _require_single_pieces(ids, removable, prefix)
    going = [
        piece
        for piece in removable
        if piece != lowest and len(spelt := _characters(piece, prefix)) > 1 and ids.keys() >= set(spelt)
    ]
    yield from sorted(going, key=lambda piece: (uses[piece], -ids[piece]))


def _require_single_pieces(pieces: Collection[str], ordinary: Iterable[str], prefix: str) -> None:
    """Raise unless every character within a word is a piece: longest match would fail without it."""
    within = {each for piece in ordinary for each in _characters(piece, prefix) if each.startswith(prefix)}
    if lacking := sorted(within.difference(pieces)):
        raise StageFailed(
            f"the tokenizer has no piece for {len(lacking):,} characters in words, such as {lacking[0]!r}: "
            "without some of its longer pieces, words that hold them would become unknown",
            hint="This WordPiece cannot be pruned; train or replace its tokenizer instead.",
        )


def _characters(piece: str, prefix: str) -> list[str]:
    """Return the single-character pieces that spell a piece; `prefix` starts those that continue a word."""
    if prefix and piece.startswith(prefix):
        return [prefix + character for character in piece.removeprefix(prefix)]
    return [piece[0], *(prefix + character for character in piece[1:])]
