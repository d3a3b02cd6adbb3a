"""Laws that tests plant, and rows of runs that follow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cpt.laws.dcpt import Points, loss
from cpt.laws.law import Law, Quality, Ranges, TextLaw
from cpt.laws.rows import Row, StartLoss

SIZED = {"A": 40.0, "alpha": 0.3}
DOMAIN = {"E": 0.6, "B": 6.0, "eta": 0.5, "beta": 0.3, "C": 0.5, "epsilon": 0.2, "gamma": 0.8}
GENERAL = {"E": 0.8, "B": 3.0, "eta": 0.5, "beta": 0.3, "C": 0.1, "epsilon": 0.1, "gamma": 0.6}
"""Coefficients by which losses fall with tokens and with the text's share, as those of the paper do."""

SHARES = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0)
TOKENS = (1e6, 2e6, 4e6, 7e6, 1e7, 1.5e7, 2e7)
SIZE = 135_000_000
STARTS = {"domain_loss": 1.9, "general_loss": 0.95}


def run_rows(
    name: str,
    share: float,
    *,
    size: int = SIZE,
    noise: float = 0.0,
    seed: int = 0,
    domain: Mapping[str, float] = DOMAIN,
    general: Mapping[str, float] = GENERAL,
    tokens: Sequence[float] = TOKENS,
    **more: Any,
) -> list[Row]:
    """The rows of one run: the start, and losses with relative noise."""
    random = np.random.default_rng([seed, round(share * 1000), size])
    rows = [Row(run=name, parameters=size, tokens=0, share=share, **STARTS, **more)]
    for count in tokens:
        first, second = np.exp(noise * random.standard_normal(2))
        losses = {
            "domain_loss": first * float(loss(domain, Points(size, count, share))),
            "general_loss": second * float(loss(general, Points(size, count, 1 - share))),
        }
        rows.append(Row(run=name, parameters=size, tokens=int(count), share=share, **losses, **more))
    return rows


def runs_of(shares: Sequence[float] = SHARES, **settings: Any) -> list[Row]:
    """The rows of one run for each share."""
    return [row for share in shares for row in run_rows(f"share-{share:g}", share, **settings)]


def law_of(
    domain: Mapping[str, float],
    general: Mapping[str, float] | None = None,
    start: float | None = None,
    *,
    size: int = SIZE,
    tokens: tuple[float, float] = (1e6, 2e7),
) -> Law:
    """A law with given coefficients, as if it had been fitted.

    Args:
        start: Loss of general text before training.
        size: Size of the model, where the law has no term of it.
        tokens: Range of tokens of the fit.
    """
    quality = Quality(r2=1.0, huber=0.0, mean_error=0.0)
    texts = {"domain": domain, **({"general": general} if general else {})}
    sizes = (1e8, 1e9) if "A" in domain else (float(size), float(size))
    first = StartLoss(domain="domain", parameters=size, domain_loss=2.0, general_loss=start)
    return Law(
        seed=0,
        runs=["a", "b"],
        range=Ranges(parameters=sizes, tokens=tokens, share=(0.1, 1.0)),
        texts={
            text: TextLaw(coefficients=dict(law), readings=10, fitted=quality) for text, law in texts.items()
        },
        start=[first],
    )
