"""Averages of a finished pretrain stage's checkpoints: which of them, with which weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import CannotMerge, Problem
from cpt.stages.base import Artifact, UpstreamArtifact, UpstreamConfigs, WiringError
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import Checkpoint, read_kept

if TYPE_CHECKING:
    from merging.request import InputModel, MergeRequest


class _Average(BaseModel, ABC):
    """An average of a run's checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    last: int | None = Field(
        default=None,
        gt=1,
        description="How many of the checkpoints are averaged, the latest ones; null: all.",
    )

    def weights(self, count: int) -> list[float]:
        """Weights of so many checkpoints, the oldest first; their sum is 1."""
        from merging.averaging import uniform

        return uniform(count)

    def of_run(self, kept: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Those of a run's models that may be averaged."""
        return kept

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, for people."""


class Lawa(_Average):
    """Latest weight averaging: the mean of the latest checkpoints (arXiv 2209.14981, 2306.03241)."""

    kind: Literal["lawa"] = Field(description="The mean of the latest checkpoints.")
    last: int = Field(gt=1, description="How many of the checkpoints are averaged.")

    @property
    def title(self) -> str:
        """See `_Average`."""
        return "latest weight averaging (LAWA)"


class Ema(_Average):
    """Exponential moving average over checkpoints."""

    kind: Literal["ema"] = Field(description="An exponential moving average over the checkpoints.")
    decay: float = Field(
        default=0.8, gt=0, lt=1, description="How much a checkpoint counts against the next one."
    )

    def weights(self, count: int) -> list[float]:
        """See `_Average`."""
        from merging.averaging import exponential

        return exponential(count, self.decay)

    @property
    def title(self) -> str:
        """See `_Average`."""
        return f"an exponential moving average of decay {self.decay:g}"


class Soup(_Average):
    """Uniform soup (arXiv 2203.05482)."""

    kind: Literal["soup"] = Field(description="The mean of all models.")

    @property
    def title(self) -> str:
        """See `_Average`."""
        return "a uniform soup"


class Wsd(_Average):
    """What a decay of the rate would have given, from checkpoints before it (WSM: arXiv 2507.17634).

    Only the models from before the anneal are averaged; all, if the run has none. Those of the warm-up are
    no models of the constant rate: leave them out with `last`.
    """

    kind: Literal["wsd"] = Field(description="In place of an anneal: weights of its decay.")
    decay: Literal["linear", "cosine", "1-sqrt"] = Field(
        default="1-sqrt", description="Curve of the decay that it stands for."
    )

    def weights(self, count: int) -> list[float]:
        """See `_Average`."""
        from merging.averaging import instead_of_annealing

        return instead_of_annealing(count, self.decay)

    def of_run(self, kept: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """See `_Average`."""
        ends = [each.step for each in kept if each.kind == "pre-anneal"]
        return [each for each in kept if not ends or each.step <= ends[0]]

    @property
    def title(self) -> str:
        """See `_Average`."""
        return f"checkpoints in place of a {self.decay} decay (WSM)"


Average = Annotated[Lawa | Ema | Soup | Wsd, Field(discriminator="kind")]
"""Settings of any average, told apart by `kind`."""

KEEP = (
    "Milestones are kept with checkpoint.keep_every in the pretrain stage, not where an adapter trains; "
    "a stage that is finished is not run again for them unless --force names it."
)


def chosen(average: Average, run: str, kept: Sequence[Checkpoint]) -> Sequence[Checkpoint] | Problem:
    """The checkpoints of a run that are averaged, the oldest first, or why there are too few.

    Args:
        run: what the run is called.
        kept: its models, the oldest first.
    """
    usable = average.of_run(kept)
    wanted = average.last or 2
    if len(usable) >= wanted:
        return usable[-(average.last or 0) :]
    there = ", ".join(f"{each.kind} (step {each.step})" for each in usable) or "none"
    what = " from before its anneal" if len(usable) < len(kept) else ""
    return Problem(
        f"{run} kept {len(usable)} models{what} to average, {wanted} are needed: {there}", hint=KEEP
    )


class _OfRun(BaseModel):
    of: str = Field(description="The pretrain stage whose checkpoints are averaged.")


class LawaOf(_OfRun, Lawa):
    """`average: {of: pretrain, kind: lawa, last: 5}`."""


class EmaOf(_OfRun, Ema):
    """`average: {of: pretrain, kind: ema, decay: 0.8}`."""


class SoupOf(_OfRun, Soup):
    """`average: {of: pretrain, kind: soup}`."""


class WsdOf(_OfRun, Wsd):
    """`average: {of: pretrain, kind: wsd, decay: 1-sqrt}`."""


RunAverage = Annotated[LawaOf | EmaOf | SoupOf | WsdOf, Field(discriminator="kind")]
"""An average of a stage of the recipe."""


def average_request(average: RunAverage, training: Artifact, dtype: str | None) -> MergeRequest:
    """The average as a merge."""
    from merging.averaging import average as averaged

    checkpoints = _checkpoints(average, training)
    if isinstance(checkpoints, Problem):
        raise CannotMerge([checkpoints.message], hint=checkpoints.hint)
    parents = parents_of(checkpoints, training)
    about = f"Of {training.name}, {average.title}"
    return averaged(parents, average.weights(len(parents)), about, dtype)


def parents_of(checkpoints: Sequence[Checkpoint], training: Artifact) -> list[InputModel]:
    """Checkpoints as models of a merge, named by their steps."""
    from merging.request import InputModel

    return [
        InputModel(f"step {each.step}", training.folder / each.folder, training.fingerprint)
        for each in checkpoints
    ]


def missing(average: RunAverage, inputs: Mapping[str, Artifact]) -> Iterator[Problem]:
    """That a finished training has too few checkpoints."""
    found = _checkpoints(average, inputs["training"]) if inputs else ()
    if isinstance(found, Problem):
        yield replace(found, key="average")


def _checkpoints(average: RunAverage, training: Artifact) -> Sequence[Checkpoint] | Problem:
    return chosen(average, training.name, read_kept(training))


def unkept(average: RunAverage, upstream: UpstreamConfigs) -> Iterator[Problem]:
    """That a training of the recipe will keep no milestones: at most its last model and one before it."""
    training = upstream[-1] if upstream else None
    if not isinstance(training, PretrainConfig):
        return
    if training.checkpoint.keep_every is None or training.trainable.kind == "lora":
        reason = (
            "an adapter trains" if training.trainable.kind == "lora" else "checkpoint.keep_every is not set"
        )
        yield Problem(f"{average.of} will keep no milestones to average: {reason}", key="average", hint=KEEP)


def training_of(name: str, earlier: Sequence[UpstreamArtifact]) -> str:
    """The name, if it is an earlier training's; else raise."""
    trainings = [stage.name for stage in earlier if "training" in stage.kinds]
    if name in trainings:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` is no pretrain stage" if known else f"there is no earlier stage called `{name}`"
    there = f"Trainings: {', '.join(trainings)}." if trainings else "Put a pretrain stage before it."
    raise WiringError(Problem(message, key="average.of", hint=there))
