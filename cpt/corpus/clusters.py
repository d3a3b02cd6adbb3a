"""Do tasks on a cluster: Slurm or Ray, by datatrove's executors.

The folder of the tasks must be one that all machines of the cluster see, and cpt must be installed there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from cpt.corpus.extras import ExtraSettings
from cpt.errors import StageFailed

if TYPE_CHECKING:
    from datatrove.executor.base import PipelineExecutor

_ASK_EVERY = 5.0
"""Seconds between two looks at a Slurm job."""

_GONE = 3
"""Number of looks in a row that find no job before it has ended: accounting lags behind by some seconds."""

_Memory = Annotated[
    PositiveInt, Field(description="Memory of a task in GB; all cleaning blocks together take up to two.")
]
_AtOnce = Annotated[PositiveInt, Field(description="Most tasks that run at once.")]


class Local(ExtraSettings):
    """Processes of this machine, as many as `workers`."""

    kind: Literal["local"] = "local"


class Slurm(ExtraSettings):
    """Job arrays of Slurm. Run cpt where `sbatch` works, outside of jobs."""

    kind: Literal["slurm"] = "slurm"
    partition: str = Field(min_length=1, description="Partition of the jobs.")
    at_once: _AtOnce = 64
    time: str = Field(
        default="04:00:00",
        pattern=r"^(\d+-)?\d+(:\d\d){0,2}$",
        description="Time limit of a task, as Slurm writes it. A task is 16 MB of text.",
    )
    memory: _Memory = 4
    qos: str | None = Field(default=None, description="Quality of service of the jobs.")
    account: str | None = Field(default=None, description="Account that the jobs are charged to.")

    def problem(self) -> str | None:
        """Return that there is no Slurm here, if so."""
        return (
            None if shutil.which("sbatch") else "executor slurm needs the command sbatch, which is not here"
        )


class Ray(ExtraSettings):
    """Tasks of a Ray cluster that runs already (`ray start`)."""

    libraries: ClassVar[dict[str, str]] = {"ray": "ray"}

    kind: Literal["ray"] = "ray"
    address: str = Field(default="auto", min_length=1, description="Address of the cluster.")
    at_once: _AtOnce = 64
    memory: _Memory = 4


Executor = Annotated[Local | Slurm | Ray, Field(discriminator="kind")]


def run_on_cluster(place: Slurm | Ray, run: Callable[[int], None], tasks: int, folder: Path) -> None:
    """Run tasks 0 .. `tasks` - 1 on a cluster, and wait until all have ended.

    Args:
        run: Function that does a task, sent to the cluster's machines.
        folder: Folder for the executor's files and logs; emptied first.

    Raises:
        StageFailed: The job ended before all its tasks were done.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pipeline = [_Step(run)]
    with _quiet(folder):
        if isinstance(place, Ray):
            _run_on_ray(place, pipeline, tasks, folder)
        else:
            _run_on_slurm(place, pipeline, tasks, folder)


class _Step:
    """A step of a pipeline of datatrove that does one task."""

    def __init__(self, run: Callable[[int], None]) -> None:
        self._run = run

    def __call__(self, data: Any, rank: int, world_size: int) -> None:  # noqa: ARG002 - datatrove's call
        self._run(rank)


def _run_on_slurm(place: Slurm, pipeline: list[_Step], tasks: int, folder: Path) -> None:
    from datatrove.executor import SlurmPipelineExecutor

    activate = Path(sys.prefix) / "bin" / "activate"
    executor = SlurmPipelineExecutor(
        pipeline,
        tasks,
        place.time,
        place.partition,
        mem_per_cpu_gb=place.memory,
        workers=place.at_once,
        tasks_per_job=_tasks_per_job(tasks, place.at_once),
        job_name="cpt-corpus",
        qos=place.qos,
        venv_path=str(activate) if activate.exists() else None,
        sbatch_args={"account": place.account} if place.account else {},
        logging_dir=str(folder),
    )
    try:
        executor.run()
    except (OSError, subprocess.CalledProcessError) as error:
        raise StageFailed(
            f"sbatch did not take the job: {error}", hint=f"The script is in {folder}."
        ) from error
    looks = 0
    while missing := executor.get_incomplete_ranks():
        looks = 0 if _is_in_queue(str(executor.job_id)) else looks + 1
        if looks == _GONE:
            raise StageFailed(
                f"job {executor.job_id} ended with {len(missing)} of {tasks} tasks not done",
                hint=f"Its logs are in {folder / 'slurm_logs'}; the same command does what is missing.",
            )
        time.sleep(_ASK_EVERY)


def _tasks_per_job(tasks: int, at_once: int) -> int:
    """Return how many tasks a job does in turn: it starts in five seconds, and a task may take no longer."""
    return max(1, tasks // (4 * at_once))


def _is_in_queue(job: str) -> bool:
    asked = subprocess.run(
        ["squeue", "--noheader", "--jobs", job], capture_output=True, text=True, check=False
    )
    return bool(asked.stdout.strip())


def _run_on_ray(place: Ray, pipeline: list[_Step], tasks: int, folder: Path) -> None:
    import ray
    from datatrove.executor import RayPipelineExecutor

    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=place.address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise StageFailed(
                f"no Ray cluster at {place.address}", hint="Start one: ray start --head."
            ) from error
    try:
        executor = RayPipelineExecutor(
            pipeline,
            tasks,
            place.at_once,
            mem_per_cpu_gb=place.memory,
            logging_dir=str(folder),
        )
        executor.run()
        _require_all(executor, tasks, folder)
    finally:
        if started:
            ray.shutdown()


def _require_all(executor: PipelineExecutor, tasks: int, folder: Path) -> None:
    if missing := executor.get_incomplete_ranks():
        raise StageFailed(
            f"{len(missing)} of {tasks} tasks were not done",
            hint=f"Their logs are in {folder / 'logs'}; the same command does what is missing.",
        )


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Write datatrove's own log to a file instead of the terminal."""
    from datatrove.utils.logging import logger

    logger.remove()
    target = logger.add(os.fspath(folder / "executor.log"))
    try:
        yield
    finally:
        logger.remove(target)
