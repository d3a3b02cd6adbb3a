"""Average the checkpoints of a finished pretrain stage: choose them and their weights.

The weights are `merging.averaging`'s. Averages kept while a run trains are another thing: see
`cpt.training.features.weight_averaging`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import CannotMerge, Problem
from cpt.stages.base import Artifact, UpstreamArtifact, UpstreamConfigs, WiringError
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import Checkpoint, read_checkpoint_models

if TYPE_CHECKING:
    from merging.request import InputModel, MergeRequest


class _Average(BaseModel, ABC):
    """An average of a run's checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    last: int | None = Field(
        default=None,
        gt=1,
        description="Number of checkpoints to average, the latest ones; null: all.",
    )

    def weights(self, count: int) -> list[float]:
        """Return the weights of `count` checkpoints, the oldest first; their sum is 1."""
        from merging.averaging import uniform

        return uniform(count)

    def of_run(self, kept: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Return those of a run's models that may be averaged."""
        return kept

    @property
    @abstractmethod
    def title(self) -> str:
        """Name of the average for messages."""


class CheckpointLawa(_Average):
    """Latest weight averaging: the mean of the latest checkpoints (arXiv 2209.14981, 2306.03241)."""

    kind: Literal["lawa"] = Field(description="The mean of the latest checkpoints.")
    last: int = Field(gt=1, description="Number of checkpoints to average, the latest ones.")

    @property
    def title(self) -> str:
        """See `_Average`."""
        return "latest weight averaging (LAWA)"


class CheckpointEma(_Average):
    """Exponential moving average over checkpoints, from the disk."""

    kind: Literal["ema"] = Field(description="An exponential moving average over the checkpoints.")
    decay: float = Field(
        default=0.8, gt=0, lt=1, description="Weight of a checkpoint relative to the next one."
    )

    def weights(self, count: int) -> list[float]:
        """See `_Average`."""
        from merging.averaging import exponential

        return exponential(count, self.decay)

    @property
    def title(self) -> str:
        """See `_Average`."""
        return f"an exponential moving average of decay {self.decay:g}"


class CheckpointSoup(_Average):
    """Uniform soup (arXiv 2203.05482)."""

    kind: Literal["soup"] = Field(description="The mean of all models.")

    @property
    def title(self) -> str:
        """See `_Average`."""
        return "a uniform soup"


class CheckpointWsd(_Average):
    """An average of checkpoints that stands for a decay of the rate (WSM: arXiv 2507.17634).

    Only models from before the anneal are averaged; all of them if the run has no anneal. Models of the
    warm-up do not belong to the constant rate: leave them out with `last`.
    """

    kind: Literal["wsd"] = Field(description="In place of an anneal: weights of its decay.")
    decay: Literal["linear", "cosine", "1-sqrt"] = Field(
        default="1-sqrt", description="Curve of the decay that the average stands for."
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


Average = Annotated[
    CheckpointLawa | CheckpointEma | CheckpointSoup | CheckpointWsd, Field(discriminator="kind")
]
"""Settings of any average, told apart by `kind`."""

KEEP = (
    "Milestones are kept with checkpoint.keep_every in the pretrain stage, not where an adapter trains; "
    "a stage that is finished is not run again for them unless --force names it."
)


def chosen_checkpoints(
    average: Average, run: str, kept: Sequence[Checkpoint]
) -> Sequence[Checkpoint] | Problem:
    """Return the checkpoints of a run to average, the oldest first, or the problem that they are too few.

    Args:
        run: Name of the run.
        kept: Models of the run, the oldest first.
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


class LawaOf(_OfRun, CheckpointLawa):
    """`average: {of: pretrain, kind: lawa, last: 5}`."""


class EmaOf(_OfRun, CheckpointEma):
    """`average: {of: pretrain, kind: ema, decay: 0.8}`."""


class SoupOf(_OfRun, CheckpointSoup):
    """`average: {of: pretrain, kind: soup}`."""


class WsdOf(_OfRun, CheckpointWsd):
    """`average: {of: pretrain, kind: wsd, decay: 1-sqrt}`."""


RunAverage = Annotated[LawaOf | EmaOf | SoupOf | WsdOf, Field(discriminator="kind")]
"""An average of a stage of the recipe."""


def average_request(average: RunAverage, training: Artifact, dtype: str | None) -> MergeRequest:
    """Return the merge request of an average.

    Raises:
        CannotMerge: There are too few checkpoints.
    """
    from merging.averaging import average as averaged

    checkpoints = _checkpoints(average, training)
    if isinstance(checkpoints, Problem):
        raise CannotMerge([checkpoints.message], hint=checkpoints.hint)
    models = inputs_of(checkpoints, training)
    about = f"Of {training.name}, {average.title}"
    return averaged(models, average.weights(len(models)), about, dtype)


def inputs_of(checkpoints: Sequence[Checkpoint], training: Artifact) -> list[InputModel]:
    """Return checkpoints as models of a merge, named by their steps."""
    from merging.request import InputModel

    return [
        InputModel(f"step {each.step}", training.folder / each.folder, training.fingerprint)
        for each in checkpoints
    ]


def missing_checkpoints(average: RunAverage, inputs: Mapping[str, Artifact]) -> Iterator[Problem]:
    """Report a finished training that has too few checkpoints."""
    found = _checkpoints(average, inputs["training"]) if inputs else ()
    if isinstance(found, Problem):
        yield replace(found, key="average")


def _checkpoints(average: RunAverage, training: Artifact) -> Sequence[Checkpoint] | Problem:
    return chosen_checkpoints(average, training.name, read_checkpoint_models(training))


def unkept_checkpoints(average: RunAverage, upstream: UpstreamConfigs) -> Iterator[Problem]:
    """Report a training of the recipe that will keep no milestones, only its last model and one before."""
    training = upstream[-1] if upstream else None
    if not isinstance(training, PretrainConfig):
        return
    if training.checkpoint.keep_every is None or training.trainable.kind == "lora":
        reason = (
            "an adapter trains" if training.trainable.kind == "lora" else "checkpoint.keep_every is not set"
        )
        yield Problem(f"{average.of} will keep no milestones to average: {reason}", key="average", hint=KEEP)


def training_of(name: str, earlier: Sequence[UpstreamArtifact]) -> str:
    """Return the name of an earlier training.

    Raises:
        WiringError: There is no training of that name.
    """
    trainings = [stage.name for stage in earlier if "training" in stage.kinds]
    if name in trainings:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` is no pretrain stage" if known else f"there is no earlier stage called `{name}`"
    there = f"Trainings: {', '.join(trainings)}." if trainings else "Put a pretrain stage before it."
    raise WiringError(Problem(message, key="average.of", hint=there))
