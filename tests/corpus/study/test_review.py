"""Summaries and learning outcomes of hand-written texts, and sections that only look like them."""

from __future__ import annotations

import pytest
from made_language import with_abbreviation

from cpt.corpus.documents import Document
from cpt.corpus.study.items import Item
from cpt.corpus.study.language import Language, load_language, places
from cpt.corpus.study.miners.review import Review

ENGLISH = load_language("en")

BODY = (
    "The moon pulls the water of the sea towards itself. Where the pull is strongest the water rises, and "
    "as the earth turns the bulge travels along the coast. Twice a day the water comes, and twice it goes "
    "again."
)
FIRST = "Tides are caused by the pull of the moon and, less so, by that of the sun."
SECOND = "At new and full moon both pull together, and the tides are highest."
GLOSSARY = """ebb: the fall of the water after high tide
flood: the rise of the water after low tide
neap tide: a weak tide at half moon
spring tide: a strong tide at new or full moon"""
TITLE = "The Causes of Tides\n"
START = f"{TITLE}{BODY}\n"
TEXT = f"""The Causes of Tides
Learning Outcomes
By the end of this section, you will be able to:
Explain why the sea rises twice a day.
Compare spring tides with neap tides.
The Pull of the Moon
{BODY}
Chapter Review
What causes the tides?
{FIRST}
{SECOND}
{GLOSSARY}
"""


def mined(text: str, *others: str, language: Language = ENGLISH) -> list[Item]:
    miner = Review(language)
    miner.learn(Document(str(number), each) for number, each in enumerate((text, *others)))
    return list(miner.mine(Document("0", text)))


def test_golden_items() -> None:
    outcomes, summary, reverse = mined(TEXT)
    title = {"title": "The Causes of Tides"}
    assert outcomes.task == "review.outcomes"
    assert outcomes.answer == "Explain why the sea rises twice a day; Compare spring tides with neap tides"
    assert outcomes.fields == title
    assert TEXT[slice(*outcomes.span)].startswith("Explain why")
    assert TEXT[slice(*outcomes.span)].endswith("neap tides.")
    assert (summary.task, summary.answer, summary.fields) == ("review.summary", f"{FIRST} {SECOND}", title)
    assert TEXT[slice(*summary.span)] == f"{FIRST}\n{SECOND}"
    assert (reverse.task, reverse.answer) == ("review.reverse_summary", "The Causes of Tides")
    assert reverse.fields == {"summary": f"{FIRST} {SECOND}"}
    assert [item.reverse for item in (outcomes, summary, reverse)] == [False, False, True]
    assert {item.fact for item in (outcomes, summary, reverse)} == {"the causes of tides"}


def test_outcomes_without_full_stops_end_at_the_first_heading() -> None:
    text = TEXT.replace("twice a day.\n", "twice a day\n").replace("neap tides.\n", "neap tides\n")
    assert mined(text)[0].answer == mined(TEXT)[0].answer


def test_bullets_and_numbers_are_no_part_of_an_outcome() -> None:
    text = TEXT.replace("Explain why", "• Explain why").replace("Compare spring", "(2) Compare spring")
    assert mined(text)[0].answer == mined(TEXT)[0].answer


@pytest.mark.parametrize(
    ("heading", "task"),
    [
        ("Abstract", "summary"),
        ("## Key Takeaways", "summary"),
        ("CONCLUSIONS:", "summary"),
        ("In summary", "summary"),
        ("Objectives", "outcomes"),
        ("**Learning Objectives**", "outcomes"),
    ],
)
def test_other_headings(heading: str, task: str) -> None:
    replaced = "Chapter Review" if task == "summary" else "Learning Outcomes"
    assert f"review.{task}" in {item.task for item in mined(TEXT.replace(replaced, heading))}


def test_a_summary_ends_at_the_next_heading_and_a_long_one_gives_a_title_alone() -> None:
    longer = " ".join([FIRST, SECOND] * 6)
    text = TEXT.replace(f"{FIRST}\n{SECOND}", f"{longer}\nReview Questions\n{BODY}")
    _, item = mined(text)
    assert item.task == "review.reverse_summary"
    summary = item.fields["summary"]
    assert longer.startswith(summary)
    assert summary.endswith((FIRST, SECOND))
    assert 550 < len(summary) <= 700


def test_sentences_end_as_their_language_says() -> None:
    outcome = "Explain what Mlr. Ahrend said of the sea."
    line = f"{FIRST} {SECOND} It was first told by Mlr. Ahrend{' of the coast' * 60}."
    text = TEXT.replace("Explain why the sea rises twice a day.", outcome)
    text = text.replace(f"{FIRST}\n{SECOND}", line)
    english, other = mined(text), mined(text, language=with_abbreviation("Mlr"))
    assert [item.task for item in english] == ["review.reverse_summary"]
    assert english[0].fields["summary"].endswith("Mlr.")
    outcomes, title = other
    assert outcomes.answer == "Explain what Mlr. Ahrend said of the sea; Compare spring tides with neap tides"
    assert title.fields["summary"] == f"{FIRST} {SECOND}"


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(TITLE, "Introduction\n"),  # no title
        TEXT.replace("Chapter Review", "Chapter Review of Tides").replace("Learning Outcomes", "Learning"),
        f"{START}Summary\n{GLOSSARY}\n",  # only a glossary
        f"{START}Summary\nWhy does it rise?\nWhy does it fall?\n",  # only questions
        f"{START}Summary\nTides rise.\n",  # too short
        f"{START}Summary\n{FIRST}\n{SECOND}\nSummary\n{SECOND}\n{FIRST}\n",  # two of them
        f"{START}Summary\n{SECOND.replace('tides', 'waves')} {BODY[:60]}.\n",  # other subject
        f"{TITLE}Objectives\nExplain why the sea rises.\n{BODY}\n",  # a single outcome
        f"{TITLE}Objectives\nExplain the ebb.\nName the flood.\nBefriend the moon.\n{BODY}\n",  # goes on
        f"{TITLE}Objectives\nTides are strong.\nThe moon is far.\n{BODY}\n",  # statements
        "",
    ],
)
def test_nothing_is_found_in_look_alikes(text: str) -> None:
    assert mined(text) == []


def test_a_title_of_two_documents_is_not_asked_for() -> None:
    assert mined(TEXT, f"The causes of tides\n{BODY}\n") == []


def test_wordings_have_places_of_their_items() -> None:
    items = {item.task: item for item in mined(TEXT)}
    assert {f"review.{task}" for task in ("summary", "reverse_summary", "outcomes")} == items.keys()
    for task, item in items.items():
        for unseen in (False, True):
            for wording in ENGLISH.wordings(task, unseen=unseen):
                assert places(wording) == item.fields.keys()
                assert not wording.endswith((" ", "\n"))
