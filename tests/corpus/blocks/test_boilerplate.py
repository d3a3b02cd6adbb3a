"""Lines that many documents have in common are learnt and removed; content that repeats less stays."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from blocks import text_after
from pydantic import ValidationError

from cpt.corpus.blocks import learn
from cpt.corpus.blocks.boilerplate import Boilerplate, LineCounter
from cpt.corpus.blocks.unicode import Unicode
from cpt.corpus.documents import Document, Removed


def documents(number: int) -> list[Document]:
    """Documents with a header, a footer with their number, and two lines of their own."""
    return [
        Document(
            str(at),
            f"We use cookies on this site.\nBody {at} has a first line.\n  Opinions, Page {at} of 90  \n"
            f"(a)\nCommon heading{'' if at % 5 else ' here'}\nAnother body line, {'x' * at}.",
        )
        for at in range(number)
    ]


def test_what_many_documents_share_goes_and_the_rest_stays() -> None:
    block = Boilerplate().learn(documents(50))
    assert block.lines == [
        "Common heading",
        "Opinions, Page 0 of 0",
        "We use cookies on this site.",
    ]
    cleaned = text_after(block, documents(6)[5].text + "\nWe use cookies on this site, too.")
    body = "Body 5 has a first line.\n(a)\nCommon heading here\nAnother body line, xxxxx."
    assert cleaned == f"{body}\nWe use cookies on this site, too."


def test_share_documents_and_length() -> None:
    texts = documents(50)  # "Common heading here" is in 10 of them
    assert "Common heading here" in Boilerplate(share=0.2).learn(texts).lines
    assert "Common heading here" not in Boilerplate(share=0.21).learn(texts).lines
    assert "Common heading here" not in Boilerplate(share=0.2, documents=11).learn(texts).lines
    assert Boilerplate(documents=51).learn(texts).lines == []
    assert Boilerplate(longest=14).learn(texts).lines == ["Common heading"]


def test_numbers_count_unless_they_are_to_be_ignored() -> None:
    records = [Document(str(at), f"Age: {at} years\nRecord p. {at}\nOf {'x' * at}.") for at in range(40)]
    assert Boilerplate().learn(records).lines == ["Record p. 0"]
    block = Boilerplate(ignore_numbers=True).learn(records)
    assert block.lines == ["Age: 0 years", "Record p. 0"]
    assert text_after(block, "Age: 99 years\nAge: unknown") == "Age: unknown"


def test_lines_of_the_recipe_are_removed_too() -> None:
    block = Boilerplate(lines=["Printed on page 0"])
    assert text_after(block, "Printed on page 12\ntext") == "text"
    assert block.learn(documents(50)).lines == sorted(
        [*Boilerplate().learn(documents(50)).lines, "Printed on page 0"]
    )


def test_what_is_learnt_is_plain_data_whatever_the_order() -> None:
    texts = documents(40)
    block = Boilerplate().learn(texts)
    assert Boilerplate.model_validate(json.loads(block.model_dump_json())) == block
    random.Random(0).shuffle(texts)
    assert Boilerplate().learn(texts) == block


def test_memory_is_bounded_and_no_line_is_counted_too_high() -> None:
    rng = random.Random(0)
    counter, exact = LineCounter(1000), Counter[str]()
    for _ in range(400):
        lines = {f"rare {rng.random()}" for _ in range(50)} | {f"common {rng.randrange(5)}", "always"}
        exact.update(lines)
        counter.add(lines)
        assert len(counter.counts) <= 1000
    assert counter.lowered > 0
    assert all(
        exact[line] - counter.lowered <= count <= exact[line] for line, count in counter.counts.items()
    )
    assert counter.counts["always"] >= 400 - counter.lowered
    most = Boilerplate(most_lines=1000, documents=2, share=0).learn(documents(3000))
    assert "We use cookies on this site." in most.lines
    with pytest.raises(ValidationError):
        Boilerplate(most_lines=10)


@pytest.mark.parametrize(
    ("marks", "removed"),
    [
        (["-1-", "-2-", "-3-"], True),
        (["- 7 -", "- 8 -", "- 9 -"], True),
        (["Page 1 of 3", "page 2 of 3", "PAGE 3 of 3"], True),
        (["1 / 3", "2 / 3", "3 / 3"], True),
        (["1", "2", "3"], True),
        (["-1-", "-2-"], False),
        (["-1-", "-3-", "-5-"], False),
        (["-1-", "2", "[3]"], False),
        (["(1)", "(2)", "(3)"], False),
        (["§ 1", "§ 2", "§ 3"], False),
        (["1.5", "2.5", "3.5"], False),
    ],
)
def test_page_numbers_count_up(marks: list[str], removed: bool) -> None:
    page = "A line of text on the page. " * 20
    text = "\n".join(f"{page}\n{mark}" for mark in marks)
    expected = "\n".join(page for _ in marks) if removed else text
    assert text_after(Boilerplate(), text) == expected
    assert text_after(Boilerplate(page_numbers=False), text) == text


def test_a_numbered_list_and_a_column_of_numbers_stay() -> None:
    numbered = "\n".join(f"{number}\nAn item of a list." for number in range(1, 9))
    column = "\n".join(map(str, range(1, 20)))
    for text in (numbered, column):
        assert text_after(Boilerplate(), text) == text


def test_learning_sees_what_the_blocks_before_leave() -> None:
    texts = [
        f"cafe\u0301 menu\nbody {'x' * at}" if at % 2 else f"café menu\nbody {'x' * at}" for at in range(20)
    ]

    def read() -> list[Document | Removed]:
        return [*(Document(str(at), text) for at, text in enumerate(texts)), Removed("x", "empty")]

    [_, block] = learn(read, [Unicode(), Boilerplate(share=0.9)])
    assert isinstance(block, Boilerplate)
    assert block.lines == ["café menu"]
    [alone] = learn(read, [Boilerplate(share=0.9)])
    assert isinstance(alone, Boilerplate)
    assert alone.lines == []
