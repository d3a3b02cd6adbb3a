"""Coordinates in a basis that exists in both spaces: sparse combinations of shared tokens.

Source: the sparse token basis of mergekit-tokensurgeon. Each principal axis of the narrower space is written
as a combination of k shared tokens; the same combinations are a basis in the other space. A new token's
coordinates in the donor's basis are its coordinates in the base's. mergekit's command fails at this method
(it passes its options as k), and combines rows that are not centred with coordinates of rows that are; here
both spaces are centred on the shared tokens.
"""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._donor import DonorParameters
from tokenizer_tools.embeddings._matching_pursuit import orthogonal_matching_pursuit
from tokenizer_tools.embeddings._tokensurgeon import space_rule
from tokenizer_tools.embeddings.landmark_pca import principal_axes
from tokenizer_tools.transfer import Transfer


class Parameters(DonorParameters):
    """How sparse the basis is."""

    k: int = Field(64, gt=0, description="Shared tokens per basis vector.")


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """The map belongs to a base matrix, so it is made for each."""
    return space_rule(transfer, parameters, partial(transplanted, k=parameters.k))


def transplanted(targets_KD: Tensor, donor_OD: Tensor, base_OH: Tensor, k: int) -> Tensor:
    """[K, H] the targets, with their coordinates in the donor's basis taken as those in the base's."""
    donor_mean_D, base_mean_H = donor_OD.mean(0), base_OH.mean(0)
    donor_OD, base_OH = donor_OD - donor_mean_D, base_OH - base_mean_H
    narrower = donor_OD if donor_OD.shape[1] < base_OH.shape[1] else base_OH
    axes_WX = principal_axes(narrower, min(narrower.shape)).T
    indices_WJ, coefficients_WJ = orthogonal_matching_pursuit(axes_WX, narrower, k)
    donor_basis_WD, base_basis_WH = (
        torch.stack([weights @ rows[used] for used, weights in zip(indices_WJ, coefficients_WJ, strict=True)])
        for rows in (donor_OD, base_OH)
    )
    coordinates_WK = torch.linalg.lstsq(
        donor_basis_WD.T, (targets_KD - donor_mean_D).T, driver="gelsd"
    ).solution
    return coordinates_WK.T @ base_basis_WH + base_mean_H


METHOD = Method(
    summary="its coordinates in a donor model, in a basis made of shared tokens",
    reference="https://github.com/arcee-ai/mergekit",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
