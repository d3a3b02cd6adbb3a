"""Say where shares of a text differ less in the predicted loss than the law errs on runs it has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cpt.formatting import compact
from cpt.laws.dcpt import DOMAIN_TERM, SIZE, Points, loss
from cpt.laws.law import Law, LawWarning
from cpt.laws.rows import Text

_SHARES = 101


def small_effects(law: Law) -> Iterator[LawWarning]:
    """Yield a warning for each text whose loss hardly differs between the fitted shares."""
    tokens = law.range.tokens[1]
    for text, found in law.texts.items():
        if found.heldout is None:
            continue
        # the terms of model size and domain are the same at all shares
        terms = {name: v for name, v in found.coefficients.items() if name not in (*SIZE, *DOMAIN_TERM)}
        shares = np.linspace(*law.range.share, _SHARES)
        own = shares if text == "domain" else 1.0 - shares
        effect = float(np.ptp(loss(terms, Points(1.0, tokens, own))))
        if found.heldout.mean_error > effect:
            message = (
                f"{text}: between the fitted shares the predicted loss at {compact(tokens)} tokens differs "
                f"by {effect:.4f} at most, less than the error on left-out runs, "
                f"{found.heldout.mean_error:.4f}: advice on the share rests on noise"
            )
            yield LawWarning(kind="small_effect", message=message, text=text)


def small_effect_of_advice(law: Law, text: Text, losses: np.ndarray) -> Iterator[LawWarning]:
    """Yield a warning if a text's loss hardly differs between the advised share and the ends of the fit.

    Args:
        losses: Predicted losses at the advised share and at both ends of the fitted shares [3].
    """
    heldout, effect = law.texts[text].heldout, float(np.abs(losses[1:] - losses[0]).max())
    if heldout is not None and heldout.mean_error > effect:
        low, high = law.range.share
        message = (
            f"{text}: between the advised share and the ends of the fitted range, {low:.3g} and {high:.3g}, "
            f"the predicted loss differs by {effect:.4f} at most, less than the error on left-out runs, "
            f"{heldout.mean_error:.4f}: the advice rests on noise"
        )
        yield LawWarning(kind="small_effect", message=message, text=text)
