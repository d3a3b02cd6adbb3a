"""Build the documents of a corpus folder: remove exact duplicates, hold out, write and count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from cpt.corpus.blocks import Block, clean
from cpt.corpus.digests import DigestSet, KeySet, digest
from cpt.corpus.documents import Document, DocumentWriter, Item, Removed, documents_path
from cpt.corpus.examples import Examples
from cpt.corpus.heldout import ByHash, Rule, Split, train_again
from cpt.corpus.index import ListedSource, SourceCounts, byte_count
from cpt.corpus.tasks import Tasks
from cpt.errors import DataError


def divide(
    items: Iterable[Item],
    rule: Rule,
    heldout: KeySet,
    counts: SourceCounts,
    blocks: Sequence[Block] = (),
    examples: Examples | None = None,
    tasks: Tasks | None = None,
    trained: KeySet | None = None,
) -> Iterator[tuple[Split, Document]]:
    """Yield the documents of one source that stay, each with its side, and count all others by reason.

    Args:
        rule: Rule by which documents are held out. Those that it holds out no longer, later on, are yielded
            as held out all the same: `train_again` moves them.
        heldout: Digests of everything held out so far, of all sources; extended here. Sources with held-out
            text come first, or their documents could stay in training.
        counts: Counts of this source; extended here.
        blocks: Cleaning blocks, applied before anything else.
        examples: Collection of removed and rewritten documents; extended here.
        tasks: Place where documents are cleaned; by default this process.
        trained: Digests of all training documents so far, of all sources; extended here.
    """
    seen, trained = DigestSet(), DigestSet() if trained is None else trained
    examples = Examples("") if examples is None else examples

    def remove(item: Item, reason: str, detail: str = "") -> None:
        counts.remove(reason, item.text)
        examples.add(reason, item.id, item.text, detail=detail)

    for item in clean(items, blocks, counts, examples, tasks):
        if isinstance(item, Removed):
            remove(item, item.reason, item.detail)
            continue
        key = digest(item.text)
        split = "train" if item.marked else rule(key)  # figures on held-out text read no special tokens
        if not item.text or item.text.isspace():
            remove(item, "empty")
        elif key in seen:
            remove(item, "duplicate")
        elif split == "train" and key in heldout:
            remove(item, "duplicate_of_heldout")
            seen.add(key)
        elif split == "train" and key in trained:
            remove(item, "duplicate")
        else:
            if split == "train":
                trained.add(key)
            else:
                seen.add(key)
                if key not in heldout:  # what is held out of an earlier source never trains
                    heldout.add(key)
                    for returned in rule.hold(key, byte_count(item.text)):
                        heldout.discard(returned)
                        trained.add(returned)
            counts.keep(split, item)
            yield split, item
    check_sums(counts)


def check_sums(counts: SourceCounts) -> None:
    """Raise if documents or bytes are unaccounted for: in = kept + removed."""
    for what, read in (("documents", counts.documents_in), ("bytes", counts.bytes_in)):
        kept = sum(getattr(split, what) for split in counts.splits.values())
        removed = sum(getattr(amount, what) for amount in counts.removed.values())
        if read != kept + removed:
            raise DataError(
                f"internal error: {read} {what} in, but {kept} kept and {removed} removed",
                hint="Please report this.",
            )
        _check_listed(counts, what)


def _check_listed(counts: SourceCounts, what: str) -> None:
    """Raise if the listed sources do not add up to their role."""
    if not counts.listed:
        return
    read = sum(getattr(listed, f"{what}_in") for listed in counts.listed.values())
    kept = sum(getattr(counts.kept(name), what) for name in counts.listed)
    whole = sum(getattr(split, what) for split in counts.splits.values())
    if (read, kept) != (getattr(counts, f"{what}_in"), whole):
        raise DataError(
            f"internal error: listed sources have {read} {what} in and {kept} kept, but the role has "
            f"{getattr(counts, f'{what}_in')} and {whole}",
            hint="Please report this.",
        )


def rewritten(items: Iterable[Item], rewrite: Callable[[str], str]) -> Iterator[Item]:
    """Yield the items with every document's text rewritten, before anything else is done with it."""
    for item in items:
        yield replace(item, text=rewrite(item.text)) if isinstance(item, Document) else item


def write_source(
    corpus: Path,
    name: str,
    items: Iterable[Item],
    rule: Rule,
    heldout: KeySet,
    blocks: Sequence[Block] = (),
    examples: Examples | None = None,
    tasks: Tasks | None = None,
    listed: Mapping[str, ListedSource] = MappingProxyType({}),
    trained: KeySet | None = None,
) -> SourceCounts:
    """Write one source's documents to `documents/<name>.<split>.parquet`, with bounded memory.

    Args:
        rule: Rule by which documents are held out.
        heldout: Digests of everything held out so far, of all sources; extended here.
        blocks: Cleaning blocks, applied before anything else.
        examples: Collection of removed and rewritten documents; extended here.
        tasks: Place where documents are cleaned; by default this process.
        listed: Facts of the sources that the documents name, by name.
        trained: Digests of all training documents so far, of all sources; extended here.

    Returns:
        Counts of documents and bytes; tokens are not counted yet.

    Raises:
        DataError: No document is left.
    """
    counts = SourceCounts(listed=dict(listed))
    with contextlib.ExitStack() as files:
        writers: dict[str, DocumentWriter] = {}

        def writer(split: str) -> DocumentWriter:
            if split not in writers:
                writers[split] = files.enter_context(DocumentWriter(documents_path(corpus, name, split)))
            return writers[split]

        for split, document in divide(items, rule, heldout, counts, blocks, examples, tasks, trained):
            writer(split).write(document)
        if isinstance(rule, ByHash) and len(rule.returned):
            writer("heldout").close()
            train_again(corpus, name, rule, writer("train"), counts)
            check_sums(counts)
    counts.splits = {side: counts.splits[side] for side in ("train", "heldout") if side in counts.splits}
    first = [*SourceCounts().removed, *(block.kind for block in blocks)]  # whatever came first in the text
    found = sorted(
        counts.removed, key=lambda name: (first.index(name) if name in first else len(first), name)
    )
    counts.removed = {name: counts.removed[name] for name in found}
    if not counts.splits:
        raise DataError(
            f"{name}: no documents: {describe(counts)}",
            hint="Check the source's path, format and text_field, and that its files hold text.",
        )
    return counts


def describe(counts: SourceCounts) -> str:
    """Describe counts in words: "12 documents in, 9 train, 1 heldout, 2 removed (duplicate 2)"."""
    parts = [f"{counts.documents_in:,} documents in"]
    parts += [f"{split.documents:,} {name}" for name, split in counts.splits.items()]
    removed_documents = counts.removed_documents
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in removed_documents.items() if count)
    removed = sum(removed_documents.values())
    return ", ".join([*parts, f"{removed:,} removed ({reasons})" if removed else "none removed"])
