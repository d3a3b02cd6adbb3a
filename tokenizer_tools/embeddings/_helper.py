"""The helper that a transfer trains for itself where no model with the target's tokenizer is given."""

from __future__ import annotations

from pydantic import Field

from tokenizer_tools.embeddings import NoParameters
from tokenizer_tools.embeddings._auxiliary import texts_of
from tokenizer_tools.helper_model import Helper, train_helper
from tokenizer_tools.transfer import Transfer


class HelperParameters(NoParameters):
    """How a helper is trained."""

    helper_width: int = Field(128, gt=0, description="Width of a helper trained here.")
    helper_layers: int = Field(2, gt=0, description="Layers of a helper trained here.")
    helper_tokens: int = Field(2_000_000, gt=0, description="Tokens that a helper is trained on here.")
    helper_min_count: int = Field(
        5, gt=0, description="A token that is rarer in the text is not known to a helper trained here."
    )


def trained_helper(transfer: Transfer, parameters: HelperParameters) -> Helper:
    """A helper trained on the transfer's texts.

    Raises:
        StageFailed: there are no texts, or they hold too little.
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
