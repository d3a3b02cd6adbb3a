"""List the cleaning blocks, one file each, and apply them to a stream of documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter

from cpt.atomic import write_text
from cpt.corpus.blocks.age import Age
from cpt.corpus.blocks.block import Block, Cleaner, Unknown
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
from cpt.corpus.examples import Example, Examples
from cpt.corpus.index import SourceCounts
from cpt.corpus.items import read_items, read_items_and_facts, write_items
from cpt.corpus.tasks import Tasks, Work
from cpt.errors import DataError


def _with_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Cleaning = Annotated[
    Unicode | Whitespace | Boilerplate | Language | Gopher | C4 | FineWeb | Toxicity | Age | Quality | PII,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]
"""Settings of any block: `{kind: whitespace, empty_lines: 2}`, or its name alone."""


def learn(
    read: Callable[[], Iterable[Item]], blocks: Sequence[Block], tasks: Tasks | None = None
) -> list[Block]:
    """Return the blocks for one source, each that learns after a pass over what the blocks before it leave.

    Args:
        read: Function that reads the source again from its start.
        tasks: Processes that clean, and the folder in which the learnt blocks are kept.
    """
    if not any(block.learns for block in blocks):
        return list(blocks)
    tasks = tasks or Tasks()
    kept = None if tasks.folder is None else tasks.folder / "learnt.json"
    if kept is not None and kept.exists():
        return list(_BLOCKS.validate_json(kept.read_bytes()))
    learnt: list[Block] = []
    for block in blocks:
        learnt.append(block.learn(_left_by(learnt, read(), tasks.not_kept())) if block.learns else block)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps([block.model_dump(mode="json") for block in learnt]))
    return learnt


_BLOCKS: TypeAdapter[list[Any]] = TypeAdapter(list[Cleaning])


def _left_by(blocks: Sequence[Block], items: Iterable[Item], tasks: Tasks) -> Iterator[Document]:
    left = clean(items, blocks, SourceCounts(), Examples(""), tasks)
    return (item for item in left if isinstance(item, Document) and not item.marked)


def clean(
    items: Iterable[Item],
    blocks: Sequence[Block],
    counts: SourceCounts,
    examples: Examples,
    tasks: Tasks | None = None,
) -> Iterator[Item]:
    """Yield the entries of a source after all blocks, in their order.

    Conversations are removed by blocks, but not rewritten: they would lose the marks of their turns, and a
    message could come to spell one.

    Args:
        blocks: Blocks as `learn` returns them.
        counts: Counts of the source; entries, bytes, and bytes that rewriting takes are added.
        examples: Collection of rewritten documents; extended here.
        tasks: Place where documents are cleaned; by default this process.
    """
    entered = _entered(items, counts)
    if not blocks:
        yield from entered
        return
    work = Work(
        prepare=_chunk_cleaner,
        arguments=(tuple(blocks), examples.source),
        size=lambda item: len(item.text),
        content=repr,
        write_items=write_items,
        read_items=read_items,
        write_results=_write_cleaned,
        read_results=_read_cleaned,
    )
    for cleaned in (tasks or Tasks()).map(work, entered):
        counts.add(cleaned.counts)
        examples.merge(cleaned.examples)
        yield from cleaned.items


class _Cleaned(NamedTuple):
    """Entries after all blocks, with counts and examples of what these did."""

    items: list[Item]
    counts: SourceCounts
    examples: list[Example]


def _write_cleaned(path: Path, key: str, results: list[_Cleaned]) -> None:
    counts = SourceCounts()
    for each in results:
        counts.add(each.counts)
    examples = [example for each in results for example in each.examples]
    items = [item for each in results for item in each.items]
    write_items(path, items, {"key": key, "counts": counts.model_dump(), "examples": examples})


def _read_cleaned(path: Path) -> tuple[str, list[_Cleaned]]:
    items, facts = read_items_and_facts(path)
    examples = [Example(*each) for each in facts["examples"]]
    return facts["key"], [_Cleaned(items, SourceCounts.model_validate(facts["counts"]), examples)]


def _entered(items: Iterable[Item], counts: SourceCounts) -> Iterator[Item]:
    for item in items:
        counts.enter(item)
        yield item


def _chunk_cleaner(blocks: Sequence[Block], source: str) -> Callable[[list[Item]], _Cleaned]:
    """Return the function that cleans a chunk of entries."""
    cleaners = [(block, block.prepare()) for block in blocks]

    def clean_chunk(items: list[Item]) -> _Cleaned:
        counts, examples = SourceCounts(), Examples(source)
        cleaned = [_cleaned(item, cleaners, counts, examples) for item in items]
        return _Cleaned(cleaned, counts, list(examples))

    return clean_chunk


def _cleaned(
    item: Item, cleaners: Sequence[tuple[Block, Cleaner]], counts: SourceCounts, examples: Examples
) -> Item:
    for block, cleaner in cleaners:
        if isinstance(item, Removed) or not item.text:
            return item
        result = cleaner(item)
        if block.judges_by:
            counts.judge(block.kind, isinstance(result, Unknown))
        if isinstance(result, Unknown):
            result = result.document
        if isinstance(result, Document) and item.marked:
            continue
        if isinstance(result, Document) and result.text != item.text:
            counts.rewrite(block.kind, item.text, result.text)
            examples.add(block.kind, item.id, item.text, result.text)
        item = result
    return item


def describe_unknown(blocks: Iterable[Block], sources: Mapping[str, SourceCounts]) -> list[str]:
    """Describe how many documents stay because a block found nothing to judge them by.

    Args:
        sources: Counts of each source after cleaning.

    Raises:
        DataError: A block found nothing in any document of all sources, so that it did nothing.
    """
    lines = []
    for block in blocks:
        found = {
            name: counts.judged[block.kind] for name, counts in sources.items() if block.kind in counts.judged
        }
        if found and all(judged.unknown == judged.documents for judged in found.values()):
            documents = sum(judged.documents for judged in found.values())
            raise DataError(
                f"clean: {block.kind} found no {block.judges_by} in any of {documents:,} documents",
                hint=f"Name where the {block.judges_by} is (field or pattern), or leave the block out.",
            )
        lines += [
            f"{name}: {judged.unknown:,} of {judged.documents:,} documents have no {block.judges_by} for "
            f"{block.kind}, and are kept"
            for name, judged in found.items()
            if judged.unknown
        ]
    return lines


__all__ = ["Block", "Cleaner", "Cleaning", "clean", "describe_unknown", "learn"]
