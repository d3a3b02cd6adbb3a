"""Romanise text, and add tokens for romanised text to a tokenizer: the Latin forms of its own tokens.

Source: TransMI (Liu et al. 2024, arXiv 2405.09913, https://github.com/cisnlp/TransMI). New tokens are the
Latin forms of all tokens, except forms that are tokens already. A Unigram piece gets the score of the piece
whose Latin form it is; the form of several pieces gets the highest, lowest or mean score. Pieces are appended
by falling score; unlike there, behind every used id, so that no id moves.

Beyond the paper: forms that no text can become are left out, which changes no segmentation. These are forms
that the tokenizer's own normalizer or pre-tokenizer breaks, and pieces with a better path over their own
text. WordPiece gets new pieces as they are. BPE reaches a form through merges only: its present tokens are
joined from the left, so the tokens in between are new ones as well, without a source.

Text of any script is romanised by uroman (Hermjakob et al. 2018, https://github.com/isi-nlp/uroman), word by
word. White space and ASCII stay as they are.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cpt.errors import StageFailed
from cpt.models.tokenizer import copy_settings, write_data
from tokenizer_tools import bpe_file, unigram_file, wordpiece_file
from tokenizer_tools.bpe_file import BpeFile, MergeTable, pieces
from tokenizer_tools.byte_encoding import WORD_START, byte_alphabet, mid_text_tokenizer
from tokenizer_tools.validation import TokenizerChecks, check_extended
from tokenizer_tools.vocabulary import Kind, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from uroman import Uroman


@dataclass(frozen=True)
class Addition:
    """A tokenizer with more tokens, not yet written.

    Attributes:
        data: Content of the new tokenizer.json.
        tokens: New tokens; ids are consecutive, after all used ids.
        merges: Number of appended merges.
    """

    data: Mapping[str, Any]
    tokens: Sequence[str]
    merges: int = 0


def add_scored_pieces(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add pieces to a Unigram if they are the best path over their own text; no text becomes the others.

    Args:
        folder: Tokenizer folder.
        scored: Scores of the new pieces, in the order of their ids.
        limit: Largest number of pieces.
    """
    file = unigram_file.read_unigram(folder)
    path = file.best_path()
    for piece, score in scored.items():
        path.add(piece, score)
    winning = (piece for piece in scored if path.segment(piece) == [piece])
    tokens = list(islice(winning, limit))
    return Addition(file.extended([(piece, scored[piece]) for piece in tokens]), tokens)


def add_pieces(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add pieces to a WordPiece; longest match needs no scores."""
    file = wordpiece_file.read_wordpiece(folder)
    tokens = list(islice(scored, limit))
    return Addition(
        file.extended({token: token_id for token_id, token in enumerate(tokens, file.next_id)}), tokens
    )


def add_by_merges(folder: Path, scored: Mapping[str, float], limit: int | None) -> Addition:
    """Add tokens to a BPE with the merges that lead to them.

    A token's present tokens are joined from the left, so the tokens in between are new ones as well. New
    merges rank after all old ones, so text to which none of them applies is cut as before. Each ranks after
    those of earlier tokens, which therefore stay in reach.
    """
    file = bpe_file.read_bpe(folder)
    merges = _Merges(file)
    for token in scored:
        symbols = merges.segment(token)
        if limit is not None and len(merges.new) + len(symbols) - 1 > limit:
            break
        if symbols:
            merges.join(symbols)
    return Addition(file.extended(merges.appended, merges.new), list(merges.new), len(merges.appended))


class _Merges:
    """The growing merges of a BPE.

    Attributes:
        appended: New merges (left, right) by rank.
        new: Id of every new token.
    """

    def __init__(self, file: BpeFile) -> None:
        self.appended: list[tuple[str, str]] = []
        self.new: dict[str, int] = {}
        self._table = MergeTable(file)
        self._ids = dict(file.ids)
        self._first = file.next_id
        self._spelling = {token_id: token for token, token_id in file.ids.items()}
        self._added = tuple(file.added)
        self._barred = file.barred()

    def segment(self, token: str) -> list[int]:
        """Return the ids that the merges make of a token's text; nothing if no merges can lead to it."""
        if token.startswith(self._added) or any(character not in self._ids for character in token):
            return []
        symbols = self._table.segment([self._ids[character] for character in token])
        return symbols if self._barred.isdisjoint(symbols) else []

    def join(self, symbols: Sequence[int]) -> None:
        """Append merges, from the left, until the symbols are one."""
        while len(symbols) > 1:
            left, right = (self._spelling[symbol] for symbol in symbols[:2])
            product = self._id(left + right)
            self.appended.append((left, right))
            self._table.add((symbols[0], symbols[1]), product)
            symbols = self._table.segment(symbols)

    def _id(self, token: str) -> int:
        if token not in self._ids:
            self._ids[token] = self.new[token] = self._first + len(self.new)
            self._spelling[self._ids[token]] = token
        return self._ids[token]


Merge = Literal["min", "average", "max"]
"""Score of a form that several tokens share: the lowest, the mean or the highest."""


class Form(NamedTuple):
    """The text of a token, without white space at its ends, and its place at a word's start or within."""

    starts_word: bool
    text: str


def token_forms(vocabulary: Vocabulary) -> dict[int, Form]:
    """Return the form of every token that stands for whole characters, by id."""
    found: dict[int, Form] = {}
    for token_id, surface in enumerate(vocabulary.surfaces):
        if surface is None:
            continue
        try:
            text = surface.decode()
        except UnicodeDecodeError:
            continue
        stands_alone = vocabulary.kind == "WordPiece" and text == vocabulary.tokens[token_id]
        found[token_id] = Form(stands_alone or text.startswith(" "), text.removeprefix(" "))
    return found


def speller(vocabulary: Vocabulary) -> Callable[[Form], str]:
    """Return a function that writes forms as the vocabulary spells tokens."""
    if vocabulary.kind == "WordPiece":
        prefix = json.loads(vocabulary.tokenizer.to_str())["model"]["continuing_subword_prefix"]
        return lambda form: form.text if form.starts_word else prefix + form.text
    if vocabulary.kind == "byte-level BPE":
        alphabet = byte_alphabet()
        return lambda form: "".join(alphabet[byte] for byte in (" " * form.starts_word + form.text).encode())
    return lambda form: WORD_START * form.starts_word + form.text


def latin_forms(vocabulary: Vocabulary, romanise: Callable[[str], str]) -> dict[Form, list[int]]:
    """Return the ids of the tokens with each Latin form, except forms that are tokens already.

    White space at a form's ends is cut off. Forms with white space inside, or without text, are no tokens.
    """
    old = token_forms(vocabulary)
    taken = set(old.values())
    sources: defaultdict[Form, list[int]] = defaultdict(list)
    for token_id, form in old.items():
        latin = Form(form.starts_word, romanise(form.text).strip())
        if latin not in taken and len(latin.text.split()) == 1:
            sources[latin].append(token_id)
    return dict(sources)


def scores(vocabulary: Vocabulary) -> Sequence[float]:
    """Return the score of every id: Unigram's own; for others the negative id, since ids follow frequency."""
    model = json.loads(vocabulary.tokenizer.to_str())["model"]
    if model["type"] != "Unigram":
        return [-float(token_id) for token_id in range(len(vocabulary.tokens))]
    listed: Mapping[int, float] = {token_id: score for token_id, (_, score) in enumerate(model["vocab"])}
    return [listed.get(token_id, 0.0) for token_id in range(len(vocabulary.tokens))]


def merged_score(found: Sequence[float], merge: Merge) -> float:
    """Compute the score of a form from the scores of its sources."""
    if merge == "average":
        return sum(found) / len(found)
    return max(found) if merge == "max" else min(found)


_WORDS = 1 << 18
_WORD = re.compile(r"\S+")


class Romaniser:
    """A deterministic conversion of text to Latin letters.

    Args:
        language: ISO 639-3 code ("ukr") of the language that decides how ambiguous letters are read.

    Raises:
        StageFailed: uroman is not installed.
    """

    def __init__(self, language: str | None = None) -> None:
        self._word = _word_romaniser(language)

    def romanise(self, text: str) -> str:
        """Return the text in Latin letters."""
        return _WORD.sub(lambda found: self._word(found[0]), text)


def require_uroman() -> None:
    """Raise unless uroman is installed.

    Raises:
        StageFailed: uroman is missing; the hint says how to install it.
    """
    if find_spec("uroman") is None:
        raise StageFailed(
            "transliteration needs uroman, which is not installed",
            hint="Install it: pip install 'cpt-workbench[transliterate]'",
        )


@cache
def _word_romaniser(language: str | None) -> Callable[[str], str]:
    """Return a function that romanises a word, with one cache per language: tokens and rows need the same."""
    uroman = _uroman()

    @lru_cache(_WORDS)
    def romanise_word(word: str) -> str:
        return word if word.isascii() else str(uroman.romanize_string(word, lcode=language))

    return romanise_word


@cache
def _uroman() -> Uroman:
    """Load uroman once: its tables take some seconds."""
    require_uroman()
    from uroman import Uroman

    return Uroman()


@dataclass(frozen=True)
class LatinToken:
    """A new token.

    Attributes:
        token: Token as the vocabulary spells it.
        token_id: Id; ids of new tokens are consecutive, after all used ids.
        sources: Ids of the tokens with this Latin form; empty for an intermediate token of BPE.
        rule: Origin of the score: the only source's ("unique"), the merge rule of several, or "part".
    """

    token: str
    token_id: int
    sources: tuple[int, ...]
    rule: Literal["unique", "min", "average", "max", "part"]


@dataclass(frozen=True)
class Transliteration:
    """A tokenizer with the Latin forms of its tokens.

    Attributes:
        tokens: New tokens in the order of their ids.
        merges: Number of appended merges; 0 for kinds without merges.
        checks: Passed checks.
    """

    tokens: Sequence[LatinToken]
    merges: int
    checks: TokenizerChecks


def transliterate_tokenizer(
    folder: Path,
    output: Path,
    *,
    merge: Merge = "max",
    language: str | None = None,
    limit: int | None = None,
) -> Transliteration:
    """Write the tokenizer with the Latin forms of its tokens into `output`, and check it.

    Args:
        folder: Tokenizer folder.
        output: Folder that receives the tokenizer.
        merge: Score of a form that several tokens share.
        language: ISO 639-3 code of the language that decides how ambiguous letters are read.
        limit: Largest number of new tokens; those with the highest scores (for BPE and WordPiece, the lowest
            ids) are kept.

    Raises:
        DataError: The tokenizer is of a kind that cannot get new tokens.
        StageFailed: uroman is not installed, or a check failed.
    """
    vocabulary = read_vocabulary(folder)
    sources = _by_token(vocabulary, latin_forms(vocabulary, Romaniser(language).romanise))
    source_scores = scores(vocabulary)
    scored = {
        token: merged_score([source_scores[token_id] for token_id in ids], merge)
        for token, ids in sources.items()
    }
    in_order = sorted(scored, key=lambda token: (-scored[token], token))
    added = _ADD[vocabulary.kind](folder, {token: scored[token] for token in in_order}, limit)
    copy_settings(folder, output)
    write_data(output, added.data)
    return Transliteration(
        tokens=[
            LatinToken(token, token_id, tuple(sources.get(token, ())), _rule(sources.get(token, ()), merge))
            for token_id, token in enumerate(added.tokens, start=len(vocabulary.tokens))
        ],
        merges=added.merges,
        checks=check_extended(folder, output, ()),
    )


_ADD: Mapping[Kind, Callable[[Path, Mapping[str, float], int | None], Addition]] = {
    "Unigram": add_scored_pieces,
    "WordPiece": add_pieces,
    "byte-level BPE": add_by_merges,
    "SentencePiece BPE": add_by_merges,
}


def _by_token(vocabulary: Vocabulary, found: Mapping[Form, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Return the sources of each new token; forms that are cut or changed before the model are left out."""
    tokenizer, spell = mid_text_tokenizer(json.loads(vocabulary.tokenizer.to_str())), speller(vocabulary)

    def stays_whole(form: Form) -> bool:
        if vocabulary.kind == "WordPiece":
            word = form.text if form.starts_word else "a" + form.text
            return pieces(tokenizer, word) == [word]
        return pieces(tokenizer, " " * form.starts_word + form.text) == [spell(form)]

    known = set(vocabulary.tokens)
    return {
        token: ids for form, ids in found.items() if (token := spell(form)) not in known and stays_whole(form)
    }


def _rule(sources: Sequence[int], merge: Merge) -> Literal["unique", "min", "average", "max", "part"]:
    if not sources:
        return "part"
    return "unique" if len(sources) == 1 else merge
