"""Parse the varied settings of a sweep, and choose the configurations to try."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cpt.corpus.mixture import replay_rows
from cpt.errors import Problem, RecipeError
from cpt.recipe.document import COMMAND_LINE, parse, plain
from cpt.recipe.schema import Recipe
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.trained_replay import rounded_replay

Method = Literal["grid", "random", "tpe"]

Values = dict[str, Any]
"""The setting of every factor, by key."""

_NUMBER = r"[+\-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+\-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log)?")


class Factor(BaseModel):
    """A varied setting: a list of levels, or a range of numbers.

    Attributes:
        key: Key as in an override: `pretrain.schedule.peak`.
        levels: Values to try; empty for a range.
        low, high: Ends of a range.
        log: Whether values are drawn evenly on a logarithmic scale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    levels: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False

    @property
    def is_range(self) -> bool:
        """Return True if the factor is a range of numbers."""
        return not self.levels

    @property
    def label(self) -> str:
        """Return the shortest name: the last part of the key."""
        return self.key.rpartition(".")[2]

    def has(self, value: Any) -> bool:
        """Return True if it has this level, or this number in its range."""
        if self.low is None or self.high is None:
            return value in self.levels
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, generator: np.random.Generator) -> Any:
        """Return a random level, or a random number of the range."""
        if self.low is None or self.high is None:
            return self.levels[int(generator.integers(len(self.levels)))]
        if self.log:
            return math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return float(generator.uniform(self.low, self.high))


def parse_factors(texts: Sequence[str], method: Method) -> list[Factor]:
    """Parse arguments such as `pretrain.replay=0,0.05` and `pretrain.schedule.peak=1e-5..1e-3 log`.

    Raises:
        RecipeError: Some arguments are no factors; lists all of them.
    """
    factors: list[Factor] = []
    problems = []
    for text in texts:
        try:
            factor = _parse(text)
        except ValueError as error:
            problems.append(Problem(f"--vary {text}: {error}", file=COMMAND_LINE))
            continue
        if any(factor.key == other.key for other in factors):
            problems.append(Problem(f"`{factor.key}` is varied twice", file=COMMAND_LINE))
        if factor.is_range and method == "grid":
            message = f"`{factor.key}` is a range, and a grid needs values"
            hint = f"List values, {factor.key}=A,B,C, or add --method random or --method tpe."
            problems.append(Problem(message, file=COMMAND_LINE, hint=hint))
        factors.append(factor)
    if problems:
        raise RecipeError(problems)
    return factors


def _parse(text: str) -> Factor:
    key, separator, written = text.partition("=")
    key = key.strip()
    if key in ("seed", "name"):
        raise ValueError(
            f"every run has its own {key}; seeds are given with --seeds, the sweep's name with --name"
        )
    if not separator or not key or not written.strip():
        raise ValueError("write KEY=VALUE,VALUE or KEY=LOW..HIGH, such as pretrain.replay=0,0.05,0.25")
    if found := _RANGE.fullmatch(written.strip()):
        low, high, log = float(found[1]), float(found[2]), found[3] is not None
        if not low < high:
            raise ValueError(f"the range {found[1]}..{found[2]} is empty")
        if log and low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return Factor(key=key, low=low, high=high, log=log)
    try:
        levels = plain(parse(f"[{written}]", COMMAND_LINE))
    except RecipeError as error:
        raise ValueError(error.problems[0].message) from None
    if len(levels) < 2:
        raise ValueError("one value is nothing to compare; write it as an override instead")
    if any(level in levels[:place] for place, level in enumerate(levels)):
        raise ValueError("a value occurs twice")
    return Factor(key=key, levels=tuple(levels))


def parse_seeds(text: str, first: int) -> list[int]:
    """Parse `3` (a number of seeds, from the recipe's seed on) or `17,18,19`.

    Raises:
        ValueError: The text is neither.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise ValueError(f"`{text}` is neither a number of seeds (3) nor a list of seeds (17,18,19)")
    numbers = [int(part) for part in parts]
    seeds = list(range(first, first + numbers[0])) if "," not in text else numbers
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`{text}` names no seed, or one twice")
    return seeds


def grid(factors: Sequence[Factor]) -> list[Values]:
    """Return all combinations of levels, the last factor varying fastest."""
    return [
        dict(zip((f.key for f in factors), values, strict=True)) for values in product(*map(_of, factors))
    ]


def _of(factor: Factor) -> tuple[Any, ...]:
    return factor.levels


def spread(configurations: Sequence[Values], factors: Sequence[Factor]) -> list[Values]:
    """Return a grid in an order of which every beginning holds the levels of each factor about equally often.

    A sweep that ends early has then tried all levels. The next configuration is one whose levels, and then
    whose pairs of levels, have occurred least.
    """
    left, ordered = list(configurations), []
    counts: dict[Any, int] = {}
    while left:
        best = min(left, key=lambda values: _occurrences(values, factors, counts))
        left.remove(best)
        ordered.append(best)
        for each in _singles_and_pairs(best, factors):
            counts[each] = counts.get(each, 0) + 1
    return ordered


def _occurrences(values: Values, factors: Sequence[Factor], counts: Mapping[Any, int]) -> tuple[int, int]:
    keys = _singles_and_pairs(values, factors)
    singles = sum(counts.get(key, 0) for key in keys if len(key) == 1)
    return singles, sum(counts.get(key, 0) for key in keys if len(key) == 2)


def _singles_and_pairs(values: Values, factors: Sequence[Factor]) -> list[tuple[tuple[str, int], ...]]:
    levels = [(f.key, f.levels.index(values[f.key])) for f in factors]
    pairs = [(a, b) for place, a in enumerate(levels) for b in levels[place + 1 :]]
    return [*((level,) for level in levels), *pairs]


def random_configurations(factors: Sequence[Factor], count: int, seed: int) -> list[Values]:
    """Return different random configurations: the first ones are the same for every count."""
    generator = np.random.default_rng(seed)
    found: list[Values] = []
    for _ in range(100 * count):
        values = {factor.key: factor.draw(generator) for factor in factors}
        if values not in found:
            found.append(values)
        if len(found) == count:
            break
    return found


Tried = tuple[Values, float | None, float | None]
"""A configuration with the minimised value, None if its runs failed, and its excess over the limit."""


def propose(factors: Sequence[Factor], tried: Sequence[Tried], seed: int) -> Values:
    """Return the next configuration by tree-structured Parzen estimators (Bergstra et al. 2011, in optuna).

    A pure function of the earlier results, so that a sweep that was killed goes on alike.

    Args:
        factors: Varied settings.
        tried: Earlier configurations. A positive excess over the limit is not allowed; None: no limit.
        seed: Seed of the sampler.
    """
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    room: dict[str, optuna.distributions.BaseDistribution] = {
        factor.key: optuna.distributions.CategoricalDistribution(range(len(factor.levels)))
        if factor.low is None or factor.high is None
        else optuna.distributions.FloatDistribution(factor.low, factor.high, log=factor.log)
        for factor in factors
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed + len(tried),
            n_startup_trials=max(3, 2 * len(factors)),
            multivariate=True,
        )
        study = optuna.create_study(sampler=sampler)
        for values, value, excess in tried:
            params = {f.key: values[f.key] if f.is_range else f.levels.index(values[f.key]) for f in factors}
            study.enqueue_trial(params)
            trial = study.ask(room)
            if excess is not None:
                trial.set_constraint("limit", excess)
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)
        seen = [values for values, _, _ in tried]
        for _ in range(20):  # levels alone: a proposal may be one that was tried
            chosen = study.ask(room).params
            values = {f.key: chosen[f.key] if f.is_range else f.levels[chosen[f.key]] for f in factors}
            if values not in seen:
                return values
    return next(
        values for values in random_configurations(factors, len(tried) + 1, seed) if values not in seen
    )


def size_of(factors: Sequence[Factor]) -> int | None:
    """Return the number of different configurations; None if a factor is a range."""
    if any(factor.is_range for factor in factors):
        return None
    return math.prod(len(factor.levels) for factor in factors)


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


def rounded_levels(factors: Sequence[Factor], loaded: Sequence[tuple[Values, Recipe]]) -> Iterator[str]:
    """Yield a warning for each level of replay of which whole rows of a batch make another share.

    Args:
        loaded: Configurations with their recipes.
    """
    varied = {factor.key for factor in factors if factor.levels}
    steps = (step for _, recipe in loaded for step in recipe.steps if f"{step.name}.replay" in varied)
    warnings = (rounded_replay(step.config) for step in steps if isinstance(step.config, PretrainConfig))
    yield from dict.fromkeys(chain.from_iterable(warnings))
