"""Define the file of a fitted law: coefficients with intervals, quality of the fit, and its range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import ndtr, stdtrit

from cpt.json_file import read_json, write_json
from cpt.laws.dcpt import Coefficients, names_of
from cpt.laws.rows import DomainName, Loss, StartLoss, Text

VERSION: Literal[1] = 1

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

WarningKind = Literal[
    "few_runs",
    "few_shares",
    "few_domains",
    "one_size",
    "not_falling",
    "coefficient_at_bound",
    "small_effect",
    "beyond_fit",
    "at_bound",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LawWarning(_Part):
    """A reason to trust a law, or a prediction of it, less.

    Attributes:
        kind: few_runs: intervals are rough. few_shares, few_domains: there are too few to find all
            coefficients. one_size: the term of model size is left out. not_falling: the predicted loss does
            not fall with a variable. coefficient_at_bound: a coefficient stands at a bound of its search
            range. small_effect: shares of domain text differ less in the predicted loss than runs that were
            left out differ from their prediction. beyond_fit: a prediction is outside of the fitted range.
            at_bound: an advised value is at a bound of what can be chosen.
        text: Text that is concerned; None: all.
    """

    kind: WarningKind
    message: str
    text: Text | None = None


class Estimate(_Part):
    """A figure with its 95% interval by bootstrap; null bounds where there were too few runs for one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, draws: Sequence[float] | np.ndarray, runs: int) -> Self:
        """Return a figure with the interval of its draws.

        Args:
            runs: Number of runs that the bootstrap samples were drawn from.
        """
        if len(draws) == 0:
            return cls(value=value)
        low, high = bootstrap_interval(draws, runs)
        return cls(value=value, low=low, high=high)


def bootstrap_interval(draws: Sequence[float] | np.ndarray, runs: int) -> tuple[float, float]:
    """Return the expanded percentile interval of bootstrap draws, at 95%.

    Percentiles of a bootstrap over n runs are too narrow: its variance is (n - 1)/n of the runs', and its
    tails are normal, not Student's. Further ones are taken instead: Φ(-√(n/(n - 1)) · t), with the 97.5%
    point t of n - 1 degrees of freedom (Hesterberg 2015, arXiv 1411.5279, "expanded percentile interval").

    Args:
        draws: Values by the bootstrap samples.
        runs: Number n of runs that they were drawn from, at least 2.
    """
    tail = float(ndtr(-math.sqrt(runs / (runs - 1)) * stdtrit(runs - 1, 0.975)))
    low, high = np.quantile(np.asarray(draws), (tail, 1 - tail))
    return float(low), float(high)


class Quality(_Part):
    """Agreement of predictions with measured losses.

    Attributes:
        r2: 1 minus the squared errors over the squared deviations from the mean; null for equal losses.
        huber: Mean Huber loss of log L, δ = 1e-3.
        mean_error: Mean absolute error in bits per byte.
    """

    r2: float | None
    huber: float
    mean_error: float


class HeldOut(Quality):
    """Agreement on runs that the law was not fitted on.

    Attributes:
        how: given: the runs were named, and no fit has them. each: every run, or tenth of the runs, is
            predicted by a fit of the others.
    """

    how: Literal["given", "each"]
    runs: list[str] = Field(min_length=1)


class TextLaw(_Part):
    """The law of one text.

    Attributes:
        coefficients: By name. `draws` has those of the bootstrap, in the same order.
        at_bounds: Coefficients at a bound of their search range, each with the bound: their intervals say
            nothing.
    """

    coefficients: dict[str, Positive]
    at_bounds: dict[str, Literal["lower", "upper"]] = {}
    intervals: dict[str, tuple[float, float]] = {}
    draws: list[list[Positive]] = []
    readings: int = Field(gt=0)
    fitted: Quality
    heldout: HeldOut | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = set(self.coefficients)
        if names not in [
            set(names_of(size=size, domains=more)) for size in (True, False) for more in (True, False)
        ]:
            raise ValueError(f"{', '.join(self.coefficients)} are not the coefficients of a law")
        if any(len(draw) != len(names) for draw in self.draws):
            raise ValueError("a draw has not as many coefficients as the law")
        return self

    @property
    def drawn(self) -> Coefficients:
        """Return the coefficients of all draws, each [draws, 1]; without draws [0, 1]."""
        table = np.array(self.draws, float).reshape(-1, len(self.coefficients))
        return {name: table[:, [at]] for at, name in enumerate(self.coefficients)}


class DomainProbe(_Part):
    """The figures of a domain that a short run tells.

    Attributes:
        first_loss: Loss of the domain's text before training (k1), in bits per byte.
        decline: Fall of that loss per million tokens (k2), up to the tokens of the law's probe.
    """

    first_loss: Loss
    decline: Positive


class ProbeSetting(_Part):
    """The setting in which the short runs of all domains were read, and in which a new one is read.

    Attributes:
        tokens: Tokens at which the decline is read.
        share: Share of domain text in the runs.
    """

    tokens: int = Field(gt=0)
    share: Share
    parameters: int = Field(gt=0)


class Ranges(_Part):
    """Smallest and largest value of each variable in the fit; `share` is the domain's."""

    parameters: tuple[Positive, Positive]
    tokens: tuple[Positive, Positive]
    share: tuple[Share, Share]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(low > high for low, high in (self.parameters, self.tokens, self.share)):
            raise ValueError("a range ends below its beginning")
        return self


class Law(_Part):
    """A fitted D-CPT law, as `law.json` has it.

    Attributes:
        start: Losses before training, by domain and model size; rises are measured from them.
        domains: Probes of the domains that a cross-domain law was fitted on; empty for a law of one domain.
    """

    version: Literal[1] = VERSION
    unit: Literal["bits per byte"] = "bits per byte"
    seed: int
    runs: list[str] = Field(min_length=1)
    range: Ranges
    texts: dict[Text, TextLaw] = Field(min_length=1)
    start: list[StartLoss] = []
    domains: dict[DomainName, DomainProbe] = {}
    probe: ProbeSetting | None = None
    warnings: list[LawWarning] = []

    @model_validator(mode="after")
    def _same_terms(self) -> Self:
        for text in self.texts.values():
            if ("F" in text.coefficients) != bool(self.domains):
                raise ValueError("a law of several domains has a term of the domain, and no other has")
        if (self.probe is None) == bool(self.domains):
            raise ValueError("a law of several domains has the settings of their probes, and no other has")
        return self

    @property
    def has_size(self) -> bool:
        """Return True if the loss depends on the size of the model."""
        return any("A" in text.coefficients for text in self.texts.values())


def write_law(law: Law, path: Path) -> None:
    """Write a law, whole or not at all."""
    write_json(path, law.model_dump(mode="json"))


def read_law(path: Path) -> Law:
    """Read a law.

    Raises:
        DamagedFile: The file is missing, or is no law of this version.
    """
    found: Law = read_json(path, Law, hint="`cpt law fit` writes it.")
    return found
