"""Define the mixture of the domain's parts, in phases, and say what a run reads of each part."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cpt.errors import Problem
from cpt.monitor.gates.gate import percent
from cpt.sources import DOMAIN, PART, REPLAY, STUDY

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.corpus.mixture import MixturePhase
    from cpt.stages.pretrain.config import PretrainConfig
    from cpt.training.schedules.base import ScheduleConfig

PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(percent), Field(gt=0, le=1)]
RateFall = Annotated[str, Field(pattern=r"^rate/[1-9][0-9]*(\.[0-9]+)?$")]
"""An end where the learning rate has fallen to this part of its highest: "rate/5"."""

_PART_PROBE = f"{DOMAIN}{PART}"
"""Beginning of the names of parts' probes."""

REPEATS = 4
"""Epochs up to which repeated text is about as good as new (Muennighoff et al. 2023, arXiv 2305.16264)."""


class Mixture(BaseModel):
    """One phase of a training: what its batches are made of.

    Without weights and temperature, parts are read in proportion to their sizes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: Share | Literal["once"] | RateFall = Field(
        default=1.0,
        description="Share of the run's steps (0.85 or 85%) at which the phase ends; the last one ends at 1. "
        "Weights of good or rare text are best raised in the last 10 to 20% (Blakeney et al., arXiv "
        "2406.03476). once: the phase ends when every sequence of its parts (those with a weight above 0) "
        "has been trained on once. rate/5: it ends where the learning rate has fallen to a fifth of its "
        "highest, at which Parmar et al. (arXiv 2407.07263) change the blend.",
    )
    weights: dict[PartName, Weight] | None = Field(
        default=None,
        description="Domain rows of each part, relative to the other parts' weights; every part is named, 0 "
        "leaves it out of the phase.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="In place of weights: T, with which a part of n sequences has the weight n^(1/T). 1: in "
        "proportion to sizes; 3 to 5 is usual for languages; the larger, the more equal.",
    )
    replay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of each global batch that is replay text; default: the stage's `replay`.",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.weights is not None and self.temperature is not None:
            raise ValueError("give either weights or a temperature")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("all weights are 0: nothing would be trained on")
        return self

    @property
    def divides(self) -> bool:
        """Return True if the phase names parts, or a rule for them."""
        return self.weights is not None or self.temperature is not None

    def described(self) -> str:
        """Describe the phase before the corpus is known."""
        words = []
        if self.weights is not None:
            total = sum(self.weights.values())
            words.append(
                ", ".join(f"{name} {100 * weight / total:.3g}%" for name, weight in self.weights.items())
            )
        elif self.temperature is not None:
            words.append(f"parts by temperature {self.temperature:g}")
        if self.replay is not None:
            words.append(f"replay {100 * self.replay:.3g}%")
        once = "all of it was trained on once (how many steps that takes is known with the corpus)"
        end = f"{self.until:.0%}" if isinstance(self.until, float) else self.until
        end = once if end == "once" else end
        return f"{', '.join(words) or 'parts by size'} until {end}"


def one_or_more(value: Any) -> Any:
    """Return a list of phases that may be written as one."""
    return [value] if isinstance(value, Mapping) else value


def keyed(mixture: Sequence[Mixture] | None) -> list[tuple[str, Mixture]]:
    """Return the phases with their keys; one phase alone may be written without a list."""
    phases = mixture or []
    return [("mixture" if len(phases) == 1 else f"mixture.{at}", each) for at, each in enumerate(phases)]


def ends_of(mixture: Sequence[Mixture], schedule: ScheduleConfig) -> list[float | Literal["once"]]:
    """Return the end of each phase, as a share of the run or "once".

    Raises:
        ValueError: The rate never falls so far.
    """
    found: list[float | Literal["once"]] = []
    for phase in mixture:
        if isinstance(phase.until, float):
            found.append(phase.until)
            continue
        if phase.until == "once":
            found.append("once")
            continue
        share = schedule.share_at(1 / float(phase.until.removeprefix("rate/")))
        if share is None:
            raise ValueError(
                f"the phase until {phase.until} does not end: the rate of the {schedule.kind} schedule never "
                "falls so far"
            )
        found.append(share)
    return found


def check_ends(mixture: Sequence[Mixture], schedule: ScheduleConfig) -> None:
    """Raise ValueError unless phases end one after the other, the last one at 1."""
    if not isinstance(mixture[-1].until, float):
        raise ValueError(
            f"the last phase ends with the run: leave its `until: {mixture[-1].until}` out, or add a phase "
            "after it"
        )
    ends = [end for end in ends_of(mixture, schedule) if end != "once"]
    for earlier, later in pairwise(ends):
        if later <= earlier:
            raise ValueError(
                f"a phase until {later:g} comes after one until {earlier:g}: give every phase but the last "
                "an `until` that is larger than the one before"
            )
    if ends[-1] != 1:
        raise ValueError(f"the last phase ends at {ends[-1]:g} of the run: leave its `until` out")


def domain_parts(corpus: Path) -> list[str]:
    """Return the names of the domain's parts in a corpus; none if it is one text."""
    from cpt.corpus.tokenise import part_names

    return part_names(corpus, DOMAIN)


def domain_sources(corpus: Path) -> list[str]:
    """Return the sources of domain text that a mixture divides rows among."""
    return [f"{DOMAIN}{PART}{part}" for part in domain_parts(corpus)] or [DOMAIN]


def phases_of(config: PretrainConfig, sizes: Mapping[str, int]) -> list[MixturePhase]:
    """Return the phases of a stream; none without a mixture.

    Args:
        config: Settings of the stage.
        sizes: Sequences of each source of domain text.
    """
    from cpt.corpus.mixture import MixturePhase, replay_rows, weights_of_sizes, whole_weights

    phases, mixture = [], config.mixture or []
    for phase, until in zip(mixture, ends_of(mixture, config.planned_schedule), strict=True):
        if phase.weights is None:
            weights = weights_of_sizes(sizes, phase.temperature or 1.0)
        else:
            weights = {name: phase.weights[part_of(name)] for name in sizes}
        replay = config.replay_share if phase.replay is None else phase.replay
        rows = replay_rows(replay, config.batch_sequences)
        phases.append(MixturePhase(until, whole_weights(weights), rows))
    return phases


def part_of(source: str) -> str:
    """Return a source's name without "domain."."""
    return source.removeprefix(f"{DOMAIN}{PART}")


def gated_parts(config: PretrainConfig) -> dict[str, str]:
    """Return the probes of parts that limits name, each with the key of its gate."""
    named = {gate.limit.probe: f"gates.{number}" for number, gate in enumerate(config.gates)}
    return {name: key for name, key in named.items() if config.probes_parts and name.startswith(_PART_PROBE)}


def gated_part_problems(config: PretrainConfig, parts: Sequence[str]) -> list[Problem]:
    """Return the limits on parts that a domain which is not built yet will not have.

    Args:
        parts: Names of the domain's parts, by the corpus stage's settings.
    """
    read = [f"{_PART_PROBE}{part}" for part in parts if part not in STUDY]
    return [
        Problem(
            f"no probe is called `{name}`",
            key=f"{key}.limit",
            hint=f"Of parts these are read: {', '.join(read)}." if read else "The domain has no parts.",
        )
        for name, key in gated_parts(config).items()
        if name not in read
    ]


def part_problems(
    config: PretrainConfig, parts: Sequence[str], not_made: Mapping[str, str] | None = None
) -> list[Problem]:
    """Return what is wrong in a mixture, and in epochs by part, with the parts of the domain.

    Args:
        not_made: Reasons why the corpus stage does not make a part, by its name.
    """
    problems, phases = [], config.mixture or []
    there = f"its parts are {', '.join(parts)}" if parts else "it has no parts"
    hint = (
        "Name each of them once; a weight of 0 leaves one out."
        if parts
        else "Give the domain's sources in the corpus stage a `part`, or leave this out."
    )
    if phases and not parts and not any(phase.divides or phase.replay is not None for phase in phases):
        message = "the mixture changes nothing: the domain has no parts, and no phase has its own `replay`"
        problems.append(Problem(message, key="mixture", hint=hint))
    if config.monitor.parts and not parts:
        message = "the domain has no parts whose held-out text could be read"
        problems.append(Problem(message, key="monitor.parts", hint=hint))
    for key, phase in keyed(phases):
        if phase.temperature is not None and len(parts) < 2:
            message = f"a temperature needs two parts of the domain or more; {there}"
            problems.append(Problem(message, key=f"{key}.temperature", hint=hint))
        if phase.weights is None:
            continue
        unknown = [name for name in phase.weights if name not in parts]
        missing = [name for name in parts if name not in phase.weights]
        if unknown or missing:
            wrong = [_no_part(name, not_made or {}) for name in unknown]
            wrong += [f"{name} has no weight" for name in missing]
            message = f"the weights do not fit the domain: {'; '.join(wrong)} ({there})"
            problems.append(Problem(message, key=f"{key}.weights", hint=hint))
    named = config.epochs if isinstance(config.epochs, Mapping) else {}
    if unknown := [name for name in named if name not in parts]:
        wrong = [_no_part(name, not_made or {}) for name in unknown]
        message = f"the epochs do not fit the domain: {'; '.join(wrong)} ({there})"
        problems.append(Problem(message, key="epochs", hint="Name its parts, or give one number."))
    return problems


def _no_part(name: str, not_made: Mapping[str, str]) -> str:
    return f"{name} is not made, as {not_made[name]}" if name in not_made else f"no part is called {name}"


def continuation_problems(begin: Mapping[str, int], sources: Sequence[str]) -> list[Problem]:
    """Return a problem if an earlier training has read the domain by other sources than this one will."""
    read = [name for name in begin if name != REPLAY]
    if not read or set(read) <= set(sources):
        return []
    ways = ["as one text" if DOMAIN in names else "in parts" for names in (read, sources)]
    return [
        Problem(
            f"the earlier stage has read the domain {ways[0]}, and this one reads it {ways[1]}: what is left "
            "unread of each part is not known",
            key="start.data",
            hint="Give both stages a mixture, or neither; or begin again with start: {data: again}.",
        )
    ]


def epoch_bounds(config: PretrainConfig, stream: TrainingStream) -> dict[str, float]:
    """Return how often each source of domain text may be read."""
    if isinstance(config.epochs, Mapping):
        return {name: config.epochs.get(part_of(name), 1.0) for name in stream.domain_sources}
    return dict.fromkeys(stream.domain_sources, config.epochs)


def epoch_problems(
    config: PretrainConfig, planned: TrainingStream, stream: TrainingStream, steps: int
) -> list[Problem]:
    """Return the parts that a run would read more often than it may.

    Args:
        planned: Stream as the recipe has it.
        stream: The same with as little replay as gates allow, which reads the domain fastest.
    """
    bounds, counted, problems = epoch_bounds(config, planned), stream.ledger(steps), []
    for name, bound in bounds.items():
        size, consumed = stream.size(name), stream.consumed(steps)[name]
        if consumed <= int(bound * size) or not counted[name]["sequences"]:
            continue
        part, epochs = part_of(name), consumed / size
        lasts = stream.available_steps(bounds)
        tokens = planned.for_steps(lasts).tokens(lasts)
        needed = math.ceil(epochs * 100) / 100
        given = f"{{{part}: {needed:g}}}" if name != DOMAIN else f"{needed:g}"
        fewer = f" at most {tokens:,} tokens" if lasts else " fewer tokens"
        ways = [f"train on{fewer}", f"add text to {part}", f"set epochs: {given}"]
        ways = [f"give {part} less weight", *ways] if len(bounds) > 1 else ways
        gates = (
            " (with as little replay as a gate allows)" if planned.consumed(steps)[name] < consumed else ""
        )
        message = (
            f"{part} has {size:,} sequences, and {steps:,} steps read {consumed:,} of it{gates}: "
            f"{epochs:.2f} times, more than {bound:g}"
        )
        hint = f"{', or '.join(ways)}."
        problems.append(Problem(message, key="epochs", hint=hint[0].upper() + hint[1:]))
    return problems


def step_problems(config: PretrainConfig, stream: TrainingStream, steps: int) -> list[Problem]:
    """Return the first phase of a mixture in which there is no step, with the tokens that all phases need."""
    phases = keyed(config.mixture)
    if (never := _first_empty(stream.for_steps(_ROOM), _ROOM)) is not None:
        message = "the phase until once has no step: all of its text is trained on before it"
        return [Problem(message, key=phases[never][0], hint="Leave the phase out.")]
    if (empty := _first_empty(stream, steps)) is None:
        return []
    key, phase = phases[empty]
    until = f"{phase.until:g}" if isinstance(phase.until, float) else phase.until
    message = f"the phase until {until} has none of the {steps:,} steps"
    if empty and phases[empty - 1][1].until == "once":
        ends = stream.phase_ends[empty - 1]
        message += f": the one before it, until once, ends at step {ends:,} ({stream.tokens(ends):,} tokens)"
    more = train_on(config, stream, lambda run, steps: _first_empty(run, steps) is None)
    return [Problem(message, key=key, hint=f"{more[0].upper() + more[1:]}, or change `until`.")]


_ROOM = 1 << 40
"""More steps than any run has."""


def train_on(
    config: PretrainConfig, stream: TrainingStream, enough: Callable[[TrainingStream, int], bool]
) -> str:
    """Return the advice for a run that is too short: the tokens that it needs, or more epochs.

    Args:
        enough: Function of the stream of a run, and of its steps; True from some number of steps on.
    """
    if config.tokens is None:
        return "set more `epochs`"
    needed = bisect_left(range(_ROOM), True, key=lambda steps: enough(stream.for_steps(steps), steps))
    return f"train on at least {stream.for_steps(needed).tokens(needed):,} tokens"


def _first_empty(stream: TrainingStream, steps: int) -> int | None:
    """Return the number of the first phase in which there is no step; None if each has one."""
    first = 0
    for number, end in enumerate(stream.phase_ends):
        if min(end, steps) <= first:
            return number
        first = end
    return None


def described(stream: TrainingStream, steps: int) -> Iterator[str]:
    """Describe what will be trained on: tokens and epochs by phase and source, and by named part."""
    phases = stream.by_phase(steps)
    for phase in phases if stream.is_mixed else []:
        sources = phase["sources"]
        domain = sum(counts["sequences"] for name, counts in sources.items() if name != REPLAY)
        words = []
        for name, counts in sources.items():
            rows = domain if name != REPLAY else domain + counts["sequences"]
            share = counts["sequences"] / rows if rows else 0.0
            of = " of the domain" if name != REPLAY else ""
            words.append(f"{part_of(name)} {100 * share:.3g}%{of} ({_amount(counts)})")
        last = phase["first"] + phase["steps"]
        yield f"steps {phase['first'] + 1:,} to {last:,}: {', '.join(words)}"
    for source, parts in stream.parts(steps).items():
        amounts = (f"{name.partition(PART)[2]} ({_amount(counts)})" for name, counts in parts.items())
        yield f"parts of {source}: {', '.join(amounts)}"
    yield from repeated(stream, steps)


def _amount(counts: Mapping[str, float]) -> str:
    return f"{int(counts['tokens']):,} tokens, {counts['epochs']:.3g} times"


def repeated(stream: TrainingStream, steps: int) -> Iterator[str]:
    """Warn of every source that is read more than `REPEATS` times."""
    for name in stream.ledger(steps):
        if (epochs := stream.epochs(steps, name)) > REPEATS:
            yield (
                f"{part_of(name)} is read {epochs:.1f} times: repeats beyond {REPEATS} teach little more "
                "(Muennighoff et al., arXiv 2305.16264)"
            )
