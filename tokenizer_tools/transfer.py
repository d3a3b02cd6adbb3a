"""Plan the embedding rows of a changed vocabulary: rows to copy, new tokens, and their old pieces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from cpt.models.folder_files import ROLES
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

Texts = Callable[[], Iterator[str]]

_STOOD_IN_FOR = ("pad", "unk")
"""Roles that often name another role's token, in a tokenizer without one of their own."""


@dataclass(frozen=True)
class Transfer:
    """A transfer of embedding rows from one vocabulary to another.

    Attributes:
        source, target: The vocabularies.
        model: Folder of the model with the source vocabulary.
        shared_source, shared_target: [O] int64 ids of tokens in both vocabularies; row `shared_source[i]`
            is copied bit by bit to row `shared_target[i]`. Ascending in `shared_target`.
        new: [N] int64 ids of the target tokens that need a row, ascending.
        pieces: Source ids that spell each new token; empty if the source cannot spell it.
        seed: Seed of every random choice.
        texts: Function that starts a new pass over text that the new vocabulary is for, or None.
    """

    source: Vocabulary
    target: Vocabulary
    model: Path
    shared_source: np.ndarray
    shared_target: np.ndarray
    new: np.ndarray
    pieces: Sequence[Sequence[int]]
    seed: int = 0
    texts: Texts | None = None


def plan_transfer(
    source: str | Path | Vocabulary,
    target: str | Path | Vocabulary,
    model: str | Path,
    seed: int = 0,
    texts: Texts | None = None,
) -> Transfer:
    """Plan the transfer from one vocabulary to another.

    Shared are, in this order: tokens of the same id and spelling, if both vocabularies are of one kind;
    then plain tokens of the same spelling, if of one kind; then plain tokens that stand for the same bytes;
    then special tokens of the same role; then special tokens of the same content. A plain token's row is
    copied at most once. A special token's row may serve several roles, such as one token that begins and ends
    texts. A new special token has no pieces: its content is a name, not text.

    Args:
        source, target: Vocabularies, or tokenizer folders.
        model: Folder of the model with the source vocabulary.
        seed: Seed of every random choice.
        texts: Function that starts a new pass over text that the new vocabulary is for.

    Raises:
        DataError: A folder's tokenizer is of no known kind.
    """
    source, target = (
        given if isinstance(given, Vocabulary) else read_vocabulary(Path(given)) for given in (source, target)
    )
    pairs = _shared(source, target)
    new = [
        token_id
        for token_id, token in enumerate(target.tokens)
        if token is not None and token_id not in pairs
    ]
    shared_target = np.array(sorted(pairs), dtype=np.int64)
    return Transfer(
        source=source,
        target=target,
        model=Path(model),
        shared_source=np.array([pairs[token_id] for token_id in shared_target.tolist()], dtype=np.int64),
        shared_target=shared_target,
        new=np.array(new, dtype=np.int64),
        pieces=pieces_of(source, target, new),
        seed=seed,
        texts=texts,
    )


def pieces_of(source: Vocabulary, target: Vocabulary, new: Sequence[int]) -> list[list[int]]:
    """Return the source ids that spell each of some target tokens; none where the source cannot spell it.

    A token lies within a word if both vocabularies cut words alike.
    """
    added = target.tokenizer.get_added_tokens_decoder()
    same_words = _words(source) == _words(target)
    pieces: dict[int, list[int]] = {}
    for one_word in (True, False):
        ids = [token_id for token_id in new if (same_words and token_id not in added) == one_word]
        surfaces = [target.surfaces[token_id] or b"" for token_id in ids]
        pieces.update(zip(ids, source.segment_all(surfaces, one_word=one_word), strict=True))
    return [pieces[token_id] for token_id in new]


def _shared(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """Return the source id of each shared target id."""
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for matches in (_same_spelling, _same_surface):
        for target_id, source_id in matches(source, target):
            if target_id not in pairs and source_id not in used:
                pairs[target_id] = source_id
                used.add(source_id)
    for target_id, source_id in shared_special(source, target).items():
        pairs.setdefault(target_id, source_id)
    return pairs


def shared_special(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """Return the source id of each special target token: of the same role, or else of the same content."""
    pairs: dict[int, int] = {}
    for matches in (_same_role, _same_content):
        for target_id, source_id in matches(source, target):
            pairs.setdefault(target_id, source_id)
    return pairs


def _same_spelling(source: Vocabulary, target: Vocabulary) -> Iterator[tuple[int, int]]:
    """Yield tokens spelt alike by vocabularies of one kind: those of the same id, then the plain ones."""
    if source.kind != target.kind:
        return
    ids = {token: token_id for token_id, token in enumerate(source.tokens)}
    alike = [
        (target_id, ids[token])
        for target_id, token in enumerate(target.tokens)
        if token is not None and token in ids and source.surfaces[ids[token]] == target.surfaces[target_id]
    ]
    yield from (pair for pair in alike if pair[0] == pair[1])
    yield from (pair for pair in alike if target.surfaces[pair[0]] is not None)


def _same_surface(source: Vocabulary, target: Vocabulary) -> Iterator[tuple[int, int]]:
    """Yield plain tokens of the same bytes, on both sides the tokenizer's own spelling of text first."""
    candidates = _by_surface(source)
    for surface, target_ids in _by_surface(target).items():
        if source_ids := candidates.get(surface):
            in_order = (_usual_first(source, source_ids), _usual_first(target, target_ids))
            yield from ((target_id, source_id) for source_id in in_order[0] for target_id in in_order[1])


def _by_surface(vocabulary: Vocabulary) -> dict[bytes, list[int]]:
    ids: defaultdict[bytes, list[int]] = defaultdict(list)
    for token_id, surface in enumerate(vocabulary.surfaces):
        if surface:
            ids[surface].append(token_id)
    return ids


def _usual_first(vocabulary: Vocabulary, ids: Sequence[int]) -> Sequence[int]:
    """Sort tokens of one surface: the one that the tokenizer makes of it first ("A", not "<0x41>")."""
    if len(ids) == 1:
        return ids
    usual = vocabulary.segment(vocabulary.surfaces[ids[0]] or b"")
    return sorted(ids, key=lambda token_id: [token_id] != usual)


def _same_role(source: Vocabulary, target: Vocabulary) -> Iterator[tuple[int, int]]:
    """Yield special tokens of one role. Padding by another role's token only stands in, so it is left out."""
    source_roles, target_roles = _own_roles(source), _own_roles(target)
    return (
        (target_roles[role], source_roles[role])
        for role in ROLES
        if role in source_roles.keys() & target_roles
    )


def _own_roles(vocabulary: Vocabulary) -> dict[str, int]:
    special, ids = set(vocabulary.special.values()), list(vocabulary.roles.values())
    return {
        role: token_id
        for role, token_id in vocabulary.roles.items()
        if token_id in special and not (role in _STOOD_IN_FOR and ids.count(token_id) > 1)
    }


def _same_content(source: Vocabulary, target: Vocabulary) -> Iterator[tuple[int, int]]:
    for content, target_id in target.special.items():
        if content in source.special:
            yield target_id, source.special[content]


def _words(vocabulary: Vocabulary) -> tuple[str, str]:
    """Return the kind, and the normalizer and pre-tokenizer, which decide where words begin and end."""
    without_model = Tokenizer(models.BPE())
    for part in ("normalizer", "pre_tokenizer"):
        if (component := getattr(vocabulary.tokenizer, part)) is not None:
            setattr(without_model, part, component)
    return vocabulary.kind, without_model.to_str()
