"""The corpus stage's mixture of replay text: as much of every part as the weights allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.stages.base import Context
from cpt.stages.corpus.config import ReplayPart

if TYPE_CHECKING:
    from cpt.corpus.index import CorpusIndex


def mix(
    mixture: Sequence[ReplayPart], model: Path, corpus: Path, index: CorpusIndex, context: Context
) -> dict[str, dict[str, float]]:
    """Leave so many documents of every part in the corpus that their tokens are to each other as the weights.

    No document is used twice, so the part that is scarcest for its weight is used whole. Of the others,
    documents are chosen by chance, to the nearest whole one, and those beyond are counted as not selected.

    Returns:
        By part: its share of the weights, its share of the tokens, and its tokens.
    """
    from cpt.corpus.build import describe
    from cpt.corpus.candidates import candidates
    from cpt.corpus.selection import KEPT, chance, keep, nearest
    from cpt.corpus.store import PART
    from cpt.corpus.tokens import DocumentTokenizer

    tokenizer = DocumentTokenizer(model, index.sequence_length, index.start_token, index.end_token)
    total = sum(part.weight for part in mixture)
    wanted = {f"replay{PART}{part.name}": part.weight / total for part in mixture}
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
