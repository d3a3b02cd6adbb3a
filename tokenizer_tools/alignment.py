"""Align rows of token ids with the tokens that another tokenizer makes of the same text, chunk by chunk.

A chunk is the shortest stretch of text that is whole tokens in both vocabularies: the greedy alignment by the
bytes read so far (Minixhofer et al. 2025, arXiv 2503.20083, section 3). A special token is a chunk by itself.

A chunk is usable only if the tokens of both sides spell the same bytes. This is checked for each chunk, so
whatever a tokenizer normalises, drops or does not know is found, and never compared with other text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from tokenizers import Tokenizer

from tokenizer_tools.byte_encoding import components, mid_text_tokenizer
from tokenizer_tools.segmentation import Segmentation, meeting_points, segment_all
from tokenizer_tools.transfer import shared_special
from tokenizer_tools.vocabulary import Vocabulary

_NO_TEXT = b"\xff"
"""Stands for a token that spells no text: no bytes of UTF-8 are equal to it."""

_SPACES = ("▁", "Ġ", " ")
_AFTER_WORDS = (b" ", b"\n", b"\t")


@dataclass(frozen=True)
class Alignment:
    """A document in the vocabularies of a student and of a teacher, cut into chunks.

    Chunks follow each other: each begins where the one before it ends, the first at the document's start.

    Attributes:
        ids: [T] the teacher's token ids.
        student_ends, teacher_ends: [C] number of tokens of each side up to the end of each chunk.
        usable: [C] True if both sides spell the same bytes, or are the same special token.
        special: [C] True for a special token.
    """

    ids: np.ndarray
    student_ends: np.ndarray
    teacher_ends: np.ndarray
    usable: np.ndarray
    special: np.ndarray


@dataclass(frozen=True)
class _Text:
    """A stretch of a document without special tokens.

    Attributes:
        tokens: The student's tokens.
        spelt: Bytes that they spell, but for a space that the tokenizer puts in front. Ends count these.
        cut: Bytes at the start that belong to a character which was cut off.
        spaces: Spaces after them that the teacher's tokenizer puts there by itself.
        text: Whole characters that follow, up to one that is cut off; empty if the bytes are no text.
        first: True at the start of a document.
    """

    tokens: Segmentation
    spelt: bytes
    cut: int
    spaces: int
    text: str
    first: bool


class Aligner:
    """Alignments of documents in a student's vocabulary with a teacher's.

    Attributes:
        student_boundaries, teacher_boundaries: int64 ids of the tokens that can only begin after a word:
            special tokens, and those that begin with a space, a line break or a tab; ascending.
    """

    def __init__(
        self,
        student: Vocabulary,
        teacher: Vocabulary,
        *,
        start: tuple[int, int | None] | None = None,
        end: tuple[int, int | None] | None = None,
        longest: int | None = None,
    ) -> None:
        """Align a student's vocabulary with a teacher's.

        Args:
            student: Vocabulary of the documents.
            teacher: The other vocabulary.
            start: Token that starts documents, and the teacher's, if it has one.
            end: Token that ends documents, and the teacher's, if it has one.
            longest: Number of tokens of a document that the teacher can read. What follows has no chunks.
        """
        self.student_boundaries, self.teacher_boundaries = _boundaries(student), _boundaries(teacher)
        self._student, self._teacher = student, teacher
        self._special = shared_special(teacher, student)
        self._start, self._end, self._longest = start, end, longest
        self._spaces, self._teacher_spaces = _Spaces.of(student), _Spaces.of(teacher)
        self._teacher_inside = teacher
        if self._teacher_spaces.first and not self._teacher_spaces.later:
            inside = mid_text_tokenizer(json.loads(teacher.tokenizer.to_str()))
            self._teacher_inside = replace(teacher, tokenizer=inside)

    def align(self, documents: Sequence[np.ndarray]) -> list[Alignment]:
        """Align documents, or parts of them.

        Args:
            documents: The student's token ids, int (tokens,) each, none empty.
        """
        parts = [list(self._parts(ids.tolist())) for ids in documents]
        texts = [part for document in parts for part in document if isinstance(part, _Text)]
        first, later = (
            iter(segment_all(vocabulary, [each.text for each in texts if each.first == is_first]))
            for vocabulary, is_first in ((self._teacher, True), (self._teacher_inside, False))
        )
        return [self._alignment(document, first, later) for document in parts]

    def _parts(self, ids: Sequence[int]) -> Iterator[_Text | int | None]:
        """Yield stretches of text, and for each special token the teacher's, None where it has none."""
        surfaces = self._student.surfaces
        at = 0
        for is_text, run in groupby(ids, lambda token_id: surfaces[token_id] is not None):
            tokens = list(run)
            if is_text:
                yield self._read(tokens, first=at == 0 or (at == 1 and self._starts(ids)))
            else:
                yield from (self._counterpart(ids, at + i) for i in range(len(tokens)))
            at += len(tokens)

    def _starts(self, ids: Sequence[int]) -> bool:
        return self._start is not None and ids[0] == self._start[0]

    def _counterpart(self, ids: Sequence[int], at: int) -> int | None:
        """Return the teacher's token for a special token of a document."""
        if at == 0 and self._start is not None and self._starts(ids):
            return self._start[1]
        if self._end is not None and at == len(ids) - 1 and ids[at] == self._end[0]:
            return self._end[1]
        return self._special.get(ids[at])

    def _read(self, tokens: Sequence[int], *, first: bool) -> _Text:
        surfaces = [self._student.surfaces[token_id] or b"" for token_id in tokens]
        spelt = b"".join(surfaces)
        lead = int((self._spaces.first if first else self._spaces.later) and spelt.startswith(b" "))
        spelt, ends = spelt[lead:], np.cumsum([len(surface) for surface in surfaces]) - lead
        cut = next((at for at, byte in enumerate(spelt[:4]) if not 0x80 <= byte < 0xC0), 0)
        spaces = int(self._teacher_spaces.always and not lead and spelt[cut : cut + 1] == b" ")
        try:  # a character that is cut off at the end is left out
            text = codecs.getincrementaldecoder("utf-8")().decode(spelt[cut + spaces :])
        except UnicodeDecodeError:
            text = ""
        return _Text(Segmentation(np.array(tokens), ends), spelt, cut, spaces, text, first)

    def _alignment(
        self,
        parts: Sequence[_Text | int | None],
        first: Iterator[Segmentation],
        later: Iterator[Segmentation],
    ) -> Alignment:
        """Put a document together from its parts, and the teacher's segmentations of the next texts."""
        ids: list[int] = []
        chunks: list[tuple[int, int, bool, bool]] = []
        read = 0
        for part in parts:
            if isinstance(part, _Text):
                tokens = next(first if part.first else later)
                for student_end, teacher_end, is_usable in self._chunks(part, tokens):
                    chunks.append((read + student_end, len(ids) + teacher_end, is_usable, False))
                ids.extend(tokens.ids.tolist())
                read += len(part.tokens.ids)
            else:
                ids.extend([] if part is None else [part])
                read += 1
                chunks.append((read, len(ids), part is not None, True))
        if self._longest is not None:
            ids = ids[: self._longest]
            chunks = [chunk for chunk in chunks if chunk[1] <= self._longest]
        student_ends, teacher_ends, usable, special = zip(*chunks, strict=True) if chunks else ((),) * 4
        return Alignment(
            np.array(ids, dtype=np.int64),
            np.array(student_ends, dtype=np.int64),
            np.array(teacher_ends, dtype=np.int64),
            np.array(usable, dtype=bool),
            np.array(special, dtype=bool),
        )

    def _chunks(self, text: _Text, tokens: Segmentation) -> Iterator[tuple[int, int, bool]]:
        """Yield the chunks of a text: tokens of both sides up to its end, and whether they spell the same."""
        shift, count = text.cut + text.spaces, (len(text.tokens.ids), len(tokens.ids))
        shifted = replace(tokens, ends=np.where(tokens.ends > 0, tokens.ends + shift, tokens.ends))
        points = zip(*meeting_points(text.tokens, shifted), strict=True)
        met = [(0, 0), *((int(mine) + 1, int(its) + 1) for mine, its in points)]
        if text.cut in text.tokens.ends[: text.cut]:  # where the teacher's text begins
            met.insert(1, (text.tokens.ends.tolist().index(text.cut) + 1, 0))
        if met[-1] != count:
            met.append(count)
        surfaces = [self._teacher.surfaces[token_id] for token_id in tokens.ids.tolist()]
        surfaces = [_NO_TEXT if surface is None else surface for surface in surfaces]
        spelt = b"".join(surfaces)
        own = text.spelt[text.cut :].startswith(b" ") and spelt != b" " + text.text.encode()
        lead = int(spelt.startswith(b" ") and not text.spaces and not own)
        read = [0, *np.maximum(text.tokens.ends, 0).tolist()]
        its_read = [lead, *np.cumsum([len(surface) for surface in surfaces]).tolist()]
        for (start, its_start), (end, its_end) in pairwise(met):
            mine, its = text.spelt[read[start] : read[end]], spelt[its_read[its_start] : its_read[its_end]]
            yield end, its_end, bool(mine) and mine == its


@dataclass(frozen=True)
class _Spaces:
    """The spaces that a tokenizer puts before a text.

    Attributes:
        first: True if it puts one before the first text of a document.
        later: True if it puts one after a special token, too.
        always: True if it puts one before a text that begins with a space, too.
    """

    first: bool
    later: bool
    always: bool

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> _Spaces:
        if vocabulary.kind == "WordPiece":  # whose words begin with a space that is not written
            return cls(first=True, later=True, always=False)
        parts = components(json.loads(vocabulary.tokenizer.to_str()))
        only_first = any(part.get("prepend_scheme") == "first" for part in parts)
        first = _marked(vocabulary.tokenizer, "a")[:1] in _SPACES
        always = first and _marked(vocabulary.tokenizer, " a")[1:2] in _SPACES
        return cls(first, first and not only_first, always)


def _marked(tokenizer: Tokenizer, text: str) -> str:
    """Return a text as the tokenizer's model sees it, with characters that mark spaces."""
    if tokenizer.normalizer:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer:
        text = "".join(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    return text


def _boundaries(vocabulary: Vocabulary) -> np.ndarray:
    ids = {
        token_id
        for token_id, surface in enumerate(vocabulary.surfaces)
        if surface is not None and surface.startswith(_AFTER_WORDS)
    }
    return np.array(sorted(ids | set(vocabulary.special.values())), dtype=np.int64)
