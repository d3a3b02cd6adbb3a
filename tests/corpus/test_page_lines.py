"""Lines of pages become paragraphs, and running heads go."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pytest

from cpt.corpus.readers.page_lines import Line, running_text, without_running_lines

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


def test_rows_of_numbers_at_the_edge_of_pages_stay() -> None:
    pages = [page("18 22 31 54 60", *(f"name {word}{at}" for at in "stuv")) for word in "abcd"]
    assert without_running_lines(pages) == pages
