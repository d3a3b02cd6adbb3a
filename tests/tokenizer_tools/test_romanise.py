"""Romanisation: text of any script in Latin letters, the same each time."""

import pytest

from cpt.errors import StageFailed
from tokenizer_tools import transliteration
from tokenizer_tools.transliteration import Romaniser


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("Привет, мир!", "Privet, mir!"),
        ("Ελλάδα", "Ellada"),
        ("한국어", "hangugeo"),
        ("हिन्दी", "hindii"),
        ("日本", "riben"),
        ("naïve Straße", "naive Strasse"),
        ("ъ", ""),
        ("", ""),
    ],
)
def test_scripts_become_latin(text: str, latin: str) -> None:
    assert Romaniser().romanise(text) == latin


def test_ascii_and_white_space_stay_as_they_are() -> None:
    text = "".join(map(chr, range(128))) + "\u00a0 \u3000\n\n  x\t"
    assert Romaniser().romanise(text) == text


def test_the_language_settles_how_letters_are_read() -> None:
    assert Romaniser().romanise("Київ, ти") == "Kiyiv, ti"
    assert Romaniser("ukr").romanise("Київ, ти") == "Kyiv, ty"
    assert Romaniser().romanise("Київ, ти") == "Kiyiv, ti"


def test_words_are_read_as_in_a_text_of_their_own() -> None:
    text = "Эти люди рождаются свободными и равными в своём достоинстве и правах.\nवे तर्क और अन्तरात्मा"
    romaniser = Romaniser()
    assert romaniser.romanise(text) == romaniser.romanise(text)
    assert romaniser.romanise(text).split() == [romaniser.romanise(word) for word in text.split()]


def test_a_missing_uroman_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transliteration, "find_spec", lambda name: None)
    transliteration._uroman.cache_clear()
    transliteration._word_romaniser.cache_clear()
    with pytest.raises(StageFailed, match=r"pip install 'cpt-workbench\[transliterate\]'"):
        Romaniser()
