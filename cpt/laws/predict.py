"""Predict losses by a fitted law, with intervals, and say where a prediction is beyond what was fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from cpt.errors import UsageError, did_you_mean
from cpt.formatting import compact
from cpt.laws.dcpt import Coefficients, Points, loss
from cpt.laws.law import DomainProbe, Estimate, Law, LawWarning
from cpt.laws.rows import Text

_SLACK = 1e-9
"""Relative distance from the fitted range that is rounding."""


class Prediction(BaseModel):
    """Predicted losses at one point.

    Attributes:
        parameters, tokens: Model size, and tokens trained, replay included.
        share, replay: Shares of domain text and of replay in what is trained on.
        losses: Bits per byte by text.
        rises: Losses minus those before training, by text, where these are known.
    """

    model_config = ConfigDict(frozen=True)

    parameters: float
    tokens: float
    share: float
    replay: float
    losses: dict[Text, Estimate]
    rises: dict[Text, Estimate]
    warnings: list[LawWarning]


@dataclass(frozen=True)
class Setting:
    """A law for one domain.

    Attributes:
        domain: Name of the domain, whose losses before training are those of the rises.
        probe: Figures of the domain; None for a law of one domain.
    """

    law: Law
    domain: str
    probe: DomainProbe | None

    @classmethod
    def of(cls, law: Law, domain: str | None = None, probe: DomainProbe | None = None) -> Setting:
        """Return a law for a domain.

        Args:
            domain: Name of a domain that the law was fitted on; needed if there are several.
            probe: Figures of a domain that the law was not fitted on.

        Raises:
            UsageError: The law has no such domain, or needs one.
        """
        if not law.domains:
            if domain is not None or probe is not None:
                raise UsageError("the law was fitted on one domain", hint="Leave the domain out.")
            return cls(law, law.start[0].domain if law.start else "", None)
        if probe is not None:
            return cls(law, domain or "", probe)
        if domain not in law.domains:
            named = f"it has no domain `{domain}`" if domain else "say which one is meant"
            raise UsageError(
                f"the law was fitted on several domains: {named}",
                hint=did_you_mean(domain or "", law.domains),
            )
        return cls(law, domain, law.domains[domain])

    def points(
        self,
        text: Text,
        parameters: np.ndarray | float,
        tokens: np.ndarray | float,
        share: np.ndarray | float,
    ) -> Points:
        """Return points of a text, from shares of domain text."""
        own = np.clip(share, 0.0, 1.0) if text == "domain" else np.clip(1.0 - np.asarray(share), 0.0, 1.0)
        if self.probe is None:
            return Points(parameters, tokens, own)
        return Points(parameters, tokens, own, self.probe.first_loss, self.probe.decline)

    def losses(
        self,
        text: Text,
        parameters: np.ndarray | float,
        tokens: np.ndarray | float,
        share: np.ndarray | float,
        law: Coefficients | None = None,
    ) -> np.ndarray:
        """Return predicted losses [n], or by the coefficients of draws [draws, n]."""
        chosen = self.law.texts[text].coefficients if law is None else law
        return loss(chosen, self.points(text, parameters, tokens, share))

    def start(self, text: Text, parameters: float) -> float | None:
        """Return the loss before training: that of the nearest size of model; None if it is not known."""
        if text == "domain" and self.probe is not None and self.domain not in self.law.domains:
            return self.probe.first_loss
        # general text is the same for all domains
        known = [
            (each.parameters, value)
            for each in self.law.start
            if (each.domain == self.domain or text == "general") and (value := each.loss(text)) is not None
        ]
        if not known:
            return None
        sizes, values = zip(*sorted(known), strict=True)
        return float(np.interp(math.log(parameters), np.log(sizes), values))

    def size(self, parameters: float | None) -> float:
        """Return the size of model to predict for: the only one of the fit if none is named.

        Raises:
            UsageError: The law was fitted on several sizes, and none is named.
        """
        low, high = self.law.range.parameters
        if parameters is None and self.law.has_size:
            sizes = f"{compact(low)} to {compact(high)}"
            raise UsageError(
                f"the law was fitted on models of {sizes} parameters", hint="Say which: --parameters N."
            )
        return math.sqrt(low * high) if parameters is None else parameters


def predict(
    law: Law,
    *,
    tokens: float,
    replay: float,
    parameters: float | None = None,
    domain: str | None = None,
    probe: DomainProbe | None = None,
) -> Prediction:
    """Predict the losses after a training.

    Args:
        tokens: Tokens to train on, replay included, above 0.
        replay: Share of replay in them, from 0 to less than 1.
        parameters: Model size; needed if the law was fitted on several.
        domain: Name of a domain, of a law of several.
        probe: Figures of a domain that the law was not fitted on (`cpt.laws.probe_of`).

    Raises:
        UsageError: An argument is missing, or out of its range.
    """
    setting = Setting.of(law, domain, probe)
    if not tokens > 0:
        raise UsageError(f"{tokens:g} tokens are no training", hint="Give a number above 0.")
    if not 0 <= replay < 1:
        raise UsageError(f"{replay:g} is no share of replay", hint="Give a share from 0 to less than 1.")
    return predicted(setting, setting.size(parameters), tokens, 1.0 - replay)


def predicted(setting: Setting, parameters: float, tokens: float, share: float) -> Prediction:
    """Return the prediction at one point, with its warnings."""
    losses, rises, runs = {}, {}, len(setting.law.runs)
    for text, found in setting.law.texts.items():
        value = float(setting.losses(text, parameters, tokens, share))
        drawn = setting.losses(text, parameters, tokens, share, found.drawn)[:, 0]
        losses[text] = Estimate.of(value, drawn, runs)
        if (start := setting.start(text, parameters)) is not None:
            rises[text] = Estimate.of(value - start, drawn - start, runs)
    return Prediction(
        parameters=parameters,
        tokens=tokens,
        share=share,
        replay=1.0 - share,
        losses=losses,
        rises=rises,
        warnings=list(beyond_fit(setting.law, parameters, tokens, share)),
    )


def beyond_fit(law: Law, parameters: float, tokens: float, share: float) -> Iterator[LawWarning]:
    """Yield a warning for each variable that is outside of the fitted range."""
    values: Mapping[str, tuple[float, tuple[float, float]]] = {
        "parameters": (parameters, law.range.parameters),
        "tokens": (tokens, law.range.tokens),
        "share of domain text": (share, law.range.share),
    }
    for name, (value, (low, high)) in values.items():
        if low * (1 - _SLACK) <= value <= high * (1 + _SLACK) + _SLACK:
            continue
        show = compact if name in ("parameters", "tokens") else "{:.3g}".format
        message = f"{name}: {show(value)} is outside of the fitted range, {show(low)} to {show(high)}"
        yield LawWarning(kind="beyond_fit", message=message)
