"""Read what a short run tells about a domain: the two figures of the cross-domain law.

K = w1/k1 + w2·k2 (arXiv 2406.01375): k1 is the domain's loss before training, k2 the rate at which it falls.
The rates of two domains can be compared only where model, share and tokens are the same, so all of them are
read at one point that every domain has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cpt.errors import Problem, RecipeError
from cpt.laws.law import DomainProbe, ProbeSetting
from cpt.laws.rows import Row, StartLoss
from cpt.sources import DOMAIN

_MILLION = 1e6


def probes_of(
    rows: Sequence[Row], starts: Sequence[StartLoss]
) -> tuple[ProbeSetting, dict[str, DomainProbe]]:
    """Return the probe's settings, and the probes of all domains.

    The model size and the share are the smallest and the largest that every domain has; the tokens are as few
    as every domain has a reading of.

    Raises:
        RecipeError: A domain has no losses before training or no fall, or the domains share no point.
    """
    names = list(dict.fromkeys(row.domain for row in rows))
    setting = _common_point(rows, names)
    found, problems = {}, []
    for name in names:
        try:
            found[name] = probe_of([row for row in rows if row.domain == name], starts, setting)
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return setting, found


def probe_of(rows: Sequence[Row], starts: Sequence[StartLoss], setting: ProbeSetting) -> DomainProbe:
    """Return the probe of one domain, from its rows.

    Raises:
        RecipeError: There are no readings at the setting, no loss before training, or no fall.
    """
    name = rows[0].domain
    start = next(
        (each for each in starts if each.domain == name and each.parameters == setting.parameters), None
    )
    if start is None or start.domain_loss is None:
        raise RecipeError([_problem(name, "its loss before training is not known", "Add rows of 0 tokens.")])
    curve = _curve(rows, setting, start.domain_loss)
    if max(curve) < setting.tokens:
        message = (
            f"it has no reading at {setting.tokens:,} tokens or later, with a share of {setting.share:g} and "
            f"{setting.parameters:,} parameters"
        )
        raise RecipeError([_problem(name, message, "Probe it with these settings.")])
    at = float(np.interp(setting.tokens, list(curve), list(curve.values())))
    if at >= start.domain_loss:
        message = f"its loss does not fall in the first {setting.tokens:,} tokens"
        raise RecipeError([_problem(name, message, "Probe it for longer, or leave it out.")])
    decline = (start.domain_loss - at) * _MILLION / setting.tokens
    return DomainProbe(first_loss=start.domain_loss, decline=decline)


def _curve(rows: Sequence[Row], setting: ProbeSetting, start: float) -> Mapping[int, float]:
    """Return the mean loss of the setting's runs by tokens, the start included, in order."""
    values: dict[int, list[float]] = {0: [start]}
    for row in rows:
        fits = row.parameters == setting.parameters and np.isclose(row.share, setting.share)
        if fits and row.tokens and row.domain_loss is not None:
            values.setdefault(row.tokens, []).append(row.domain_loss)
    return {tokens: float(np.mean(values[tokens])) for tokens in sorted(values)}


def _common_point(rows: Sequence[Row], names: Sequence[str]) -> ProbeSetting:
    """Return the smallest model, largest share and fewest tokens that every domain has.

    Raises:
        RecipeError: There is no such point.
    """
    read = [row for row in rows if row.tokens and row.domain_loss is not None]
    points = [
        {(row.parameters, -round(row.share, 6)) for row in read if row.domain == name} for name in names
    ]
    common = set.intersection(*points)
    if not common:
        message = f"{', '.join(names)} have no runs of the same model with the same share of domain text"
        hint = "The cross-domain law compares how fast losses fall: give each domain a run with one replay."
        raise RecipeError([Problem(message, hint=hint)])
    parameters, share = min(common)
    first = [
        min(
            row.tokens
            for row in read
            if row.domain == name and (row.parameters, -round(row.share, 6)) == (parameters, share)
        )
        for name in names
    ]
    return ProbeSetting(tokens=max(first), share=-share, parameters=parameters)


def _problem(name: str, message: str, hint: str) -> Problem:
    return Problem(message, key=None if name == DOMAIN else name, hint=hint)
