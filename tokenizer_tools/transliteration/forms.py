"""Tokens as text, for every kind of tokenizer alike, and the Latin forms of a vocabulary.

Source of the rule: TransMI (Liu et al. 2024, arXiv 2405.09913), step 1: the Latin forms of all tokens, less
those that are tokens already.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from tokenizer_tools.spelling import WORD_START, byte_alphabet
from tokenizer_tools.vocabulary import Vocabulary

Merge = Literal["min", "average", "max"]
"""What a form gets that several tokens share: of the lowest score, of the highest, or the mean."""


class Form(NamedTuple):
    """What a token stands for: a text without white space at its ends, at a word's start or within one."""

    starts_word: bool
    text: str


def forms(vocabulary: Vocabulary) -> dict[int, Form]:
    """The form of every token that stands for whole characters, by id."""
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
    """Writes forms as the vocabulary spells tokens."""
    if vocabulary.kind == "WordPiece":
        prefix = json.loads(vocabulary.tokenizer.to_str())["model"]["continuing_subword_prefix"]
        return lambda form: form.text if form.starts_word else prefix + form.text
    if vocabulary.kind == "byte-level BPE":
        alphabet = byte_alphabet()
        return lambda form: "".join(alphabet[byte] for byte in (" " * form.starts_word + form.text).encode())
    return lambda form: WORD_START * form.starts_word + form.text


def latin_forms(vocabulary: Vocabulary, romanise: Callable[[str], str]) -> dict[Form, list[int]]:
    """Ids of the tokens that have each Latin form, by form; without forms that are tokens already.

    White space at a form's ends is cut off; forms with white space inside, or without text, are no tokens.
    """
    old = forms(vocabulary)
    taken = set(old.values())
    sources: defaultdict[Form, list[int]] = defaultdict(list)
    for token_id, form in old.items():
        latin = Form(form.starts_word, romanise(form.text).strip())
        if latin not in taken and len(latin.text.split()) == 1:
            sources[latin].append(token_id)
    return dict(sources)


def scores(vocabulary: Vocabulary) -> Sequence[float]:
    """Score of every id: Unigram's own; for others the negative id, as ids follow frequency."""
    model = json.loads(vocabulary.tokenizer.to_str())["model"]
    if model["type"] != "Unigram":
        return [-float(token_id) for token_id in range(len(vocabulary.tokens))]
    listed: Mapping[int, float] = {token_id: score for token_id, (_, score) in enumerate(model["vocab"])}
    return [listed.get(token_id, 0.0) for token_id in range(len(vocabulary.tokens))]


def merged_score(found: Sequence[float], merge: Merge) -> float:
    """The score of a form whose sources have these."""
    if merge == "average":
        return sum(found) / len(found)
    return max(found) if merge == "max" else min(found)
