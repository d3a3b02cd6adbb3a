"""Remove benchmark items from training text: drop documents that have their n-grams, or cut the matches.

Words are compared without case and punctuation. The default is 13 words in a row, as for GPT-3 (Brown et al.
2020, arXiv 2005.14165, appendix C) and in lm-eval's Janitor, from which the cut has its defaults too: 200
characters around a match go with it, what is left between two cuts must have 200, and a document with more
than 10 cuts is dropped. What is left of a document is one document: its pieces with an empty line between.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.atomic import atomic_file, write_text
from cpt.corpus.build import check_sums, describe
from cpt.corpus.documents import Document, DocumentWriter, documents_path, read_documents
from cpt.corpus.examples import Examples
from cpt.corpus.index import SourceCounts
from cpt.corpus.workers import chunked
from cpt.errors import DataError
from cpt.progress import Progress
from evals.item_search import ItemSearch, Match

CONTAMINATED = "contaminated"
FILE = "contamination.jsonl"
MOST_LISTED = 10_000

_EXCERPT = 300

_SAME_END = 50
"""Characters at the end of a cut text that tell whether it still ends as the document did."""
_LONGEST_WORD = 100
_BETWEEN = "\n\n"


class Drop(BaseModel):
    """A document that has an n-gram of an item is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drop"] = "drop"


class Cut(BaseModel):
    """Matches are cut out of their documents, with a margin; conversations and questions are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cut"] = "cut"
    margin: int = Field(default=200, ge=0, description="Characters cut on each side of a match.")
    shortest: int = Field(
        default=200, ge=1, description="Fewest characters of a piece that is left; shorter ones go, too."
    )
    most: int = Field(
        default=10, ge=0, description="Most cuts of a document; one that needs more is left out as a whole."
    )


def cut(text: str, stretches: Sequence[tuple[int, int]], how: Cut) -> str:
    """Cut stretches of characters out of a text, each with a margin up to the next white space.

    Args:
        stretches: Begin and end of each, in order.

    Returns:
        The pieces that are left, with an empty line between them; nothing if there are too many cuts.
    """
    windows: list[tuple[int, int]] = []
    for begin, end in stretches:
        begin, end = _outwards(text, max(0, begin - how.margin), min(len(text), end + how.margin))
        if windows and begin <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((begin, end))
    if len(windows) > how.most:
        return ""
    borders = [0, *(border for window in windows for border in window), len(text)]
    pieces = [text[begin:end].strip() for begin, end in zip(borders[::2], borders[1::2], strict=True)]
    return _BETWEEN.join(piece for piece in pieces if len(piece) >= how.shortest)


def _outwards(text: str, begin: int, end: int) -> tuple[int, int]:
    """Move both ends outwards to white space, so that no word is cut in two."""
    first, last = max(0, begin - _LONGEST_WORD), min(len(text), end + _LONGEST_WORD)
    while first < begin and not text[begin - 1].isspace():
        begin -= 1
    while end < last and not text[end].isspace():
        end += 1
    return begin, end


@dataclass
class Contamination:
    """Benchmark items found in training text.

    Attributes:
        matches: Number of pairs of an item and a document that has n-grams of it.
        dropped: Number of documents left out, by source.
        cut: Number of documents with cuts that stay, by source.
        found: Items found, by task.
        listed: Up to `MOST_LISTED` lines of `contamination.jsonl`.
    """

    matches: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    found: dict[str, set[str]] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source: str, document: Document, matches: Iterable[Match], action: str) -> None:
        """Add a document's matches."""
        for match in matches:
            self.matches += 1
            self.found.setdefault(match.task, set()).add(match.item)
            if len(self.listed) < MOST_LISTED:
                self.listed.append(
                    {
                        "source": source,
                        "document": document.id,
                        "task": match.task,
                        "item": match.item,
                        "words": match.words,
                        "action": action,
                        "text": document.text[match.begin : min(match.end, match.begin + _EXCERPT)],
                    }
                )

    def facts(self, search: ItemSearch) -> dict[str, Any]:
        """Return the counts as plain data, with the searched items of each task."""
        return {
            "ngram": search.n,
            "matches": self.matches,
            "listed": len(self.listed),
            "dropped": dict(self.dropped),
            "cut": dict(self.cut),
            "tasks": {
                task: {
                    "items": count,
                    "too_short": search.short[task],
                    "found": len(self.found.get(task, ())),
                }
                for task, count in search.items.items()
            },
        }


def decontaminate(
    corpus: Path,
    sources: Mapping[str, SourceCounts],
    search: ItemSearch,
    action: Drop | Cut,
    progress: Progress,
) -> tuple[Contamination, list[Examples]]:
    """Remove benchmark items from the training text of a corpus, count and list them.

    Args:
        sources: Counts of each source, changed here.

    Returns:
        The items that were found, and examples of documents by source.

    Raises:
        DataError: A source has no training document left.
    """
    found = Contamination()
    examples = []
    total = sum(counts.splits["train"].documents for counts in sources.values() if "train" in counts.splits)
    done = 0
    for source, counts in sources.items():
        if "train" not in counts.splits:
            continue
        dirty: set[int] = set()
        first = 0
        for batch in chunked(read_documents(corpus, source, "train"), lambda document: len(document.text)):
            dirty |= {first + place for place in search.contaminated([each.text for each in batch])}
            first += len(batch)
            progress.update(done + first, total, "documents")
        done += first
        examples.append(Examples(source))
        if dirty:
            _rewrite(corpus, source, counts, dirty, search, action, found, examples[-1])
        progress.message(f"{source}, without benchmark items: {describe(counts)}")
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in found.listed)
    write_text(corpus / FILE, "".join(lines), durable=False)
    return found, examples


def add_listing(source: Path, corpus: Path) -> None:
    """Append the listed items of another folder to a corpus's, in a new file: steps keep hard links."""
    texts = [(folder / FILE).read_text(encoding="utf-8") for folder in (corpus, source)]
    write_text(corpus / FILE, "".join(texts), durable=False)


def _rewrite(
    corpus: Path,
    source: str,
    counts: SourceCounts,
    dirty: set[int],
    search: ItemSearch,
    action: Drop | Cut,
    found: Contamination,
    examples: Examples,
) -> None:
    """Write a source's training documents again, those at dirty places without the items."""
    others = {side: split for side, split in counts.splits.items() if side != "train"}
    counts.splits = {}
    path = documents_path(corpus, source, "train")
    with atomic_file(path, durable=False) as scratch, DocumentWriter(scratch) as writer:
        for place, document in enumerate(read_documents(corpus, source, "train")):
            kept = document
            if place in dirty:
                stretches, matches = search.matches(document.text)
                left = ""
                # Half a conversation has broken turns, and weights of the loss belong to places in the text.
                whole = document.marked or bool(document.loss_weights)
                if isinstance(action, Cut) and not whole:
                    left = cut(document.text, stretches, action)
                found.add(source, document, matches, "cut" if left else "dropped")
                first = max(matches, key=lambda match: match.words)
                detail = f"{first.words} words of {first.task}, item {first.item}"
                examples.add(CONTAMINATED, document.id, document.text, left or None, detail)
                if not left:
                    found.dropped[source] += 1
                    counts.remove(CONTAMINATED, document.text)
                    continue
                found.cut[source] += 1
                counts.rewrite(CONTAMINATED, document.text, left)
                at_end = document.text.endswith(left[-_SAME_END:])
                kept = replace(document, text=left, ended=document.ended and at_end)
            counts.keep("train", kept)
            writer.write(kept)
    if "train" not in counts.splits:
        raise DataError(
            f"{source}: all {len(dirty):,} training documents have text of benchmark items",
            hint="Leave the source out, take other benchmarks, or set decontaminate.action: cut.",
        )
    counts.splits |= others
    check_sums(counts)
