"""Collect contexts of new tokens: snippets of text in both vocabularies, and where their tokens align."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from tokenizer_tools.embeddings import NoParameters
from tokenizer_tools.embeddings._word_vectors import texts_of
from tokenizer_tools.segmentation import Segmentation, meeting_points, segment
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary

_NOWHERE = -1
_STARTS = ("bos", "cls", "eos")
_LOG = logging.getLogger(__name__)


class SnippetParameters(NoParameters):
    """Amount of text; the defaults are small enough for a CPU."""

    snippets_per_token: int = Field(
        4, gt=0, description="Number of snippets per new token, if the text has as many."
    )
    snippet_tokens: int = Field(25, gt=0, description="Length of a snippet in tokens of the new vocabulary.")
    tokens: int = Field(5_000_000, gt=0, description="Largest number of tokens of the text to read.")


@dataclass(frozen=True)
class Snippet:
    """A stretch of text in both vocabularies, after a start token.

    Attributes:
        old: [S] source ids.
        new: [T] rows: the source id of a shared token, or V + i for the i-th new token.
        old_met, new_met: [A] positions in `old` and in `new` after which both have read the same bytes.
    """

    old: np.ndarray
    new: np.ndarray
    old_met: np.ndarray
    new_met: np.ndarray


def collect(transfer: Transfer, rows: int, parameters: SnippetParameters) -> list[Snippet]:
    """Collect snippets until every new token occurs in enough of them, or the text ends.

    The text is cut into snippets from its start. A snippet is taken if a new token in it occurs in too few.

    Args:
        transfer: Transfer to the new vocabulary.
        rows: Number of rows V of the source matrix.
        parameters: Amount of text.

    Raises:
        StageFailed: The transfer has no texts.
    """
    texts, row_of = texts_of(transfer), rows_of_tokens(transfer, rows)
    lacking = np.full(len(transfer.new), parameters.snippets_per_token)
    snippets: list[Snippet] = []
    left = parameters.tokens
    for text in texts():
        if left <= 0 or not lacking.any():
            break
        new = segment(transfer.target, text)
        left -= len(new.ids)
        new = Segmentation(row_of[new.ids], new.ends)
        if not lacking[_new_tokens(new.ids, rows)].any():
            continue
        old = segment(transfer.source, text)
        for snippet in cut(old, new, parameters.snippet_tokens, _start(transfer.source)):
            found = _new_tokens(snippet.new, rows)
            if lacking[found].any():
                lacking[found] = np.maximum(lacking[found] - 1, 0)
                snippets.append(snippet)
    missing = np.count_nonzero(lacking == parameters.snippets_per_token)
    _LOG.info("%d snippets; %d of %d new tokens occur in none", len(snippets), missing, len(transfer.new))
    return snippets


def rows_of_tokens(transfer: Transfer, rows: int) -> np.ndarray:
    """Return the row of each target token: its source id if shared, V + i for the i-th new token."""
    row_of = np.full(len(transfer.target.tokens), _NOWHERE)
    row_of[transfer.shared_target] = transfer.shared_source
    row_of[transfer.new] = rows + np.arange(len(transfer.new))
    return row_of


def cut(old: Segmentation, new: Segmentation, tokens: int, start: int | None) -> Iterator[Snippet]:
    """Yield the snippets of a text; each begins and ends where the segmentations meet.

    Args:
        old: Old segmentation.
        new: New segmentation, with rows for ids.
        tokens: Longest snippet in tokens of `new`. A longer stretch without a meeting point is left out.
        start: Row that precedes each snippet, so that none of its own tokens is first in a sequence: models
            treat a first position unlike others.
    """
    at_old, at_new = (np.concatenate([[-1], at]) for at in meeting_points(old, new))
    head = np.array([] if start is None else [start], dtype=np.int64)
    own = np.arange(len(head))
    first = 0
    while first < len(at_new) - 1:
        last = int(np.searchsorted(at_new, at_new[first] + tokens, side="right")) - 1
        if last > first:
            begin_old, begin_new = at_old[first] + 1, at_new[first] + 1
            met = slice(first + 1, last + 1)
            yield Snippet(
                old=np.concatenate([head, old.ids[begin_old : at_old[last] + 1]]),
                new=np.concatenate([head, new.ids[begin_new : at_new[last] + 1]]),
                old_met=np.concatenate([own, at_old[met] - begin_old + len(head)]),
                new_met=np.concatenate([own, at_new[met] - begin_new + len(head)]),
            )
        first = max(last, first + 1)


def batches(snippets: Sequence[Snippet], tokens: int) -> list[list[Snippet]]:
    """Group snippets of similar length into batches of about `tokens` old tokens with padding."""
    made: list[list[Snippet]] = []
    for snippet in sorted(snippets, key=lambda snippet: len(snippet.old)):
        if not made or (len(made[-1]) + 1) * len(snippet.old) > tokens:
            made.append([])
        made[-1].append(snippet)
    return made


def _new_tokens(row_ids: np.ndarray, rows: int) -> np.ndarray:
    """Return the new tokens among rows, counted from 0."""
    return np.unique(row_ids[row_ids >= rows]) - rows


def _start(vocabulary: Vocabulary) -> int | None:
    return next((vocabulary.roles[role] for role in _STARTS if role in vocabulary.roles), None)
