"""Run a stage on all processes of a run: the main process sends the task, the workers carry it out.

Only the main process reads the recipe, plans, and holds the run's lock. A task holds everything that workers
need: the stage, its settings, its inputs and its folders, which every machine must reach under the same
paths.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from cpt.errors import CptError, GateFailed, StageFailed
from cpt.progress import NullProgress
from cpt.recipe.failures import explain_failure, stop_listening
from cpt.recipe.schema import Step
from cpt.stages.base import BASE, Artifact, Context
from cpt.training.distributed.context import GRACE_SECONDS, StopRequest, distributed_context


class BaseModelArtifact(Artifact):
    """The base model. Its folder is itself the Hugging Face folder, and belongs to no run."""

    def path(self, kind: str) -> Path:
        if kind != "model":
            raise KeyError(f"{self.name} holds model, not {kind}")
        return self.folder


def run_distributed(step: Step, inputs: dict[str, Artifact], context: Context) -> dict[str, Any]:
    """Run a stage on the main process, together with the workers if it is distributed."""
    if not step.stage.distributed:
        return step.stage.run(step.located, inputs, context)
    distributed_context().broadcast_task(
        {
            "name": step.name,
            "kind": step.kind,
            # only what is set: some checks ask whether a user wrote a setting
            "config": step.located.model_dump(mode="json", by_alias=True, exclude_unset=True),
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
        raise  # its result is complete: all processes go on with the stages that follow
    except Exception as error:
        stop_listening()
        reported = distributed_context().failure_report()
        if reported is None or isinstance(error, CptError):
            raise
        raise StageFailed(reported["message"], hint=reported["hint"]) from error


def run_worker() -> int:
    """Carry out the tasks of the main process until it ends, and return its exit code.

    Raises:
        CptError: This process cannot go on, and the main process has not reported that.
    """
    here, stop = distributed_context(), StopRequest()
    threading.Thread(target=_leave_when_ended, daemon=True).start()
    while (task := here.next_task(stop)) is not None:
        try:
            _run_task(task)
        except KeyboardInterrupt:
            continue  # a signal that the stage has handled: the main process reports how the run ends
        except Exception as error:
            name = f"{task['name']} (process {here.rank} of {here.count})"
            explained = explain_failure(error, name, Path(task["work"]).parent)
            if not here.report_failure(explained.message, explained.hint):
                raise explained from error
    return here.leave()


def _run_task(task: dict[str, Any]) -> None:
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
    """Leave even if this process waits on a device for data that the main process no longer sends."""
    while not distributed_context().is_shut_down:
        time.sleep(1)
    code = distributed_context().exit_code
    time.sleep(2 * GRACE_SECONDS)
    os._exit(code)
