"""A language with an abbreviation of its own: where sentences end in it tells who passes the language on."""

from __future__ import annotations

from dataclasses import replace

from cpt.corpus.study.language import Language, load_language


def with_abbreviation(word: str) -> Language:
    """English with one more abbreviation, which never ends a sentence."""
    english = load_language("en")
    sentences = english.patterns["sentences"]
    known = {**sentences, "abbreviations": [*sentences["abbreviations"], word]}
    return replace(english, code="xx", patterns={**english.patterns, "sentences": known})
