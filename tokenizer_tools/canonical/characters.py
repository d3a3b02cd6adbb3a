"""Classes of characters that a tokenizer's expressions cannot tell apart, and the beginnings of their bytes.

Two characters are of one class if the same atoms match both. The engine of the `tokenizers` library decides,
so that its own tables of Unicode hold. In planes that Unicode has not begun, one character of 256 stands for
all.

Shapes: A atoms, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from tokenizers import Regex, pre_tokenizers

NUMERIC = "numeric"
"""The atom of the pre-tokenizer Digits, which has a table of its own."""

NONE = -1
"""Class of what is no character, or cannot be spelt."""

_POINTS = 0x110000
_BLOCK = 256
_IN_USE = (range(0xD800), range(0xE000, 0x32400), range(0xE0000, 0xE0200))
"""Code points that are asked for one by one; surrogates are no characters."""

_AT_ONCE = 4096
_LITERAL = re.compile(r"[^.\\\[]|\\\W")


class Characters:
    """The classes of all characters.

    Attributes:
        matches: [C, A] True where an atom matches the characters of a class.
    """

    def __init__(
        self,
        atoms: Sequence[str],
        spelt: np.ndarray,
        by_bytes: np.ndarray,
        same: tuple[str, str] | None = None,
    ) -> None:
        """Sort characters into classes.

        Args:
            atoms: Atoms of expressions (`tokenizer_tools.canonical.pattern`), or `NUMERIC`.
            spelt: [code points] True for characters that tokens can spell.
            by_bytes: [code points] True for those whose bytes may lie in several tokens.
            same: A character, and another that expressions see in its place (" " and "▁").
        """
        signatures = np.zeros(_POINTS, dtype=np.int64)
        seen = np.zeros((len(atoms), _POINTS), dtype=bool)
        for number, atom in enumerate(atoms):
            seen[number] = _matched(atom)
        if same is not None:
            seen[:, ord(same[0])] = seen[:, ord(same[1])]
        # 62 atoms fit into one number; more are folded in by the classes so far
        for row in seen:
            signatures = signatures * 2 + row
            if signatures.max() >= 1 << 61:
                signatures = np.unique(signatures, return_inverse=True)[1]
        signatures[~spelt] = -1
        signatures[0xD800:0xE000] = -1
        found, inverse = np.unique(signatures, return_inverse=True)
        self._class_of = (inverse - int(found[0] == -1)).astype(np.int16)
        firsts = [int(np.argmax(self._class_of == each)) for each in range(len(found) - int(found[0] == -1))]
        self.matches = seen[:, firsts].T.copy()
        self._by_bytes = np.where(by_bytes, self._class_of, NONE)

    @property
    def count(self) -> int:
        """Return the number of classes C."""
        return len(self.matches)

    def of(self, character: str) -> int:
        """Return the class of a character, or `NONE`."""
        return int(self._class_of[ord(character)])

    def of_bytes(self, character: str) -> int:
        """Return the class of a character that lies in several tokens, or `NONE`."""
        return int(self._by_bytes[ord(character)])

    def begun(self, beginning: bytes) -> np.ndarray:
        """Return the classes of the characters that begin so, and may lie in several tokens: [C] bool."""
        found = np.zeros(self.count, dtype=bool)
        points = _points(beginning)
        if points is not None:
            classes = np.unique(self._by_bytes[points.start : points.stop])
            found[classes[classes >= 0]] = True
        return found


def spelt_by_bytes(known: Collection[int], but: Collection[str] = ()) -> np.ndarray:
    """Return the characters whose UTF-8 bytes are all known: [code points] bool.

    Args:
        known: Bytes that have a token.
        but: Characters that are left out.
    """
    has = np.zeros(256, dtype=bool)
    has[list(known)] = True
    points = np.arange(_POINTS)
    tail = [has[0x80 | (points >> 6 * place & 0x3F)] for place in range(3)]
    found = np.where(
        points < 0x80,
        has[points & 0x7F],
        np.where(
            points < 0x800,
            has[0xC0 | (points >> 6 & 0x1F)] & tail[0],
            np.where(
                points < 0x10000,
                has[0xE0 | (points >> 12 & 0x0F)] & tail[0] & tail[1],
                has[0xF0 | (points >> 18 & 0x07)] & tail[0] & tail[1] & tail[2],
            ),
        ),
    )
    found[[ord(each) for each in but]] = False
    return found


def length_by_first(byte: int) -> int:
    """Return the bytes of a UTF-8 character by its first byte; 0 for a byte that begins none."""
    if byte < 0x80:
        return 1
    return 2 if 0xC2 <= byte < 0xE0 else 3 if 0xE0 <= byte < 0xF0 else 4 if 0xF0 <= byte < 0xF5 else 0


def _points(beginning: bytes) -> range | None:
    """Return the code points whose UTF-8 begins with these bytes and is longer (surrogates among them)."""
    length = length_by_first(beginning[0])
    missing = length - len(beginning)
    if missing <= 0 or any(byte >> 6 != 0b10 for byte in beginning[1:]):
        return None
    first = beginning[0] & (0xFF >> (length + 1))
    for byte in beginning[1:]:
        first = first << 6 | byte & 0x3F
    least = (0, 0, 0x80, 0x800, 0x10000)[length]  # fewer bytes would do below
    start, stop = first << 6 * missing, (first + 1) << 6 * missing
    return range(max(start, least), min(stop, _POINTS))


@lru_cache(maxsize=256)
def _matched(atom: str) -> np.ndarray:
    """Return the characters that an atom matches: [code points] bool."""
    found = np.zeros(_POINTS, dtype=bool)
    if _LITERAL.fullmatch(atom):
        found[ord(atom[-1])] = True
        return found
    for points in _IN_USE:
        for start in range(points.start, points.stop, _AT_ONCE):
            chosen = range(start, min(start + _AT_ONCE, points.stop))
            found[chosen.start : chosen.stop] = _asked(atom, "".join(map(chr, chosen)))
    for points in (range(_IN_USE[1].stop, 0xE0000), range(_IN_USE[2].stop, _POINTS)):
        chosen = range(points.start, points.stop, _BLOCK)
        for place, hit in zip(chosen, _asked(atom, "".join(map(chr, chosen))), strict=True):
            found[place : min(place + _BLOCK, points.stop)] = hit
    return found


def _asked(atom: str, characters: str) -> np.ndarray:
    """Return the characters of a text that an atom matches: [characters] bool."""
    if atom == NUMERIC:
        digits = pre_tokenizers.Digits(individual_digits=False)
        found = np.zeros(len(characters), dtype=bool)
        for _, (start, stop) in digits.pre_tokenize_str(characters):
            found[start:stop] = len(digits.pre_tokenize_str(f"a{characters[start]}a")) == 3
        return found
    found = np.ones(len(characters), dtype=bool)
    for _, (start, stop) in pre_tokenizers.Split(Regex(f"(?:{atom})+"), "removed").pre_tokenize_str(
        characters
    ):
        found[start:stop] = False
    return found
