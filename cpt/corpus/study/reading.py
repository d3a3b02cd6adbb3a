"""Write reading documents: a passage, a sentence that leads over, and tasks on it; all of it is learnt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from cpt.corpus.documents import Document
from cpt.corpus.study.items import chance, is_trained
from cpt.corpus.study.language import Language, chosen_wording, worded
from cpt.corpus.study.mining import Mined
from cpt.corpus.study.passages import passages
from cpt.corpus.study.settings import StudySettings
from cpt.sources import READING

SOURCE = "study.reading"
"""Name among the listed sources."""

_BETWEEN = "\n\n"


def reading_documents(
    document: Document, mined: Sequence[Mined], language: Language, settings: StudySettings, seed: int
) -> Iterator[Document]:
    """Yield the passages of a document that have tasks, each with at most `tasks` of every miner.

    Questions on facts that are only probed are left out. A task in the other direction whose miner needs the
    passage (write the text of this title) would show its answer beside it: it becomes a document of its own.
    """
    able = [each for each in mined if not each.closed or is_trained(each.item.fact, settings.trained, seed)]
    for number, (begin, end) in enumerate(passages(document.text, settings.passage)):
        inside = [each for each in able if begin <= each.item.span[0] and each.item.span[1] <= end]
        shown = _chosen(inside, settings.tasks, f"{seed}:{document.id}:{number}")
        tasks, alone = [], []
        for each in shown:
            key = f"{seed}:{each.key}"
            question = worded(each.item, chosen_wording(each.item, language, key), key)
            text = f"{question.prompt} {question.answer}"
            (alone if each.item.reverse and not each.closed else tasks).append(text)
        if tasks:
            hidden = [each.item.hidden for each in shown if each.item.hidden is not None]
            lead_in = chance("lead-in", seed, document.id, number).choice(language.of("reading", "lead_ins"))
            seen = without(document.text, begin, end, hidden)
            text = _BETWEEN.join([seen, lead_in, *tasks])
            yield Document(f"reading:{document.id}:{number}", text, part=READING, source=SOURCE)
        for place, text in enumerate(alone):
            yield Document(f"reading:{document.id}:{number}.{place}", text, part=READING, source=SOURCE)


def without(text: str, begin: int, end: int, hidden: Sequence[tuple[int, int]]) -> str:
    """Return a stretch of a text without the lines that hold answers, which would only be copied."""
    parts, at = [], begin
    for first, last in sorted(hidden):
        if first >= at and last <= end:
            parts.append(text[at:first].strip("\n"))
            at = last
    parts.append(text[at:end].strip("\n"))
    return "\n".join(part for part in parts if part.strip()).strip()


def _chosen(mined: Sequence[Mined], most: int, key: str) -> list[Mined]:
    """Return at most so many items of each miner, of different tasks where there are, in a random order."""
    rolled = chance("tasks", key)
    by_miner: dict[str, dict[str, list[Mined]]] = defaultdict(lambda: defaultdict(list))
    for each in mined:
        by_miner[each.miner][each.item.task].append(each)
    chosen: list[Mined] = []
    for tasks in by_miner.values():
        names = list(tasks)
        rolled.shuffle(names)
        for name in [*names, *names][:most]:
            if tasks[name]:
                chosen.append(tasks[name].pop(rolled.randrange(len(tasks[name]))))
    rolled.shuffle(chosen)
    return chosen
