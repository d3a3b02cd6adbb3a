"""Lines of pages become paragraphs, and running heads go."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pytest

from cpt.corpus.readers.page_lines import Line, is_right_to_left, running_text, without_running_lines

WIDTH, HEIGHT, LEADING = 5.0, 10.0, 12.0
"""Width of a character, height of the type, and distance of lines, in points."""

FIRST = (
    "A fever is a temperature of the body that is higher than usual. It is a sign of many illnesses, and "
    "most often of an infection. It helps the body to fight against what has infected it."
)
SECOND = (
    "Nurses measure the temperature several times a day. They write it down, and tell the doctor of every "
    "value that is higher than the limit which was agreed on before."
)


def placed(text: str, at: int, left: float = 70.0, column: int = 0) -> Line:
    """Return a line of a page in its place from the top."""
    left += 300 * column
    bottom = 700 - LEADING * at
    return Line(text, left, left + WIDTH * len(text), bottom, bottom + HEIGHT)


def page(*texts: str, start: int = 0, column: int = 0) -> list[Line]:
    return [placed(text, start + at, column=column) for at, text in enumerate(texts)]


def ragged(text: str) -> list[str]:
    return textwrap.wrap(text, 50)


def test_wrapped_lines_become_the_paragraphs_that_they_were() -> None:
    lines = page(*ragged(FIRST), *ragged(SECOND), "A heading", *ragged(FIRST))
    assert running_text([lines]) == "\n".join((FIRST, SECOND, "A heading", FIRST))


def test_of_justified_lines_only_whole_ones_go_on() -> None:
    """Even where the next word would not have had a place."""
    wide = ["one two three four five six seven eight nine ten e"] * 4
    last = "and this is the last line of this paragraph."
    lines = page(*wide, last, "Incomprehensibilities", *wide)
    assert running_text([lines]).split("\n") == [
        " ".join([*wide, last]),
        "Incomprehensibilities",
        " ".join(wide),
    ]


def test_a_paragraph_goes_on_in_the_next_column_and_on_the_next_page() -> None:
    first, *rest = (ragged(f"{FIRST} {SECOND}")[n::1][:3] for n in (0, 3, 6))
    pages = [[*page(*first), *page(*rest[0], column=1)], page(*rest[1], *ragged(SECOND))]
    assert running_text(pages) == f"{' '.join([*first, *rest[0], *rest[1]])}\n{SECOND}"


def test_a_paragraph_that_ends_with_its_page_is_parted_by_an_empty_line() -> None:
    assert running_text([page(*ragged(FIRST)), page(*ragged(SECOND))]) == f"{FIRST}\n\n{SECOND}"


@pytest.mark.parametrize(
    "following",
    [
        placed("and it goes on", 4)._replace(top=700 - 4 * LEADING + 14),  # larger type: a heading
        placed("and it goes on", 5),  # space between paragraphs
        placed("And it goes on", 4, left=90),  # an indented paragraph
        placed("- and it goes on", 4),
        placed("12 340 55 901 13 02", 4),
    ],
)
def test_what_is_no_part_of_a_paragraph_stays_apart(following: Line) -> None:
    full = ["the patient has had a fever for three days and now"] * 4
    assert running_text([[*page(*full), following]]) == f"{' '.join(full)}\n{following.text}"
    more = placed("and it goes on", 4)
    assert running_text([[*page(*full), more]]) == f"{' '.join(full)} {more.text}"


def test_items_of_a_list_go_on_below_their_first_word() -> None:
    lines = ["- the patient has had a fever for three days, then", "a cough", "- a cold"]
    placed_lines = [placed(lines[0], 0), placed(lines[1], 1, left=80), placed(lines[2], 2)]
    assert running_text([placed_lines]) == f"{lines[0]} {lines[1]}\n{lines[2]}"


def test_divided_words_and_scripts_without_spaces_are_joined_without_a_space() -> None:
    divided = [placed("temper", 0)._replace(divided=True), placed("ature", 1)]
    assert running_text([divided]) == "temperature"
    chinese = "病人发烧三天后来到医院接受检查和治疗医生建议他多休息多喝水" * 3
    lines = textwrap.wrap(chinese, 20)
    assert running_text([page(*lines)]) == chinese


@pytest.mark.parametrize(
    "lines",
    [
        (
            "病人发烧三天后来到医院接受检查和治疗\uff0c",
            "医生建议他多休息多喝水然后回到家里去",
            "「医生建议他多休息多喝水然后回到家里",
        ),
        ("ผู้ป่วยมีไข้มาสามวันแล้วจึงมาโรงพยาบาล",) * 3,
    ],
)
def test_marks_of_scripts_without_spaces_have_none_either(lines: Sequence[str]) -> None:
    assert running_text([page(*lines)]) == "".join(lines)


def test_korean_has_spaces() -> None:
    lines = ["환자는 사흘 동안 열이 나서 병원에 왔고 의사는 쉬라고"] * 3
    assert running_text([page(*lines)]) == " ".join(lines)


def test_lines_are_right_to_left_by_most_of_their_letters() -> None:
    assert is_right_to_left("المريض يعاني من الحمى (fever) 12")
    assert not is_right_to_left("the word for fever is حمى in Arabic")
    assert not is_right_to_left("12 + 5")


def test_a_list_of_contents_stays_a_list() -> None:
    entries = ["The care of patients 5", "Fever and its many causes 17", "Cough 29", "The heart 41"]
    lines = [placed(text, at)._replace(right=400) for at, text in enumerate(entries)]
    assert running_text([lines]) == "\n".join(entries)


def test_a_word_that_the_end_of_a_page_divides_is_joined() -> None:
    assert running_text([page("a fever is a high temper-"), page("ature of the body")]) == (
        "a fever is a high temperature of the body"
    )
    assert running_text([page("values of 1-"), page("5 and more")]) == "values of 1-\n\n5 and more"


def test_lines_of_which_no_width_is_known_stay_as_they_are() -> None:
    assert (
        running_text([page("The title of a book", "and its author")]) == "The title of a book\nand its author"
    )


def heads(number: int) -> Sequence[str]:
    """Return the lines of a page: title, lines that differ by numbers, but at the ends, and number."""
    ends = (f"begins with {'abcdef'[number]}", f"ends with {'abcdef'[number]}")
    return (
        "A book of fevers",
        ends[0],
        *(f"{number} in line {at}" for at in "abcd"),
        ends[1],
        f"Page {number}",
    )


def test_running_heads_stay_once_and_page_numbers_never() -> None:
    left = without_running_lines([page(*heads(number)) for number in range(1, 6)])
    texts = [line.text for lines in left for line in lines]
    assert texts.count("A book of fevers") == 1
    assert texts[0] == "A book of fevers"
    assert not any(text.startswith("Page") for text in texts)
    assert len(texts) == 1 + 5 * 6


def test_a_line_of_two_pages_is_no_running_head() -> None:
    pages = [page(*heads(number)) for number in (1, 2)]
    assert without_running_lines(pages) == pages


def with_words(*ends: str, page_number: int = 0) -> list[Line]:
    """Return a page whose last lines are given, below six of its own."""
    return page(*(f"{word} of {'abcdef'[page_number]}" for word in "qrstuv"), *ends)


def left_of(pages: Sequence[Sequence[Line]]) -> list[list[str]]:
    """Return the lines that are left below the six of each page."""
    return [[line.text for line in lines[6:]] for lines in without_running_lines(pages)]


def test_a_title_with_the_number_of_the_page_stays_once() -> None:
    pages = [with_words(f"A book of fevers {11 + n}", page_number=n) for n in range(4)]
    assert left_of(pages) == [["A book of fevers 11"], [], [], []]


@pytest.mark.parametrize("number", ["{}", "- {} -", "Page {} of 90", "Seite {}", "[{}]", "p. {}"])
def test_numbers_that_grow_with_the_page_go(number: str) -> None:
    pages = [with_words(number.format(n + 8), page_number=n) for n in range(3)]
    assert left_of(pages) == [[], [], []]
    assert left_of(pages[:2]) == [[number.format(8)], [number.format(9)]]


@pytest.mark.parametrize("text", ["Chapter {}", "\u00a7 {}", "Art. {}", "Exercise {}"])
def test_numbers_of_what_is_on_the_page_stay(text: str) -> None:
    pages = [with_words(text.format(n + 1), page_number=n) for n in range(5)]
    assert left_of(pages) == [[text.format(n + 1)] for n in range(5)]


def test_values_above_the_page_number_stay() -> None:
    pages = [with_words(f"{37 * n + 5}", f"{n + 1}", page_number=n) for n in range(5)]
    assert left_of(pages) == [[f"{37 * n + 5}"] for n in range(5)]


def test_of_pages_without_other_lines_only_numbers_go() -> None:
    slides = [page(f"Exercise {n}", "Is it true?", "Answer: yes", f"{n}") for n in range(1, 6)]
    expected = [[f"Exercise {n}", "Is it true?", "Answer: yes"] for n in range(1, 6)]
    assert [[line.text for line in lines] for lines in without_running_lines(slides)] == expected
    assert running_text([page(str(n)) for n in range(1, 9)]) == ""


def test_rows_of_numbers_at_the_edge_of_pages_stay() -> None:
    pages = [page("18 22 31 54 60", *(f"name {word}{at}" for at in "stuv")) for word in "abcd"]
    assert without_running_lines(pages) == pages
