"""Follow the tokens of a text whose end is not known, and say which may come next.

A sequence of tokens is *canonical* if the tokens of some text begin with it. That text may be longer: GPT-2
makes one token of the line breaks in "a\\n\\n", and two of those in "a\\n\\nb". Three things decide: no merge
joins two tokens of a piece, pieces lie as the pre-tokenizer cuts, and a piece that is looked up as a whole
(`ignore_merges`) is one token.

Shapes: V tokens, C classes of characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import normalizers

from cpt.models.tokenizer import FILE, special_tokens
from tokenizer_tools.canonical.characters import NONE, length_by_first
from tokenizer_tools.canonical.cuts import DEAD
from tokenizer_tools.canonical.reading import BpeParts, read_bpe_parts

_CACHED_PAIRS = 512
_CACHED_STATES = 4096


class CutState(NamedTuple):
    """One way in which the pre-tokenizer may have cut the text so far.

    Attributes:
        cut: State of the pre-tokenizer, before a character that is not complete.
        begun: The first bytes of that character.
        cut_before: True if that character starts a piece.
        piece: Bytes of the current piece as long as a token that stands for a whole piece begins so.
    """

    cut: int
    begun: bytes = b""
    cut_before: bool = False
    piece: bytes | None = None


@dataclass(frozen=True)
class TokenState:
    """The end of a canonical sequence.

    Attributes:
        last: Index of its last token; None before the first.
        cut_states: All ways in which its text may be cut.
    """

    last: int | None
    cut_states: tuple[CutState, ...]


@dataclass(frozen=True)
class _Content:
    """The content of a tokenizer, which models in different folders share."""

    digest: str
    folder: Path = field(compare=False)


def canonical_tokens(folder: Path) -> CanonicalTokens:
    """Read the tokenizer of a folder; one whose content was read lately is not read again.

    Raises:
        DataError: It is no BPE, or it cuts or changes text in a way that is not followed.
    """
    roles = json.dumps(special_tokens(folder), sort_keys=True).encode()
    file = folder / FILE
    data = file.read_bytes() if file.is_file() else b""
    return _read(_Content(sha256(roles + data).hexdigest(), folder))


@lru_cache(maxsize=4)
def _read(content: _Content) -> CanonicalTokens:
    return CanonicalTokens(read_bpe_parts(content.folder))


class CanonicalTokens:
    """The canonical sequences of a tokenizer. Tokens are named by their place in the order of their bytes.

    Attributes:
        bpe: The tokenizer.
        ids: [V] Ids of the tokens.
        surfaces: [V] Bytes of the tokens, ascending.
        lengths: [V] Numbers of bytes.
        ends: Ids of special tokens, with which a text ends.
        lead: Bytes before every text, which its tokens stand for too.
    """

    def __init__(self, bpe: BpeParts) -> None:
        self.bpe, self.ids, self.surfaces = bpe, bpe.ids, bpe.surfaces
        self.lengths = np.array([len(surface) for surface in bpe.surfaces], dtype=np.int32)
        self.ends = np.array(sorted(bpe.ends), dtype=np.int64)
        self.lead = b"" if bpe.lead == "never" else b" "
        self._whole = {bpe.surfaces[index] for index in np.flatnonzero(bpe.whole).tolist()}
        self._whole_begun = {piece[:end] for piece in self._whole for end in range(len(piece) + 1)}
        self._columns: dict[int, np.ndarray] = {}
        self._followers = lru_cache(maxsize=_CACHED_PAIRS)(bpe.pairs.after)
        cached = lru_cache(maxsize=_CACHED_STATES)
        self._readable = cached(self._find_readable)
        self._after_cut = cached(self._find_after_cut)
        self._within_character = cached(self._find_within_character)
        self._towards_whole = cached(self._find_towards_whole)
        self._completing = cached(self._find_completing)
        self._goes_on = cached(self._search)

    @property
    def start(self) -> TokenState:
        """Return the state before the first token."""
        piece = b"" if self._whole else None
        return TokenState(None, (CutState(self.bpe.cuts.start, piece=piece),))

    def bytes_of(self, text: str) -> bytes:
        """Return the bytes of a text that follow `lead`."""
        if self.bpe.composes:
            text = normalizers.NFC().normalize_str(text)
        return text.removeprefix(" " if self.bpe.lead == "missing" else "").encode()

    def column(self, place: int) -> np.ndarray:
        """Return the byte at a place of every token; -1 for shorter tokens: [V] int16."""
        if place not in self._columns:
            column = [surface[place] if place < len(surface) else -1 for surface in self.surfaces]
            self._columns[place] = np.array(column, dtype=np.int16)
        return self._columns[place]

    def allowed(self, state: TokenState) -> np.ndarray:
        """Return the tokens that may come next: [V] bool."""
        found = np.zeros(len(self.ids), dtype=bool)
        joined = np.True_ if state.last is None else self._followers(state.last)
        for at in state.cut_states:
            if at.begun:
                found |= self._within_character(at._replace(piece=None)) & joined
                continue
            if self._is_whole(state.last, at):
                found |= self._after_cut(at.cut, True)
            found |= self._after_cut(at.cut, False) & joined
        for at in state.cut_states:
            for index in self._towards_whole(at.piece) if at.piece else ():
                found[index] = bool(self._cut_states_after(state, index))
        return found

    def may_end(self, state: TokenState) -> bool:
        """Return True if the text may end here."""
        return any(
            not each.begun and bool(self.bpe.cuts.may_end[each.cut]) and self._is_whole(state.last, each)
            for each in state.cut_states
        )

    def after(self, state: TokenState, token: int) -> TokenState:
        """Return the state after a token that is allowed."""
        cut_states = self._cut_states_after(state, token)
        assert cut_states, "only allowed tokens follow"
        return TokenState(token, cut_states)

    def _cut_states_after(self, state: TokenState, token: int) -> tuple[CutState, ...]:
        """Return the ways to cut the text after a token; none if it may not follow."""
        surface = self.surfaces[token]
        joins = state.last is None or bool(self._followers(state.last)[token])
        found: dict[CutState, None] = {}
        for each in state.cut_states:
            ways: list[tuple[bool, bytes | None]] = []
            if not each.begun and self._is_whole(state.last, each):
                ways.append((True, surface))
            if joins:
                ways.append((False, None if each.piece is None else each.piece + surface))
            for cut, piece in ways:
                after = self._read(each if each.begun else each._replace(cut_before=cut), surface)
                if after is None:
                    continue
                after = after._replace(piece=piece if piece in self._whole_begun else None)
                if self._goes_on(token, after):
                    found[after] = None
        return tuple(found)

    def _is_whole(self, last: int | None, at: CutState) -> bool:
        """Return True unless the piece so far is one for which a single token would stand."""
        return at.piece not in self._whole or (last is not None and bool(self.bpe.whole[last]))

    def _may_close(self, last: int, at: CutState) -> bool:
        """Return True if the current piece may end here: then some text makes these tokens."""
        return not at.begun and bool(self.bpe.cuts.may_close[at.cut]) and self._is_whole(last, at)

    def _search(self, token: int, at: CutState) -> bool:
        """Return True if further tokens lead from a token to an end of its piece."""
        if self._may_close(token, at):
            return True
        seen = {(token, at)}
        paths = [self._same_piece(token, at)]
        while paths:
            step = next(paths[-1], None)
            if step is None:
                paths.pop()
            elif self._may_close(*step):
                return True
            elif step not in seen:
                seen.add(step)
                paths.append(self._same_piece(*step))
        return False

    def _same_piece(self, token: int, at: CutState) -> Iterator[tuple[int, CutState]]:
        """Yield the tokens that may go on with a piece, and the states after them."""
        if at.begun:
            candidates = self._completing(token)
        else:
            readable, _ = self._readable(at.cut, False)
            candidates = np.flatnonzero(readable & self._followers(token)).tolist()
        for index in candidates:
            surface = self.surfaces[index]
            after = self._read(at if at.begun else at._replace(cut_before=False), surface)
            if after is not None:
                piece = None if at.piece is None else at.piece + surface
                yield index, after._replace(piece=piece if piece in self._whole_begun else None)

    def _find_completing(self, token: int) -> list[int]:
        """Return the tokens that begin within a character, and may follow a token."""
        allowed = self._followers(token)
        return [index for index in self._continuations if allowed[index]]

    def _read(self, at: CutState, data: bytes) -> CutState | None:
        """Return the state after the bytes of a token, which lie in one piece; None if there is none."""
        cut, cut_before = at.cut, at.cut_before
        rest = at.begun + data
        in_tokens = bool(at.begun)
        cuts, characters = self.bpe.cuts, self.bpe.characters
        while rest:
            length = length_by_first(rest[0])
            if not length:
                return None
            table = (cuts.new_piece if cut_before else cuts.same_piece)[cut]
            if len(rest) < length:
                if not (table[characters.begun(rest)] != DEAD).any():
                    return None
                return CutState(cut, rest, cut_before)
            try:
                character = rest[:length].decode()
            except UnicodeDecodeError:
                return None
            kind = characters.of_bytes(character) if in_tokens else characters.of(character)
            cut = int(table[kind]) if kind != NONE else DEAD
            if cut == DEAD:
                return None
            rest, cut_before, in_tokens = rest[length:], False, False
        return CutState(cut)

    def _find_towards_whole(self, piece: bytes) -> list[int]:
        """Return the tokens after which a piece is, or begins, one that a single token stands for."""
        rests = (whole[len(piece) :] for whole in self._whole if whole.startswith(piece))
        begun = {rest[:end] for rest in rests for end in range(1, len(rest) + 1)}
        return [index for surface in begun if (index := self._index.get(surface)) is not None]

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {surface: index for index, surface in enumerate(self.surfaces)}

    def _find_readable(self, cut: int, new_piece: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens whose characters may be read from a state, and the states after them: 2 x [V].

        Of a last character that is not complete only the first bytes are looked at, which change no state.
        """
        cuts, table = self.bpe.cuts, self._characters_of_tokens
        first = (cuts.new_piece if new_piece else cuts.same_piece)[cut]
        state = np.full(len(self.ids), DEAD, dtype=np.int32)
        for place, (rows, kinds) in enumerate(table.kinds):
            state[rows] = first[kinds] if place == 0 else cuts.same_piece[state[rows], kinds]
        readable = state != DEAD
        rows, tails = table.tails
        following = np.where(table.has_character[rows, None], cuts.same_piece[state[rows]], first) != DEAD
        readable[rows] = (table.begun[tails] & following).any(1)
        # what stands for a whole piece starts one
        readable &= ~self.bpe.whole | new_piece | (cut == cuts.start)
        return readable, state

    def _find_after_cut(self, cut: int, new_piece: bool) -> np.ndarray:
        """Return the tokens that may follow in a state: [V] bool."""
        readable, state = self._readable(cut, new_piece)
        found = readable.copy()
        sure = self.bpe.cuts.may_close[state]
        sure[self._characters_of_tokens.tails[0]] = False
        for index in np.flatnonzero(readable & ~sure).tolist():
            surface = self.surfaces[index]
            at = self._read(CutState(cut, cut_before=new_piece), surface)
            piece = surface if new_piece and surface in self._whole_begun else None
            found[index] = at is not None and self._goes_on(index, at._replace(piece=piece))
        return found

    def _find_within_character(self, at: CutState) -> np.ndarray:
        """Return the tokens that may follow an incomplete character: [V] bool."""
        found = np.zeros(len(self.ids), dtype=bool)
        for index in self._continuations:
            after = self._read(at, self.surfaces[index])
            found[index] = after is not None and self._goes_on(index, after)
        return found

    @cached_property
    def _continuations(self) -> list[int]:
        """Return the tokens that begin within a character."""
        return [
            index
            for index, surface in enumerate(self.surfaces)
            if surface[0] >> 6 == 0b10 and not self.bpe.whole[index]
        ]

    @cached_property
    def _characters_of_tokens(self) -> _CharactersOfTokens:
        return _CharactersOfTokens.of(self.bpe)


@dataclass(frozen=True)
class _CharactersOfTokens:
    """The characters of tokens that begin with one.

    Attributes:
        kinds: For each place, the tokens that have a character there, and its class.
        tails: Tokens that end within a character, and the number of its first bytes in `begun`.
        begun: [different first bytes, C] Classes of the characters that begin so.
        has_character: [V] True for tokens that have a complete character.
    """

    kinds: Sequence[tuple[np.ndarray, np.ndarray]]
    tails: tuple[np.ndarray, np.ndarray]
    begun: np.ndarray
    has_character: np.ndarray

    @classmethod
    def of(cls, bpe: BpeParts) -> _CharactersOfTokens:
        """Take all tokens apart."""
        rows: list[tuple[list[int], list[int]]] = []
        tails: list[tuple[int, int]] = []
        number: dict[bytes, int] = {}
        has_character = np.zeros(len(bpe.surfaces), dtype=bool)
        of_class = lru_cache(maxsize=None)(bpe.characters.of)
        for index, surface in enumerate(bpe.surfaces):
            taken = _characters(surface)
            if taken is None:
                continue
            text, tail = taken
            has_character[index] = bool(text)
            kinds = [of_class(character) for character in text]
            if NONE in kinds:
                continue
            for place, kind in enumerate(kinds):
                if place == len(rows):
                    rows.append(([], []))
                rows[place][0].append(index)
                rows[place][1].append(kind)
            if tail:
                tails.append((index, number.setdefault(tail, len(number))))
        ends = np.array(tails, dtype=np.int64).reshape(-1, 2)
        return cls(
            [(np.array(which), np.array(kinds)) for which, kinds in rows],
            (ends[:, 0], ends[:, 1]),
            np.array([bpe.characters.begun(tail) for tail in number], dtype=bool).reshape(
                len(number), bpe.characters.count
            ),
            has_character,
        )


def _characters(surface: bytes) -> tuple[str, bytes] | None:
    """Return the characters of a token, and the first bytes of one more; None if it begins within one."""
    start = len(surface) - 1
    while start > 0 and surface[start] >> 6 == 0b10 and len(surface) - start < 4:
        start -= 1
    length = length_by_first(surface[start])
    end = start if length > len(surface) - start else len(surface)
    try:
        return surface[:end].decode(), surface[end:]
    except UnicodeDecodeError:
        return None
