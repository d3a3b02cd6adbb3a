"""The command as a process: killed, terminated, and how fast and light it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Command

DRIVER = Path(__file__).with_name("driver.py")
ROOT = Path(__file__).parents[2]


def command(*words: str) -> list[str]:
    return [sys.executable, str(DRIVER), *words]


@pytest.fixture(scope="module")
def undisturbed(two_runs: Path) -> dict[str, str]:
    """Results of a run that nothing disturbs."""
    return contents(two_runs)


def start_and_wait_for(folder: Path, stage: str, state: str) -> subprocess.Popen[str]:
    """Start a run in which a stage takes its time, and wait until `run.json` says that it is there."""
    process = subprocess.Popen(
        command("run", "recipe.yaml"),
        cwd=folder,
        env={**os.environ, "SLOW": stage},
        stderr=subprocess.PIPE,
        text=True,
    )
    path = folder / "runs" / "medical" / "run.json"
    for _ in range(2_400):
        if path.exists() and json.loads(path.read_text())["stages"][stage]["state"] == state:
            work = list((folder / "runs" / "medical").glob(f"{stage}-*.partial/*"))
            if work or stage != "pretrain":
                return process
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("it never got there")


def contents(folder: Path) -> dict[str, str]:
    files = sorted((folder / "runs" / "medical").glob("*/*/content.txt"))
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("stage", ["pretrain", "merge"])
def test_kill_9_then_the_same_command_gives_the_same_result(
    cpt: Command, recipe_file: Path, undisturbed: dict[str, str], stage: str
) -> None:
    process = start_and_wait_for(recipe_file.parent, stage, "running")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((recipe_file.parent / "runs" / "medical").glob(f"{stage}-????????????/artifact.json"))
    assert cpt("status", "--json").json["state"] == "killed"
    summary = cpt("run", "recipe.yaml", "--json").json
    actions = {each["stage"]: each["action"] for each in summary["stages"]}
    assert actions["vocabulary"] == "cached"
    assert actions[stage] == "run"
    assert contents(recipe_file.parent) == undisturbed
    assert not list((recipe_file.parent / "runs" / "medical").glob(".tmp-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_own_code_and_say_how_to_go_on(
    cpt: Command, recipe_file: Path, number: signal.Signals, code: int
) -> None:
    process = start_and_wait_for(recipe_file.parent, "merge", "running")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert "The same command continues" in errors
    assert "Traceback" not in errors
    assert cpt("status", "--json").json["state"] == "interrupted"


def test_a_second_process_is_turned_away(cpt: Command, recipe_file: Path) -> None:
    process = start_and_wait_for(recipe_file.parent, "merge", "running")
    second = cpt("run", "recipe.yaml")
    assert cpt("status", "--json").json["state"] == "running"
    process.kill()
    process.communicate()
    assert second.code == 2
    assert "another process" in second.err


def test_starting_imports_nothing_heavy() -> None:
    heavy = [
        "torch",
        "transformers",
        "datasets",
        "mergekit",
        "lm_eval",
        "accelerate",
        "matplotlib",
        "pyarrow",
        "numpy",
        "scipy",
    ]
    code = f"import sys, cpt.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
