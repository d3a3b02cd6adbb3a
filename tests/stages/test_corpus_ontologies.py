"""Questions of ontologies are balanced among the terms that are trained on, and among those that are not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import chance
from cpt.corpus.study.mining import Mined
from cpt.progress import NullProgress
from cpt.stages.base import Context
from cpt.stages.corpus.sources import ontology_items
from cpt.stages.corpus.study_config import Study

SEED = 5


@pytest.fixture
def ontology(tmp_path: Path) -> str:
    """Three hundred kinds of mills, many of which have a plural or another name that sorts in front."""
    frames = ["[Term]\nid: M:0\nname: mill\n"]
    for number in range(1, 300):
        name = f"mill of brolum {number} stones" if number % 2 else f"mill {number} with brolum"
        synonym = f'synonym: "a brolum for {number} sorts" EXACT []\n' if number % 4 == 1 else ""
        parent = chance("parent", number).randrange(max(1, number // 2))
        frames.append(f"[Term]\nid: M:{number}\nname: {name}\n{synonym}is_a: M:{parent}\n")
    file = tmp_path / "mills.obo"
    file.write_text("format-version: 1.4\n\n" + "\n".join(frames))
    return str(file)


def found(study: Study) -> list[Mined]:
    return ontology_items(study, Context(Path(), Path(), SEED, NullProgress(), recipe={}))


@pytest.mark.parametrize("most", [None, 120])
def test_a_kind_has_both_answers_as_often_among_trained_and_probed_facts(
    ontology: str, most: int | None
) -> None:
    study = Study(ontologies=(ontology,), ontology_terms=most)
    mined = found(study)
    facts = Facts(study.trained, SEED)
    for each in mined:
        facts.add(each)
    assert len({each.item.fact for each in mined}) <= (most or 300)
    counts: dict[tuple[bool, str], Counter[str]] = {}
    for each in mined:
        if each.item.label:
            key = facts.is_trained(each.item.fact), each.item.fields["kind"]
            counts.setdefault(key, Counter())[each.item.label] += 1
    assert {side for side, _ in counts} == {True, False}
    for labels in counts.values():
        assert labels["yes"] == labels["no"] > 0
    assert found(study) == mined
