"""The figures of a trial: one row for each training, and the means of a method over its trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cpt.seeds import Mean, mean_over_seeds

UNCHANGED = "unchanged"
"""Name of the row of the model as it is, with its own tokenizer: the baseline of every change."""


@dataclass(frozen=True)
class TrialRow:
    """The result of one training of one method.

    Attributes:
        method: Name, with parameters that differ from the defaults; `UNCHANGED` for the model as it is.
        seed: Seed of the order of the training text.
        domain, general: Bits per byte by step; empty after a failure.
        initialisation_seconds: Time to make the rows and write the model.
        tokens, bytes, epochs, training_seconds: Amount of training text, and time of the training.
        failure: Reason for missing figures.
    """

    method: str
    seed: int
    domain: dict[int, float]
    general: dict[int, float]
    initialisation_seconds: float = 0.0
    tokens: int = 0
    bytes: float = 0.0
    epochs: float = 0.0
    training_seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class MethodMeans:
    """The means of a method over its trainings, with 95% intervals if there are several.

    Attributes:
        method: Name, as in its rows.
        domain, general: Bits per byte by step; empty after a failure.
        behind: Difference from the best method in domain bits per byte after the last step, seed by seed;
            None for the best, for the unchanged model and after a failure.
        initialisation_seconds: Time to make the rows and write the model.
        failure: Reason for missing figures of one training at least.
    """

    method: str
    domain: Mapping[int, Mean]
    general: Mapping[int, Mean]
    behind: Mean | None
    initialisation_seconds: float
    failure: str


@dataclass(frozen=True)
class TrialResult:
    """The rows of a trial, and the facts that hold for all of them.

    Attributes:
        steps: Training steps after which bits per byte were measured.
        vocabulary: Facts on the change: tokens before and after, rows copied and made, checks.
        bytes_per_token: Bytes per token of the held-out domain text, before and after the change.
        rows: The unchanged model first, then the methods in the order of the request; by seed within each.
        windows: Bytes per window of held-out text, by source; the same for every row.
    """

    steps: Sequence[int]
    vocabulary: dict[str, Any]
    bytes_per_token: tuple[float, float]
    rows: Sequence[TrialRow]
    windows: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Return the seeds of the trainings."""
        return list(dict.fromkeys(row.seed for row in self.rows))

    def means(self) -> list[MethodMeans]:
        """Return the means of every method: the unchanged model first, then the best first, failures last."""
        rows: dict[str, list[TrialRow]] = {}
        for row in self.rows:
            rows.setdefault(row.method, []).append(row)
        last = self.steps[-1]
        failures = {name: _failure(own) for name, own in rows.items()}
        ends = {
            name: {row.seed: row.domain[last] for row in own}
            for name, own in rows.items()
            if not failures[name]
        }
        levels = {name: mean_over_seeds(list(own.values())).value for name, own in ends.items()}
        order = sorted(rows, key=lambda name: (name != UNCHANGED, levels.get(name, float("inf"))))
        best = next((name for name in order if name != UNCHANGED and name in ends), None)
        found = []
        for name in order:
            own, behind = rows[name], None
            if name in ends and best is not None and name not in (UNCHANGED, best):
                behind = mean_over_seeds([level - ends[best][seed] for seed, level in ends[name].items()])
            domain, general = (
                {} if failures[name] else _means([getattr(row, source) for row in own])
                for source in ("domain", "general")
            )
            seconds = own[0].initialisation_seconds
            found.append(MethodMeans(name, domain, general, behind, seconds, failures[name]))
        return found

    def ranked(self) -> list[MethodMeans]:
        """Return the methods by domain bits per byte after the last step, the best first, failures last."""
        return [each for each in self.means() if each.method != UNCHANGED]

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        means = {
            each.method: {
                source: {step: _plain(mean) for step, mean in getattr(each, source).items()}
                for source in ("domain", "general")
            }
            | {"behind": each.behind and _plain(each.behind)}
            for each in self.means()
            if not each.failure
        }
        ranking = [each.method for each in self.ranked() if not each.failure]
        return {**asdict(self), "means": means, "ranking": ranking}


def _failure(rows: Sequence[TrialRow]) -> str:
    """Return the reason of the first failure, with its seed if another training of the method succeeded."""
    failed = next((row for row in rows if row.failure), None)
    if failed is None:
        return ""
    return failed.failure if len(rows) == 1 else f"seed {failed.seed}: {failed.failure}"


def _means(curves: Sequence[Mapping[int, float]]) -> dict[int, Mean]:
    return {step: mean_over_seeds([curve[step] for curve in curves]) for step in curves[0]}


def _plain(mean: Mean) -> dict[str, float | None]:
    return {"value": mean.value, "low": mean.low, "high": mean.high}


_SHOWN_TIMES_BEST = 1.6
"""Upper end of the axis in units of the best start; lines that start higher are cut off."""


def plot(result: TrialResult, file: Path) -> None:
    """Plot bits per byte against steps, one line per method; the file's suffix sets the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    means = result.means()
    panels = [name for name in ("domain", "general") if any(getattr(each, name) for each in means)]
    colours = mpl.colormaps["tab20"]
    order = [each.method for each in result.ranked()]
    for axes, source in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        highest = []
        for each in means:
            curve = getattr(each, source)
            if not curve:
                continue
            plain = each.method == UNCHANGED
            levels = [mean.value for mean in curve.values()]
            axes.errorbar(
                list(curve),
                levels,
                yerr=[mean.high - mean.value for mean in curve.values() if mean.high is not None] or None,
                capsize=3,
                marker="o",
                label=each.method,
                color="black" if plain else colours(order.index(each.method) % 20),
                linestyle="--" if plain else "-",
            )
            highest.append(max(mean.high or mean.value for mean in curve.values()))
        axes.set_ylim(top=min(max(highest), _SHOWN_TIMES_BEST * min(highest)) * 1.02)
        axes.set_title(f"{source} text, held out")
        axes.set_xlabel("training steps")
        axes.set_ylabel("bits per byte")
        axes.grid(alpha=0.3)
    handles = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    names = [name for name in [UNCHANGED, *order] if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside right center", frameon=False)
    figure.savefig(file)
