"""A new token between the shared tokens that are nearest to it in a donor model.

Source: common-vocabulary interpolation in mergekit-tokensurgeon. Its least squares, by the LAPACK driver
gelsy, were seen to be wrong where a neighbour's row is zero or a copy of another; here the driver is gelsd.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._donor import DonorParameters
from tokenizer_tools.embeddings._tokensurgeon import Landmarks, chunks, combination_rule, donor_rule
from tokenizer_tools.transfer import Transfer

Metric = Literal["euclidean", "cosine"]
Weights = Literal["distance", "barycentric", "least-squares"]

_SMALLEST = 1e-6


class Parameters(DonorParameters):
    """What is near, and what it weighs."""

    k: int = Field(64, gt=0, description="Nearest shared tokens that are used.")
    metric: Metric = Field("euclidean", description="What nearness is; cosine is 1 - cosine similarity.")
    weights: Weights = Field(
        "distance",
        description=(
            "distance: 1 / distance, or the cosine itself, made to sum to 1; barycentric: the least squares "
            "among weights that sum to 1; least-squares: among all weights."
        ),
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Neighbours and weights are found once, in donor space."""

    def make(found: Landmarks) -> Rule:
        k = min(parameters.k, len(found.shared))
        parts = [
            interpolations(targets_BD, found.shared_OD, k, parameters.metric, parameters.weights)
            for targets_BD in chunks(found, k)
        ]
        indices, weights = zip(*parts, strict=True)
        return combination_rule(transfer, found, torch.cat(indices), torch.cat(weights))

    return donor_rule(transfer, parameters, make)


def interpolations(
    targets_BD: Tensor, points_OD: Tensor, k: int, metric: Metric, weights: Weights
) -> tuple[Tensor, Tensor]:
    """The k nearest points of each target, int64 [B, k], and their weights [B, k]."""
    distances_BO = distances(targets_BD, points_OD, metric)
    nearest_Bk, indices_Bk = distances_BO.topk(k, dim=1, largest=False)
    if weights == "distance":
        closeness_Bk = 1 / nearest_Bk.clamp(min=_SMALLEST) if metric == "euclidean" else 1 - nearest_Bk
        closeness_Bk = closeness_Bk.clamp(min=_SMALLEST)
        return indices_Bk, closeness_Bk / closeness_Bk.sum(1, keepdim=True)
    points_BkD = points_OD[indices_Bk]
    if weights == "least-squares":
        return indices_Bk, _least_squares(points_BkD, targets_BD)
    centre_BD = points_BkD.mean(1)  # around it, the smallest weights that fit best sum to 0
    return indices_Bk, 1 / k + _least_squares(points_BkD - centre_BD[:, None], targets_BD - centre_BD)


def distances(targets_BD: Tensor, points_OD: Tensor, metric: Metric) -> Tensor:
    """[B, O] distances."""
    if metric == "euclidean":
        return torch.cdist(targets_BD, points_OD)
    normalise = torch.nn.functional.normalize
    return 1 - normalise(targets_BD) @ normalise(points_OD).T


def _least_squares(points_BkD: Tensor, targets_BD: Tensor) -> Tensor:
    """[B, k] the smallest weights with which the points come closest to the targets."""
    solved = torch.linalg.lstsq(points_BkD.mT, targets_BD[:, :, None], driver="gelsd")
    return solved.solution.squeeze(2)


METHOD = Method(
    summary="mean of the shared tokens nearest to it in a donor model",
    reference="https://github.com/arcee-ai/mergekit",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
