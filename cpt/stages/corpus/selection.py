"""Select the domain's documents, and mix the parts of replay text by their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.sources import DOMAIN, REPLAY
from cpt.stages.base import Context
from cpt.stages.corpus.config import AtRandom, ByNGrams, ReplayPart, Selection
from cpt.stages.corpus.sources import read_sources

if TYPE_CHECKING:
    import numpy as np

    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.selection import Candidates, Rater


FILE = "selection.parquet"
"""File beside the documents: every candidate with its tokens, repetition, rating and outcome."""

_WHOLE = 1 << 31
"""A sequence length longer than any document."""


def select(
    selection: Selection, model: Path, corpus: Path, index: CorpusIndex, heldout: set[bytes], context: Context
) -> dict[str, Any]:
    """Keep the best of the domain's training documents in the corpus; count all others with a reason.

    Args:
        heldout: Digests of all held-out documents, which no reference text may hold.

    Returns:
        The stage's metrics of the selection.

    Raises:
        DataError: There are fewer tokens than are to be selected, or no reference text.
    """
    from cpt.corpus.build import describe
    from cpt.corpus.selection import best, candidates, keep, unfit
    from cpt.corpus.tokenise import DocumentTokenizer

    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    context.progress.message("counting the tokens of the domain's documents")
    found = candidates(corpus, DOMAIN, tokenizer)
    reasons = unfit(found, selection.min_tokens, selection.max_repetition)
    _require_enough(selection, found, reasons)
    ratings, reference = _ratings(selection, model, corpus, index, heldout, found, reasons, context)
    reasons = best(found, ratings, reasons, selection.tokens)
    _write_table(corpus, found, ratings, reasons)
    counts = index.sources[DOMAIN]
    keep(corpus, DOMAIN, counts, reasons)
    context.progress.message(f"domain, selected by {selection.by.kind}: {describe(counts)}")
    facts = _facts(found, ratings, reasons)
    return {"by": selection.by.kind, "tokens": selection.tokens, **facts, **reference}


def _require_enough(selection: Selection, found: Candidates, reasons: np.ndarray) -> None:
    from cpt.corpus.selection import KEPT

    able = int(found.tokens[reasons == KEPT].sum())
    if able < selection.tokens:
        lost = {reason: int((reasons == reason).sum()) for reason in ("too_short", "repetitive")}
        reasons_lost = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in lost.items())
        raise DataError(
            f"select.tokens: {selection.tokens:,} tokens are to be selected, but the domain's {len(found):,} "
            f"training documents hold {able:,} that can be ({reasons_lost})",
            hint="Select fewer, lower select.min_tokens, raise select.max_repetition, or leave `select` out.",
        )


def _ratings(
    selection: Selection,
    model: Path,
    corpus: Path,
    index: CorpusIndex,
    heldout: set[bytes],
    found: Candidates,
    reasons: np.ndarray,
    context: Context,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rating of every candidate, NaN if it cannot be selected, and counts of reference text."""
    import numpy as np

    from cpt.corpus.selection import KEPT, chance, rate, texts_to_rate

    by, able = selection.by, reasons == KEPT
    reference: dict[str, Any] = {}
    ratings = np.full(len(found), np.nan)
    if isinstance(by, AtRandom):
        ratings[able] = chance(found.digests, context.seed)[able]
        return ratings, reference
    make = partial(_base_rater, model, index)
    if isinstance(by, ByNGrams):
        counts = SourceCounts()
        make = partial(_n_gram_rater, by.order, _reference(by, model, heldout, counts, context), model)
        reference = {"reference": {"documents_in": counts.documents_in, "removed": counts.removed_documents}}
    number = int(able.sum())
    context.progress.message(f"rating {number:,} documents by {by.kind}")
    documents, kept = texts_to_rate(corpus, DOMAIN, reasons), context.work / "selection" / "ratings"
    ratings[able] = rate(documents, number, make, kept, context.progress)
    return ratings, reference


def _reference(
    by: ByNGrams, model: Path, heldout: set[bytes], counts: SourceCounts, context: Context
) -> list[np.ndarray]:
    """Token ids of the reference documents, none of which is held out."""
    from cpt.corpus.build import always, describe, divide
    from cpt.corpus.tokenise import DocumentTokenizer

    items = read_sources(by.reference, context.progress, context.contents)
    documents = (document for _, document in divide(items, always("train"), heldout, counts))
    tokens = [pieces[0] for pieces in DocumentTokenizer(model, _WHOLE, None, None).pieces(documents)]
    if not tokens:
        raise DataError(
            f"select.by.reference: no documents: {describe(counts)}",
            hint="Check the source's path, format and text_field. Held-out text cannot be the reference.",
        )
    context.progress.message(f"reference: {describe(counts)}")
    return tokens


def _n_gram_rater(order: int, reference: list[np.ndarray], model: Path) -> Rater:
    """Rate by bits per byte under an n-gram model of the reference's tokens."""
    import numpy as np

    from cpt.corpus.documents import Document
    from cpt.corpus.kneser_ney import KneserNey
    from cpt.corpus.tokenise import DocumentTokenizer
    from cpt.models.tokenizer import load_tokenizer

    ids = load_tokenizer(model).get_vocab(with_added_tokens=True).values()
    grams = KneserNey(reference, order, max(ids) + 1)
    tokenizer = DocumentTokenizer(model, _WHOLE, None, None)

    def rate(texts: list[str]) -> np.ndarray:
        documents = (Document("", text) for text in texts)
        bits = grams.bits([pieces[0] for pieces in tokenizer.pieces(documents)])
        return bits / np.array([len(text.encode()) for text in texts])

    return rate


def _base_rater(model: Path, index: CorpusIndex) -> Rater:
    """Rate by bits per byte under the base model, with the window that it is trained on."""
    from cpt.models.bits_per_byte import score, tokenise_text
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model)
    packed = PackedLanguageModel(load_model(model, resolve_precision("auto")))
    packed.to(best_device())

    def rate(texts: list[str]) -> np.ndarray:
        scores = score(packed, tokenise_text(tokenizer, texts, index.sequence_length, index.start_token))
        return scores.nats / (math.log(2) * scores.bytes)

    return rate


def _write_table(corpus: Path, found: Candidates, ratings: np.ndarray, reasons: np.ndarray) -> None:
    """Write `selection.parquet`, with the documents in reading order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cpt.corpus.documents import read_documents
    from cpt.corpus.selection import KEPT

    columns = {
        "id": [document.id for document in read_documents(corpus, DOMAIN, "train")],
        "tokens": found.tokens,
        "repeated": found.repeated,
        "rating": pa.array(ratings, mask=np.isnan(ratings)),
        "became": ["selected" if reason == KEPT else reason for reason in reasons],
    }
    pq.write_table(pa.table(columns), corpus / FILE, compression="zstd")


def _facts(found: Candidates, ratings: np.ndarray, reasons: np.ndarray) -> dict[str, Any]:
    """Return documents and tokens by reason, with the best, median and worst rating of each."""
    import numpy as np

    from cpt.corpus.selection import KEPT

    facts = {}
    for reason in dict.fromkeys([KEPT, *sorted(set(reasons))]):
        these = reasons == reason
        facts[reason or "selected"] = {
            "documents": int(these.sum()),
            "tokens": int(found.tokens[these].sum()),
        }
        if not np.isnan(ratings[these]).any():
            best, middle, worst = np.quantile(ratings[these], [0, 0.5, 1])
            facts[reason or "selected"] |= {"best": best, "median": middle, "worst": worst}
    return {"candidates": facts}


def mix(
    mixture: Sequence[ReplayPart], model: Path, corpus: Path, index: CorpusIndex, context: Context
) -> dict[str, dict[str, float]]:
    """Keep so many documents of every part in the corpus that their tokens are in the ratio of the weights.

    No document is used twice, so the part that is scarcest for its weight is used whole. Of the others,
    documents are chosen at random, to the nearest whole one; the rest is counted as not selected.

    Returns:
        By part: its share of the weights, its share of the tokens, and its tokens.
    """
    from cpt.corpus.build import describe
    from cpt.corpus.documents import PART
    from cpt.corpus.selection import KEPT, candidates, chance, keep, nearest
    from cpt.corpus.tokenise import DocumentTokenizer

    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    total = sum(part.weight for part in mixture)
    wanted = {f"{REPLAY}{PART}{part.name}": part.weight / total for part in mixture}
    found = {name: candidates(corpus, name, tokenizer) for name in wanted}
    most = min(found[name].tokens.sum() / share for name, share in wanted.items())
    tokens = {}
    for name, share in wanted.items():
        reasons = nearest(found[name], chance(found[name].digests, context.seed), share * most)
        tokens[name] = int(found[name].tokens[reasons == KEPT].sum())
        if (reasons != KEPT).any():
            keep(corpus, name, index.sources[name], reasons)
            context.progress.message(f"{name}: {describe(index.sources[name])}")
    used = sum(tokens.values())
    shares = ", ".join(f"{name} {count / used:.1%}" for name, count in tokens.items())
    context.progress.message(f"replay mixture of {used:,} tokens: {shares}")
    return {
        name: {"weight": share, "share": tokens[name] / used, "tokens": tokens[name]}
        for name, share in wanted.items()
    }
