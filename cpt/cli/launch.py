"""Run a command on several processes through `accelerate launch`: `cpt run RECIPE -- …`."""

from __future__ import annotations

import copy
import logging
import os
import signal
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from typer.core import TyperCommand

from cpt.errors import StageFailed, UsageError
from cpt.training.distributed.environment import Environment
from cpt.training.distributed.launch import FSDP2_INSTEAD, launched_environment

_LAUNCH = "cpt.launch"
_MOST_PROCESSES = 64
"""Maximum number of processes on a machine with fewer processors. Each holds Python and torch."""

_UNSUPPORTED = {
    "use_deepspeed": "DeepSpeed is not supported",
    "use_megatron_lm": "Megatron-LM is not supported",
    "tpu": "TPUs are not supported",
    "mpirun_hostfile": "starting processes through MPI is not supported",
}


class LaunchableCommand(TyperCommand):
    """A command that passes the words after `--` to `accelerate launch`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_LAUNCH] = (args[:at], args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def launch_request(context: Any) -> tuple[list[str], list[str]] | None:
    """Return the command's own words and those for the launcher; None without `--`."""
    wanted: tuple[list[str], list[str]] | None = context.meta.get(_LAUNCH)
    return wanted


def requested_place(context: Any) -> Environment:
    """Return the hardware and processes that the words after `--` request. Starts nothing.

    Raises:
        UsageError: The words request something unsupported, or do not state the number of processes.
    """
    launching = launch_request(context)
    return Environment() if launching is None else _place(_parsed([], launching[1]))


def launch(words: Sequence[str], options: Sequence[str], debug: bool) -> int:
    """Run `cpt WORDS` like `accelerate launch OPTIONS -m cpt WORDS`, and return its exit code.

    The launcher runs in this process, so that it forwards signals and knows which process failed and why.

    Args:
        words: Words of the command without those after `--`.
        options: Options of `accelerate launch`.
        debug: True to show the log output and warnings of the launcher.

    Raises:
        UsageError: The options request something unsupported, or do not state the number of processes.
        StageFailed: A process was killed or could not be started.
    """
    from accelerate.commands.launch import launch_command
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not debug:
        logging.disable(logging.ERROR)
        warnings.simplefilter("ignore")
    parsed = _parsed(words, options)
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        return _exit_code(error.failures)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except (ValueError, ConnectionError, ImportError) as error:
        raise UsageError(f"accelerate launch: {error}", hint="See `accelerate launch --help`.") from error
    return 0


def _parsed(words: Sequence[str], options: Sequence[str]) -> Namespace:
    """Return the options parsed by accelerate, completed and checked."""
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    parser.error = _refuse
    parsed: Namespace = parser.parse_args([*options, "--module", "cpt", *words])
    _prepare(parsed)
    return parsed


def _refuse(message: str) -> NoReturn:
    """Raise an error about the launcher's options, without its hundred lines of usage."""
    raise UsageError(f"accelerate launch: {message}", hint="See `accelerate launch --help`.")


def _place(parsed: Namespace) -> Environment:
    """Return the environment that processes started by accelerate would see."""
    from accelerate.commands.launch import _validate_launch_command
    from accelerate.utils.launch import prepare_multi_gpu_env

    try:
        with _quiet():
            completed, *_ = _validate_launch_command(copy.copy(parsed))
            environment = prepare_multi_gpu_env(completed)
    except (ValueError, ConnectionError, ImportError, RuntimeError) as error:
        raise UsageError(f"accelerate launch: {error}", hint="See `accelerate launch --help`.") from error
    processes = int(completed.num_processes or 1)
    _require_few(processes, int(completed.num_machines or 1))
    return launched_environment(processes, environment)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress accelerate's messages about its defaults."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _prepare(parsed: Namespace) -> None:
    """Complete the options.

    `--multi_gpu` selects accelerate's launcher of several processes on one machine. Without it, accelerate
    would silently start a single process on fewer than two GPUs.
    """
    for option, message in _UNSUPPORTED.items():
        if getattr(parsed, option):
            raise UsageError(message, hint=FSDP2_INSTEAD)
    if parsed.config_file:
        return
    _require_few(parsed.num_processes or 0, parsed.num_machines or 1)
    if (parsed.num_processes or _devices()) < 2:
        raise UsageError(
            "what follows -- starts several processes, but not how many",
            hint="Add --num_processes N with N of at least 2. One process needs no launcher.",
        )
    if (parsed.num_machines or 1) < 2 and parsed.main_process_port is None:
        parsed.main_process_port = 0  # any free port
    if parsed.cpu or not _devices():
        parsed.cpu = False
        os.environ["ACCELERATE_USE_CPU"] = "true"
        if parsed.num_cpu_threads_per_process is None and "OMP_NUM_THREADS" not in os.environ:
            here = parsed.num_processes // (parsed.num_machines or 1)
            parsed.num_cpu_threads_per_process = max(1, (os.cpu_count() or 1) // here)
    parsed.multi_gpu = not parsed.use_fsdp


def _require_few(processes: int, machines: int) -> None:
    """Raise if this machine cannot hold so many processes."""
    here, processors = -(-processes // machines), os.cpu_count() or 1
    most = max(_MOST_PROCESSES, processors)
    if here > most:
        raise UsageError(
            f"{here:,} processes on a machine with {processors} processors: at most {most:,} are started",
            hint="--num_processes counts those of all machines (--num_machines). One per GPU is usual.",
        )


def _devices() -> int:
    import torch

    return torch.accelerator.device_count()


def _exit_code(failures: dict[int, Any]) -> int:
    """Return the exit code of the failed process with the lowest rank.

    A killed process could not print an error and is named here. SIGTERM does not count: the launcher itself
    sends it to all others after one has failed.
    """
    codes = {rank: int(failure.exitcode) for rank, failure in sorted(failures.items())}
    for rank, code in codes.items():
        if code < 0 and code != -signal.SIGTERM:
            raise StageFailed(
                f"process {rank} of the run was ended from outside ({signal.Signals(-code).name})",
                hint="The same command continues where it stopped. SIGKILL often means: not enough memory.",
            )
    return next((code for code in codes.values() if code > 0), 1)
