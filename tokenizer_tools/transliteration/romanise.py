"""Text of any script in Latin letters, by uroman (Hermjakob et al. 2018, https://github.com/isi-nlp/uroman).

Words are romanised one by one and remembered, white space stays as it is. ASCII stays as it is too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cpt.errors import StageFailed

if TYPE_CHECKING:
    from uroman import Uroman

_WORDS = 1 << 18
_WORD = re.compile(r"\S+")


class Romaniser:
    """Writes text in Latin letters, always the same way.

    Args:
        language: ISO 639-3 code ("ukr") that settles how ambiguous letters are read.

    Raises:
        StageFailed: uroman is not installed.
    """

    def __init__(self, language: str | None = None) -> None:
        self._word = _word_romaniser(language)

    def romanise(self, text: str) -> str:
        """The text in Latin letters."""
        return _WORD.sub(lambda found: self._word(found[0]), text)


def require_uroman() -> None:
    """Raise unless uroman is installed.

    Raises:
        StageFailed: says how to install it.
    """
    if find_spec("uroman") is None:
        raise StageFailed(
            "transliteration needs uroman, which is not installed",
            hint="Install it: pip install 'cpt-workbench[transliterate]'",
        )


@cache
def _word_romaniser(language: str | None) -> Callable[[str], str]:
    """Romanises a word; one memory for each language, since tokens and their rows need the same words."""
    uroman = _uroman()

    @lru_cache(_WORDS)
    def romanise_word(word: str) -> str:
        return word if word.isascii() else str(uroman.romanize_string(word, lcode=language))

    return romanise_word


@cache
def _uroman() -> Uroman:
    """uroman's tables take some seconds to load."""
    require_uroman()
    from uroman import Uroman

    return Uroman()
