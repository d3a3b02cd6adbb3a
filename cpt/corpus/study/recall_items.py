"""Make the items of the recall probe: what the documents say, asked without them, in wordings of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

from cpt.corpus.recall import RecallItem
from cpt.corpus.study.items import Item, chance, is_trained
from cpt.corpus.study.language import Language, chosen_wording, worded
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.settings import StudySettings

CHOICES = 4


def recall_items(
    training: Iterable[Mined],
    held_out: Iterable[Mined],
    language: Language,
    settings: StudySettings,
    seed: int,
) -> Iterator[RecallItem]:
    """Yield up to `probe` items of each group, each fact once in a group.

    Groups: "trained" (questions on the fact are trained on), "untrained" (only its documents are), "reversed"
    (untrained, asked in the other direction) and "absent" (in no training document: the floor).

    Args:
        training: Items of the training documents.
        held_out: Items of the held-out documents.
    """
    trained_on, others = list(_askable(training, language)), list(_askable(held_out, language))
    known = {item.fact for item in trained_on}
    absent = [item for item in others if item.fact not in known]
    pools: dict[str, list[Item]] = {}
    for item in (*trained_on, *absent):
        pools.setdefault(item.task, []).append(item)
    groups: dict[str, list[Item]] = {"trained": [], "untrained": [], "reversed": [], "absent": []}
    for item in trained_on:
        if is_trained(item.fact, settings.trained, seed):
            groups["trained"].append(item)
        else:
            groups["reversed" if item.reverse else "untrained"].append(item)
    groups["absent"] = absent
    for group, items in groups.items():
        yield from _group(group, items, pools, language, settings.probe, seed)


def _askable(mined: Iterable[Mined], language: Language) -> Iterator[Item]:
    """Yield the items that are asked without options in sight: closed ones without labels."""
    for each in mined:
        listed = any("{options}" in wording for wording in language.wordings(each.item.task, unseen=True))
        if each.closed and not each.item.label and not listed:
            yield each.item


def _group(
    group: str, items: Sequence[Item], pools: dict[str, list[Item]], language: Language, most: int, seed: int
) -> Iterator[RecallItem]:
    """Yield the items of a group: facts in a random order, of each fact one question."""
    by_fact: dict[str, list[Item]] = {}
    for item in items:
        by_fact.setdefault(item.fact, []).append(item)
    facts = sorted(by_fact, key=lambda fact: (chance("probe", seed, group, fact).random(), fact))
    made = 0
    for fact in facts:
        if made == most:
            return
        rolled = chance("question", seed, group, fact)
        item = rolled.choice(by_fact[fact])
        wrong = _distractors(item, pools[item.task], {each.answer.casefold() for each in by_fact[fact]}, seed)
        if len(wrong) < CHOICES - 1:
            continue
        choices = [item.answer, *wrong]
        rolled.shuffle(choices)
        question = worded(item, chosen_wording(item, language, f"{seed}:{group}", unseen=True), fact)
        yield RecallItem(
            group=group,
            fact=fact,
            task=item.task,
            question=question.prompt,
            choices=tuple(choices),
            answer=choices.index(item.answer),
        )
        made += 1


def _distractors(item: Item, pool: Sequence[Item], right: Set[str], seed: int) -> list[str]:
    """Return wrong answers: the item's own options, or answers of like length to the same task."""
    if item.options:
        return [option for option in item.options if option.casefold() not in right][: CHOICES - 1]
    rolled = chance("distractors", seed, item.task, item.fact)
    sample = rolled.sample(pool, min(len(pool), 40))
    sample.sort(key=lambda each: abs(len(each.answer) - len(item.answer)))
    chosen: list[str] = []
    for other in sample:
        fits = other.fact != item.fact and other.answer.casefold() not in right
        if fits and other.answer not in chosen:
            chosen.append(other.answer)
        if len(chosen) == CHOICES - 1:
            break
    return chosen
