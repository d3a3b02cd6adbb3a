"""Give input rows the mean norm of their script, and weight long pieces more in output rows.

Source: "Beyond Initialization Loss", arXiv 2608.03494. The input row is the mean of the pieces' rows,
rescaled to the mean norm of the source rows of the token's script: a mean of several rows is shorter than
they are. The output row, like the bias, is the mean weighted by the pieces' length in characters. A tied
matrix does both, so it gets the mean of the two rules' rows.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy.sparse import diags

from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import (
    normalised,
    shared_or_used,
    subtoken_weights,
    used_ids,
    weighted_rows,
)
from tokenizer_tools.transfer import Transfer


def prepare(transfer: Transfer, _parameters: NoParameters) -> Rule:
    """Find weights and scripts once, and return the rule that takes norms from each matrix."""
    mean = subtoken_weights(transfer, len(transfer.source.tokens))
    by_length = normalised(mean @ diags(_lengths(transfer.source.surfaces)))
    shared = shared_or_used(transfer)
    usual_norms = partial(
        script_norms,
        ids=used_ids(transfer.source),
        scripts=[script(surface) for surface in transfer.source.surfaces],
        wanted=[script(transfer.target.surfaces[token_id]) for token_id in transfer.new],
    )

    def rows(matrix_VH: torch.Tensor, role: Role) -> torch.Tensor:
        made = []
        if role in ("input", "tied"):
            mean_NH = weighted_rows(mean, matrix_VH, shared)
            made.append(torch.nn.functional.normalize(mean_NH) * usual_norms(matrix_VH)[:, None])
        if role in ("output", "bias", "tied"):
            made.append(weighted_rows(by_length, matrix_VH, shared))
        return torch.stack(made).mean(0).to(matrix_VH.dtype)

    return rows


def script_norms(
    matrix_VH: torch.Tensor, ids: np.ndarray, scripts: list[str], wanted: list[str]
) -> torch.Tensor:
    """Compute the mean norm [N] of the rows of each new token's script; of all rows if a script has none.

    Args:
        matrix_VH: Source rows.
        ids: [U] rows that stand for tokens.
        scripts: Script of every row.
        wanted: Script of each new token.
    """
    norms_U = matrix_VH[torch.from_numpy(ids)].float().norm(dim=1).numpy()
    known, index_U = np.unique([scripts[i] for i in ids], return_inverse=True)
    means = dict(zip(known, np.bincount(index_U, norms_U) / np.bincount(index_U), strict=True))
    return torch.tensor([means.get(name, norms_U.mean()) for name in wanted], dtype=torch.float32)


def script(surface: bytes | None) -> str:
    """Return the script of most letters by its Unicode name ("LATIN", "HANGUL"); "" without letters."""
    letters = [c for c in (surface or b"").decode(errors="ignore") if c.isalpha()]
    counts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    return max(counts, key=lambda name: (counts[name], name), default="")


def _lengths(surfaces: Sequence[bytes | None]) -> np.ndarray:
    """Return the number of characters [V] of each token; bytes that are no whole character count as one."""
    lengths = (len((surface or b"").decode(errors="replace")) for surface in surfaces)
    return np.maximum(np.fromiter(lengths, np.float64), 1)


METHOD = Method(
    summary="script's mean norm for input, mean weighted by the pieces' lengths for output",
    reference="https://arxiv.org/abs/2608.03494",
    prepare=prepare,
)
