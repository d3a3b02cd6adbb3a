"""Stages that all processes of a run take part in: the main process tells the others what it runs.

Only the main process reads the recipe, plans, and holds the run's lock. A task says all that the others need:
the stage, its settings, its inputs and its folders, which every machine must reach under the same paths.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from cpt.errors import CptError, GateFailed, StageFailed
from cpt.recipe.failures import explain_failure
from cpt.recipe.schema import Step
from cpt.recipe.stopping import stop_listening
from cpt.stages.base import BASE, Artifact, Context, NullProgress
from cpt.training.distributed.context import GRACE_SECONDS, StopRequest, distributed_context


class BaseModelArtifact(Artifact):
    """The base model: its folder is itself the Hugging Face folder, and belongs to no run."""

    def path(self, kind: str) -> Path:
        if kind != "model":
            raise KeyError(f"{self.name} holds model, not {kind}")
        return self.folder


def run_together(step: Step, inputs: dict[str, Artifact], context: Context) -> dict[str, Any]:
    """Main process: run a stage, with the others when it is one for all of them."""
    if not step.stage.together:
        return step.stage.run(step.located, inputs, context)
    distributed_context().broadcast_task(
        {
            "name": step.name,
            "kind": step.kind,
            "config": step.located.model_dump(mode="json", by_alias=True),
            "inputs": {role: artifact.model_dump(mode="json") for role, artifact in inputs.items()},
            "output": str(context.output),
            "work": str(context.work),
            "seed": context.seed,
            "recipe": context.recipe,
            "contents": dict(context.contents),
        }
    )
    try:
        return step.stage.run(step.located, inputs, context)
    except GateFailed:
        raise  # its result is whole: all processes are there for the stages that follow
    except Exception as error:
        stop_listening()
        reported = distributed_context().failure_report()
        if reported is None or isinstance(error, CptError):
            raise
        raise StageFailed(reported["message"], hint=reported["hint"]) from error


def help_out() -> int:
    """Other processes: take part where the main process says so; returns its exit code when it has ended.

    Raises:
        CptError: this process cannot go on, and the main process has not said so.
    """
    here, stop = distributed_context(), StopRequest()
    threading.Thread(target=_leave_when_ended, daemon=True).start()
    while (task := here.next_task(stop)) is not None:
        try:
            _take_part(task)
        except KeyboardInterrupt:
            continue  # a signal that the stage has acted upon: the main process says how the run ends
        except Exception as error:
            name = f"{task['name']} (process {here.rank} of {here.count})"
            explained = explain_failure(error, name, Path(task["work"]).parent)
            if not here.report_failure(explained.message, explained.hint):
                raise explained from error
    return here.leave()


def _take_part(task: dict[str, Any]) -> None:
    from cpt.stages import stages

    stage = stages()[task["kind"]]
    inputs = {role: _artifact(data) for role, data in task["inputs"].items()}
    context = Context(
        output=Path(task["output"]),
        work=Path(task["work"]),
        seed=task["seed"],
        progress=NullProgress(),
        recipe=task["recipe"],
        contents=task["contents"],
    )
    stage.run(stage.Config.model_validate(task["config"]), inputs, context)


def _artifact(data: dict[str, Any]) -> Artifact:
    return (BaseModelArtifact if data["stage"] == BASE else Artifact).model_validate(data)


def _leave_when_ended() -> None:
    """Leave even if this process waits on a device for something that the main process no longer sends."""
    while not distributed_context().is_shut_down:
        time.sleep(1)
    code = distributed_context().exit_code
    time.sleep(2 * GRACE_SECONDS)
    os._exit(code)
