"""Predict rows by a hypernetwork that was trained for the model.

Source: zero-shot tokenizer transfer, Minixhofer, Ponti, Vulić (arXiv 2405.07883). In the paper the rows of
all plain tokens are predicted (`shared: predicted`). Here those of tokens that both vocabularies have are
copied unless asked otherwise, so that the same tokenizer changes nothing. New special tokens are names, not
text, so they get the mean of the source rows.

A fine-tuned variant of the model gets the rows that the model itself would get, as in the paper, beside its
own rows of shared tokens.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cpt.errors import DataError
from cpt.models.packed_model import best_device
from tokenizer_tools.embeddings import Method, NoParameters, Role, Rule
from tokenizer_tools.embeddings._weights import used_ids
from tokenizer_tools.hypernetwork.folder import (
    load_hypernetwork,
    read_facts,
    require_fit,
    require_untrained_model,
    source_vocabulary,
)
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork
from tokenizer_tools.hypernetwork.source import read_source, require_variant
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms, from_pieces
from tokenizer_tools.transfer import Transfer, pieces_of


class Parameters(NoParameters):
    """Parameters of the hypernetwork."""

    folder: Path | None = Field(
        None, description="Hypernetwork: its folder, or a hub id with a revision. Must be given."
    )
    base: Path | None = Field(
        None,
        description=(
            "Model that the hypernetwork was trained for, if the changed model is a fine-tuned variant of "
            "it; by default the changed model."
        ),
    )
    shared: Literal["copied", "predicted"] = Field(
        "copied", description="Rows of plain tokens that both vocabularies have."
    )


def remake(transfer: Transfer, parameters: Parameters) -> Transfer:
    """Return a transfer in which plain shared tokens are new, if their rows are to be predicted."""
    if parameters.shared == "copied":
        return transfer
    is_plain_O = np.array(
        [bool(transfer.target.surfaces[token_id]) for token_id in transfer.shared_target], bool
    )
    spelt = {int(token_id): ids for token_id, ids in zip(transfer.new, transfer.pieces, strict=True)}
    moved = zip(transfer.shared_target[is_plain_O], transfer.shared_source[is_plain_O], strict=True)
    spelt |= {int(target_id): [int(source_id)] for target_id, source_id in moved}
    new = sorted(spelt)
    return replace(
        transfer,
        shared_source=transfer.shared_source[~is_plain_O],
        shared_target=transfer.shared_target[~is_plain_O],
        new=np.array(new, dtype=np.int64),
        pieces=[spelt[token_id] for token_id in new],
    )


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Predict all rows once, and return the rule that gives them to each matrix."""
    folder = _folder(parameters)
    network = load_hypernetwork(folder, parameters.base or transfer.model)
    _require_variant(transfer.model, parameters)
    has_text_N, forms = _surface_forms(transfer, folder)
    predicted = predict_rows(network.to(best_device()), forms)
    used = torch.from_numpy(used_ids(transfer.source))

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        made_NH = matrix_VH.new_empty(len(transfer.new), matrix_VH.shape[1])
        made_NH[has_text_N] = predicted[role].to(matrix_VH.dtype)
        if not has_text_N.all():
            made_NH[~has_text_N] = matrix_VH[used].mean(0, dtype=torch.float32).to(matrix_VH.dtype)
        return made_NH

    return rows


def check(model: Path, parameters: Parameters) -> None:
    """Raise if the hypernetwork was not trained for the model, or the model is no variant of `base`.

    Raises:
        MissingInput: There is no hypernetwork.
        DataError: The models and the hypernetwork do not fit, or the model was trained with it.
    """
    require_untrained_model(_folder(parameters))
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
    remake=remake,
    facts=facts,
    resolvers={"folder": resolve_hypernetwork},
)
