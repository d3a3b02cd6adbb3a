"""Programs by which a model refines a passage: data, not code."""

from __future__ import annotations

import pytest

from cpt.corpus.study.write.programs import Program, ProgramError, numbered, parse_program, refined

TEXT = "Home > Rivers\nThe Orla is a riv- er.\nIt is long.\nAccept cookies\n© by us"


def test_lines_are_numbered_from_one() -> None:
    assert numbered(TEXT).split("\n")[1] == "2| The Orla is a riv- er."


@pytest.mark.parametrize(
    ("program", "result"),
    [
        ("keep", TEXT),
        ("drop", ""),
        ("delete 1\ndelete 4-5", "The Orla is a riv- er.\nIt is long."),
        (
            'replace 2: "riv- er" -> "river"\n\ndelete 1',
            "The Orla is a river.\nIt is long.\nAccept cookies\n© by us",
        ),
        (
            '`delete 5`\nreplace 4: " cookies" -> ""',
            "Home > Rivers\nThe Orla is a riv- er.\nIt is long.\nAccept",
        ),
        ("delete 1-5", ""),
    ],
)
def test_a_program_edits_lines(program: str, result: str) -> None:
    assert refined(TEXT, parse_program(program)) == result


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "no_program"),
        ("delete 1\n" * 201, "no_program"),
        ("remove_lines(1, 2)", "unknown_operation"),
        ("delete 1\n__import__('os').system('true')", "unknown_operation"),
        ("I would keep all of it.", "unknown_operation"),
        ("delete -1", "unknown_operation"),
        ("delete 1; delete 2", "unknown_operation"),
        ("keep\ndelete 1", "contradiction"),
        ("drop\ndrop", "contradiction"),
        ("delete 6", "line_out_of_range"),
        ("delete 0", "line_out_of_range"),
        ("delete 3-2", "line_out_of_range"),
        ("delete 4-9", "line_out_of_range"),
        ('replace 9: "a" -> "b"', "line_out_of_range"),
        ('replace 3: "Orla" -> "Vesk"', "text_not_found"),
        ('replace 2: "r" -> "x"', "text_not_found"),  # stands there more than once
        ('replace 3: "long" -> "long, wide and full of fish"', "adds_text"),
    ],
)
def test_a_program_that_does_not_fit_is_refused(program: str, reason: str) -> None:
    with pytest.raises(ProgramError) as caught:
        refined(TEXT, parse_program(program))
    assert caught.value.reason == reason


def test_nothing_of_a_program_is_run() -> None:
    program = parse_program('replace 1: "{0.text}" -> "$(touch /x)"')
    assert program == Program(replaced=[(1, "{0.text}", "$(touch /x)")])
    assert refined("a {0.text} b", program) == "a $(touch /x) b"
