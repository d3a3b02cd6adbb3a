"""Predict rows by a hypernetwork that was trained for the model.

Source: zero-shot tokenizer transfer, Minixhofer, Ponti, Vulić (arXiv 2405.07883). Tokens that both
vocabularies have keep their rows. New special tokens are names, not text, so they get the mean of the rows of
shared tokens.

A fine-tuned variant of the model gets the rows that the model itself would get, as in the paper, beside its
own rows of shared tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cpt.errors import DataError
from cpt.models.packed_model import best_device
from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import shared_or_used
from tokenizer_tools.hypernetwork.folder import (
    load_hypernetwork,
    read_facts,
    require_fit,
    source_vocabulary,
)
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.source import read_source, require_variant
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, from_pieces
from tokenizer_tools.transfer import Transfer, pieces_of


class Parameters(NoParameters):
    """Parameters of the hypernetwork."""

    folder: Path | None = Field(None, description="Folder of the hypernetwork. Must be given.")
    base: Path | None = Field(
        None,
        description=(
            "Model that the hypernetwork was trained for, if the changed model is a fine-tuned variant of "
            "it; by default the changed model."
        ),
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Predict all rows once, and return the rule that gives them to each matrix."""
    folder = _folder(parameters)
    network = load_hypernetwork(folder, parameters.base or transfer.model)
    _require_variant(transfer.model, parameters)
    has_text_N, forms = _surface_forms(transfer, folder)
    predicted = predict_rows(network.to(best_device()), forms)
    shared = torch.from_numpy(shared_or_used(transfer))

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = matrix_VH.new_empty(len(transfer.new), matrix_VH.shape[1])
        made_NH[has_text_N] = predicted[role].to(matrix_VH.dtype)
        if not has_text_N.all():
            made_NH[~has_text_N] = matrix_VH[shared].mean(0, dtype=torch.float32).to(matrix_VH.dtype)
        return made_NH

    return rows


def check(model: Path, parameters: Parameters) -> None:
    """Raise if the hypernetwork was not trained for the model, or the model is no variant of `base`.

    Raises:
        MissingInput: There is no hypernetwork.
        DataError: The models and the hypernetwork do not fit.
    """
    require_fit(_folder(parameters), parameters.base or model)
    _require_variant(model, parameters)


def facts(transfer: Transfer, parameters: Parameters) -> dict[str, Any]:
    """Return the numbers of tokens that the hypernetwork read in an unusual way."""
    folder = _folder(parameters)
    has_text_N, forms = _surface_forms(transfer, folder)
    size = read_facts(folder).source.size
    return {
        "hypernetwork": str(folder),
        "base": None if parameters.base is None else str(parameters.base),
        "predicted": int(has_text_N.sum()),
        "without_text": int((~has_text_N).sum()),
        "spelt_by_bytes": int((forms.ids_NL >= size).any(1).sum()),
        "pieces_cut_off": forms.truncated,
    }


def _require_variant(model: Path, parameters: Parameters) -> None:
    if parameters.base is not None:
        require_variant(read_source(parameters.base), read_source(model))


def _folder(parameters: Parameters) -> Path:
    if parameters.folder is None:
        raise DataError("hypernetwork needs the folder of one", hint="Give `folder=DIR`.")
    return parameters.folder


def _surface_forms(transfer: Transfer, folder: Path) -> tuple[Tensor, SurfaceForms]:
    """Return a mask [N] of the new tokens that stand for text, and their spellings."""
    source, length = source_vocabulary(folder), read_facts(folder).hypernetwork.pieces
    surfaces = [transfer.target.surfaces[token_id] or b"" for token_id in transfer.new.tolist()]
    has_text_N = np.array([len(surface) > 0 for surface in surfaces], dtype=bool)
    pieces = pieces_of(source, transfer.target, transfer.new[has_text_N].tolist())
    spelt = [surface for surface in surfaces if surface]
    return torch.from_numpy(has_text_N), from_pieces(pieces, spelt, len(source.tokens), length)


METHOD = Method(
    summary="rows predicted by a hypernetwork that was trained for the model",
    reference="https://arxiv.org/abs/2405.07883",
    prepare=prepare,
    parameters=Parameters,
    needs=("folder",),
    check=check,
    facts=facts,
)
