"""Predict a new token's row from its contexts, by a linear map fitted on known tokens and their contexts.

Source: the idea is BIOptimus's (arXiv 2308.08625): distil the vectors that the model itself gives a new
token's pieces in sentences of the domain. The details are not public, and a decoder's states are in another
space than its embeddings. So this rule is our own:

1. A context of a token is two states of the frozen model over the old segmentation: after the token's last
   piece, in an early layer (the model's reading of its pieces), and before its first piece, in the last
   layer (the model's expectation); each after the final norm. A token's contexts are averaged.
2. On the source's own tokens in the same snippets, ridge regression fits a linear map from mean contexts
   to embedding rows.
3. A new token's row is that map of its mean context. A token that does not occur gets the mean of its
   pieces.

The model only runs forward, and on the old segmentation alone. Every vocabulary matrix has its own map, an
output bias too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, Role, Rule
from tokenizer_tools.embeddings._contexts import Snippet, SnippetParameters, batches, collect
from tokenizer_tools.embeddings._frozen_model import FrozenModel
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.transfer import Transfer

_BATCH_TOKENS = 1024


class Parameters(SnippetParameters):
    """Parameters of contextual distillation."""

    layers: int = Field(8, gt=0, description="Number of layers after which a token's own state is taken.")
    ridge: float = Field(
        0.3, gt=0, description="Penalty of the map, in units of a context coordinate's variance."
    )
    most_occurrences: int = Field(
        20, gt=0, description="Largest weight of a known token in the fit, in occurrences."
    )


@dataclass(frozen=True)
class Contexts:
    """Mean contexts of the tokens in a text.

    Attributes:
        rows: [U] rows of the tokens, ascending: source ids, and V + i for the i-th new token.
        means_UF: Mean contexts of the tokens.
        counts_U: Numbers of occurrences of the tokens.
    """

    rows: np.ndarray
    means_UF: Tensor
    counts_U: Tensor


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Average the contexts, and return the rule that maps them to rows."""
    mean = subtoken_rule(transfer)
    model = FrozenModel(transfer.model)
    snippets = collect(transfer, len(model.matrix_VH), parameters)
    if not snippets:
        return mean
    found = contexts(model, snippets, parameters.layers)
    is_new_U = found.rows >= len(model.matrix_VH)
    known, new = (torch.from_numpy(found.rows[which]) for which in (~is_new_U, is_new_U))
    weights_K = found.counts_U[~is_new_U].clamp(max=parameters.most_occurrences)

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = mean(matrix_VH, role)
        read_MH = read_off(
            found.means_UF[~is_new_U],
            matrix_VH[known].float(),
            weights_K,
            found.means_UF[is_new_U],
            parameters.ridge,
        )
        made_NH[new - len(model.matrix_VH)] = read_MH.to(matrix_VH.dtype)
        return made_NH

    return rows


@torch.no_grad()
def contexts(model: FrozenModel, snippets: Sequence[Snippet], layers: int) -> Contexts:
    """Compute the mean contexts of all tokens in snippets, except first ones."""
    occurring = [occurrences(snippet, len(model.matrix_VH)) for snippet in snippets]
    rows, counts = np.unique(np.concatenate([tokens for tokens, _, _ in occurring]), return_counts=True)
    sums_UF = torch.zeros(len(rows), 2 * model.matrix_VH.shape[1])
    for batch in batches(snippets, _BATCH_TOKENS):
        old = [snippet.old for snippet in batch]
        tokens, last, before = zip(*(occurrences(s, len(model.matrix_VH)) for s in batch), strict=True)
        own_AH, expected_AH = model.states(old, last, layers=layers), model.states(old, before)
        places = torch.from_numpy(np.searchsorted(rows, np.concatenate(tokens)))
        sums_UF.index_add_(0, places, torch.cat([own_AH, expected_AH], 1).float())
    counts_U = torch.from_numpy(counts)
    return Contexts(rows, sums_UF / counts_U[:, None], counts_U)


def occurrences(snippet: Snippet, vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tokens of a snippet except the first: source tokens, then new ones with aligned ends.

    Returns:
        Rows, positions in `snippet.old` of the token's last piece, and positions before its first piece.
    """
    after, before = snippet.new_met[1:], snippet.new_met[:-1]
    is_new = (snippet.new[after] >= vocabulary) & (before == after - 1)
    positions = np.arange(len(snippet.old))
    return (
        np.concatenate([snippet.old[1:], snippet.new[after[is_new]]]),
        np.concatenate([positions[1:], snippet.old_met[1:][is_new]]),
        np.concatenate([positions[:-1], snippet.old_met[:-1][is_new]]),
    )


def read_off(known_KF: Tensor, rows_KH: Tensor, weights_K: Tensor, asked_MF: Tensor, ridge: float) -> Tensor:
    """Fit an affine map from contexts to rows by weighted ridge regression, and evaluate it: [M, H].

    Args:
        known_KF, rows_KH: Contexts and rows to fit.
        weights_K: Weights of the contexts in the fit.
        asked_MF: Contexts at which the map is evaluated.
        ridge: Penalty relative to the variance of a coordinate; the constant is not penalised.
    """
    share_K1 = (weights_K / weights_K.sum())[:, None].float()
    center_F, middle_H = (share_K1 * known_KF).sum(0), (share_K1 * rows_KH).sum(0)
    scale_F = (share_K1 * (known_KF - center_F) ** 2).sum(0).sqrt()
    scale_F[scale_F == 0] = torch.inf  # a constant coordinate carries no information
    known_KF, asked_MF = ((context - center_F) / scale_F for context in (known_KF, asked_MF))
    products_FF = known_KF.T @ (share_K1 * known_KF)
    products_FF.diagonal().add_(ridge)
    map_FH = torch.linalg.solve(products_FF, known_KF.T @ (share_K1 * (rows_KH - middle_H)))
    return asked_MF @ map_FH + middle_H


METHOD = Method(
    summary="linear map from contexts to rows, fitted on known tokens",
    reference="https://arxiv.org/abs/2308.08625",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
