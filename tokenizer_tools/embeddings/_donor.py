"""Make new rows from a donor: a model that has both new and shared tokens in its own embedding space.

A donor is a model with the target's tokenizer. Without one, a small model that is trained on the texts with
the target's tokenizer stands in (as for CLP-Transfer); it knows the tokens of the texts.

Source: mergekit-tokensurgeon (github.com/arcee-ai/mergekit). Shared tokens have a row in the donor and in the
base; a new token has one in the donor alone. Its base row is the same combination of shared base rows as its
donor row is of shared donor rows (`omp`, `clp`). New tokens that the donor does not know get the mean of
their pieces. mergekit's `subword` equals `subtoken-mean`; its `mean` and `randn` equal `mean` and `random`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from cpt.errors import DataError
from cpt.models.vocabulary import vocabulary_tensors
from cpt.models.weights import load_tensor, stored_tensors
from tokenizer_tools.embeddings import NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import subtoken_rule, weighted_rows
from tokenizer_tools.embeddings._word_vectors import texts_of
from tokenizer_tools.helper_model import Helper, train_helper
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary


class HelperParameters(NoParameters):
    """Settings of a helper that is trained here."""

    helper_width: int = Field(128, gt=0, description="Width of a helper trained here.")
    helper_layers: int = Field(2, gt=0, description="Number of layers of a helper trained here.")
    helper_tokens: int = Field(
        2_000_000, gt=0, description="Number of training tokens of a helper trained here."
    )
    helper_min_count: int = Field(
        5, gt=0, description="Lowest frequency of a token that a helper trained here knows."
    )


def trained_helper(transfer: Transfer, parameters: HelperParameters) -> Helper:
    """Train a helper on the transfer's texts.

    Raises:
        StageFailed: The transfer has no texts, or they hold too little.
    """
    return train_helper(
        transfer.target,
        texts_of(transfer),
        width=parameters.helper_width,
        layers=parameters.helper_layers,
        tokens=parameters.helper_tokens,
        min_count=parameters.helper_min_count,
        seed=transfer.seed,
    )


Side = Literal["input", "output"]


class DonorParameters(HelperParameters):
    """Settings of the donor."""

    donor: Path | None = Field(
        None,
        description=(
            "Folder of a model with the target's tokenizer; by default a small model trained on the texts."
        ),
    )


def donor_matrix(
    transfer: Transfer, parameters: DonorParameters, side: Side = "input"
) -> tuple[torch.Tensor, np.ndarray]:
    """Return the donor's row of each target id, and a mask of the known tokens.

    Args:
        transfer: Transfer to the target vocabulary.
        parameters: Settings of the donor.
        side: Input or output embedding of the donor; the same matrix if the donor ties them.

    Returns:
        Rows [V, D] in the donor's data type, and a mask [V]; a token with a row of zeros is unknown.

    Raises:
        DataError: The donor has another tokenizer than the target, or is no model.
        StageFailed: There is neither a donor nor text to train a helper on.
    """
    if parameters.donor is None:
        helper = trained_helper(transfer, parameters)
        return helper.matrix_VD, helper.known_V
    known_V = _known(transfer.target, parameters.donor)
    names, stored = vocabulary_tensors(parameters.donor), stored_tensors(parameters.donor)
    name = names.output if side == "output" and has_own_output(parameters) else names.input
    rows_RD = load_tensor(stored[str(name)], str(name))[: len(known_V)]
    matrix_VD = rows_RD.new_zeros(len(known_V), rows_RD.shape[1])
    matrix_VD[: len(rows_RD)] = rows_RD
    return matrix_VD, known_V & matrix_VD.any(dim=1).numpy()


def has_own_output(parameters: DonorParameters) -> bool:
    """Return True if the donor's output embedding is another matrix than its input embedding."""
    return parameters.donor is not None and not vocabulary_tensors(parameters.donor).tied


def _known(target: Vocabulary, donor: Path) -> np.ndarray:
    """Return a mask [V] of the target ids in the donor's tokenizer; these must be the same tokens."""
    tokens = read_vocabulary(donor).tokens
    theirs = [tokens[i] if i < len(tokens) else None for i in range(len(target.tokens))]
    for token_id, (token, their) in enumerate(zip(target.tokens, theirs, strict=True)):
        if their is not None and token != their:
            raise DataError(
                f"the donor {donor} has another tokenizer than the target: "
                f"its token {token_id} is {their!r}, the target's is {token!r}",
                hint="A donor is a model with the target's own tokenizer. Leave `donor` out without one.",
            )
    return np.array([their is not None for their in theirs])


@dataclass(frozen=True)
class Landmarks:
    """Donor rows of shared tokens and of the new tokens that the donor knows.

    Attributes:
        shared: [O] source ids of the shared tokens.
        shared_OD: Donor rows of the shared tokens in float32.
        known: [N] mask of the K new tokens that the donor knows.
        targets_KD: Donor rows of the known new tokens in float32.
    """

    shared: np.ndarray
    shared_OD: Tensor
    known: np.ndarray
    targets_KD: Tensor

    def around_mean(self) -> Landmarks:
        """Return the deviations from the mean of the shared rows."""
        mean_D = self.shared_OD.mean(0)
        return replace(self, shared_OD=self.shared_OD - mean_D, targets_KD=self.targets_KD - mean_D)


def donor_rule(transfer: Transfer, parameters: DonorParameters, make: Callable[[Landmarks], Rule]) -> Rule:
    """Return the rule that `make` makes of the donor's rows; the mean of pieces if no row helps.

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


def combination_rule(
    transfer: Transfer,
    landmarks: Landmarks,
    indices_KJ: Tensor,
    coefficients_KJ: Tensor,
    *,
    around_mean: bool = False,
) -> Rule:
    """Return the rule that combines base rows as donor rows were combined.

    Args:
        transfer: Transfer to the target vocabulary.
        landmarks: Donor rows.
        indices_KJ: Int64 indices into `landmarks.shared`.
        coefficients_KJ: Coefficients of the indexed rows.
        around_mean: True if deviations from the mean of the shared rows were combined.
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


def _completed(transfer: Transfer, landmarks: Landmarks, known_rows: Rule) -> Rule:
    """Return the rule for all new tokens: `known_rows` [K, H] for known ones, else the mean of pieces."""
    known, unknown = torch.from_numpy(landmarks.known), torch.from_numpy(~landmarks.known)
    unknown_rows = _by_pieces(transfer, ~landmarks.known)

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = matrix_VH.new_empty(len(known), matrix_VH.shape[1])
        made_NH[known] = known_rows(matrix_VH, role).to(matrix_VH.dtype)
        made_NH[unknown] = unknown_rows(matrix_VH, role)
        return made_NH

    return rows


def _by_pieces(transfer: Transfer, which: np.ndarray) -> Rule:
    """Return the mean of pieces for some of the new tokens."""
    pieces = [transfer.pieces[index] for index in np.flatnonzero(which).tolist()]
    some = replace(transfer, new=transfer.new[which], pieces=pieces)
    return subtoken_rule(some)
