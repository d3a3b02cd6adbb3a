"""Say which share of replay a stage really trains on: whole rows of a batch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cpt.errors import UsageError
from cpt.formatting import plural

if TYPE_CHECKING:
    from cpt.stages.pretrain.config import PretrainConfig

_FAR = 0.1
"""Relative distance of the trained share from the one that is asked for above which it is reported."""


def trained_replay(config: PretrainConfig) -> str:
    """Return the stage's share of replay in percent; as it is asked for where the checks refuse it."""
    from cpt.corpus.mixture import trained_share

    share = config.replay_share
    with suppress(UsageError):
        share = trained_share(share, config.batch_sequences)
    return f"{100 * share:.3g}%"


def rounded_replay(config: PretrainConfig) -> list[str]:
    """Return a warning for each share of replay that is trained as another one.

    A share that cannot be trained at all is left to the stage's checks.

    Raises:
        RecipeError: A law should advise the share, but has no advice.
    """
    from cpt.corpus.mixture import replay_rows

    found = []
    for key, share in config.replay_shares.items():
        try:
            rows = replay_rows(share, config.batch_sequences)
        except UsageError:
            continue
        trained = rows / config.batch_sequences
        if abs(trained - share) > _FAR * share * (1 + 1e-9):
            batch = plural(config.batch_sequences, "sequence")
            found.append(f"`{key}: {share:g}` trains on {trained:.3g} replay: {rows} of {batch} of a batch")
    return found
