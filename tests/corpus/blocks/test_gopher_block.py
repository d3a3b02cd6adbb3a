"""Gopher's rules by datatrove: each limit counts, short text is usable, the reason is named."""

from __future__ import annotations

from typing import Any

import pytest
from blocks import reason
from pydantic import ValidationError

from cpt.corpus.blocks.gopher import Gopher, GopherQuality, GopherRepetition
from cpt.corpus.blocks.words import words

PROSE = (
    "The patient came to the clinic with a cough that had lasted for three weeks, and was seen by a nurse. "
    "No fever was found on that day, but the sound of breath over the left lung had become weaker. "
    "An image of the chest showed fluid, which a physician removed with a needle under local anaesthesia. "
    "Later visits have shown neither pain nor loss of weight, so treatment ended in early autumn."
)
LINES = [line.strip() + "." for line in PROSE.split(". ")]


def quality(**rules: Any) -> Gopher:
    return Gopher(quality=GopherQuality(**rules), repetition=None)


def repetition(**rules: Any) -> Gopher:
    return Gopher(quality=None, repetition=GopherRepetition(**rules))


def test_prose_stays() -> None:
    assert reason(Gopher(), PROSE) is None


@pytest.mark.parametrize(
    ("text", "detail", "loose"),
    [
        ("Dyspnoea: the feeling of being out of breath.", "gopher_short_doc", {"min_words": 5}),
        (PROSE, None, {"max_words": None}),
        ("a b c the of " * 20, "gopher_below_avg_threshold", {"min_word_length": None}),
        (
            f"{PROSE} {'pneumonoultramicroscopic ' * 120}",
            "gopher_above_avg_threshold",
            {"max_word_length": None},
        ),
        (PROSE.replace(" a ", " a ######## "), "gopher_too_many_hashes", {"max_symbols": 1}),
        (PROSE.replace(" a ", " a ...................... "), "gopher_too_many_ellipsis", {"max_symbols": 1}),
        ("\n".join(f"- {line}" for line in LINES), "gopher_too_many_bullets", {"max_bullet_lines": None}),
        (
            "\n".join(f"{line[:-1]}..." for line in LINES),
            "gopher_too_many_end_ellipsis",
            {"max_ellipsis_lines": 1},
        ),
        (PROSE.replace(" ", " 12 "), "gopher_below_alpha_threshold", {"min_alphabetic_words": 0.4}),
        (PROSE.upper(), "gopher_enough_stop_words", {"min_stop_words": None}),
        (PROSE.upper(), "gopher_enough_stop_words", {"stop_words": ["THE", "OF"]}),
    ],
)
def test_quality_rules(text: str, detail: str | None, loose: dict[str, Any]) -> None:
    assert reason(quality(), text) == detail
    assert reason(quality(**loose), text) is None


def test_the_most_words() -> None:
    found = sum(any(map(str.isalnum, word)) for word in words(PROSE))
    assert reason(quality(max_words=found - 1), PROSE) == "gopher_long_doc"
    assert reason(quality(max_words=found), PROSE) is None
    loose = {"max_symbols": None, "min_alphabetic_words": None, "max_words": found}
    assert reason(quality(**loose), PROSE.replace(" ", " ... ")) is None


@pytest.mark.parametrize(
    ("text", "detail", "loose"),
    [
        ("\n\n".join([*LINES, *LINES[:2], LINES[0]]), "dup_para_frac", {"max_paragraphs": 0.9}),
        ("\n".join([*LINES, "So.", "So.", "So.", "So."]), "dup_line_frac", {"max_lines": 0.9}),
        ("\n".join([*LINES, LINES[1] * 2, LINES[1] * 2]), "dup_line_char_frac", {"max_line_characters": 0.9}),
        (
            "\n\n".join([*LINES, LINES[1] * 2, LINES[1] * 2]),
            "dup_para_char_frac",
            {"max_paragraph_characters": 0.9},
        ),
        (f"{PROSE} {'atrial fibrillation x, y, ' * 9}", "top_2_gram", {"max_top_n_grams": {2: 0.9}}),
        (f"{PROSE} {LINES[0]}", "duplicated_5_n_grams", {"max_repeated_n_grams": {5: 0.9}}),
    ],
)
def test_repetition_rules(text: str, detail: str, loose: dict[str, Any]) -> None:
    others = {"max_lines", "max_paragraphs", "max_line_characters", "max_paragraph_characters"} - set(loose)
    off: dict[str, Any] = {"max_top_n_grams": {}, "max_repeated_n_grams": {}, **dict.fromkeys(others)}
    asked = {key: value for key, value in off.items() if not (set(loose) & {key})}
    assert reason(repetition(**asked), text) == detail
    assert reason(repetition(**{**off, **loose}), text) is None


def test_one_n_gram_of_a_short_text_is_no_repetition() -> None:
    definition = "Dyspnoea: the feeling of being out of breath."
    assert reason(repetition(), definition) is None
    assert reason(repetition(min_words=0), definition) == "top_2_gram"
    assert reason(Gopher(quality=GopherQuality(min_words=5)), definition) is None


@pytest.mark.parametrize("text", ["...", "。", "\u200b", "12", "# # #", "\n\n.\n"])
def test_text_without_words_has_a_reason(text: str) -> None:
    assert reason(quality(min_words=1), text) is not None
    assert reason(repetition(), text) is None


@pytest.mark.parametrize(
    "wrong", [{"quality": {"min_words": 0}}, {"quality": {"words": 5}}, {"repetition": {"max_lines": 2}}]
)
def test_what_the_schema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gopher.model_validate(wrong)


def test_white_space_around_a_text_is_no_repeated_line() -> None:
    assert reason(repetition(), "\nOne line of text.\n\n") is None
