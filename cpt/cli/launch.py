"""`cpt run RECIPE -- …`: the same command on several processes, through `accelerate launch`."""

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
from cpt.training.launch import FSDP2_INSTEAD, launched_place
from cpt.training.place import Place

_LAUNCH = "cpt.launch"
_MOST_PROCESSES = 64
"""Most processes that are started on a machine with fewer processors. Each holds a whole Python and torch."""

_UNSUPPORTED = {
    "use_deepspeed": "DeepSpeed is not supported",
    "use_megatron_lm": "Megatron-LM is not supported",
    "tpu": "TPUs are not supported",
    "mpirun_hostfile": "starting processes through MPI is not supported",
}


class LaunchableCommand(TyperCommand):
    """A command whose words after `--` are for `accelerate launch`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_LAUNCH] = (args[:at], args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def wanted_launch(context: Any) -> tuple[list[str], list[str]] | None:
    """The command's own words and those for the launcher, if there was a `--`."""
    wanted: tuple[list[str], list[str]] | None = context.meta.get(_LAUNCH)
    return wanted


def wanted_place(context: Any) -> Place:
    """Where the words after `--`, if there were any, would have a command run; nothing is started.

    Raises:
        UsageError: they ask for what cannot be had, or do not say how many processes there are.
    """
    launching = wanted_launch(context)
    return Place() if launching is None else _place(_parsed([], launching[1]))


def launch(words: Sequence[str], options: Sequence[str], debug: bool) -> int:
    """Run `cpt WORDS` as `accelerate launch OPTIONS -m cpt WORDS` would, and return its exit code.

    The launcher runs within this process, so that signals reach the others through it, and so that it is
    known which of them failed and how.

    Raises:
        UsageError: the options ask for what cannot be had, or do not say how many processes there are.
        StageFailed: a process was killed, or could not be started.
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
    """The options as accelerate reads them, completed and found to be possible."""
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    parser.error = _refuse
    parsed: Namespace = parser.parse_args([*options, "--module", "cpt", *words])
    _prepare(parsed)
    return parsed


def _refuse(message: str) -> NoReturn:
    """Say what is wrong with the launcher's options, without its hundred lines of usage."""
    raise UsageError(f"accelerate launch: {message}", hint="See `accelerate launch --help`.")


def _place(parsed: Namespace) -> Place:
    """The place of the processes that accelerate would start: what they would find in their environment."""
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
    return launched_place(processes, environment)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what accelerate has to say of its defaults."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _prepare(parsed: Namespace) -> None:
    """Complete the options to what they mean.

    `--multi_gpu` is accelerate's name for its launcher of several processes on one machine. Without it, and
    with less than two GPUs, accelerate would quietly start a single one.
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
        parsed.main_process_port = 0  # any that is free
    if parsed.cpu or not _devices():
        parsed.cpu = False
        os.environ["ACCELERATE_USE_CPU"] = "true"
        if parsed.num_cpu_threads_per_process is None and "OMP_NUM_THREADS" not in os.environ:
            here = parsed.num_processes // (parsed.num_machines or 1)
            parsed.num_cpu_threads_per_process = max(1, (os.cpu_count() or 1) // here)
    parsed.multi_gpu = not parsed.use_fsdp


def _require_few(processes: int, machines: int) -> None:
    """Raise before anything starts if this machine cannot hold so many processes."""
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
    """The main process's exit code, by rank what the launcher knows of those that failed.

    A process that was killed could not say anything, so it is named. SIGTERM is what the launcher itself
    sends to all others when one has failed.
    """
    codes = {rank: int(failure.exitcode) for rank, failure in sorted(failures.items())}
    for rank, code in codes.items():
        if code < 0 and code != -signal.SIGTERM:
            raise StageFailed(
                f"process {rank} of the run was ended from outside ({signal.Signals(-code).name})",
                hint="The same command continues where it stopped. SIGKILL often means: not enough memory.",
            )
    return next((code for code in codes.values() if code > 0), 1)
