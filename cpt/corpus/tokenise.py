"""Documents of a corpus folder to counted tokens, and training text to packed shards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from cpt.corpus.index import CorpusIndex, SplitCounts, read_index, write_index
from cpt.corpus.shards import ShardWriter, TokenisedSource
from cpt.corpus.store import documents_path, parts_of, read_documents
from cpt.corpus.tokens import DocumentTokenizer, follow_special_token, tokenizer_sha256
from cpt.models.tokenizer import FILE as TOKENIZER

FORMER = "former"
"""Folder in a corpus with the tokenizer.json that it had before its vocabulary changed."""


class Updates(Protocol):
    """Anything with an `update` method; the stages' `Progress` is one."""

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...


def tokens_path(corpus: Path, source: str) -> Path:
    """Where a corpus folder keeps the packed training sequences of a source."""
    return corpus / "tokens" / source


def open_source(corpus: Path, source: str) -> TokenisedSource:
    """The packed training sequences of one source of a corpus folder, of all its parts.

    Raises:
        DataError: The corpus has none.
    """
    plain = tokens_path(corpus, source)
    return TokenisedSource(*(parts_of(plain.parent, source) or [plain]))


def tokenise(corpus: Path, index: CorpusIndex, model: Path, progress: Updates | None = None) -> CorpusIndex:
    """Tokenise all documents of a corpus folder, write `tokens/` and `corpus.json`.

    Training splits are packed and stored; held-out splits are only counted.

    Args:
        corpus: Folder with `documents/`.
        index: Counts of documents; sequence length and special tokens are taken from it.
        model: Folder with the tokenizer.

    Returns:
        The index with tokens, pieces and sequences counted, as written.
    """
    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    result = index.model_copy(deep=True, update={"tokenizer": tokenizer_sha256(model)})
    total = sum(counts.documents for source in index.sources.values() for counts in source.splits.values())
    done = 0
    for name, source in result.sources.items():
        for split, counts in source.splits.items():
            counts.tokens = counts.pieces = counts.sequences = 0
            writer = (
                ShardWriter(tokens_path(corpus, name), index.sequence_length) if split == "train" else None
            )
            for pieces in tokenizer.pieces(read_documents(corpus, name, split)):
                _count(counts, pieces_tokens=[len(piece) for piece in pieces])
                if writer is not None:
                    writer.add(pieces)
                done += 1
                if progress is not None and (done % 1000 == 0 or done == total):
                    progress.update(done, total, "documents")
            if writer is not None:
                writer.close()
                counts.sequences = writer.sequences
    write_index(corpus, result)
    return result


def _count(counts: SplitCounts, pieces_tokens: list[int]) -> None:
    counts.pieces += len(pieces_tokens)
    counts.tokens += sum(pieces_tokens)


def retokenise(
    corpus: Path, model: Path, output: Path, progress: Updates | None = None, *, former: Path
) -> CorpusIndex:
    """The same documents with another tokenizer: documents are hard-linked (or copied), tokens made anew.

    The corpus keeps the tokenizer that it had first (`FORMER`), to sample and cut text as with it.

    Args:
        corpus: Existing corpus folder.
        model: Folder with the other tokenizer.
        output: New corpus folder.
        former: Folder with the tokenizer that the corpus has now. Where a document's start or end token is
            its own bos or eos, the other tokenizer's takes the place.

    Raises:
        DataError: The tokenizer lacks the start or end token, and has none of its role.
    """
    index = read_index(corpus)
    tokens = {
        "start_token": follow_special_token(index.start_token, former, model, "bos"),
        "end_token": follow_special_token(index.end_token, former, model, "eos"),
    }
    earliest = corpus / FORMER
    tokens["former_start_token"] = index.former_start_token if earliest.is_dir() else index.start_token
    index = index.model_copy(update=tokens)
    (output / FORMER).mkdir(parents=True)
    shutil.copyfile((earliest if earliest.is_dir() else former) / TOKENIZER, output / FORMER / TOKENIZER)
    for name, source in index.sources.items():
        for split in source.splits:
            _link(documents_path(corpus, name, split), documents_path(output, name, split))
    return tokenise(output, index, model, progress)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
