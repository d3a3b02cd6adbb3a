"""Align rows of token ids with the tokens that another tokenizer makes of the same text, chunk by chunk.

A chunk is the shortest stretch of text that is whole tokens in both vocabularies: the greedy alignment by the
bytes read so far (Minixhofer et al. 2025, arXiv 2503.20083, section 3). A special token is a chunk by itself.

A chunk is usable only if the tokens of both sides spell the same bytes. Where the teacher's tokens do not
spell the text (it is normalised, or has unknown characters) this is checked chunk by chunk, so nothing is
ever compared with other text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from tokenizer_tools.byte_encoding import components, mid_text_tokenizer
from tokenizer_tools.segmentation import Segmentation, meeting_points, segment
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


class _Text(NamedTuple):
    """A stretch of a document without special tokens.

    Attributes:
        spelt: Bytes that its tokens spell, but for a space that the student's tokenizer puts in front.
        ends: [S] bytes of `spelt` up to the end of each token.
        cut: Bytes at the start that belong to a character which was cut off.
        space: 1 if a space follows that the teacher's tokenizer puts there by itself, else 0.
        text: Whole characters after these, up to one that is cut off; empty if the bytes are no text.
        first: True at the start of a document.
    """

    spelt: bytes
    ends: np.ndarray
    cut: int
    space: int
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
        self._student, self._teacher = _Spelling(student), _Spelling(teacher)
        self._special = shared_special(teacher, student)
        self._start, self._end, self._longest = start, end, longest
        self._inside = teacher
        if self._teacher.space_first and not self._teacher.space_later:
            data = json.loads(teacher.tokenizer.to_str())
            self._inside = replace(teacher, tokenizer=mid_text_tokenizer(data))

    def align(self, documents: Sequence[np.ndarray]) -> list[Alignment]:
        """Align documents, or parts of them.

        Args:
            documents: The student's token ids, int (tokens,) each, none empty.
        """
        parts = [list(self._parts(np.asarray(ids, dtype=np.int64))) for ids in documents]
        texts = [part for document in parts for part in document if isinstance(part, _Text)]
        first = self._segmentations(self._teacher.vocabulary, [each for each in texts if each.first])
        later = self._segmentations(self._inside, [each for each in texts if not each.first])
        return [
            self._joined(
                [
                    self._chunks(part, *next(first if part.first else later))
                    if isinstance(part, _Text)
                    else part
                    for part in document
                ]
            )
            for document in parts
        ]

    def _parts(self, ids: np.ndarray) -> Iterator[_Text | Alignment]:
        """Yield the stretches of text of a document, and the alignments of special tokens between them."""
        is_text = self._student.is_text[ids]
        changes = np.flatnonzero(is_text[1:] != is_text[:-1]) + 1
        starts = self._start is not None and ids[0] == self._start[0]
        for begin, end in pairwise([0, *changes.tolist(), len(ids)]):
            if is_text[begin]:
                yield self._read(ids[begin:end], first=begin == int(starts))
            else:
                yield from (self._special_token(ids, at) for at in range(begin, end))

    def _special_token(self, ids: np.ndarray, at: int) -> Alignment:
        """Return the teacher's token for a special token of a document, or none."""
        token: int = int(ids[at])
        counterpart = self._special.get(token)
        if self._end is not None and at == len(ids) - 1 and token == self._end[0]:
            counterpart = self._end[1]
        if self._start is not None and at == 0 and token == self._start[0]:
            counterpart = self._start[1]
        found = np.array([] if counterpart is None else [counterpart], dtype=np.int64)
        known = np.array([counterpart is not None])
        return Alignment(found, np.array([1]), np.array([len(found)]), known, np.array([True]))

    def _read(self, ids: np.ndarray, *, first: bool) -> _Text:
        spelt = self._student.bytes(ids)
        puts_space = self._student.space_first if first else self._student.space_later
        lead = int(puts_space and spelt.startswith(b" "))
        spelt, ends = spelt[lead:], np.cumsum(self._student.lengths[ids]) - lead
        cut = next((at for at, byte in enumerate(spelt[:4]) if not 0x80 <= byte < 0xC0), 0)
        space = int(self._teacher.space_always and not lead and spelt[cut : cut + 1] == b" ")
        try:  # a character that is cut off at the end is left out
            text = codecs.getincrementaldecoder("utf-8")().decode(spelt[cut + space :])
        except UnicodeDecodeError:
            text = ""
        return _Text(spelt, ends, cut, space, text, first)

    def _segmentations(
        self, vocabulary: Vocabulary, texts: Sequence[_Text]
    ) -> Iterator[tuple[Segmentation, bool]]:
        """Yield the teacher's tokens of texts, and True if these spell the text."""
        whole = [each.text for each in texts]
        encodings = vocabulary.tokenizer.encode_batch_fast(whole, add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
            ids, data = np.array(encoding.ids, dtype=np.int64), text.text.encode()
            spelt = self._teacher.bytes(ids)
            if spelt == b" " + data or (spelt == data and not text.space):
                ends = np.cumsum(self._teacher.lengths[ids]) - (len(spelt) - len(data))
                yield Segmentation(ids, ends), True
            else:
                yield segment(vocabulary, text.text), False

    def _chunks(self, text: _Text, tokens: Segmentation, exact: bool) -> Alignment:
        """Cut a text into chunks where both sides have read the same bytes, and check them.

        Args:
            text: Text of the student's tokens.
            tokens: The teacher's tokens.
            exact: True if these spell the text.
        """
        begin = text.cut + text.space
        shifted = np.where(tokens.ends > 0, tokens.ends + begin, -1)
        at_student, at_teacher = meeting_points(
            Segmentation(text.ends, text.ends), Segmentation(tokens.ids, shifted)
        )
        mine, its = at_student + 1, at_teacher + 1
        if text.cut in text.ends[: text.cut]:  # the characters begin with a token of the student
            mine, its = np.insert(mine, 0, text.ends.tolist().index(text.cut) + 1), np.insert(its, 0, 0)
        count = (len(text.ends), len(tokens.ids))
        if not len(mine) or (mine[-1], its[-1]) != count:
            mine, its = np.append(mine, count[0]), np.append(its, count[1])
        read = np.concatenate([[0], text.ends[mine - 1]])  # bytes
        if exact:
            usable = (read[:-1] >= text.cut) & (read[1:] <= begin + len(text.text.encode()))
            usable &= (np.diff(read) > 0) & (np.diff(its, prepend=0) > 0)
        else:
            usable = self._checked(text, tokens.ids, np.maximum(read, 0).tolist(), [0, *its.tolist()])
        return Alignment(tokens.ids, mine, its, usable, np.zeros(len(mine), dtype=bool))

    def _checked(self, text: _Text, ids: np.ndarray, read: list[int], its: list[int]) -> np.ndarray:
        """Return True for chunks that spell the same: bytes of the student's, and tokens of the teacher's."""
        spelt = self._teacher.bytes(ids)
        own = text.spelt[text.cut :].startswith(b" ")
        lead = int(spelt.startswith(b" ") and not text.space and not own)
        bytes_read = [lead, *np.cumsum(self._teacher.lengths[ids]).tolist()]
        pairs = zip(pairwise(read), pairwise(its), strict=True)
        return np.array(
            [
                a < b and text.spelt[a:b] == spelt[bytes_read[first] : bytes_read[last]]
                for (a, b), (first, last) in pairs
            ],
            dtype=bool,
        )

    def _joined(self, parts: Sequence[Alignment]) -> Alignment:
        """Join the parts of a document, as far as the teacher can read it."""
        students = np.cumsum([0, *(part.student_ends[-1] for part in parts)])
        teachers = np.cumsum([0, *(len(part.ids) for part in parts)])
        whole = Alignment(
            np.concatenate([part.ids for part in parts]),
            np.concatenate(
                [part.student_ends + before for part, before in zip(parts, students, strict=False)]
            ),
            np.concatenate(
                [part.teacher_ends + before for part, before in zip(parts, teachers, strict=False)]
            ),
            np.concatenate([part.usable for part in parts]),
            np.concatenate([part.special for part in parts]),
        )
        if self._longest is None or len(whole.ids) <= self._longest:
            return whole
        count = int(np.searchsorted(whole.teacher_ends, self._longest, side="right"))
        return Alignment(
            whole.ids[: self._longest],
            whole.student_ends[:count],
            whole.teacher_ends[:count],
            whole.usable[:count],
            whole.special[:count],
        )


class _Spelling:
    """The bytes of a vocabulary's tokens, and the spaces that its tokenizer puts before a text.

    Attributes:
        space_first: True if it puts one before the first text of a document.
        space_later: True if it puts one after a special token, too.
        space_always: True if it puts one before a text that begins with a space, too.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        tokenizer = vocabulary.tokenizer
        parts = components(json.loads(tokenizer.to_str()))
        only_first = any(part.get("prepend_scheme") == "first" for part in parts)
        # the words of WordPiece begin with a space that is not marked
        self.space_first = vocabulary.kind == "WordPiece" or _marked(tokenizer, "a")[:1] in _SPACES
        self.space_later = self.space_first and not only_first
        self.space_always = self.space_first and _marked(tokenizer, " a")[1:2] in _SPACES
        self._surfaces = [_NO_TEXT if surface is None else surface for surface in vocabulary.surfaces]

    def bytes(self, ids: np.ndarray) -> bytes:
        """Return the bytes that tokens spell."""
        return b"".join(map(self._surfaces.__getitem__, ids.tolist()))

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of bytes of each token, int64 (tokens,)."""
        return np.array([len(surface) for surface in self._surfaces], dtype=np.int64)

    @cached_property
    def is_text(self) -> np.ndarray:
        """True for tokens that spell text, bool (tokens,)."""
        return np.array([surface is not None for surface in self.vocabulary.surfaces])


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
