"""Fit a D-CPT law on rows: coefficients, bootstrap over runs, error on runs that were left out, warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpt.errors import Problem, RecipeError, did_you_mean
from cpt.laws.dcpt import Box, Points, loss, not_falling
from cpt.laws.domains import probes_of
from cpt.laws.law import (
    DomainProbe,
    HeldOut,
    Law,
    LawWarning,
    ProbeSetting,
    Quality,
    Ranges,
    TextLaw,
    bootstrap_interval,
)
from cpt.laws.noise import small_effects
from cpt.laws.rows import TEXTS, Row, StartLoss, Text, level, share_of, starts_of, trained
from cpt.laws.solve import Sample, huber, solve
from cpt.progress import NullProgress, Progress

DRAWS = 200
"""Default number of bootstrap samples."""

SEVERAL_SIZES = 1.1
"""Smallest ratio of model sizes, or of tokens, between which the law can tell a difference: a larger
vocabulary is no other size, and runs of other seeds end after some tokens more or less.
"""

_FEWEST_RUNS = 3
"""Runs below which a bootstrap over runs says nothing."""

_ROUGH = 6
"""Runs below which intervals are rough."""

_FEW_SHARES, _FEW_DOMAINS = 4, 4
"""Values that it takes to find all coefficients of a term: eta, C, epsilon and gamma; E, F, mu
and w1."""

_FOLDS = 10
"""Largest number of fits that predict left-out runs."""

_TRIES = 20
"""Samples drawn per bootstrap sample that is used: those of too few different runs are drawn again."""


def fit(
    rows: Sequence[Row],
    *,
    holdout: Sequence[str] = (),
    seed: int = 17,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> Law:
    """Fit the law of each text that has losses.

    Args:
        rows: Readings of at least two shares of domain text and two numbers of tokens; those of 0 tokens have
            the losses before training.
        holdout: Names of runs that are only predicted. Without any, each run is predicted by a fit of the
            others.
        seed: Seed of the bootstrap; the same rows and seed give the same law.
        draws: Number of bootstrap samples, which are drawn from the runs: readings of one run are correlated.

    Raises:
        RecipeError: The rows cannot determine a law; the message says what to vary.
    """
    progress, rows = progress or NullProgress(), sorted(rows, key=_order)
    starts, rows = starts_of(rows), level(rows)
    kept = [row for row in rows if row.run not in holdout]
    problems = [*_holdout_problems(rows, holdout), *_variation_problems(kept)]
    if problems:
        raise RecipeError(problems)
    setting, probes = _probes(kept, starts)
    data = _Data(kept, rows, setting, probes, holdout)
    fitting = _Fitting(data, np.random.default_rng(seed), draws, progress)
    texts = fitting.texts()
    law = Law(
        seed=seed,
        runs=data.runs,
        range=_ranges(kept),
        texts=texts,
        start=starts,
        domains=probes,
        probe=setting,
    )
    return law.model_copy(update={"warnings": list(_warnings(law, data))})


def _order(row: Row) -> tuple[str, str, int, int, float]:
    return row.domain, row.run, row.parameters, row.tokens, row.share


def _probes(
    rows: Sequence[Row], starts: Sequence[StartLoss]
) -> tuple[ProbeSetting | None, dict[str, DomainProbe]]:
    """Return the probes of several domains; nothing for one."""
    return probes_of(rows, starts) if len({row.domain for row in rows}) > 1 else (None, {})


def _holdout_problems(rows: Sequence[Row], holdout: Sequence[str]) -> Iterator[Problem]:
    names = list(dict.fromkeys(row.run for row in rows))
    for name in holdout:
        if name not in names:
            yield Problem(f"there is no run `{name}` to hold out", hint=did_you_mean(name, names))


def _variation_problems(rows: Sequence[Row]) -> Iterator[Problem]:
    """Yield what the rows do not vary, by text."""
    present = [text for text in TEXTS if trained(rows, text)]
    if not present:
        yield Problem("there is no reading after the start", hint="Fit on finished runs, or on rows of more.")
    for text in present:
        read = trained(rows, text)
        if len({round(row.share, 6) for row in read}) < 2:
            message = f"all readings of {text} have a share of domain text of {read[0].share:g}"
            yield Problem(message, hint="Vary `pretrain.replay`: the law needs two shares, better four.")
        if not _varies([row.tokens for row in read]):
            message = f"all readings of {text} are at {read[0].tokens:,} tokens, or nearly so"
            hint = (
                "Vary `pretrain.tokens`, or read more often (`monitor.every`, within `monitor.probe_share`)."
            )
            yield Problem(message, hint=hint)


def _ranges(rows: Sequence[Row]) -> Ranges:
    read = [row for row in rows if row.tokens]
    table = np.array([[row.parameters, row.tokens, row.share] for row in read], float)
    sizes, tokens, shares = zip(table.min(axis=0).tolist(), table.max(axis=0).tolist(), strict=True)
    return Ranges(parameters=sizes, tokens=tokens, share=shares)


def box_of(ranges: Ranges, text: Text) -> Box:
    """Return the fitted range of a text's own law."""
    ends = sorted(share_of(text, share) for share in ranges.share)
    return Box(ranges.parameters, ranges.tokens, (ends[0], ends[1]))


@dataclass(frozen=True)
class _Data:
    """Rows to fit and to predict.

    Attributes:
        kept: Rows of the runs that are fitted. rows: Those of all runs.
    """

    kept: Sequence[Row]
    rows: Sequence[Row]
    setting: ProbeSetting | None
    probes: Mapping[str, DomainProbe]
    holdout: Sequence[str]

    @property
    def runs(self) -> list[str]:
        """Return the names of the fitted runs."""
        return list(dict.fromkeys(row.run for row in self.kept if row.tokens))

    def sample(self, rows: Sequence[Row], text: Text) -> Sample:
        """Return the readings of a text."""
        read, runs = trained(rows, text), self.runs
        k1, k2 = np.full(len(read), math.nan), np.full(len(read), math.nan)
        if self.probes:
            k1 = np.array([self.probes[row.domain].first_loss for row in read])
            k2 = np.array([self.probes[row.domain].decline for row in read])
        table = np.array([[row.parameters, row.tokens, row.share_of(text)] for row in read], float)
        at = Points(table[:, 0], table[:, 1], table[:, 2], k1, k2)
        return Sample(
            at,
            np.array([row.loss(text) for row in read], float),
            np.array([runs.index(row.run) if row.run in runs else -1 for row in read]),
            size=_varies([row.parameters for row in trained(self.kept, text)]),
            domains=bool(self.probes),
        )


def _varies(values: Sequence[float]) -> bool:
    return max(values) >= SEVERAL_SIZES * min(values)


class _Fitting:
    """The fits of all texts, of their bootstrap samples and without left-out runs."""

    def __init__(self, data: _Data, random: np.random.Generator, draws: int, progress: Progress) -> None:
        self._data, self._random, self._progress = data, random, progress
        self._samples = {text: data.sample(data.kept, text) for text in TEXTS if trained(data.kept, text)}
        self._draws = draws if len(data.runs) >= _FEWEST_RUNS else 0
        self._folds = [] if data.holdout else self._divide()
        self._done, self._total = 0, len(self._samples) * (1 + self._draws + len(self._folds))

    def texts(self) -> dict[Text, TextLaw]:
        """Return the law of each text. All texts have the same bootstrap samples of runs."""
        resampled = list(self._resampled())
        return {text: self._fit(text, sample, resampled) for text, sample in self._samples.items()}

    def _fit(self, text: Text, sample: Sample, resampled: Sequence[np.ndarray]) -> TextLaw:
        solution = solve(sample)
        best = solution.law
        self._advance()
        draws = []
        for runs in resampled:
            rows = np.concatenate([np.flatnonzero(sample.runs == run) for run in runs])
            found = solve(sample.take(rows), thorough=False).law
            draws.append([found[name] for name in best])
            self._advance()
        columns = zip(*draws, strict=True)
        bounds = [bootstrap_interval(column, len(self._data.runs)) for column in columns]
        return TextLaw(
            coefficients=best,
            at_bounds=solution.at_bounds,
            intervals=dict(zip(best, bounds, strict=False)),
            draws=draws,
            readings=len(sample.losses),
            fitted=quality(loss(best, sample.at), sample.losses),
            heldout=self._heldout(text, sample, best),
        )

    def _heldout(self, text: Text, sample: Sample, best: Mapping[str, float]) -> HeldOut | None:
        """Return the error on runs that a fit has not seen; None if none can be left out."""
        predicted, measured, names = [], [], []
        if self._data.holdout:
            left = [row for row in self._data.rows if row.run in self._data.holdout]
            if trained(left, text):
                other = self._data.sample(left, text)
                predicted, measured = [loss(best, other.at)], [other.losses]
                names = list(dict.fromkeys(row.run for row in trained(left, text)))
        for runs in self._folds:
            self._advance()
            out = np.isin(sample.runs, runs)
            rest = sample.take(np.flatnonzero(~out))
            if not out.any() or not _determines(rest):
                continue
            other = sample.take(np.flatnonzero(out))
            predicted.append(loss(solve(rest, thorough=False).law, other.at))
            measured.append(other.losses)
            names += [self._data.runs[run] for run in runs]
        if not measured:
            return None
        found = quality(np.concatenate(predicted), np.concatenate(measured))
        return HeldOut(how="given" if self._data.holdout else "each", runs=names, **found.model_dump())

    def _divide(self) -> list[np.ndarray]:
        """Return the numbers of runs that are left out together, at random where there are many."""
        order = self._random.permutation(len(self._data.runs))
        return [np.sort(part) for part in np.array_split(order, min(len(order), _FOLDS))]

    def _resampled(self) -> Iterator[np.ndarray]:
        """Yield the run numbers of bootstrap samples that determine the laws of all texts."""
        count, found = len(self._data.runs), 0
        for _ in range(self._draws * _TRIES):
            if found == self._draws:
                return
            runs = self._random.integers(0, count, count)
            parts = [s.take(np.flatnonzero(np.isin(s.runs, runs))) for s in self._samples.values()]
            if all(len(part.losses) and _determines(part) for part in parts):
                found += 1
                yield runs

    def _advance(self) -> None:
        self._done += 1
        self._progress.update(self._done, self._total, "fits")


def _determines(sample: Sample) -> bool:
    """Return True if a part of a sample varies all that its law depends on."""
    if not len(sample.losses):
        return False
    at = sample.at
    several = [at.share, *([at.first_loss] if sample.domains else [])]
    if any(len(np.unique(np.round(column, 6))) < 2 for column in several):
        return False
    if not _varies(np.asarray(at.tokens).tolist()):
        return False
    return not sample.size or _varies(np.asarray(at.parameters).tolist())


def quality(predicted: np.ndarray, measured: np.ndarray) -> Quality:
    """Return how well predictions [n] agree with measured losses [n]."""
    spread = float(np.sum((measured - measured.mean()) ** 2))
    squared = float(np.sum((predicted - measured) ** 2))
    return Quality(
        r2=1 - squared / spread if spread > 0 else None,
        huber=huber(predicted, measured),
        mean_error=float(np.mean(np.abs(predicted - measured))),
    )


_WORDS = {"parameters": "larger models", "tokens": "more tokens", "share": "a larger share of the text"}


def _warnings(law: Law, data: _Data) -> Iterator[LawWarning]:
    """Yield reasons to trust a law less."""
    runs = len(law.runs)
    if runs < _FEWEST_RUNS:
        message = f"{runs} runs: too few for intervals, which are drawn from the runs; three are the fewest"
        yield LawWarning(kind="few_runs", message=message)
    elif runs < _ROUGH:
        message = f"{runs} runs: the intervals are rough; from six on they can be relied on more"
        yield LawWarning(kind="few_runs", message=message)
    shares = len({round(row.share, 6) for row in data.kept if row.tokens})
    if shares < _FEW_SHARES:
        message = f"{shares} different shares of domain text: the curve between them is not determined"
        yield LawWarning(kind="few_shares", message=message)
    if law.domains and len(law.domains) < _FEW_DOMAINS:
        message = f"{len(law.domains)} domains: too few to determine how the loss depends on the domain"
        yield LawWarning(kind="few_domains", message=message)
    if not law.has_size:
        message = "one size of model: the term of model size is left out, and is part of E"
        yield LawWarning(kind="one_size", message=message)
    for text, found in law.texts.items():
        for variable in not_falling(found.coefficients, box_of(law.range, text)):
            message = (
                f"the predicted loss of {text} does not fall with {_WORDS[variable]} over the whole fitted "
                "range, as the law demands: the runs contradict it, or are too few or too noisy"
            )
            yield LawWarning(kind="not_falling", message=message, text=text)
        for name, bound in found.at_bounds.items():
            message = (
                f"{name} of {text} stands at the {bound} bound of its search range, "
                f"{found.coefficients[name]:.3g}: the runs do not determine it, and its interval says nothing"
            )
            yield LawWarning(kind="coefficient_at_bound", message=message, text=text)
    yield from small_effects(law)
