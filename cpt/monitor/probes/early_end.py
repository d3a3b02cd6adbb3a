"""Early end: the probability that a model ends a text in the middle of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import regex
import torch
from tokenizers import Encoding, Tokenizer

from cpt.errors import DataError
from cpt.models.batch import pack
from cpt.models.bits_per_byte import BATCH_TOKENS, start_id, whole_spans
from cpt.monitor.probe_work import FORWARD
from cpt.monitor.probes.base import ModelView, part
from cpt.monitor.reading import Items, Kind, Unit
from cpt.monitor.schedule import When

SENTENCE_END = regex.compile(
    r"(?:[\p{Sentence_Terminal}\N{HORIZONTAL ELLIPSIS}][\p{Pe}\p{Pf}\p{Pi}\"']*|[\n\r\p{Zl}\p{Zp}])\s*"
)
"""End of a sentence or a line, in any language: a Unicode sentence terminator (. ! ? 。 । ؟ …) with the
quotes and brackets that close after it, or a line break; white space after it included."""

LEAST_WINDOW = 128
"""Smallest number of tokens in a window: an end that a model has learnt at some length must be visible."""

DOCUMENTS = 8
"""Number of documents in a sample, if windows may be that short."""


@dataclass(frozen=True)
class Beginning:
    """The beginning of a document that continues.

    Attributes:
        ids: Ids [tokens] of the start token, if there is one, and of the text.
        inside: Indices [places] of tokens with text before and after them.
        in_sentence: Mask [places]: True if the text up to there ends neither a sentence nor a line.
    """

    ids: np.ndarray
    inside: np.ndarray
    in_sentence: np.ndarray


def beginnings(
    tokenizer: Tokenizer, texts: Iterable[str], window: int, start_token: str | None, max_tokens: int
) -> list[Beginning]:
    """Return the beginnings of documents, until they hold `max_tokens` tokens.

    Args:
        tokenizer: Tokenizer of the model.
        texts: Documents, in an order of which every prefix is a fair sample; those without a place in the
            middle of a sentence are skipped.
        window: Largest number of tokens of a beginning.
        start_token: Token that precedes every document.
        max_tokens: Number of tokens in all beginnings.

    Raises:
        DataError: No text has such a place.
    """
    start = start_id(tokenizer, start_token)
    size = min(window, max(LEAST_WINDOW, max_tokens // DOCUMENTS))
    found: list[Beginning] = []
    left = max_tokens
    with whole_spans(tokenizer):
        for text in texts:
            if left <= 0:
                break
            encoding = tokenizer.encode(text, add_special_tokens=False)
            beginning = _beginning(text, encoding, start, size)
            if beginning.in_sentence.any():
                found.append(beginning)
                left -= len(beginning.ids)
    if not found:
        raise DataError("no document has a place in the middle of a sentence")
    return found


def _beginning(text: str, encoding: Encoding, start: int | None, size: int) -> Beginning:
    lead = [] if start is None else [start]
    ids = np.asarray([*lead, *encoding.ids[: size - len(lead)]], dtype=np.int64)
    tokens = len(ids) - len(lead)
    last = tokens - (tokens == len(encoding.ids))  # after the whole text, its end is no error
    ends = sentence_ends(text)
    after = np.asarray([end for _, end in encoding.offsets[:last]], dtype=np.int64)
    return Beginning(ids, np.arange(last) + len(lead), ~ends[after])


def sentence_ends(text: str) -> np.ndarray:
    """Return a mask [characters + 1]: True if the first n characters end a sentence or a line."""
    ends = np.zeros(len(text) + 1, dtype=bool)
    for match in SENTENCE_END.finditer(text):
        ends[match.start() + 1 : match.end() + 1] = True
    return ends


@dataclass(frozen=True)
class EarlyEndProbe:
    """Mean probability of an end token in the middle of a sentence; an item is a document.

    A model that has learnt to stop there truncates its texts. Bits per byte do not see that: they leave
    document ends out. `detail` has the mean over all places inside documents, after sentences included.

    Attributes:
        documents: Beginnings, in an order of which every prefix is a fair sample.
        ends: Ids of tokens that end a text.
    """

    documents: Sequence[Beginning]
    ends: Set[int]
    when: When
    name: str = "early-end"

    kind: ClassVar[Kind] = "early-end"
    unit: ClassVar[Unit] = "probability"
    divisible: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    @property
    def tokens(self) -> int:
        """Return the number of tokens that the model reads."""
        return sum(len(document.ids) for document in self.documents)

    @property
    def work(self) -> float:
        """Return the work of a full reading, in training tokens."""
        return FORWARD * self.tokens

    @property
    def items(self) -> int:
        """Return the number of documents."""
        return len(self.documents)

    @torch.no_grad()
    def read(self, view: ModelView, share: float) -> Items:
        """Return the sum of probabilities, and the number of places, of every document."""
        chosen = self.documents[: part(len(self.documents), share)]
        found: list[np.ndarray] = []
        batch: list[Beginning] = []
        for document in chosen:
            if batch and sum(len(each.ids) for each in [*batch, document]) > BATCH_TOKENS:
                found += self._probabilities(view, batch)
                batch = []
            batch.append(document)
        found += self._probabilities(view, batch)
        pairs = list(zip(found, chosen, strict=True))
        sums = [float(each[document.in_sentence].sum()) for each, document in pairs]
        counts = [float(document.in_sentence.sum()) for document in chosen]
        return Items(np.array(sums), np.array(counts), {"anywhere": float(np.concatenate(found).mean())})

    def _probabilities(self, view: ModelView, batch: Sequence[Beginning]) -> list[np.ndarray]:
        """Return the probability of an end at the places inside each document: float64 [places] each."""
        firsts = np.cumsum([0, *(len(document.ids) for document in batch[:-1])])
        places = [document.inside + first for document, first in zip(batch, firsts, strict=True)]
        device = next(view.module.parameters()).device
        packed = pack([document.ids for document in batch]).to(device)
        ends = torch.tensor(sorted(self.ends), device=device)
        rows = torch.from_numpy(np.concatenate(places)).to(device)
        found = view.module.probabilities(packed, rows, ends).double().cpu().numpy()
        return np.split(found, np.cumsum([len(each) for each in places])[:-1])
