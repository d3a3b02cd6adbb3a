"""Do tasks on a cluster: Slurm or Ray, by datatrove's executors.

The folder of the tasks, the base model and the files of cleaning blocks must be where all machines of the
cluster see them, and cpt must be installed there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from cpt.corpus.extras import ExtraSettings
from cpt.errors import StageFailed
from cpt.progress import Progress

if TYPE_CHECKING:
    from datatrove.executor import RayPipelineExecutor

_ASK_EVERY = 5.0
"""Seconds between two looks at what a cluster has done."""

_GONE = 3
"""Number of looks in a row that find no job before it has ended: accounting lags behind by some seconds."""

_WORD = r"^[A-Za-z0-9_.,+@-]+$"
"""Names that go into a shell script as they are."""

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
    partition: str = Field(pattern=_WORD, description="Partition of the jobs.")
    at_once: _AtOnce = 64
    time: str = Field(
        default="04:00:00",
        pattern=r"^(\d+-)?\d+(:\d\d){0,2}$",
        description="Time limit of a job, as Slurm writes it. A job does several tasks in turn where there "
        "are many: all of them divided by four times `at_once`.",
    )
    memory: _Memory = 4
    qos: str | None = Field(default=None, pattern=_WORD, description="Quality of service of the jobs.")
    account: str | None = Field(default=None, pattern=_WORD, description="Account that pays for the jobs.")

    def problem(self) -> str | None:
        """Return why no jobs can be submitted here, if so."""
        if "SLURM_ARRAY_TASK_ID" in os.environ:
            return "executor slurm submits jobs, which it cannot do from within a job array"
        if shutil.which("sbatch") is None:
            return "executor slurm needs the command sbatch, which is not here"
        return None


class Ray(ExtraSettings):
    """Tasks of a Ray cluster that runs already (`ray start`)."""

    libraries: ClassVar[dict[str, str]] = {"ray": "ray"}

    kind: Literal["ray"] = "ray"
    address: str = Field(default="auto", min_length=1, description="Address of the cluster.")
    at_once: _AtOnce = 64
    memory: _Memory = 4


Executor = Annotated[Local | Slurm | Ray, Field(discriminator="kind")]


def run_on_cluster(
    place: Slurm | Ray, run: Callable[[int], None], tasks: int, folder: Path, progress: Progress
) -> None:
    """Run tasks 0 .. `tasks` - 1 on a cluster, and wait until all have ended.

    Args:
        run: Function that does a task, sent to the cluster's machines.
        folder: Folder in which one is made for the executor's files and logs of this submission.
        progress: Receiver of the number of tasks that are done.

    Raises:
        StageFailed: The cluster did not take the tasks, or ended before all were done.
    """
    from datatrove.utils.logging import logger

    own = Path(tempfile.mkdtemp(prefix="cluster-", dir=folder))
    for path in (own, Path(sys.prefix)):
        if shlex.quote(str(path)) != str(path):
            raise StageFailed(
                f"{path}: a job's script cannot name this folder",
                hint="Use folders for runs and for Python without spaces and special characters.",
            )
    logger.disable("datatrove")
    try:
        if isinstance(place, Ray):
            _run_on_ray(place, run, tasks, own, progress)
        else:
            _run_on_slurm(place, run, tasks, own, progress)
    finally:
        logger.enable("datatrove")


class _Step:
    """A step of a pipeline of datatrove that does one task."""

    def __init__(self, run: Callable[[int], None]) -> None:
        self._run = run

    def __call__(self, data: Any, rank: int, world_size: int) -> None:  # noqa: ARG002 - datatrove's call
        self._run(rank)


def _run_on_slurm(
    place: Slurm, run: Callable[[int], None], tasks: int, folder: Path, progress: Progress
) -> None:
    from datatrove.executor import SlurmPipelineExecutor

    class Executor(SlurmPipelineExecutor):
        """Jobs without the one that sums up statistics, which waits for ever if a task fails."""

        def launch_merge_stats(self) -> None:
            pass

    name, activate = f"cpt-{folder.name}", Path(sys.prefix) / "bin" / "activate"
    executor = Executor(
        [_Step(run)],
        tasks,
        place.time,
        place.partition,
        mem_per_cpu_gb=place.memory,
        workers=place.at_once,
        tasks_per_job=_tasks_per_job(tasks, place.at_once),
        job_name=name,
        qos=place.qos,
        venv_path=str(activate) if activate.exists() else None,
        sbatch_args={"account": place.account} if place.account else {},
        logging_dir=str(folder),
    )
    try:
        executor.run()
        looks = 0
        while missing := executor.get_incomplete_ranks():
            progress.update(tasks - len(missing), tasks, "tasks")
            looks = looks + 1 if _is_gone(name) else 0
            if looks == _GONE:
                raise StageFailed(
                    f"the jobs {name} ended with {len(missing)} of {tasks} tasks not done",
                    hint=f"Their logs are in {folder}. The same command does what is missing.",
                )
            time.sleep(_ASK_EVERY)
        progress.update(tasks, tasks, "tasks")
    except (OSError, subprocess.CalledProcessError) as error:
        raise StageFailed(
            f"sbatch did not take the jobs: {error}", hint=f"Their script is in {folder}."
        ) from error
    except BaseException:  # jobs that nobody waits for would work beside those of the next attempt
        subprocess.run(["scancel", f"--name={name}"], capture_output=True, check=False)
        raise


@contextmanager
def _showing(executor: RayPipelineExecutor, tasks: int, progress: Progress) -> Iterator[None]:
    """Show the number of tasks that are done while an executor blocks."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_ASK_EVERY):
            progress.update(tasks - len(executor.get_incomplete_ranks()), tasks, "tasks")

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _tasks_per_job(tasks: int, at_once: int) -> int:
    """Return how many tasks a job does in turn: it starts in five seconds, and a task may take no longer."""
    return max(1, tasks // (4 * at_once))


def _is_gone(name: str) -> bool:
    """Return True if Slurm says that it has no jobs of a name; one that does not answer says nothing."""
    command = ["squeue", "--noheader", f"--name={name}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.returncode == 0 and not asked.stdout.strip()


def _run_on_ray(place: Ray, run: Callable[[int], None], tasks: int, folder: Path, progress: Progress) -> None:
    import ray
    from datatrove.executor import RayPipelineExecutor

    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=place.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StageFailed(
                f"no Ray cluster at {place.address}: {error}", hint="Start one: ray start --head."
            ) from error
    try:
        room = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if room < place.memory * 2**30:
            raise StageFailed(
                f"no machine of the cluster has {place.memory} GB for a task, at most {room / 2**30:.1f}",
                hint="Lower executor.memory.",
            )
        executor = RayPipelineExecutor(
            [_Step(run)], tasks, place.at_once, mem_per_cpu_gb=place.memory, logging_dir=str(folder)
        )
        with _showing(executor, tasks, progress):
            executor.run()
        if missing := executor.get_incomplete_ranks():
            raise StageFailed(
                f"{len(missing)} of {tasks} tasks were not done",
                hint=f"Their logs are in {folder}. The same command does what is missing.",
            )
    finally:
        if started:
            ray.shutdown()
