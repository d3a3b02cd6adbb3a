"""Documents outside a span of years or of scores go; what is unknown is treated as told."""

from __future__ import annotations

from typing import Any

import pytest
from blocks import reason
from pydantic import ValidationError

from cpt.corpus.blocks import clean, describe_unknown
from cpt.corpus.blocks.age import Age
from cpt.corpus.blocks.quality import Quality
from cpt.corpus.documents import Document
from cpt.corpus.examples import Examples
from cpt.corpus.index import SourceCounts
from cpt.errors import DataError


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (2014, None),
        ("2015-03-01", None),
        ("March 3, 2020", None),
        (2013, "2013"),
        ("1999-12-31T23:59:59Z", "1999"),
        ("Wed, 03 Mar 2021 10:00:00 GMT", "2021"),
        ("20991", "no year"),
        (20180131, None),
        ("20211231T235959", "2021"),
        ("No. 20189931 of 20130228", "2013"),
        (20180231, "no year"),
        (20180013, "no year"),
        (1_400_000_000, "no year"),
        (True, "no year"),
        (None, "no year"),
        ([2015], "no year"),
    ],
)
def test_years_of_a_field(value: Any, detail: str | None) -> None:
    block = Age(field="date", first=2014, last=2020, unknown="remove")
    assert reason(block, "A text of 1066 and 2050.", {"date": value}) == detail


def test_open_spans_and_unknown_years() -> None:
    assert reason(Age(field="date", first=2014), "x", {"date": 2098}) is None
    assert reason(Age(field="date", last=2014), "x", {"date": 1450}) is None
    assert reason(Age(field="date", last=2014), "x", {"other": 2020}) is None
    assert reason(Age(field="date", last=2014), "x") is None
    assert reason(Age(field="date", last=2014, unknown="remove"), "x") == "no year"


def test_a_pattern_finds_the_year_in_the_text() -> None:
    opinion = "No. 1987-12\nArgued: April 3, 2009 Decided: March 19, 2010\nAs in 1850, ..."
    block = Age(pattern=r"Decided: \w+ \d+, \d{4}", last=2009)
    assert reason(block, opinion) == "2010"
    assert reason(block.model_copy(update={"last": 2010}), opinion) is None
    assert reason(block, "Argued: April 3, 2012") is None
    both = Age(field="date", pattern=r"Decided: .*", last=2009)
    assert reason(both, opinion, {"date": 2009}) is None
    assert reason(both, opinion, {"date": "unknown"}) == "2010"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (3, None),
        (2.5, None),
        ("4.0", None),
        (2.49, "2.49"),
        (5.1, "5.1"),
        ("high", "no score"),
        (None, "no score"),
        (True, "no score"),
        (float("nan"), "no score"),
        ("inf", "no score"),
        ([3], "no score"),
    ],
)
def test_scores(value: Any, detail: str | None) -> None:
    block = Quality(field="score", min=2.5, max=5)
    assert reason(block, "text", {"score": value}) == detail


def test_open_ranges_and_unknown_scores() -> None:
    assert reason(Quality(field="score", min=2), "x", {"score": 1e9}) is None
    assert reason(Quality(field="score", max=2), "x", {"score": -1e9}) is None
    assert reason(Quality(field="score", max=2), "x") == "no score"
    assert reason(Quality(field="score", max=2, unknown="keep"), "x") is None


def counted(block: Age | Quality, *values: object) -> SourceCounts:
    """Count what a block does to documents with these values of the field "it"."""
    counts = SourceCounts()
    found = [Document(f"a:{at}", "text", metadata={"it": value}) for at, value in enumerate(values)]
    assert len(list(clean(found, [block], counts, Examples("domain")))) == len(values)
    return counts


@pytest.mark.parametrize(
    ("block", "lacking"),
    [(Age(field="it", first=2000), "year"), (Quality(field="it", min=0, unknown="keep"), "score")],
)
def test_documents_that_cannot_be_judged_are_counted(block: Age | Quality, lacking: str) -> None:
    some, none = counted(block, 2001, "?", None), counted(block, "?", None)
    assert some.judged[block.kind].model_dump() == {"documents": 3, "unknown": 2}
    assert describe_unknown([block], {"domain": some, "replay": none}) == [
        f"domain: 2 of 3 documents have no {lacking} for {block.kind}, and are kept",
        f"replay: 2 of 2 documents have no {lacking} for {block.kind}, and are kept",
    ]
    assert describe_unknown([block], {"domain": counted(block, 2001)}) == []
    assert describe_unknown([block], {"domain": SourceCounts()}) == []
    with pytest.raises(DataError, match=f"{block.kind} found no {lacking} in any of 4 documents"):
        describe_unknown([block], {"domain": none, "replay": none})


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        (Age, {"first": 2000}),
        (Age, {"field": "date"}),
        (Age, {"field": "date", "first": 2001, "last": 2000}),
        (Age, {"field": "date", "first": 20}),
        (Age, {"pattern": "(", "first": 2000}),
        (Quality, {"field": "score"}),
        (Quality, {"field": "score", "min": 2, "max": 1}),
        (Quality, {"min": 2}),
    ],
)
def test_what_the_schema_refuses(block: type[Age] | type[Quality], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        block.model_validate(wrong)
