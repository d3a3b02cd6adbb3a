"""Select the domain's documents, and mix the parts of replay text by their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import DataError
from cpt.sources import DOMAIN, REPLAY
from cpt.stages.base import Context
from cpt.stages.corpus.config import Selection
from cpt.stages.corpus.replay_config import ReplayPart

if TYPE_CHECKING:
    import numpy as np

    from cpt.corpus.blocks import Block
    from cpt.corpus.digests import KeySet
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.selection import Candidates
    from cpt.stages.corpus.ratings import Rated


FILE = "selection.parquet"
"""File beside the documents: every candidate with its tokens, repetition, score, order and outcome."""


def select(
    selection: Selection,
    clean: Sequence[Block],
    model: Path,
    corpus: Path,
    index: CorpusIndex,
    heldout: KeySet,
    context: Context,
) -> dict[str, Any]:
    """Keep the best of the domain's training documents in the corpus; count all others with a reason.

    Args:
        clean: Cleaning blocks of the corpus, for reference text too.
        heldout: Digests of all held-out documents, which no reference text may hold.

    Returns:
        The stage's metrics of the selection.

    Raises:
        DataError: There are fewer tokens than are to be selected, or no reference text.
    """
    from cpt.corpus.build import describe
    from cpt.corpus.document_tokenizer import DocumentTokenizer
    from cpt.corpus.selection import KEPT, best, candidates, keep, unfit
    from cpt.stages.corpus.ratings import Request, rated

    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    context.progress.message("counting the tokens of the domain's documents")
    found = candidates(corpus, DOMAIN, tokenizer)
    reasons = unfit(found, selection.min_tokens, selection.max_repetition)
    _require_enough(selection, found, reasons)
    ratings = rated(selection.by, Request(model, corpus, index, heldout, found, reasons, context, clean))
    _require_enough(selection, found, ratings.reasons)
    tokens = selection.tokens or int(found.tokens[ratings.reasons == KEPT].sum())
    reasons = best(found, ratings.order, ratings.reasons, tokens)
    _write_table(corpus, found, ratings, reasons)
    counts = index.sources[DOMAIN]
    keep(corpus, DOMAIN, counts, reasons)
    context.progress.message(f"domain, selected by {selection.by.kind}: {describe(counts)}")
    return {
        "by": selection.by.kind,
        "tokens": selection.tokens,
        "measure": ratings.measure,
        "better": ratings.better,
        "candidates": _by_reason(found, ratings, reasons),
        "histogram": histogram(ratings.scores, reasons == KEPT),
        **ratings.facts,
        **ratings.after(reasons),
    }


def _require_enough(selection: Selection, found: Candidates, reasons: np.ndarray) -> None:
    from cpt.corpus.selection import KEPT

    able = int(found.tokens[reasons == KEPT].sum())
    if able >= (selection.tokens or 1):
        return
    counts = Counter({"too_short": 0, "repetitive": 0})
    counts.update(reason for reason in reasons if reason != KEPT)
    reasons_lost = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in counts.items())
    wanted = f"{selection.tokens or 1:,} tokens"
    raise DataError(
        f"select.tokens: {wanted} are to be selected, but the domain's {len(found):,} "
        f"training documents hold {able:,} that can be ({reasons_lost})",
        hint="Select fewer, lower select.min_tokens, raise select.max_repetition, widen what select.by lets "
        "through, or leave `select` out.",
    )


def _write_table(corpus: Path, found: Candidates, ratings: Rated, reasons: np.ndarray) -> None:
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
        "score": pa.array(ratings.scores, mask=np.isnan(ratings.scores)),
        "rating": pa.array(ratings.order, mask=np.isnan(ratings.order)),
        "became": ["selected" if reason == KEPT else reason for reason in reasons],
    }
    pq.write_table(pa.table(columns), corpus / FILE, compression="zstd")


def _by_reason(found: Candidates, ratings: Rated, reasons: np.ndarray) -> dict[str, dict[str, float]]:
    """Return documents and tokens by reason, with three scores of each, the best first."""
    import numpy as np

    from cpt.corpus.selection import KEPT

    names = ("lowest", "median", "highest") if ratings.better == "inside" else ("best", "median", "worst")
    ends = (1, 0.5, 0) if ratings.better == "high" else (0, 0.5, 1)
    facts: dict[str, dict[str, float]] = {}
    for reason in dict.fromkeys([KEPT, *sorted(set(reasons))]):
        these = reasons == reason
        row = facts[reason or "selected"] = {
            "documents": int(these.sum()),
            "tokens": int(found.tokens[these].sum()),
        }
        if these.any() and not np.isnan(ratings.scores[these]).any():
            row |= dict(zip(names, map(float, np.quantile(ratings.scores[these], ends)), strict=True))
    return facts


_BINS = 24
_TAIL = 0.005
"""Share of the documents at each end that may be beyond the histogram; they are counted in its last bins."""


def histogram(scores: np.ndarray, selected: np.ndarray) -> dict[str, list[float]]:
    """Count documents by score: "edges" (bins + 1), and "selected" and "others" (bins).

    Args:
        scores: float64 (documents,); documents with NaN are left out.
        selected: bool (documents,).
    """
    import numpy as np

    known = ~np.isnan(scores)
    if not known.any():
        return {"edges": [], "selected": [], "others": []}
    low, high = np.quantile(scores[known], [_TAIL, 1 - _TAIL])
    if low == high:
        low, high = low - 0.5, high + 0.5
    clipped = np.clip(scores, low, high)
    counts = {
        name: np.histogram(clipped[known & these], bins=_BINS, range=(low, high))[0].tolist()
        for name, these in (("selected", selected), ("others", ~selected))
    }
    return {"edges": np.linspace(low, high, _BINS + 1).tolist(), **counts}


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
    from cpt.corpus.document_tokenizer import DocumentTokenizer
    from cpt.corpus.documents import PART
    from cpt.corpus.selection import KEPT, candidates, chance, keep, nearest

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
