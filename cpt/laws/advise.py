"""Advise how much of a training should be domain text, by a fitted law.

The three uses of Que et al. (arXiv 2406.01375): the lowest domain loss within a bound on the general rise at
a given number of tokens; the same where the domain text is given, so that D = D_d/r_d; and where the compute
is, 6ND = C, so that N is chosen too. A search over a fine grid finds the best place for any shape of the law.
It is then refined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import brentq, minimize_scalar

from cpt.errors import UsageError
from cpt.formatting import compact, percent, signed
from cpt.laws.dcpt import Coefficients
from cpt.laws.law import DomainProbe, Estimate, Law, LawWarning
from cpt.laws.noise import small_effect_of_advice
from cpt.laws.predict import Prediction, Setting, predicted
from cpt.laws.rows import TEXTS, Text
from cpt.monitor.gates.gate import Limit

DOMAIN, GENERAL = TEXTS

SMALLEST_SHARE = 1e-3
"""Smallest share of domain text that is advised."""

_SHARES = np.linspace(SMALLEST_SHARE, 1.0, 1_000)
_SIZES = 81
_AROUND = 10.0
"""Factor below and above the fitted sizes within which a size is chosen."""

FLOPS = 6
"""Operations per parameter and token of a training step (Kaplan et al. 2020, arXiv 2001.08361)."""

Basis = Literal["tokens", "domain tokens", "compute"]


class Advice(BaseModel):
    """The advised share of domain text, and what it leads to.

    Attributes:
        basis: What was given.
        share, replay: Advised shares of domain text and of replay, with intervals over the bootstrap.
        prediction: Losses at the advised point.
        limit: Bound on the general rise, as written; None: there was none.
        held: Share of the bootstrap's laws by which the advised point is within the limit; None where the law
            is beyond its fit, or its loss of general text does not fall.
    """

    model_config = ConfigDict(frozen=True)

    basis: Basis
    share: Estimate
    replay: Estimate
    prediction: Prediction
    limit: str | None = None
    held: float | None = None
    warnings: list[LawWarning] = []


class _Found(NamedTuple):
    share: float
    parameters: float


class _Question(NamedTuple):
    """A question to a law.

    Attributes:
        amount: Tokens, domain tokens, or operations.
        parameters: Model size; None: chosen.
        rise: Largest rise of general text in bits per byte; None: any.
        shares: Shares of domain text to choose from [s].
    """

    setting: Setting
    basis: Basis
    amount: float
    parameters: float | None
    rise: float | None
    shares: np.ndarray

    def tokens(self, parameters: np.ndarray | float, share: np.ndarray | float) -> np.ndarray | float:
        """Return the tokens of a training."""
        if self.basis == "compute":
            return self.amount / (FLOPS * parameters) + 0 * share
        return self.amount / share if self.basis == "domain tokens" else self.amount + 0 * share

    def loss(
        self,
        text: Text,
        parameters: np.ndarray | float,
        share: np.ndarray | float,
        law: Coefficients | None = None,
    ) -> np.ndarray:
        """Return losses of a text [n], or [draws, n] by the coefficients of draws."""
        return self.setting.losses(text, parameters, self.tokens(parameters, share), share, law)

    def excess(
        self, parameters: float, share: np.ndarray | float, law: Coefficients | None = None
    ) -> np.ndarray:
        """Return the rise of general text minus the limit [n]; within it the result is 0 or less."""
        if self.rise is None:
            return np.full(np.shape(share), -1.0)
        start = self.setting.start(GENERAL, parameters)
        assert start is not None  # `_check_limit` has refused it
        return self.loss(GENERAL, parameters, share, law) - start - self.rise


def advise(
    law: Law,
    *,
    tokens: float | None = None,
    domain_tokens: float | None = None,
    compute: float | None = None,
    limit: str | Limit | None = None,
    parameters: float | None = None,
    replay: float | None = None,
    domain: str | None = None,
    probe: DomainProbe | None = None,
) -> Advice:
    """Advise the share of domain text with the lowest predicted domain loss.

    Args:
        tokens: Tokens to train on, replay included. One of this and the next two is given.
        domain_tokens: Domain tokens alone, to which replay comes.
        compute: Operations 6·N·D, which are divided between model size and tokens.
        limit: Largest rise of general text, `general <= +0.01`.
        parameters: Model size; with `compute` it is chosen.
        replay: Share of replay, where only the size is to be chosen.
        domain, probe: As of `predict`.

    Raises:
        UsageError: The arguments do not fit the law, or no share keeps the limit.
    """
    given = {"tokens": tokens, "domain tokens": domain_tokens, "compute": compute}
    amounts = [(basis, amount) for basis, amount in given.items() if amount is not None]
    if len(amounts) != 1:
        raise UsageError("give one of tokens, domain tokens and compute")
    basis, amount = amounts[0]
    if not amount > 0:
        raise UsageError(f"{amount:g} is no amount of {basis}", hint="Give a number above 0.")
    setting = Setting.of(law, domain, probe)
    if DOMAIN not in law.texts:
        raise UsageError("the law does not predict domain loss", hint="Fit it on rows with domain_loss.")
    if basis == "compute" and not law.has_size:
        raise UsageError(
            "compute is divided between model size and tokens, but the law was fitted on one size of model",
            hint="Fit it on runs of several sizes, or give tokens.",
        )
    if basis == "compute" and parameters is not None:
        raise UsageError("with compute the model size is chosen", hint="Leave the parameters out.")
    if replay is not None and (basis != "compute" or not 0 <= replay < 1):
        raise UsageError(
            "a share of replay is given only with compute, from 0 to less than 1",
            hint="`cpt law predict` says what a share leads to.",
        )
    limit = Limit.parse(limit) if isinstance(limit, str) else limit
    size = None if basis == "compute" else setting.size(parameters)
    shares = _SHARES if replay is None else np.array([1.0 - replay])
    rise = None if limit is None else _rise(limit, setting)
    return _advise(_Question(setting, basis, amount, size, rise, shares), limit)  # type: ignore[arg-type]


def limit_problem(limit: Limit) -> str | None:
    """Return why a law cannot advise under a limit, or None if it can."""
    if limit.probe != GENERAL:
        return f"`{limit}` bounds {limit.probe}: a law predicts general text, like `general <= +0.01`"
    if limit.recovery or limit.falls:
        return f"`{limit}` is no bound on a rise: write it like `general <= +0.01`"
    return limit.misfit("text")


def _rise(limit: Limit, setting: Setting) -> float:
    """Return the largest rise that a limit allows."""
    if (problem := limit_problem(limit)) is not None:
        raise UsageError(problem)
    if GENERAL not in setting.law.texts:
        raise UsageError("the law does not predict general text", hint="Fit it on rows with general_loss.")
    if setting.start(GENERAL, setting.law.range.parameters[0]) is None:
        raise UsageError(
            "the loss of general text before training is not known, so its rise is not",
            hint="Fit the law on rows that have one of 0 tokens, with general_loss.",
        )
    return limit.allowed


def _advise(question: _Question, limit: Limit | None) -> Advice:
    found = _best(question)
    if found is None:
        raise _nothing_holds(question, limit)
    law = question.setting.law
    tokens = float(question.tokens(found.parameters, found.share))
    prediction = predicted(question.setting, found.parameters, tokens, found.share)
    drawn = _drawn_shares(question)
    warnings = [*law.warnings, *prediction.warnings]
    held = None
    # the bootstrap's laws share what is wrong with the law: of 99.5% that kept a limit the training broke it
    wrong = any(each.kind in ("beyond_fit", "not_falling") and each.text != DOMAIN for each in warnings)
    if (
        limit is not None
        and not wrong
        and (draws := law.texts[GENERAL].drawn)
        and len(np.atleast_1d(draws["E"]))
    ):
        held = float(np.mean(question.excess(found.parameters, found.share, draws)[:, 0] <= 0))
    return Advice(
        basis=question.basis,
        share=Estimate.of(found.share, drawn, len(law.runs)),
        replay=Estimate.of(1.0 - found.share, 1.0 - drawn, len(law.runs)),
        prediction=prediction,
        limit=None if limit is None else str(limit),
        held=held,
        warnings=[*warnings, *_small_effects(question, found), *_at_bound(question, found)],
    )


def _best(question: _Question) -> _Found | None:
    """Return the point of the lowest domain loss within the limit; None if no share keeps it."""
    if question.parameters is not None:
        share = _best_share(question, question.parameters)
        return None if share is None else _Found(share, question.parameters)

    def value(log_size: float) -> float:
        size = float(np.exp(log_size))
        share = _best_share(question, size)
        return np.inf if share is None else float(question.loss(DOMAIN, size, share))

    logs = _log_sizes(question.setting.law)
    values = [value(log) for log in logs]
    at = int(np.argmin(values))
    if not np.isfinite(values[at]):
        return None
    around = (logs[max(at - 1, 0)], logs[min(at + 1, len(logs) - 1)])
    log = _lowest(value, around, float(logs[at]))
    size = float(np.exp(log))
    share = _best_share(question, size)
    return None if share is None else _Found(share, size)


def _best_share(question: _Question, parameters: float) -> float | None:
    """Return the share of domain text with the lowest domain loss within the limit, for one size."""
    shares = question.shares
    losses, excess = question.loss(DOMAIN, parameters, shares), question.excess(parameters, shares)
    if not (excess <= 0).any():
        return None
    at = int(np.argmin(np.where(excess <= 0, losses, np.inf)))
    if len(shares) == 1:
        return float(shares[0])

    def value(share: float) -> float:
        return float(question.loss(DOMAIN, parameters, share))

    def over(share: float) -> float:
        return float(question.excess(parameters, share))

    low, high = float(shares[max(at - 1, 0)]), float(shares[min(at + 1, len(shares) - 1)])
    # the limit may be crossed between the best share of the grid and its neighbours
    if over(low) > 0:
        low = brentq(over, low, shares[at], xtol=1e-12)
    if over(high) > 0:
        high = brentq(over, shares[at], high, xtol=1e-12)
    return _lowest(value, (low, high), float(shares[at]))


def _lowest(value: Callable[[float], float], around: tuple[float, float], known: float) -> float:
    """Return the place of the lowest value between two ends, the ends and a known place included."""
    low, high = around
    found = minimize_scalar(value, bounds=around, method="bounded", options={"xatol": 1e-10})
    return float(min((known, low, high, float(found.x)), key=value))


def _drawn_shares(question: _Question) -> np.ndarray:
    """Return the advised share by the laws of each bootstrap sample, those without an answer left out."""
    texts, shares = question.setting.law.texts, question.shares
    if shares.size == 1 or not texts[DOMAIN].draws:
        return np.array([])
    if question.parameters is None:  # a coarse grid of both, which is large
        coarse = question._replace(shares=shares[::5])
        sizes = np.exp(_log_sizes(question.setting.law)[::4])
        parts = [_drawn_losses(coarse._replace(parameters=float(size))) for size in sizes]
        table = np.concatenate([np.where(over > 0, np.inf, losses) for losses, over in parts], axis=1)
        answered = table[np.isfinite(table).any(axis=1)]
        return np.asarray(coarse.shares[answered.argmin(axis=1) % coarse.shares.size])
    losses, over = _drawn_losses(question)
    table = np.where(over > 0, np.inf, losses)
    found = []
    for row in np.flatnonzero(np.isfinite(table).any(axis=1)):
        at = int(table[row].argmin())
        found.append(float(shares[at]))
        for beside in (at - 1, at + 1):  # the limit may be reached between two shares of the grid
            if 0 <= beside < shares.size and over[row, beside] > 0 and losses[row, beside] < losses[row, at]:
                part = over[row, at] / (over[row, at] - over[row, beside])
                found[-1] = float(shares[at] + part * (shares[beside] - shares[at]))
    return np.array(found)


def _drawn_losses(question: _Question) -> tuple[np.ndarray, np.ndarray]:
    """Return domain losses and excesses by the bootstrap's laws, [draws, shares] each."""
    assert question.parameters is not None
    texts, size, shares = question.setting.law.texts, question.parameters, question.shares
    losses = question.loss(DOMAIN, size, shares, texts[DOMAIN].drawn)
    if question.rise is None:
        return losses, np.full_like(losses, -1.0)
    return losses, question.excess(size, shares, texts[GENERAL].drawn)


def _log_sizes(law: Law) -> np.ndarray:
    low, high = law.range.parameters
    return np.linspace(np.log(low / _AROUND), np.log(high * _AROUND), _SIZES)


def _small_effects(question: _Question, found: _Found) -> Iterator[LawWarning]:
    """Yield a warning for each text that decides, if the advised share hardly changes its loss.

    With a limit general text decides, also where the law says that any share keeps it. A text whose loss
    hardly differs between any of the fitted shares is warned of by the law itself.
    """
    if question.shares.size == 1:
        return
    law = question.setting.law
    known = {each.text for each in law.warnings if each.kind == "small_effect"}
    shares = np.array([found.share, *(max(end, SMALLEST_SHARE) for end in law.range.share)])
    for text in (DOMAIN,) if question.rise is None else TEXTS:
        if text not in known:
            losses = question.loss(text, found.parameters, shares)
            yield from small_effect_of_advice(law, text, losses)


def _at_bound(question: _Question, found: _Found) -> list[LawWarning]:
    """Return warnings of advised values at an end of what can be chosen."""
    warnings = []
    if question.shares.size > 1 and found.share >= 1.0 - 1e-9:
        why = "the limit is kept" if question.rise is not None else "the loss falls"
        message = f"no replay is advised: {why} all the way to domain text alone"
        warnings.append(LawWarning(kind="at_bound", message=message))
    if question.shares.size > 1 and found.share <= SMALLEST_SHARE * (1 + 1e-6):
        message = f"the smallest share of domain text, {percent(SMALLEST_SHARE)}, is advised"
        warnings.append(LawWarning(kind="at_bound", message=message))
    logs = _log_sizes(question.setting.law)
    if question.parameters is None and not logs[0] < np.log(found.parameters) < logs[-1]:
        message = f"{compact(found.parameters)} parameters are {_AROUND:g} times beyond the fitted sizes"
        warnings.append(LawWarning(kind="at_bound", message=message))
    return warnings


def _nothing_holds(question: _Question, limit: Limit | None) -> UsageError:
    """Return the error that no share keeps the limit, with the smallest predicted rise."""
    sizes = [question.parameters] if question.parameters else np.exp(_log_sizes(question.setting.law))
    least, share = min(
        (float(rises.min()), float(question.shares[rises.argmin()]))
        for rises in (question.excess(size, question.shares) for size in sizes)
    )
    rise = signed(least + (question.rise or 0.0), 4)
    return UsageError(
        f"no share of replay keeps `{limit}`: the smallest predicted rise is {rise}, at "
        f"{percent(1 - share)} replay",
        hint="Widen the limit, or train on another number of tokens.",
    )
