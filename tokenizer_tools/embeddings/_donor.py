"""A donor: embedding rows of the target vocabulary in a space where new and shared tokens lie together.

A model whose tokenizer is the target's gives its own rows. Without one, a small model that is trained on the
texts with the target's tokenizer stands in (as for CLP-Transfer); it knows the tokens that the texts hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from cpt.errors import DataError
from cpt.models.vocabulary import vocabulary_tensors
from cpt.models.weights import load_tensor, stored_tensors
from tokenizer_tools.embeddings._helper import HelperParameters, trained_helper
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

Side = Literal["input", "output"]


class DonorParameters(HelperParameters):
    """Who knows the target's tokens."""

    donor: Path | None = Field(
        None,
        description=(
            "Folder of a model with the target's tokenizer; by default a small model learnt from the texts."
        ),
    )


def donor_matrix(
    transfer: Transfer, parameters: DonorParameters, side: Side = "input"
) -> tuple[torch.Tensor, np.ndarray]:
    """A row for each target id, and which of them mean something.

    Args:
        side: the donor's input or output embedding; one and the same where the donor ties them.

    Returns:
        [V, D] in the donor's data type, and a mask [V]; a row of zeros says nothing of its token.

    Raises:
        DataError: the donor has another tokenizer than the target, or is no model.
        StageFailed: there is neither a donor nor text to train a helper on.
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
    """Whether the donor's output embedding is another matrix than its input embedding."""
    return parameters.donor is not None and not vocabulary_tensors(parameters.donor).tied


def _known(target: Vocabulary, donor: Path) -> np.ndarray:
    """[V] target ids that the donor's tokenizer has; those that it has must be the same tokens."""
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
