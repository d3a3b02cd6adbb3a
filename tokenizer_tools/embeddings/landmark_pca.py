"""Donor space turned onto base space, principal axes onto principal axes, as the shared tokens say.

Source: landmark PCA in mergekit-tokensurgeon. Both clouds of shared tokens are centred and seen in their
leading principal axes, min(D, H) of them; the rotation between the two is orthogonal Procrustes. mergekit
applies that rotation's transpose, and keeps the donor's scale; here the rotation is the one that fits, and
so is the scale.
"""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._donor import DonorParameters
from tokenizer_tools.embeddings._tokensurgeon import space_rule
from tokenizer_tools.transfer import Transfer


class Parameters(DonorParameters):
    """Whether rows keep the donor's size."""

    scale: bool = Field(True, description="Scale rows as the shared tokens' rows are scaled.")


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """The map belongs to a base matrix, so it is made for each."""
    return space_rule(transfer, parameters, partial(rotated, scale=parameters.scale))


def rotated(targets_KD: Tensor, donor_OD: Tensor, base_OH: Tensor, scale: bool) -> Tensor:
    """[K, H] the targets, mapped as the shared rows are mapped best by rotation (and scaling)."""
    donor_mean_D, base_mean_H = donor_OD.mean(0), base_OH.mean(0)
    donor_OD, base_OH = donor_OD - donor_mean_D, base_OH - base_mean_H
    width = min(*donor_OD.shape, base_OH.shape[1])
    donor_axes_DW, base_axes_HW = (principal_axes(rows, width) for rows in (donor_OD, base_OH))
    cross_WW = donor_axes_DW.T @ (donor_OD.T @ base_OH) @ base_axes_HW
    left_WW, fit_W, right_WW = torch.linalg.svd(cross_WW)
    rows_KH = (targets_KD - donor_mean_D) @ donor_axes_DW @ left_WW @ right_WW @ base_axes_HW.T
    if scale:
        rows_KH *= fit_W.sum() / (donor_OD @ donor_axes_DW).square().sum()
    return rows_KH + base_mean_H


def principal_axes(centred_OD: Tensor, count: int) -> Tensor:
    """[D, count] orthonormal axes of largest variance, the largest last."""
    axes_DD: Tensor = torch.linalg.eigh(centred_OD.T @ centred_OD).eigenvectors
    return axes_DD[:, -count:]


METHOD = Method(
    summary="its row in a donor model, rotated to where the shared tokens lie",
    reference="https://github.com/arcee-ai/mergekit",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
