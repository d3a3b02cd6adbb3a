"""Sentences that name all they speak of, and those that point at another one."""

from __future__ import annotations

import pytest

from cpt.corpus.study.language import load_language
from cpt.corpus.study.reference import ReferenceCheck, noun_form

CHECK = ReferenceCheck(load_language("en"))
TEXT = "A cooper cuts a stave. A notice hung there. The barrel holds wine."

ALONE = [
    "Coopers of the north make barrels out of oak.",
    "The barrel of a cooper holds wine for years.",
    "The stave of a barrel is bent over a fire.",  # limited by what follows
    "A stave is wet when the stave is bent.",  # named before
    "Coopers such as Lund bend staves of oak.",
    "Coopers are those who make barrels.",
    "A stave, also known as a board, is bent.",
    "Whoever hangs up a notice may take such a notice down.",
    "In Bergen Lund took his plane to the market.",
    "The laws of the U.S. Congress do not speak of barrels.",
]
POINTING = [
    "It holds wine for many years in a cellar.",
    "Coopers bend staves when they are wet.",
    "However, staves of oak are bent over a fire.",
    "Staves, however, are bent over a fire.",
    "Staves of oak are also bent over a fire.",
    "The stave was bent over a fire.",
    "Coopers split the stave.",
    "The charge states that coopers are free.",
    "Under such a notice coopers may not work.",
    "Despite this, coopers of the north go on.",
    "At that price coopers of the north do not work.",
    "The decision was a hard one for coopers.",
    "In November he took a plane to the market.",
    "We hold that coopers are free.",
    "Barrels are shown in the picture of the cellar.",
    "Space: Coopers need a yard and a cellar.",
    "In General.— Coopers need a yard and a cellar.",
    "Coopers need (a) a yard and (b) a cellar.",
    "Lund v. Berg says that coopers are free.",
    "Coopers paid $30 for oak.",
    "Coopers write letter Y. Letter X is for brewers.",
    "Symptoms include a cough and a cold.",
    "The second phase is the bending of staves.",
    "The loss will cost coopers a year.",
    "The lateral layer holds coopers up.",
]


@pytest.mark.parametrize("sentence", ALONE)
def test_a_sentence_that_names_all_stands_alone(sentence: str) -> None:
    assert CHECK.stands_alone(sentence, CHECK.introduced(TEXT))


@pytest.mark.parametrize("sentence", POINTING)
def test_a_sentence_that_points_at_another_does_not(sentence: str) -> None:
    assert not CHECK.stands_alone(sentence, CHECK.introduced(TEXT))


def test_what_a_text_introduces_depends_on_the_text() -> None:
    sentence = "The barrel holds wine."
    assert CHECK.stands_alone(sentence, CHECK.introduced("Barrels hold wine."))
    assert not CHECK.stands_alone(sentence, CHECK.introduced("Here stood a barrel, too."))


@pytest.mark.parametrize(
    "forms", ["stave staves", "body bodies", "process processes", "bone bones", "law laws"]
)
def test_the_forms_of_a_noun_are_one(forms: str) -> None:
    assert len(set(map(noun_form, forms.split()))) == 1
