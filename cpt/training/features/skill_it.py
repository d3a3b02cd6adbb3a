"""Move the weights of a domain's parts while a model trains, by the losses of all parts: Skill-It.

Skill-It (Chen et al. 2023, arXiv 2307.14430, section 3.3.2): online mirror descent on the losses of skills.
With A_ij the edge by which training on skill i lowers the loss L_j of skill j, and the losses of the last
`window` readings,

    p_i ∝ p_i^init · exp(η · Σ_j A_ij · Σ_τ L_j(τ))

A skill that helps others whose loss is still high gets more rows. p^init are the weights of the mixture. The
published algorithm begins with losses of 1; here the losses before training are read first, so the first
update is made before the first step. L is in bits per byte: a loss in nats per token is some three times
larger, and takes an η as many times smaller.

An update begins a phase of the stream, whose order stays a function of the step. All updates are in the run's
state, so a run that is killed and continues reads what it would have read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import CptError, Problem, RecipeError
from cpt.monitor.reading import Reading
from cpt.monitor.skill_graph import SkillGraph, identity_graph
from cpt.sources import DOMAIN, PART
from cpt.training.feature import Run, RunFacts, TrainingFeature
from cpt.training.json_lines import write_lines

if TYPE_CHECKING:
    from cpt.training.data import MixedStream
    from cpt.training.settings import TrainingConfig

UPDATES = "mixture.jsonl"
"""Name of the log of updates in a run's work folder."""

RESOLUTION = 1_000
"""Largest sum of the whole weights of an update: a phase of some hundred rows shows no finer shares."""


class SkillItConfig(BaseModel):
    """Settings of online mixing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    every: int = Field(
        default=50, gt=0, description="Steps between updates; every part's held-out text is read at each."
    )
    eta: float = Field(
        default=0.5,
        gt=0,
        description="η, how far losses (in bits per byte) move the weights. The paper has 0.1 to 0.8 for "
        "losses in nats per token, which are some three times larger.",
    )
    window: int = Field(default=3, gt=0, description="Readings whose losses are added up.")
    graph: str | None = Field(
        default=None,
        min_length=1,
        description="File of the graph of which part helps which (`cpt law skills`); null: each helps itself "
        "alone, so that weights follow the losses.",
    )

    @cached_property
    def learned(self) -> SkillGraph | None:
        """The graph of the file, read once; None without one.

        Raises:
            RecipeError: The reference is no local file, or no graph.
        """
        from cpt.monitor.skill_graph import read_graph
        from cpt.references.resolve import resolve_file
        from cpt.references.syntax import LocalPath, parse

        if self.graph is None:
            return None
        key = "skill_it.graph"
        if not isinstance(parse(self.graph).location, LocalPath):
            raise RecipeError(
                [Problem("a graph is a local file", key=key, hint="Fetch it, and name its path.")]
            )
        try:
            return read_graph(resolve_file(self.graph))
        except CptError as error:
            raise RecipeError([Problem(error.message, key=key, hint=error.hint)]) from None

    def graph_of(self, parts: Sequence[str]) -> SkillGraph:
        """Return the graph of a domain with these parts.

        Raises:
            RecipeError: As of `learned`.
        """
        return self.learned or identity_graph(parts)


class SkillIt(TrainingFeature):
    """The updates of a run's mixture. Its state is that of the loop: `State.mixture`."""

    def __init__(self, config: SkillItConfig) -> None:
        self._config = config

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        return None if config.skill_it is None else cls(config.skill_it)

    def problems(self, facts: RunFacts) -> list[Problem]:
        """Return a problem where the run ends before the first update that depends on training."""
        if facts.steps is None or facts.steps > self._config.every:
            return []
        message = f"the run has {facts.steps:,} steps, so the weights would never follow what it learns"
        hint = f"Set it to {max(1, facts.steps // 10)}, or train on more tokens."
        return [Problem(message, key="skill_it.every", hint=hint)]

    def describe(self) -> str:
        return (
            f"weights of parts follow their losses every {self._config.every:,} steps (Skill-It, "
            f"η = {self._config.eta:g})"
        )

    def on_start(self, run: Run) -> None:
        self._stream = cast("MixedStream", run.stream)
        self._graph = self._config.graph_of([part_of(name) for name in self._stream.weights])
        self._file = run.work / UPDATES if run.processes.is_main else None

    def on_resume(self, run: Run) -> None:
        if self._file:
            write_lines(self._file, run.state.mixture)

    def after_probes(self, run: Run, new: Sequence[Reading]) -> None:
        """Update the weights if the losses of all parts were read for it."""
        state = run.state
        is_due = state.step % self._config.every == 0 and state.step < run.settings.steps
        if not is_due or state.ended is not None:
            return
        losses = run.processes.data_from_main(self._losses(new, state.baselines))
        if not all(map(math.isfinite, losses.values())):
            run.progress.message(f"step {state.step:,}: a loss is not finite, so the mixture stays as it is")
            return
        window = [*(each["losses"] for each in state.mixture), losses][-self._config.window :]
        initial = {part_of(name): weight for name, weight in self._stream.weights.items()}
        wanted = updated_shares(initial, self._graph, window, self._config.eta)
        weights = self._weights(run, wanted)
        total = sum(weights.values())
        update: dict[str, Any] = {
            "step": state.step,
            "tokens": state.tokens,
            "losses": losses,
            "shares": {part_of(name): weight / total for name, weight in weights.items()},
            "weights": weights,
        }
        state.mixture = [*state.mixture, update]
        if self._file:
            write_lines(self._file, state.mixture)
        shares = {f"share_{name}": share for name, share in update["shares"].items()}
        said = described(update["shares"])
        note = {"step": state.step, "tokens": state.tokens, **shares, "said": said}
        run.progress.note("mixture", note)

    def _losses(
        self, new: Sequence[Reading], baselines: Mapping[str, Mapping[str, list[float]]]
    ) -> dict[str, float]:
        """Return the losses of all skills that others help, in bits per byte.

        A reading may see a part of the documents. The loss is therefore the first one, of all documents, plus
        the rise on the documents that it saw.
        """
        from cpt.monitor.reading import Items

        rises = {reading.probe: reading.rise for reading in new}
        names = {skill: f"{DOMAIN}{PART}{skill}" for skill in self._graph.targets}
        return {skill: Items.from_json(baselines[name]).value + rises[name] for skill, name in names.items()}

    def _weights(self, run: Run, wanted: Mapping[str, float]) -> dict[str, int]:
        """Return whole weights of the sources by which none is read more often than it may be.

        Args:
            wanted: Share of each part.
        """
        from cpt.corpus.mixture import whole_weights
        from cpt.training.data import followed

        most = run.settings.most_sequences
        shares = {name: wanted[part_of(name)] for name in self._stream.weights}
        if not most:
            return whole_weights(shares, RESOLUTION)
        state = run.state
        consumed = cast("MixedStream", followed(run.stream, state)).consumed(state.step)
        left = {name: max(0, most[name] - consumed[name]) for name, share in shares.items() if share > 0}
        steps = min(self._config.every, run.settings.steps - state.step)
        rows = steps * self._stream.batch_sequences  # gates may lower replay until then
        caps = {name: max(0.0, count / rows - 1 / RESOLUTION) for name, count in left.items()}
        found = capped(shares, caps)
        if found is None and any(left.values()):  # all of what is left is needed
            return whole_weights(dict.fromkeys(shares, 0) | left)
        return whole_weights(found or shares, RESOLUTION)


def part_of(source: str) -> str:
    """Return the part that a source of domain text is."""
    return source.removeprefix(f"{DOMAIN}{PART}")


def described(shares: Mapping[str, float]) -> str:
    """Return the shares of parts in words."""
    return "mixture: " + ", ".join(f"{name} {100 * share:.3g}%" for name, share in shares.items())


def updated_shares(
    initial: Mapping[str, float],
    graph: SkillGraph,
    window: Sequence[Mapping[str, float]],
    eta: float,
) -> dict[str, float]:
    """Return the share of each skill: p_i ∝ p_i^init · exp(η · Σ_j A_ij · Σ_τ L_j(τ)).

    Args:
        initial: Weights that the run began with, at least 0, not all 0.
        window: Losses of the last readings, by skill; at least of the graph's targets.
    """
    sums = {j: math.fsum(losses[j] for losses in window) for j in graph.targets}
    logs = {
        i: math.log(weight) + eta * math.fsum(graph.edge(i, j) * total for j, total in sums.items())
        for i, weight in initial.items()
        if weight > 0
    }
    highest = max(logs.values())  # or exp overflows
    powers = {i: math.exp(logs[i] - highest) if i in logs else 0.0 for i in initial}
    total = math.fsum(powers.values())
    return {i: power / total for i, power in powers.items()}


def capped(shares: Mapping[str, float], caps: Mapping[str, float]) -> dict[str, float] | None:
    """Return the shares within their caps; what is taken from one goes to the others by their shares.

    Returns:
        Shares that sum to 1, or None if the caps of those that have a share sum to less.
    """
    fixed: dict[str, float] = {}
    free = {name: share for name, share in shares.items() if share > 0}
    while free:
        scale = (1 - math.fsum(fixed.values())) / math.fsum(free.values())
        over = [name for name, share in free.items() if share * scale > caps[name]]
        if not over:
            found = {**fixed, **{name: share * scale for name, share in free.items()}}
            return {name: found.get(name, 0.0) for name in shares}
        for name in over:
            fixed[name] = caps[name]
            del free[name]
    return None
