"""Read and write `corpus.json`: the content of a corpus folder, counted by source and split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cpt.corpus.documents import Document, Item
from cpt.errors import DataError

_NAME = "corpus.json"


class Amount(BaseModel):
    """Documents, and bytes of UTF-8 text."""

    model_config = ConfigDict(extra="forbid")

    documents: int = 0
    bytes: int = 0


class SplitCounts(BaseModel):
    """Counts of one split of one source.

    Attributes:
        bytes: Bytes of UTF-8 text.
        tokens: Tokens with start and end tokens.
        pieces: Documents, and parts of documents longer than a sequence.
        sequences: Packed rows, of a training split only.
        cut: Cut samples and excerpts, without end token.
        marked: Rendered conversations.
        tokens_without_loss: Tokens that are read and not learnt: their weight in the loss is 0.
        listed: By listed source, in order of their first documents.
    """

    model_config = ConfigDict(extra="forbid")

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    pieces: int = 0
    sequences: int = 0
    cut: int = 0
    marked: int = 0
    tokens_without_loss: int = 0
    listed: dict[str, Amount] = {}


class ListedSource(BaseModel):
    """One listed source of a role: its facts, as the recipe gives them, and what was read of it.

    Attributes:
        licence: Licence, such as an SPDX identifier.
        language: BCP 47 tag.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    licence: str | None = None
    language: str | None = None
    documents_in: int = 0
    bytes_in: int = 0


class Judged(BaseModel):
    """Documents that a block judged by something which some may lack, such as a year.

    Attributes:
        documents: Documents that the block looked at.
        unknown: Documents of these that it kept because they lack it.
    """

    model_config = ConfigDict(extra="forbid")

    documents: int = 0
    unknown: int = 0


class SourceCounts(BaseModel):
    """Counts of one source, in which entries and bytes in are those removed and those kept.

    Attributes:
        documents_in: Entries read.
        bytes_in: Bytes of their text.
        removed: By reason or block. Bytes hold what rewriting took from documents that stay; they are
            negative where it added more.
        rewritten: Documents that each block rewrote; a later block may have removed them.
        judged: By block.
        splits: Documents kept.
        parts: Training documents of each named part, where the source has parts.
        listed: Listed sources by name; what is left of each is counted in the splits.
    """

    model_config = ConfigDict(extra="forbid")

    documents_in: int = 0
    bytes_in: int = 0
    removed: dict[str, Amount] = Field(
        default_factory=lambda: {name: Amount() for name in ("duplicate", "empty", "duplicate_of_heldout")}
    )
    rewritten: dict[str, int] = {}
    judged: dict[str, Judged] = {}
    splits: dict[str, SplitCounts] = {}
    parts: dict[str, SplitCounts] = {}
    listed: dict[str, ListedSource] = {}

    @property
    def removed_documents(self) -> dict[str, int]:
        """Return the number of removed documents by reason."""
        return {reason: amount.documents for reason, amount in self.removed.items()}

    def add(self, other: SourceCounts) -> None:
        """Add what was removed and rewritten of further entries of the same source."""
        for reason, amount in other.removed.items():
            mine = self.removed.setdefault(reason, Amount())
            mine.documents += amount.documents
            mine.bytes += amount.bytes
        for block, documents in other.rewritten.items():
            self.rewritten[block] = self.rewritten.get(block, 0) + documents
        for block, judged in other.judged.items():
            sums = self.judged.setdefault(block, Judged())
            sums.documents += judged.documents
            sums.unknown += judged.unknown

    def enter(self, item: Item) -> None:
        """Count one entry that is read."""
        size = byte_count(item.text)
        self.documents_in += 1
        self.bytes_in += size
        if (listed := self.listed.get(item.source)) is not None:
            listed.documents_in += 1
            listed.bytes_in += size

    def remove(self, reason: str, text: str) -> None:
        """Count one document that is not used."""
        amount = self.removed.setdefault(reason, Amount())
        amount.documents += 1
        amount.bytes += byte_count(text)

    def rewrite(self, block: str, before: str, after: str) -> None:
        """Count a document that a block rewrote, and the bytes that it took from it."""
        self.rewritten[block] = self.rewritten.get(block, 0) + 1
        self.removed.setdefault(block, Amount()).bytes += byte_count(before) - byte_count(after)

    def judge(self, block: str, unknown: bool) -> None:
        """Count a document that a block judged, or kept because it lacks what the block judges by."""
        judged = self.judged.setdefault(block, Judged())
        judged.documents += 1
        judged.unknown += unknown

    def keep(self, split: str, document: Document) -> None:
        """Count one document that is kept."""
        counts = self.splits.setdefault(split, SplitCounts())
        size = byte_count(document.text)
        counts.documents += 1
        counts.bytes += size
        counts.cut += not document.ended
        counts.marked += document.marked
        if document.source:
            listed = counts.listed.setdefault(document.source, Amount())
            listed.documents += 1
            listed.bytes += size

    def kept(self, name: str) -> Amount:
        """Return what is left of a listed source, in all splits."""
        found = [split.listed[name] for split in self.splits.values() if name in split.listed]
        return Amount(
            documents=sum(each.documents for each in found), bytes=sum(each.bytes for each in found)
        )


def byte_count(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


class CorpusIndex(BaseModel):
    """The content of `corpus.json`.

    Attributes:
        tokenizer: SHA-256 of the tokenizer.json that the tokens come from.
        former_start_token: Start token of the tokenizer before a change of vocabulary.
    """

    model_config = ConfigDict(extra="forbid")

    sequence_length: int
    start_token: str | None
    end_token: str | None
    tokenizer: str
    sources: dict[str, SourceCounts] = {}
    former_start_token: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return the index as plain data. Held-out splits are not packed, so they have no "sequences"."""
        facts = self.model_dump(exclude=set() if self.former_start_token else {"former_start_token"})
        for source in facts["sources"].values():
            for name in ("listed", "rewritten", "judged"):
                if not source[name]:
                    del source[name]
            for split, counts in source["splits"].items():
                if split != "train":
                    del counts["sequences"]
            for counts in [*source["splits"].values(), *source["parts"].values()]:
                for name in ("marked", "tokens_without_loss", "listed"):
                    if not counts[name]:
                        del counts[name]
            if not source["parts"]:
                del source["parts"]
        return facts

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Return for each source what went in, what was removed by each block, and what came out.

        Returns:
            By source: documents_in, bytes_in, removed (by block: documents and bytes), documents_out,
            bytes_out and tokens, of both sides together. Tokens are None in a corpus that is not tokenised.
            Besides these sums rewritten (by block: documents) and unknown (by block: documents that stay
            because the block found nothing to judge them by).
        """
        return {
            name: {
                "documents_in": source.documents_in,
                "bytes_in": source.bytes_in,
                "removed": {reason: amount.model_dump() for reason, amount in source.removed.items()},
                "rewritten": dict(source.rewritten),
                "unknown": {block: judged.unknown for block, judged in source.judged.items()},
                "documents_out": sum(split.documents for split in source.splits.values()),
                "bytes_out": sum(split.bytes for split in source.splits.values()),
                "tokens": sum(split.tokens for split in source.splits.values()) if self.tokenizer else None,
            }
            for name, source in self.sources.items()
        }

    def bytes_per_token(self, source: str, split: str) -> float:
        """Return UTF-8 bytes per token of text; start and end tokens are not counted."""
        counts = self.sources[source].splits[split]
        starts = counts.pieces * (self.start_token is not None)
        ends = (counts.documents - counts.cut) * (self.end_token is not None)
        return counts.bytes / (counts.tokens - starts - ends)


def read_index(corpus: Path) -> CorpusIndex:
    """Read a corpus folder's index.

    Raises:
        DataError: It is missing or damaged.
    """
    path = corpus / _NAME
    try:
        return CorpusIndex.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a corpus index of this version"
        raise DataError(f"{path}: {reason}", hint="Run the corpus stage again (--force corpus).") from error


def write_index(corpus: Path, index: CorpusIndex) -> None:
    """Write a corpus folder's index."""
    (corpus / _NAME).write_text(json.dumps(index.facts(), indent=2) + "\n", encoding="utf-8")
