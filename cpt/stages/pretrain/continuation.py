"""Continue earlier pretrain stages, from a checkpoint and from a place in the data.

A finished pretrain stage lists in `training/checkpoints.json` the models that a later one can start from: its
milestones and the one before annealing, which are model folders of their own, and its last. Each has the
number of sequences of every source that were consumed by then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpt.errors import Problem, StageFailed
from cpt.json_file import read_json
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.training.checkpoint import CheckpointKind

OPTIMIZER = "optimizer.safetensors"
"""Name of the file of a kept optimizer state in a model's folder."""

INDEX = "checkpoints.json"
"""Name of the list of models that a later stage can start from."""


class Start(BaseModel):
    """The start of a new run that continues an earlier pretrain stage (`from`).

    It takes over the weights, the place in the data, and if asked the optimizer's state. The schedule is its
    own. A run that was only stopped needs no `start`: the same command resumes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Literal["last", "pre-anneal"] | int = Field(
        default="last",
        description="Which of the earlier stage's models: its last, the one before its rate was annealed, or "
        "the milestone of a step (checkpoint.keep_every).",
    )
    data: Literal["go-on", "again"] = Field(
        default="go-on",
        description="go-on: with the text that the earlier stage has not seen; again: from the beginning. "
        "Another corpus begins at its beginning in any case.",
    )
    optimizer: bool = Field(
        default=False,
        description="Go on with the optimizer's state of that checkpoint, in place of a fresh optimizer. The "
        "earlier stage must have kept it (checkpoint.keep_optimizer).",
    )

    @model_validator(mode="after")
    def _kept_with_the_model(self) -> Self:
        if self.optimizer and self.checkpoint == "last":
            raise ValueError(
                "optimizer: the state is kept with milestones and the model before the anneal, not with the "
                "last: set `checkpoint: pre-anneal` or a step"
            )
        return self


class Checkpoint(BaseModel):
    """A model that a later stage can start from.

    Attributes:
        step: number of steps that it was trained for.
        kind: reason why it was kept.
        folder: folder of the model, in the artifact.
        passed: number of sequences consumed, by source.
    """

    step: int
    kind: CheckpointKind
    folder: str
    passed: dict[str, int]

    def is_meant(self, wanted: str | int) -> bool:
        """Return True if `Start.checkpoint` names this one."""
        return wanted in (self.kind, self.step)


def wire_start(earlier: Sequence[UpstreamArtifact], name: str) -> None:
    """Raise unless the stage that is to be continued is a training."""
    if not any(stage.name == name and "training" in stage.kinds for stage in earlier):
        raise WiringError(
            Problem(
                f"`{name}` is no pretrain stage, so there is nothing to continue",
                key="start",
                hint="Name the pretrain stage with `from`, or leave `start` out.",
            )
        )


def find_start(start: Start, earlier: Artifact) -> Checkpoint | Problem:
    """Return the checkpoint that a stage starts from, or the reason why there is none."""
    kept = read_checkpoint_models(earlier)
    found = [checkpoint for checkpoint in kept if checkpoint.is_meant(start.checkpoint)]
    if found and start.optimizer and not kept_optimizer(found[0], earlier).is_file():
        return Problem(
            f"{earlier.name} kept no optimizer state with its checkpoint of step {found[0].step}",
            key="start.optimizer",
            hint=f"Set checkpoint.keep_optimizer in {earlier.name}, and run it again: --force "
            f"{earlier.name}.",
        )
    if found:
        return found[0]
    there = ", ".join(f"{each.kind} (step {each.step})" for each in kept)
    return Problem(
        f"{earlier.name} kept no checkpoint {start.checkpoint}; it has {there}",
        key="start.checkpoint",
        hint="Milestones are kept with checkpoint.keep_every, the model before the anneal by schedules that "
        "anneal; neither where an adapter trains.",
    )


def kept_optimizer(found: Checkpoint, earlier: Artifact) -> Path:
    """Return the file of a checkpoint's optimizer state, which may not be there."""
    return earlier.folder / found.folder / OPTIMIZER


def optimizer_problems(
    start: Start | None, settings: Mapping[str, Any], earlier: Mapping[str, Any]
) -> list[Problem]:
    """Return the settings with which the earlier stage's optimizer state cannot go on.

    Args:
        settings, earlier: Settings of the stage and of the one that it continues, as JSON data.
    """
    if start is None or not start.optimizer:
        return []
    other = [key for key in _OF_THE_STATE if key in earlier and earlier[key] != settings[key]]
    return [
        Problem(
            f"the optimizer's state cannot go on with another `{key}` than that of the earlier stage",
            key=key,
            hint="Give both stages the same, or leave start.optimizer out.",
        )
        for key in other
    ]


_OF_THE_STATE = ("optimizer", "trainable", "master_weights")
"""Settings that the form of an optimizer's state depends on."""


def consumed_before(
    start: Start | None, found: Checkpoint | None, inputs: Mapping[str, Artifact]
) -> dict[str, int]:
    """Return the number of sequences of each source that are not read again."""
    if start is None or found is None or start.data == "again":
        return {}
    same = inputs["model"].parents.get("corpus") == inputs["corpus"].fingerprint
    return found.passed if same else {}


def write_checkpoint_models(
    folder: Path,
    steps: Mapping[int, CheckpointKind],
    passed: Callable[[int], dict[str, int]],
    save: Callable[[int, Path], None],
    say: Callable[[str], None],
) -> None:
    """Write the models of some steps, and the list of them.

    One whose checkpoint is damaged is named and left out: the training itself is finished and whole.

    Args:
        folder: folder of the artifact, whose `model` is the last step's already.
        steps: reason why the model of each step is kept.
        passed: function that returns the sequences consumed after a step, by source.
        save: function that writes the model of a step into a folder; raises `StageFailed` if it is lost.
        say: function that shows the user a message.
    """
    kept = []
    for step, kind in sorted(steps.items()):
        place = "model" if kind == "last" else f"training/checkpoints/step-{step:09d}"
        try:
            if kind != "last":
                save(step, folder / place)
        except StageFailed as error:
            say(f"the {kind} model of step {step} is left out: {error.message}")
            continue
        kept.append(Checkpoint(step=step, kind=kind, folder=place, passed=passed(step)).model_dump())
    (folder / "training" / INDEX).write_text(json.dumps(kept, indent=2))


def read_checkpoint_models(artifact: Artifact) -> list[Checkpoint]:
    """Return the models that a pretrain stage kept, the earliest first; none if it wrote no list."""
    path = artifact.path("training") / INDEX
    return list(read_json(path, list[Checkpoint])) if path.exists() else []
