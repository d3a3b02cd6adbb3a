"""Combine few shared donor rows to a new token's donor row, and apply the combination to base rows.

Source: orthogonal matching pursuit in mergekit-tokensurgeon ("Training-free tokenizer transplantation via
orthogonal matching pursuit", arXiv 2506.06607), with its choice of atoms and its default k. By default
deviations from the mean are combined. Coefficients of whole rows do not sum to 1, so the mean, which keeps
the logits of rare tokens low, would be lost: with a donor of width 128 trained on little text, new tokens
then outbid the right ones, the more so the larger k.

Matching pursuit: Pati, Rezaiifar, Krishnaprasad (1993). Each step takes the atom with the largest
|<residual, atom>| (atoms as they are, not scaled to unit norm, as in mergekit-tokensurgeon), makes it
orthogonal to those taken before by Gram-Schmidt, and removes its share from the residual. Coefficients come
from the triangular system of that QR decomposition.

Nearly all of the work is the products of residuals with all atoms. If the hardware multiplies bfloat16, these
are rough: an atom can only win if its rough product plus the largest possible rounding error reaches the
largest rough product minus that error. Few can, and float32 decides among them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cpt.models.packed_model import has_fast_bfloat16
from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._donor import DonorParameters, Landmarks, combination_rule, donor_rule
from tokenizer_tools.transfer import Transfer

Search = Callable[[Tensor], Tensor]
"""Function: residuals [B, D] -> index [B] of the atom with the largest absolute product."""

_CHUNK_ELEMENTS = 2**23
_MEAN_FINALISTS = 32
_ROUNDING_BFLOAT16, _ROUNDING_FLOAT32 = 2.0**-8, 2.0**-23
_DEPENDENT, _EXPLAINED = 1e-5, 1e-6
_CANCELLED = 0.5


def orthogonal_matching_pursuit(
    targets_ND: Tensor, atoms_OD: Tensor, k: int, *, screen: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Approximate targets by combinations of at most k atoms.

    Args:
        targets_ND: Targets.
        atoms_OD: Atoms.
        k: Number of atoms per target; never more than O or D.
        screen: Search atoms in bfloat16 first; by default if that is fast. It changes the time only.

    Returns:
        Indices of atoms [N, K] int64 in the order of choice, and coefficients [N, K] float32. A target that
        fewer atoms explain, within float32, has coefficients 0 for the others.
    """
    targets_ND, atoms_OD = targets_ND.float(), atoms_OD.float()
    k = min(k, *atoms_OD.shape)
    screened = has_fast_bfloat16() if screen is None else screen
    search = screened_search(atoms_OD) if screened else exact_search(atoms_OD)
    chunk = max(1, _CHUNK_ELEMENTS // max(len(atoms_OD), k * atoms_OD.shape[1]))
    found = [_pursue(targets_BD, atoms_OD, k, search) for targets_BD in targets_ND.split(chunk)]
    indices, coefficients = zip(*found, strict=True)
    return torch.cat(indices), torch.cat(coefficients)


def _pursue(targets_BD: Tensor, atoms_OD: Tensor, k: int, search: Search) -> tuple[Tensor, Tensor]:
    count, width = targets_BD.shape
    basis_BKD = torch.zeros(count, k, width)
    triangle_BKK = torch.eye(k).repeat(count, 1, 1)
    shares_BK = torch.zeros(count, k)
    indices_BK = torch.zeros(count, k, dtype=torch.int64)
    residual_BD = targets_BD.clone()
    explained_B = _EXPLAINED * targets_BD.norm(dim=1)
    for step in range(k):
        indices_BK[:, step] = search(residual_BD)
        atom_BD = atoms_OD[indices_BK[:, step]]
        direction_BD, shadow_BS = _orthogonal_part(atom_BD, basis_BKD[:, :step])
        length_B = direction_BD.norm(dim=1)
        taken_B = (length_B > _DEPENDENT * atom_BD.norm(dim=1)) & (residual_BD.norm(dim=1) > explained_B)
        residual_BD[~taken_B], direction_BD[~taken_B], length_B[~taken_B] = 0, 0, 1
        direction_BD /= length_B[:, None]
        shares_BK[:, step] = (direction_BD * residual_BD).sum(1)
        residual_BD -= shares_BK[:, step, None] * direction_BD
        basis_BKD[:, step] = direction_BD
        triangle_BKK[:, :step, step], triangle_BKK[:, step, step] = shadow_BS, length_B
    coefficients_BK1 = torch.linalg.solve_triangular(triangle_BKK, shares_BK[:, :, None], upper=True)
    return indices_BK, coefficients_BK1.squeeze(2)


def _orthogonal_part(vectors_BD: Tensor, basis_BSD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part [B, D] of each vector orthogonal to its basis, and its coordinates [B, S] in it.

    If most of a vector is in the basis, cancellation leaves an error, so the basis is removed twice.
    """
    shadow_BS = (basis_BSD @ vectors_BD[:, :, None]).squeeze(2)
    rest_BD = vectors_BD - (shadow_BS[:, None] @ basis_BSD).squeeze(1)
    cancelled_B = rest_BD.norm(dim=1) < _CANCELLED * vectors_BD.norm(dim=1)
    if cancelled_B.any():
        basis_CSD, rest_CD = basis_BSD[cancelled_B], rest_BD[cancelled_B]
        again_CS = (basis_CSD @ rest_CD[:, :, None]).squeeze(2)
        rest_BD[cancelled_B] = rest_CD - (again_CS[:, None] @ basis_CSD).squeeze(1)
        shadow_BS[cancelled_B] += again_CS
    return rest_BD, shadow_BS


def exact_search(atoms_OD: Tensor) -> Search:
    """Return a search by all products in float32."""
    return lambda residual_BD: (residual_BD @ atoms_OD.T).abs_().max(dim=1).indices


def screened_search(atoms_OD: Tensor) -> Search:
    """Return a search by all products in bfloat16, and those of possible winners in float32."""
    rough_OD = atoms_OD.bfloat16()
    longest = max(float(block.norm(dim=1).max()) for block in atoms_OD.split(1024))
    farthest = max(
        float((block - rough.float()).norm(dim=1).max())
        for block, rough in zip(atoms_OD.split(1024), rough_OD.split(1024), strict=True)
    )
    exact = exact_search(atoms_OD)

    def search(residual_BD: Tensor) -> Tensor:
        rough_BD = residual_BD.bfloat16()
        products_BO = (rough_BD @ rough_OD.T).abs_()
        error_B = (
            (residual_BD - rough_BD.float()).norm(dim=1) * longest
            + rough_BD.float().norm(dim=1) * farthest
            + residual_BD.norm(dim=1) * longest * residual_BD.shape[1] * _ROUNDING_FLOAT32
        )
        finalists = _at_least(products_BO, _ROUNDING_BFLOAT16, error_B)
        if len(finalists[0]) > _MEAN_FINALISTS * len(residual_BD):
            return exact(residual_BD)
        return _best_finalists(residual_BD, atoms_OD, *finalists)

    return search


def _at_least(products_BO: Tensor, relative: float, error_B: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the products that may be the largest of their row.

    Magnitudes in bfloat16 have the order of their bits read as integers, which compare faster.
    """
    largest_B = products_BO.view(torch.int16).amax(dim=1).view(torch.bfloat16).float()
    least_B = (largest_B * (1 - relative) - 2 * error_B) * (1 - 2 * relative)
    least_B = least_B.clamp(min=torch.finfo(torch.bfloat16).tiny).bfloat16()  # a row of zeros has no finalist
    possible_BO = products_BO.view(torch.int16) >= least_B.view(torch.int16)[:, None]
    rows, columns = np.divmod(np.flatnonzero(possible_BO.numpy()), products_BO.shape[1])
    return rows, columns


def _best_finalists(residual_BD: Tensor, atoms_OD: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    products = (residual_BD[torch.from_numpy(rows)] * atoms_OD[torch.from_numpy(columns)]).sum(1).abs_()
    order = np.lexsort((columns, -products.numpy(), rows))
    found, first = np.unique(rows[order], return_index=True)
    best_B = torch.zeros(len(residual_BD), dtype=torch.int64)
    best_B[torch.from_numpy(found)] = torch.from_numpy(columns[order][first])
    return best_B


class Parameters(DonorParameters):
    """Parameters of orthogonal matching pursuit."""

    k: int = Field(64, gt=0, description="Largest number of shared tokens that make a new one.")
    around_mean: bool = Field(
        True,
        description=(
            "Combine deviations from the mean of the shared rows, so that new rows keep the mean. "
            "mergekit does not."
        ),
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Find combinations once, in donor space, and return the rule that applies them."""

    def make(landmarks: Landmarks) -> Rule:
        found = landmarks.around_mean() if parameters.around_mean else landmarks
        combinations = orthogonal_matching_pursuit(found.targets_KD, found.shared_OD, parameters.k)
        return combination_rule(transfer, found, *combinations, around_mean=parameters.around_mean)

    return donor_rule(transfer, parameters, make)


METHOD = Method(
    summary="few shared tokens that combine to the token in a donor model, by orthogonal matching pursuit",
    reference="https://arxiv.org/abs/2506.06607",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
