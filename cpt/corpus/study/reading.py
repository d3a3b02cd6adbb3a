"""Write reading documents: a passage, a sentence that leads over, and tasks on it; all of it is learnt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import Facts
from cpt.corpus.study.items import chance
from cpt.corpus.study.language import Language, chosen_wording, worded
from cpt.corpus.study.mining import LabelBalance, Mined
from cpt.corpus.study.sentences import passages, sentences
from cpt.corpus.study.settings import MiningSettings
from cpt.sources import READING

SOURCE = "study.reading"
"""Name among the listed sources."""

_BETWEEN = "\n\n"


def reading_documents(
    document: Document,
    mined: Sequence[Mined],
    facts: Facts,
    language: Language,
    settings: MiningSettings,
    seed: int,
    balance: LabelBalance,
) -> Iterator[Document]:
    """Yield the passages of a document that have tasks, each with at most `tasks` of every miner.

    Questions on facts that are only probed are left out, and labels that were asked more than others. What
    answers a task is left out of the passage, or it would be copied; so is a sentence that states the fact of
    a closed task once more. A task in the other direction whose
    miner needs the passage (write the text of this title) becomes a document of its own.
    """
    able = [each for each in mined if facts.may_train(each)]
    for number, (begin, end) in enumerate(passages(document.text, settings.passage, language)):
        inside = [each for each in able if begin <= each.item.span[0] and each.item.span[1] <= end]
        shown = _chosen(inside, settings.tasks, f"{seed}:{document.id}:{number}", balance)
        tasks, alone, hidden = [], [], []
        for each in shown:
            key = f"{seed}:{each.key}"
            question = worded(each.item, chosen_wording(each.item, language, key), key)
            text = f"{question.prompt} {question.answer}"
            if each.item.reverse and not each.closed:
                alone.append(text)
                continue
            tasks.append(text)
            hidden += [place for place in [_hidden(each)] if place is not None]
        hidden += _told_again(document.text, begin, end, shown, facts, language)
        seen = without(document.text, begin, end, hidden)
        if tasks and seen:
            lead_in = chance("lead-in", seed, document.id, number).choice(language.of("reading", "lead_ins"))
            text = _BETWEEN.join([seen, lead_in, *tasks])
            yield Document(f"reading:{document.id}:{number}", text, part=READING, source=SOURCE)
        for place, text in enumerate(alone):
            yield Document(f"reading:{document.id}:{number}.{place}", text, part=READING, source=SOURCE)


def _hidden(mined: Mined) -> tuple[int, int] | None:
    """Return the place of an item's answer: closed questions have it where the fact stands."""
    return mined.item.span if mined.closed else mined.item.hidden


def _told_again(
    text: str, begin: int, end: int, shown: Sequence[Mined], facts: Facts, language: Language
) -> Iterator[tuple[int, int]]:
    """Yield the sentences of a passage that state the fact of one of its closed tasks."""
    if asked := {facts.of(each.item.fact) for each in shown if each.closed}:
        for first, last in sentences(text[begin:end], language):
            if not asked.isdisjoint(facts.stated(text[begin + first : begin + last])):
                yield begin + first, begin + last


def without(text: str, begin: int, end: int, hidden: Sequence[tuple[int, int]]) -> str:
    """Return a stretch of a text without the lines that hold answers, which would only be copied."""
    parts, at = [], begin
    for first, last in sorted(hidden):
        if begin <= first and at < last <= end:
            parts.append(text[at : max(first, at)].strip("\n"))
            at = last
    parts.append(text[at:end].strip("\n"))
    return "\n".join(part for part in parts if part.strip()).strip()


def _shows(one: Mined, other: Mined) -> bool:
    """Return True if one item asks about the place where the other's answer stands."""
    hidden, (begin, end) = _hidden(other), one.item.span
    return hidden is not None and begin < hidden[1] and hidden[0] < end


def _chosen(mined: Sequence[Mined], most: int, key: str, balance: LabelBalance) -> list[Mined]:
    """Return at most so many items of each miner, of different tasks where there are, in a random order.

    None asks about the place of another one's answer, which its own words might show.
    """
    rolled = chance("tasks", key)
    by_miner: dict[str, dict[str, list[Mined]]] = defaultdict(lambda: defaultdict(list))
    for each in mined:
        by_miner[each.miner][each.item.task].append(each)
    chosen: list[Mined] = []
    for tasks in by_miner.values():
        names = list(tasks)
        rolled.shuffle(names)
        for name in [*names, *names][:most]:
            rolled.shuffle(tasks[name])
            for each in tasks[name]:
                if not balance.allows(each.item):
                    continue
                if not any(each is other or _shows(each, other) or _shows(other, each) for other in chosen):
                    chosen.append(each)
                    balance.add(each.item)
                    break
    rolled.shuffle(chosen)
    return chosen
