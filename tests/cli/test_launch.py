"""`cpt run RECIPE -- …`: what is launched, and what exit codes mean. Processes start in tests/chain."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest

from cpt.cli import launch
from cpt.errors import StageFailed


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Namespace]:
    """What accelerate would have been asked to launch."""
    seen: list[Namespace] = []
    monkeypatch.setattr("accelerate.commands.launch.launch_command", seen.append)
    monkeypatch.setattr(launch, "_devices", lambda: 0)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    monkeypatch.setattr("logging.disable", lambda level: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return seen


def test_words_before_the_dashes_are_the_commands_own(cpt: Any, launched: list[Namespace]) -> None:
    words = ["recipe.yaml", "seed=3", "--until", "pretrain"]
    assert cpt("run", *words, "--", "--num_processes", "2").code == 0
    (parsed,) = launched
    assert (parsed.training_script, parsed.module) == ("cpt", True)
    assert parsed.training_script_args == ["run", *words]
    assert parsed.num_processes == 2


def test_a_training_is_continued_on_several_processes_too(cpt: Any, launched: list[Namespace]) -> None:
    words = ["recipe.yaml", "--tokens", "50"]
    assert cpt("continue", *words, "--", "--num_processes", "2").code == 0
    assert launched[0].training_script_args == ["continue", *words]


def test_processes_on_a_cpu_are_really_started(
    cpt: Any, launched: list[Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert cpt("run", "recipe.yaml", "--", "--num_processes", "2", "--cpu").code == 0
    (parsed,) = launched
    assert (parsed.multi_gpu, parsed.cpu, os.environ["ACCELERATE_USE_CPU"]) == (True, False, "true")
    assert parsed.num_cpu_threads_per_process == 4
    assert parsed.main_process_port == 0


def test_devices_are_used_where_there_are_some(
    cpt: Any, launched: list[Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_devices", lambda: 8)
    cpt("run", "recipe.yaml", "--", "--use_fsdp", "--fsdp_version", "2", "--main_process_port", "4711")
    (parsed,) = launched
    assert (parsed.multi_gpu, parsed.use_fsdp, parsed.main_process_port) == (False, True, 4711)
    assert os.environ["ACCELERATE_USE_CPU"] == "false"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "but not how many"),
        (["--num_processes", "1"], "but not how many"),
        (["--use_deepspeed", "--num_processes", "2"], "DeepSpeed is not supported"),
        (["--use_megatron_lm", "--num_processes", "2"], "Megatron-LM is not supported"),
        (["--tpu", "--num_processes", "2"], "TPUs are not supported"),
        (["--mpirun_hostfile", "hosts", "--num_processes", "2"], "MPI is not supported"),
    ],
)
def test_what_cannot_be_launched_is_told(
    cpt: Any, launched: list[Namespace], options: list[str], message: str
) -> None:
    shown = cpt("run", "recipe.yaml", "--", *options)
    assert (shown.code, launched) == (2, [])
    assert message in shown.err


def test_mistakes_in_the_recipe_are_told_before_anything_is_launched(
    cpt: Any, launched: list[Namespace]
) -> None:
    shown = cpt("run", "recipe.yaml", "pretrain.tokns=3", "--", "--num_processes", "2")
    assert (shown.code, launched) == (2, [])
    assert "Did you mean `tokens`?" in shown.err


def failures(**codes: int) -> dict[int, Any]:
    return {int(rank[1:]): SimpleNamespace(exitcode=code) for rank, code in codes.items()}


def test_the_exit_code_is_the_main_processs() -> None:
    assert launch._exit_code(failures(_0=3)) == 3
    assert launch._exit_code(failures(_1=1, _0=2)) == 2
    assert launch._exit_code(failures(_0=-signal.SIGTERM, _1=1)) == 1
    assert launch._exit_code(failures(_0=-signal.SIGTERM)) == 1


def test_a_process_that_was_killed_is_named() -> None:
    with pytest.raises(StageFailed, match=r"process 1 .* \(SIGKILL\)"):
        launch._exit_code(failures(_0=130, _1=-signal.SIGKILL))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_is_its_exit_code(
    cpt: Any, launched: list[Namespace], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException

    def stopped(_: Namespace) -> None:
        raise SignalException("stopped", number)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", stopped)
    assert cpt("run", "recipe.yaml", "--", "--num_processes", "2").code == 128 + number
