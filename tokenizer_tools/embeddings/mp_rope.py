"""Matching pursuit with rotated atoms: shared rows are turned like attention turns positions, to fit better.

Source: matching pursuit with RoPE in mergekit-tokensurgeon. A row, cut into heads, is a vector of complex
numbers, and position p multiplies each by e^(i p f) with its rotary frequency f. Atoms are chosen one after
the other by |<residual, atom>|; each is turned to the position where it is most like the residual or its
negative, whichever is nearer to 0. Least squares then give the coefficients, and the same turns and
coefficients are applied to the base's rows with the base's frequencies.

Here it is written anew: with transformers 5 mergekit's command does not find the rotary base, and its
function was seen to give other rows when called again on the same input; here least squares go through the
LAPACK driver gelsd, with which they are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpt.errors import DataError
from cpt.models.loading import settings
from tokenizer_tools.embeddings import Method, Rule
from tokenizer_tools.embeddings._tokensurgeon import (
    Landmarks,
    PursuitParameters,
    chunks,
    donor_rule,
    map_rule,
)
from tokenizer_tools.helper_model import HEAD_WIDTH
from tokenizer_tools.transfer import Transfer

_HELPER_BASE = 10_000.0


@dataclass(frozen=True)
class Rotary:
    """How a model rotates: heads that a row is cut into, and the base of the rotary frequencies."""

    heads: int
    base: float

    def frequencies(self, width: int) -> Tensor:
        """[width / 2] of the complex numbers of a row, head by head."""
        size = width // self.heads
        return (self.base ** (-torch.arange(0, size, 2) / size)).repeat(self.heads)

    def to_complex(self, rows: Tensor) -> Tensor:
        """[..., W] real to [..., W / 2] complex: dimension i of a head goes with i + half a head."""
        halves = rows.unflatten(-1, (self.heads, 2, -1))
        return torch.complex(halves[..., 0, :], halves[..., 1, :]).flatten(-2)

    def to_real(self, rows: Tensor) -> Tensor:
        """The inverse of `to_complex`."""
        heads = rows.unflatten(-1, (self.heads, -1))
        return torch.stack([heads.real, heads.imag], dim=-2).flatten(-3)

    def turn(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Rows [..., W] as attention would see them at positions [...]."""
        angles = positions[..., None] * self.frequencies(rows.shape[-1])
        return self.to_real(self.to_complex(rows) * torch.polar(torch.ones_like(angles), angles))

    def position(self, rows: Tensor, goals: Tensor) -> Tensor:
        """[...] the position that turns each row's numbers most nearly to the angles of its goal."""
        angles = (self.to_complex(goals) * self.to_complex(rows).conj()).angle()
        frequencies = self.frequencies(rows.shape[-1])
        return angles @ frequencies / frequencies.square().sum()


def prepare(transfer: Transfer, parameters: PursuitParameters) -> Rule:
    """Atoms, turns and coefficients are found once, in donor space."""
    base = rotary(transfer.model)
    known_donor = None if parameters.donor is None else rotary(parameters.donor)

    def make(landmarks: Landmarks) -> Rule:
        found = landmarks.around_mean() if parameters.around_mean else landmarks
        donor = known_donor or Rotary(found.shared_OD.shape[1] // HEAD_WIDTH, _HELPER_BASE)
        k = min(parameters.k, len(found.shared))
        parts = [pursue(targets_BD, found.shared_OD, k, donor) for targets_BD in chunks(found, k)]

        def approximate(base_OH: Tensor) -> Tensor:
            mean_H = base_OH.mean(0) if parameters.around_mean else torch.zeros(base_OH.shape[1])
            combined = [
                (coefficients[:, None] @ base.turn(base_OH[indices] - mean_H, positions)).squeeze(1)
                for indices, positions, coefficients in parts
            ]
            return torch.cat(combined) + mean_H

        return map_rule(transfer, found, approximate)

    return donor_rule(transfer, parameters, make)


def pursue(targets_BD: Tensor, atoms_OD: Tensor, k: int, rotation: Rotary) -> tuple[Tensor, Tensor, Tensor]:
    """Indices, positions and coefficients, each [B, k], of the atoms that make the targets."""
    indices_Bk = torch.zeros(len(targets_BD), k, dtype=torch.int64)
    positions_Bk = torch.zeros(len(targets_BD), k)
    residual_BD = targets_BD.clone()
    for step in range(k):
        products_BO = (residual_BD @ atoms_OD.T).abs_()
        products_BO.scatter_(1, indices_Bk[:, :step], -1)
        indices_Bk[:, step] = products_BO.max(dim=1).indices
        atom_BD = atoms_OD[indices_Bk[:, step]]
        alike_B, opposite_B = (rotation.position(atom_BD, goal) for goal in (residual_BD, -residual_BD))
        positions_Bk[:, step] = torch.where(alike_B.abs() < opposite_B.abs(), alike_B, opposite_B)
        turned_BD = rotation.turn(atom_BD, positions_Bk[:, step])
        share_B = (residual_BD * turned_BD).sum(1) / turned_BD.square().sum(1)
        residual_BD -= share_B[:, None] * turned_BD
    turned_BkD = rotation.turn(atoms_OD[indices_Bk], positions_Bk)
    solved = torch.linalg.lstsq(turned_BkD.mT, targets_BD[:, :, None], driver="gelsd")
    return indices_Bk, positions_Bk, solved.solution.squeeze(2)


def rotary(folder: Path) -> Rotary:
    """The model's rotation.

    Raises:
        DataError: it has none, or several, or one that its rows cannot be cut into.
    """
    config = settings(folder).get_text_config()
    base = (getattr(config, "rope_parameters", None) or {}).get("rope_theta")
    if base is None or config.hidden_size % (2 * config.num_attention_heads):
        raise DataError(
            f"the rows of the model in {folder} ({config.model_type}) cannot be turned by rotary positions",
            hint="mp-rope needs one rotary embedding in the donor and in the base. omp needs none.",
        )
    return Rotary(config.num_attention_heads, base)


METHOD = Method(
    summary="few shared tokens, rotated like positions, that make the token in a donor model",
    reference="https://github.com/arcee-ai/mergekit",
    prepare=prepare,
    parameters=PursuitParameters,
    needs_texts=True,
)
