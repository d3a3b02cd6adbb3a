"""Read the texts of a corpus artifact, and find out which tokenizer its tokens come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.halves import Half

if TYPE_CHECKING:
    from cpt.corpus.heldout_texts import HeldOutTexts

_AHEAD = 64
"""Texts that are tokenised at once."""

_PASSAGES = 32
"""Passages that a sample of a text has about at least, if there are so many documents.

With few whole documents one decided: of 4,000 tokens of a reference manual, three pages were read, of which
one became worse by 0.08 bits per byte at any weight of a merge, and weight 0 was chosen."""

_LEAST = 64
"""Fewest tokens of a passage of a longer document: most of a shorter one is read with hardly any context."""

_SPACE = re.compile(r"\s+")


def has_texts(corpus: Path, source: str, split: str) -> bool:
    """Return True if a corpus has texts of a source and split."""
    from cpt.corpus.documents import parts_of

    return bool(parts_of(corpus / "documents", source, f".{split}.parquet"))


def iterate_texts(corpus: Path, source: str, split: str) -> Iterator[str]:
    """Yield the texts of one source and split ("train" or "heldout"), in the order of the corpus.

    Conversations are left out: the marks of their turns are special tokens, of which no word is learnt. So
    are study documents, which say again what the documents do.
    """
    from cpt.corpus import read_documents
    from cpt.sources import STUDY

    documents = read_documents(corpus, source, split)
    return (document.text for document in documents if not document.marked and document.part not in STUDY)


def heldout_texts(corpus: Path, source: str, half: Half | None = None) -> HeldOutTexts:
    """Return the held-out texts of a source; none if it has none.

    Args:
        source: Source, or a part of the domain: "domain.notes".
        half: Half to return; both if None.
    """
    from cpt.corpus.heldout_texts import HeldOutTexts

    return HeldOutTexts(corpus, source, half)


def shuffled(texts: Sequence[str] | HeldOutTexts, seed: int) -> Iterator[str]:
    """Yield texts in a seeded order. Of held-out texts, those that nobody asks for are not read."""
    import numpy as np

    from cpt.corpus.heldout_texts import HeldOutTexts

    order = np.random.default_rng(seed).permutation(len(texts))
    return texts.at(order) if isinstance(texts, HeldOutTexts) else (texts[number] for number in order)


def passages(
    documents: Sequence[str] | HeldOutTexts, models: Sequence[Path], max_tokens: int, seed: int
) -> list[str]:
    """Return one passage of each document in a seeded order, until the next would exceed `max_tokens`.

    The noise of a figure falls with the number of documents, not of tokens. So a document longer than a 32nd
    of `max_tokens`, or than an equal part where there are fewer documents, gives a passage of about that
    length (64 tokens at least), from a seeded place on; a shorter one is read whole. Passages of fewer than
    two tokens under any of the tokenizers cannot be scored and are skipped. What short documents leave of
    `max_tokens` is not given to longer ones.

    Args:
        models: Folders with tokenizers; the first one's tokens are counted.
    """
    import numpy as np

    from cpt.models.encoding import token_ids
    from cpt.models.tokenizer import load_tokenizer

    tokenizers = [load_tokenizer(folder) for folder in models]
    longest = max(max_tokens // max(1, min(len(documents), _PASSAGES)), _LEAST)
    places = np.random.default_rng([seed, _PASSAGES])
    chosen: list[str] = []
    total = 0
    ordered = shuffled(documents, seed)
    while batch := list(islice(ordered, _AHEAD)):
        lengths = [len(ids) for ids in token_ids(tokenizers[0], batch)]
        cut = [
            passage(text, round(len(text) * longest / length), places.random()) if length > longest else text
            for text, length in zip(batch, lengths, strict=True)
        ]
        counted = [[len(ids) for ids in token_ids(tokenizer, cut)] for tokenizer in tokenizers]
        for text, *tokens in zip(cut, *counted, strict=True):
            if min(tokens) < 2:
                continue
            if chosen and total + tokens[0] > max_tokens:
                return chosen
            chosen.append(text)
            total += tokens[0]
    return chosen


def passage(text: str, size: int, place: float) -> str:
    """Return about `size` characters of a text, from the beginning of a word to the end of one.

    Words that do not end within a fifth of the size are cut.

    Args:
        place: Place of the passage between the beginning (0) and the end of the text (1).
    """
    reach = size // 5
    begin = round(place * max(len(text) - size, 0))
    if begin and (space := _SPACE.search(text, begin - 1, begin + reach)):
        begin = space.end()
    end = min(begin + size, len(text))
    if end < len(text) and (spaces := list(_SPACE.finditer(text, max(end - reach, begin + 1), end + 1))):
        end = spaces[-1].start()
    return text[begin:end]


def cut_sample(documents: Sequence[str] | HeldOutTexts, size: int, seed: int) -> list[str]:
    """Return documents in a seeded order, `size` bytes in total, each cut to a tenth of that."""
    taken: list[str] = []
    left = size
    for document in shuffled(documents, seed):
        if left <= 0:
            break
        most = min(left, max(size // 10, 1))
        text = document.encode()[:most].decode(errors="ignore").rstrip()
        if text:
            taken.append(text)
            left -= len(text.encode())
    return taken


def former_tokenizer(corpus: Path) -> Path | None:
    """Return the folder of the tokenizer that a corpus had before its vocabulary changed, or None."""
    from cpt.corpus.tokenise import FORMER

    return corpus / FORMER if (corpus / FORMER).is_dir() else None


def start_token_of(corpus: Path, model: Path) -> str | None:
    """Return the token that starts a corpus's documents for a model with its tokenizer or its former one."""
    from cpt.corpus import read_index
    from cpt.corpus.tokenise import tokenizer_sha256

    index, former = read_index(corpus), former_tokenizer(corpus)
    if former is not None and tokenizer_sha256(model) == tokenizer_sha256(former):
        return index.former_start_token
    return index.start_token


def is_tokenised_for(corpus: Path, model: Path) -> bool:
    """Return True if a corpus is tokenised with the model's own tokenizer."""
    from cpt.corpus import read_index
    from cpt.corpus.tokenise import tokenizer_sha256

    return read_index(corpus).tokenizer == tokenizer_sha256(model)
