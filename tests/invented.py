"""Documents about invented things, each with a glossary of its own: no two terms or definitions are alike."""

from __future__ import annotations

import random
from pathlib import Path

LINES = 5
_SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdfgklmnprtvz" for vowel in "aeiou"]


def word(*key: object) -> str:
    """A word of three syllables and a consonant, the same for the same key."""
    rolled = random.Random("-".join(map(str, key)))
    return f"{''.join(rolled.choices(_SYLLABLES, k=3))}{rolled.choice('kmnrt')}"


def term(number: int, line: int) -> str:
    """A term of two words; the terms of a document are in alphabetical order."""
    return f"{'abcdefgh'[line]}{word('t', number, line)} {word('u', number, line)}"


def definition(number: int, line: int) -> str:
    """A definition of a term, in words that no other one has."""
    return " ".join(word("d", number, line, at) for at in range(6))


def glossary_text(number: int) -> str:
    """A document of a title, a sentence and a glossary."""
    lines = (f"{term(number, line)}: {definition(number, line)}" for line in range(LINES))
    return f"Mills {number}\nThey grind salt.\n" + "\n".join(lines) + "\n"


def ontology(file: Path, count: int) -> Path:
    """An OBO file of kinds of mills."""
    root = '[Term]\nid: M:0\nname: mill\ndef: "A machine that grinds something." []\n'
    kinds = (
        f'[Term]\nid: M:{n}\nname: brolum mill {n}\ndef: "It grinds stones of sort {n}." []\nis_a: M:0\n'
        for n in range(1, count)
    )
    file.write_text("format-version: 1.4\n\n" + "\n".join([root, *kinds]))
    return file
