"""`cpt watch`: where the page is, what it says on the terminal, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def watching(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the line that it says first."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cpt", "watch", *words]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_it_serves_the_page_until_ctrl_c(tmp_path: Path) -> None:
    with watching(tmp_path, "medical", "--port", "0", "--no-open") as (process, line):
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert line.startswith("medical; there is none in runs yet: ")
        assert found
        with urlopen(found[0], timeout=120) as answer:
            assert "medical is not begun yet" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The server ends as soon as it begins; returns the addresses that were opened in a browser."""
    opened: list[str] = []
    monkeypatch.setattr("cpt.watch.server.Server.serve_forever", lambda _: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("os.nice", lambda _: 0)
    return opened


def test_it_opens_a_browser_where_there_is_a_screen(
    cpt, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cpt("watch", "--port", "0").code == 0
    assert cpt("watch", "--port", "0", "--no-open").code == 0
    assert quick == []
    shown = cpt("watch", "--port", "0", "--open")
    assert len(quick) == 1
    assert quick[0] in shown.out
    monkeypatch.setattr("cpt.cli.watch._has_screen", lambda: True)
    cpt("watch", "--port", "0")
    cpt("watch", "--port", "0", "--no-open")
    assert len(quick) == 2


def test_it_names_the_run(cpt, quick: list[str]) -> None:
    assert cpt("watch", "--port", "0").out.startswith("the next run; there is none in runs yet: ")
    cpt("run", "recipe.yaml")
    assert cpt("watch", "--port", "0").out.startswith("medical: http://127.0.0.1:")


def test_a_name_that_is_perhaps_mistyped_is_told(cpt, quick: list[str]) -> None:
    cpt("run", "recipe.yaml")
    first, second = cpt("watch", "medicl", "--port", "0").out.splitlines()
    assert first.startswith("medicl; there is none in runs yet: ")
    assert "`medical`" in second


def test_a_port_that_does_not_exist_is_refused(cpt, quick: list[str]) -> None:
    shown = cpt("watch", "--port", "65536")
    assert shown.code == 2
    assert "65535" in shown.err
