"""List the cleaning blocks, one file each, and apply them to a stream of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cpt.corpus.blocks.age import Age
from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.blocks.boilerplate import Boilerplate
from cpt.corpus.blocks.c4 import C4
from cpt.corpus.blocks.fineweb import FineWeb
from cpt.corpus.blocks.gopher import Gopher
from cpt.corpus.blocks.language import Language
from cpt.corpus.blocks.pii import PII
from cpt.corpus.blocks.quality import Quality
from cpt.corpus.blocks.toxicity import Toxicity
from cpt.corpus.blocks.unicode import Unicode
from cpt.corpus.blocks.whitespace import Whitespace
from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.examples import Examples
from cpt.corpus.index import SourceCounts
from cpt.corpus.workers import Workers, chunked


def _with_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Cleaning = Annotated[
    Unicode | Whitespace | Boilerplate | Language | Gopher | C4 | FineWeb | Toxicity | Age | Quality | PII,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
"""Settings of any block: `{kind: whitespace, empty_lines: 2}`, or its name alone."""


def learn(read: Callable[[], Iterable[Item]], blocks: Sequence[Block], workers: int = 1) -> list[Block]:
    """Return the blocks for one source, each that learns after a pass over what the blocks before it leave.

    Args:
        read: Function that reads the source again from its start.
        workers: Number of processes.
    """
    learnt: list[Block] = []
    for block in blocks:
        learnt.append(block.learn(_left_by(learnt, read(), workers)) if block.learns else block)
    return learnt


def _left_by(blocks: Sequence[Block], items: Iterable[Item], workers: int) -> Iterator[Document]:
    left = clean(items, blocks, SourceCounts(), Examples(""), workers)
    return (item for item in left if isinstance(item, Document) and not item.marked)


def clean(
    items: Iterable[Item], blocks: Sequence[Block], counts: SourceCounts, examples: Examples, workers: int = 1
) -> Iterator[Item]:
    """Yield the entries of a source after all blocks, in their order.

    Conversations are removed by blocks, but not rewritten: they would lose the marks of their turns, and a
    message could come to spell one.

    Args:
        blocks: Blocks as `learn` returns them.
        counts: Counts of the source; entries, bytes, and bytes that rewriting takes are added.
        examples: Collection of rewritten documents; extended here.
        workers: Number of processes.
    """
    entered = _entered(items, counts)
    if not blocks:
        yield from entered
        return
    chunks = chunked(entered, lambda item: len(item.text))
    with Workers(_chunk_cleaner, (tuple(blocks), examples.source), workers) as pool:
        for cleaned, counted, found in pool.map(chunks):
            counts.add(counted)
            examples.merge(found)
            yield from cleaned


def _entered(items: Iterable[Item], counts: SourceCounts) -> Iterator[Item]:
    for item in items:
        counts.enter(item)
        yield item


def _chunk_cleaner(
    blocks: Sequence[Block], source: str
) -> Callable[[list[Item]], tuple[list[Item], SourceCounts, Examples]]:
    """Return the function that cleans a chunk of entries; it also returns their counts and examples."""
    cleaners = [(block.kind, block.prepare()) for block in blocks]

    def clean_chunk(items: list[Item]) -> tuple[list[Item], SourceCounts, Examples]:
        counts, examples = SourceCounts(), Examples(source)
        cleaned = []
        for item in items:
            cleaned.append(_cleaned(item, cleaners, counts, examples))
        return cleaned, counts, examples

    return clean_chunk


def _cleaned(
    item: Item, cleaners: Sequence[tuple[str, Cleaner]], counts: SourceCounts, examples: Examples
) -> Item:
    for kind, cleaner in cleaners:
        if isinstance(item, Removed) or not item.text:
            return item
        result = cleaner(item)
        if isinstance(result, Document) and item.marked:
            continue
        if isinstance(result, Document) and result.text != item.text:
            counts.rewrite(kind, item.text, result.text)
            examples.add(kind, item.id, item.text, result.text)
        item = result
    return item


__all__ = ["Block", "Cleaner", "Cleaning", "clean", "learn"]
