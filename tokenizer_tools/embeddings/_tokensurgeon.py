"""Tokenizer transplants: new rows from where a donor model puts new tokens among the shared ones.

Source: mergekit-tokensurgeon (github.com/arcee-ai/mergekit). A donor is a model with the target tokenizer.
Shared tokens have a row in the donor and in the base; a new token has one in the donor alone. Its base row
is what the shared tokens make of it: the same combination of base rows (`omp`, `common-interpolation`), or
a map from donor space to base space that the shared tokens show (`landmark-pca`, `stb`, `mp-rope`). New
tokens that the donor does not know, and an output bias under a map, get the mean of their pieces.

mergekit's other methods are the same as ours here and have no second copy: `subword` is `subtoken-mean` (its
"first_last" is where `adaptivocab` goes as its rate grows), `john_hewitt` is `hewitt` (over all rows, where
ours is over the shared ones), `mean` and `randn` are `mean` and `random`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from tokenizer_tools.embeddings import Role, Rule
from tokenizer_tools.embeddings._donor import DonorParameters, donor_matrix, has_own_output
from tokenizer_tools.embeddings._weights import subtoken_rule, weighted_rows
from tokenizer_tools.transfer import Transfer

_CHUNK_ELEMENTS = 2**23


class PursuitParameters(DonorParameters):
    """How shared tokens make a new one."""

    k: int = Field(64, gt=0, description="Shared tokens that make a new one, at most.")
    around_mean: bool = Field(
        True,
        description=(
            "Combine deviations from the mean of the shared rows, so that new rows keep what all rows have "
            "in common. mergekit does not."
        ),
    )


@dataclass(frozen=True)
class Landmarks:
    """Donor rows of shared tokens and of the new tokens that the donor knows.

    Attributes:
        shared: [O] source ids of the shared tokens.
        shared_OD: their donor rows, float32.
        known: [N] which new tokens the donor knows, K of them.
        targets_KD: their donor rows, float32.
    """

    shared: np.ndarray
    shared_OD: Tensor
    known: np.ndarray
    targets_KD: Tensor

    def around_mean(self) -> Landmarks:
        """The same with deviations from the mean of the shared rows."""
        mean_D = self.shared_OD.mean(0)
        return replace(self, shared_OD=self.shared_OD - mean_D, targets_KD=self.targets_KD - mean_D)


def donor_rule(transfer: Transfer, parameters: DonorParameters, make: Callable[[Landmarks], Rule]) -> Rule:
    """The rule that `make` makes of the donor's input rows; the mean of pieces if the donor is no help.

    Output embedding and bias follow the donor's output rows, where those are a matrix of their own.
    """

    def made(matrix_VD: Tensor, known_V: np.ndarray) -> Rule:
        found = _landmarks(transfer, matrix_VD, known_V)
        if found.known.any() and len(found.shared):
            return make(found)
        return _by_pieces(transfer, np.ones(len(transfer.new), dtype=bool))

    reading = made(*donor_matrix(transfer, parameters))
    if not has_own_output(parameters):
        return reading

    @cache
    def writing() -> Rule:
        return made(*donor_matrix(transfer, parameters, "output"))

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        return (writing() if role in ("output", "bias") else reading)(matrix_VH, role)

    return rows


def _landmarks(transfer: Transfer, matrix_VD: Tensor, known_V: np.ndarray) -> Landmarks:
    shared, known = known_V[transfer.shared_target], known_V[transfer.new]
    return Landmarks(
        shared=transfer.shared_source[shared],
        shared_OD=matrix_VD[torch.from_numpy(transfer.shared_target[shared])].float(),
        known=known,
        targets_KD=matrix_VD[torch.from_numpy(transfer.new[known])].float(),
    )


def chunks(landmarks: Landmarks, k: int) -> tuple[Tensor, ...]:
    """The targets in parts whose distances to all shared tokens, and k rows of each, fit in little memory."""
    count, width = landmarks.shared_OD.shape
    return landmarks.targets_KD.split(max(1, _CHUNK_ELEMENTS // max(count, k * width)))


def combination_rule(
    transfer: Transfer,
    landmarks: Landmarks,
    indices_KJ: Tensor,
    coefficients_KJ: Tensor,
    *,
    around_mean: bool = False,
) -> Rule:
    """The rule that combines base rows as donor rows were combined.

    Args:
        indices_KJ: int64 places in `landmarks.shared`.
        coefficients_KJ: their coefficients.
        around_mean: what was combined were deviations from the mean of the shared rows.
    """
    count, terms = indices_KJ.shape
    weights_KV = csr_matrix(
        (
            coefficients_KJ.flatten().numpy(),
            (np.repeat(np.arange(count), terms), landmarks.shared[indices_KJ.flatten().numpy()]),
        ),
        shape=(count, len(transfer.source.tokens)),
    )
    weights_KV.eliminate_zeros()
    left_K1 = 1 - coefficients_KJ.sum(1, keepdim=True)

    def combine(matrix_VH: Tensor, _role: Role) -> Tensor:
        combined_KH = weighted_rows(weights_KV, matrix_VH)
        if around_mean:
            combined_KH += left_K1 * matrix_VH[torch.from_numpy(landmarks.shared)].float().mean(0)
        return combined_KH

    return _completed(transfer, landmarks, combine)


def map_rule(transfer: Transfer, landmarks: Landmarks, approximate: Callable[[Tensor], Tensor]) -> Rule:
    """The rule that maps the targets by what the shared tokens show.

    Args:
        approximate: base rows of the shared tokens [O, H] float32 -> base rows of the targets [K, H].
    """

    def mapped(matrix_VH: Tensor, role: Role) -> Tensor:
        if role == "bias":
            return _by_pieces(transfer, landmarks.known)(matrix_VH, role)
        return approximate(matrix_VH[torch.from_numpy(landmarks.shared)].float())

    return _completed(transfer, landmarks, mapped)


def space_rule(
    transfer: Transfer,
    parameters: DonorParameters,
    map_rows: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Rule:
    """The rule that maps the donor's space to a base matrix's, found anew for each matrix.

    Args:
        map_rows: (targets [K, D], shared rows of the donor [O, D], of the base [O, H]) -> base rows [K, H].
    """

    def make(found: Landmarks) -> Rule:
        return map_rule(transfer, found, lambda base_OH: map_rows(found.targets_KD, found.shared_OD, base_OH))

    return donor_rule(transfer, parameters, make)


def _completed(transfer: Transfer, landmarks: Landmarks, known_rows: Rule) -> Rule:
    """Rows of all new tokens: `known_rows` [K, H] where the donor knows them, else the mean of pieces."""
    known, unknown = torch.from_numpy(landmarks.known), torch.from_numpy(~landmarks.known)
    unknown_rows = _by_pieces(transfer, ~landmarks.known)

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = matrix_VH.new_empty(len(known), matrix_VH.shape[1])
        made_NH[known] = known_rows(matrix_VH, role).to(matrix_VH.dtype)
        made_NH[unknown] = unknown_rows(matrix_VH, role)
        return made_NH

    return rows


def _by_pieces(transfer: Transfer, which: np.ndarray) -> Rule:
    """The mean of pieces for some of the new tokens."""
    pieces = [transfer.pieces[index] for index in np.flatnonzero(which).tolist()]
    some = replace(transfer, new=transfer.new[which], pieces=pieces)
    return subtoken_rule(some)
