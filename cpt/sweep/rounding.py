"""Find shares of replay that a batch rounds to the same rows: between them there is no effect to measure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from cpt.corpus.mixture import replay_rows
from cpt.errors import Problem
from cpt.recipe.document import COMMAND_LINE
from cpt.recipe.schema import Recipe
from cpt.stages.pretrain.config import PretrainConfig
from cpt.sweep.factors import Factor, Values


def alike(factors: Sequence[Factor], loaded: Sequence[tuple[Values, Recipe]]) -> Iterator[Problem]:
    """Yield a problem for each level of replay that trains on the rows of another level.

    Args:
        loaded: Configurations with their recipes.
    """
    for key in (factor.key for factor in factors if factor.levels and factor.key.endswith(".replay")):
        first: dict[tuple[str, int], float] = {}
        for values, recipe in loaded:
            config = next((s.config for s in recipe.steps if f"{s.name}.replay" == key), None)
            if not isinstance(config, PretrainConfig) or not isinstance(values[key], int | float):
                continue
            rows = replay_rows(values[key], config.batch_sequences)
            others = json.dumps({other: value for other, value in values.items() if other != key})
            level = first.setdefault((others, rows), values[key])
            if level != values[key]:
                message = (
                    f"replay {level:g} and {values[key]:g} are both {rows} of {config.batch_sequences} "
                    "sequences of a batch"
                )
                hint = "Use larger batches, or other shares."
                yield Problem(message, file=COMMAND_LINE, key=key, hint=hint)
