"""What every setting of `trainable` has in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from cpt.training.groups import Part
    from cpt.training.trainable.choice import Choice

Rows = Literal["frozen", "new-tokens", "all"]
"""Which rows of a vocabulary matrix train."""

NEW_OR_NONE = "default: those of new tokens, where the model has any."
"""Ends the description of settings of rows: see `rows_that_train`."""

NONE = "none"
"""What to call no layer at all."""


@dataclass(frozen=True)
class Setup:
    """What must be known of a run to choose what trains.

    Attributes:
        steps: optimizer steps of the run.
        new_tokens: ids of the tokens that the model's base did not have.
        seed: of new random weights.
    """

    steps: int
    new_tokens: Sequence[int] = ()
    seed: int = 0


class Strict(BaseModel):
    """Settings that do not change and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rates(Strict):
    """Multiples of the schedule's rate."""

    embeddings: float = Field(default=1.0, gt=0, description="For the input and output embeddings.")
    new_tokens: float | None = Field(
        default=None, gt=0, description="For the rows of new tokens; default: as the other embeddings."
    )

    def multiples(self) -> dict[Part, float]:
        """The multiple of every part."""
        given: Any = self.model_dump(exclude_none=True)
        return {"new_tokens": self.embeddings, **given}


class WeightRates(Rates):
    """Multiples of the schedule's rate, for weights of the model itself."""

    matrices: float = Field(default=1.0, gt=0, description="For the matrices inside the layers.")
    norms: float = Field(default=1.0, gt=0, description="For norms and biases.")


class AdapterRates(Rates):
    """Multiples of the schedule's rate, where adapters train."""

    adapters: float = Field(default=1.0, gt=0, description="For the adapters.")


def rows_that_train(given: Rows | None, setup: Setup) -> Rows:
    """Which rows train: where nothing is said, those of new tokens, which are as initialised."""
    return given or ("new-tokens" if setup.new_tokens else "frozen")


def rows_apart(rows: Iterable[Rows], first: float, rates: Rates) -> bool:
    """Whether rows of new tokens are weights of their own, where these rows of the vocabulary train."""
    apart = {"new-tokens", "all"} if first or rates.new_tokens is not None else {"new-tokens"}
    return not apart.isdisjoint(rows)


class TrainsConfig(Strict):
    """Base of the settings of what trains."""

    def new_rows_apart(self, setup: Setup) -> bool:  # noqa: ARG002
        """Whether the rows of new tokens train apart from the rest of their matrix."""
        return False

    def choose(self, model: Any, setup: Setup) -> Choice:
        """Mark on a float32 model what trains, after adding what is to be added to it.

        Args:
            model: causal language model; may lie on the meta device, to find what is wrong with the settings.

        Raises:
            RecipeError: the settings do not go with the model; keys begin with "trainable".
        """
        raise NotImplementedError
