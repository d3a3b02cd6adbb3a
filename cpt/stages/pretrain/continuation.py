"""A pretrain stage that continues an earlier one: from which checkpoint, and where in the data.

A finished pretrain stage lists in `training/checkpoints.json` the models that a later one can start from: its
milestones and the one before annealing, which are model folders of their own, and its last. With each stands
how many sequences of every source had been gone through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem, StageFailed
from cpt.json_file import read_json
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.training.features.checkpoints import Kept

INDEX = "checkpoints.json"


class Start(BaseModel):
    """Where a new run begins that continues an earlier pretrain stage (`from`).

    It takes over the weights and the place in the data, and nothing else: the optimizer is fresh, the
    schedule its own. A run that was only stopped needs no `start`: the same command resumes it.
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


class Checkpoint(BaseModel):
    """A model that a later stage can start from.

    Attributes:
        step: steps that it was trained for; `kind` says why it was kept.
        folder: of the model, in the artifact.
        passed: sequences gone through, by source.
    """

    step: int
    kind: Kept
    folder: str
    passed: dict[str, int]

    def is_meant(self, wanted: str | int) -> bool:
        """Whether this is the one that `Start.checkpoint` names."""
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
    """The checkpoint that a stage starts from, or why there is none."""
    kept = read_kept(earlier)
    found = [checkpoint for checkpoint in kept if checkpoint.is_meant(start.checkpoint)]
    if found:
        return found[0]
    there = ", ".join(f"{each.kind} (step {each.step})" for each in kept)
    return Problem(
        f"{earlier.name} kept no checkpoint {start.checkpoint}; it has {there}",
        key="start.checkpoint",
        hint="Milestones are kept with checkpoint.keep_every, the model before the anneal by schedules that "
        "anneal; neither where an adapter trains.",
    )


def begin_of_data(
    start: Start | None, found: Checkpoint | None, inputs: Mapping[str, Artifact]
) -> dict[str, int]:
    """Sequences of each source that are not gone through again."""
    if start is None or found is None or start.data == "again":
        return {}
    same = inputs["model"].parents.get("corpus") == inputs["corpus"].fingerprint
    return found.passed if same else {}


def write_kept(
    folder: Path,
    steps: Mapping[int, Kept],
    passed: Callable[[int], dict[str, int]],
    save: Callable[[int, Path], None],
    say: Callable[[str], None],
) -> None:
    """Write the models of some steps, and the list of them.

    One whose checkpoint is damaged is named and left out: the training itself is finished and whole.

    Args:
        folder: the artifact's.
        steps: why each is kept; the last lies in the artifact's `model` already.
        passed: sequences gone through after a step.
        save: writes the model of a step into a folder; raises `StageFailed` if it is lost.
        say: tells the user something.
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


def read_kept(artifact: Artifact) -> list[Checkpoint]:
    """What a pretrain stage kept, the earliest first; nothing if it is of a time without that list."""
    path = artifact.path("training") / INDEX
    return list(read_json(path, list[Checkpoint])) if path.exists() else []
