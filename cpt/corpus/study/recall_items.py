"""Make the items of the recall probe: what the documents say, asked without them, in wordings of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from cpt.corpus.recall import GROUPS, RecallItem
from cpt.corpus.study.facts import ASKING, Facts, words_of
from cpt.corpus.study.items import Item, chance
from cpt.corpus.study.language import Language, chosen_wording, places, worded
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.settings import StudySettings

CHOICES = 4
_TRIED = 120
_STEM = 5
_ALIKE = 0.7


def recall_items(
    asked: Iterable[Item],
    known: Iterable[Mined],
    absent: Iterable[Mined],
    pool: Iterable[Mined],
    facts: Facts,
    language: Language,
    settings: StudySettings,
    seed: int,
) -> Iterator[RecallItem]:
    """Yield up to `probe` items of each group, each fact once in a group.

    Groups: "trained" (a question on the fact is trained on), "untrained" (only its documents are),
    "reversed" (untrained, asked in the other direction) and "absent" (in no training text: the floor). All
    but "reversed" ask in the direction of the documents, and "absent" by tasks that "untrained" has, so that
    groups compare. The order of the items changes nothing.

    Args:
        asked: Items whose questions are trained on.
        known: Items of the training documents on facts that are only probed.
        absent: Items on facts that no training text names.
        pool: All items of the training documents, to take wrong answers from.
    """
    groups = {
        "trained": [item for item in _askable(asked, language) if not item.reverse],
        "untrained": [item for item in _askable(_closed(known), language) if not item.reverse],
        "reversed": [item for item in _askable(_closed(known), language) if item.reverse],
    }
    others = list(_askable(_closed(absent), language))
    tasks = {item.task for item in groups["untrained"]}
    groups["absent"] = [item for item in others if not item.reverse and (item.task in tasks or not tasks)]
    pools: dict[str, list[Item]] = {}
    for item in (*_askable(_closed(pool), language), *others):
        pools.setdefault(item.task, []).append(item)
    for items in pools.values():
        items.sort(key=_order)
    for group in GROUPS:
        yield from _group(group, groups[group], pools, facts, language, settings.probe, seed)


def _closed(mined: Iterable[Mined]) -> Iterator[Item]:
    return (each.item for each in mined if each.closed)


def _askable(items: Iterable[Item], language: Language) -> Iterator[Item]:
    """Yield the items that are asked without options in sight and have no labels."""
    for item in items:
        listed = any("{options}" in wording for wording in language.wordings(item.task, unseen=True))
        if not item.label and not listed:
            yield item


def _order(item: Item) -> tuple[str, ...]:
    return item.task, item.fact, item.answer, *item.fields.values(), *item.options


def _group(
    group: str,
    items: Sequence[Item],
    pools: Mapping[str, Sequence[Item]],
    facts: Facts,
    language: Language,
    most: int,
    seed: int,
) -> Iterator[RecallItem]:
    """Yield the items of a group: facts in a random order, of each fact one question."""
    by_fact: dict[str, list[Item]] = {}
    for item in sorted(items, key=_order):
        by_fact.setdefault(facts.of(item.fact), []).append(item)
    order = sorted(by_fact, key=lambda fact: (chance("probe", seed, group, fact).random(), fact))
    made = 0
    for fact in order:
        if made == most:
            return
        rolled = chance("question", seed, group, fact)
        candidates = list(by_fact[fact])
        rolled.shuffle(candidates)
        worded_as = (
            (each, chosen_wording(each, language, f"{seed}:{group}", unseen=True)) for each in candidates
        )
        found = (
            (each, wording, _wrong_answers(each, wording, pools, facts, seed)) for each, wording in worded_as
        )
        asked = next((each for each in found if each[2]), None)
        if asked is None:
            continue
        item, wording, wrong = asked
        choices = [item.answer, *wrong]
        rolled.shuffle(choices)
        question = worded(item, wording, fact)
        yield RecallItem(
            group=group,
            fact=item.fact,
            task=item.task,
            question=question.prompt,
            choices=tuple(choices),
            answer=choices.index(item.answer),
        )
        made += 1


def _wrong_answers(
    item: Item, wording: str, pools: Mapping[str, Sequence[Item]], facts: Facts, seed: int
) -> list[str]:
    """Return three wrong answers, or none if the question, in a wording, gives the right one away.

    They are the item's own options, or answers of like length to the same task. None is nearly right: an
    answer that holds the right one, or of a fact that is defined in much the same words. If the right answer
    shares a word with the question, one of the wrong ones must share as much.
    """
    shown = places(wording)
    asked = set(map(_stem, words_of(" ".join(text for name, text in item.fields.items() if name in shown))))
    shared = _shared(item.answer, asked)
    if item.options:
        found = [option for option in item.options if option.casefold() != item.answer.casefold()]
    else:
        rolled = chance("distractors", seed, item.task, item.fact)
        pool = pools[item.task]
        sample = [
            other for other in rolled.sample(pool, min(len(pool), _TRIED)) if _differs(other, item, facts)
        ]
        sample.sort(key=lambda each: abs(len(each.answer) - len(item.answer)))
        found = list(dict.fromkeys(other.answer for other in sample))
    if shared:  # one that shares as much comes first
        found.sort(key=lambda answer: _shared(answer, asked) < shared)
        if not found or _shared(found[0], asked) < shared:
            return []
    return found[: CHOICES - 1] if len(found) >= CHOICES - 1 else []


def _differs(other: Item, item: Item, facts: Facts) -> bool:
    """Return True if the answer of another item is wrong for this one."""
    if facts.of(other.fact) == facts.of(item.fact):
        return False
    one, two = words_of(item.answer), words_of(other.answer)
    if " ".join(one) in " ".join(two) or " ".join(two) in " ".join(one):
        return False
    if item.task.partition(".")[0] in ASKING:  # questions may be of one pattern
        return True
    texts = [set(words_of(" ".join([*each.fields.values(), each.answer]))) for each in (item, other)]
    return len(texts[0] & texts[1]) < _ALIKE * min(map(len, texts))


def _stem(word: str) -> str:
    return word[:_STEM]


def _shared(answer: str, asked: Set[str]) -> int:
    """Return how many words of an answer, but for short ones, begin like a word of the question."""
    return len({_stem(word) for word in words_of(answer) if len(word) >= _STEM - 1} & asked)
