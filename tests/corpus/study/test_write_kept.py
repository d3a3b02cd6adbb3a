"""Answers of a model are kept: nothing is paid for twice, and the key is written nowhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, Reply, documents, good_answer, serving
from write_runs import Heard, written

from cpt.corpus.study.write import endpoint
from cpt.corpus.study.write.settings import KINDS
from cpt.errors import StageFailed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_finished_answers_are_never_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "answers" / "a.jsonl"
    with serving(good_answer) as server:
        whole = written(server, tmp_path / "whole", documents(8), kinds=KINDS)
        count = len(server.bodies)
        server.bodies.clear()
        with pytest.raises(KeyboardInterrupt):
            written(server, file, documents(8), Heard(stop_at=11), kinds=KINDS, at_once=1)
        finished = file.read_text().splitlines()
        assert len(finished) == 11
        file.write_text("\n".join([*finished, finished[0][:40]]))  # the kill has cut the last line
        before = server.prompts[:11]  # a twelfth may be on its way
        server.bodies.clear()
        heard = Heard()
        assert written(server, file, documents(8), heard, kinds=KINDS) == whole
        assert not set(before) & set(server.prompts)
        assert len(set(server.prompts)) == count - 11
        assert "11 answers are kept" in heard.messages[0]
        server.bodies.clear()
        assert written(server, file, documents(8), kinds=KINDS) == whole
        assert server.bodies == []


KILLED = """
import sys
sys.path[:0] = sys.argv[3].split(",")
from pathlib import Path
from types import SimpleNamespace
from chat_server import documents
from write_runs import written
written(SimpleNamespace(address=sys.argv[1]), Path(sys.argv[2]), documents(8), at_once=1)
"""


def test_a_process_that_is_killed_loses_no_finished_answer(tmp_path: Path) -> None:
    """The server holds back its seventh answer; then the process is killed without a word."""
    file, held, wanted = tmp_path / "a.jsonl", threading.Event(), threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        if len(server.bodies) == 7 and not held.is_set():
            wanted.set()
            held.wait(60)
        return good_answer(body)

    with serving(answer) as server:
        here, tests, root = (str(Path(__file__).parents[at]) for at in (0, 2, 3))
        words = [sys.executable, "-c", KILLED, server.address, str(file), f"{root},{tests},{here}"]
        process = subprocess.Popen(words, env={**os.environ, "OPENAI_API_KEY": KEY})
        assert wanted.wait(60)
        until = time.monotonic() + 30
        while (not file.exists() or len(file.read_bytes().splitlines()) < 6) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        held.set()
        before = server.prompts[:6]
        server.bodies.clear()
        made = written(server, file, documents(8))
        assert not set(before) & set(server.prompts)
        assert len(server.prompts) == made.facts["requests"] - 6


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with serving(good_answer) as server:
        whole = written(server, file, documents(3))
        lines = file.read_text().splitlines()
        file.write_text("\n".join([lines[0].replace("river", "liver"), "[]", "{}", *lines[2:]]) + "\n")
        server.bodies.clear()
        assert written(server, file, documents(3)) == whole
        assert 1 <= len(server.bodies) <= 2


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.1}, {"questions": 4}, {"seed": 9}, {"identity": "another"}], ids=str
)
def test_an_answer_belongs_to_its_model_prompt_and_settings(tmp_path: Path, changed: dict[str, Any]) -> None:
    with serving(good_answer) as server:
        written(server, tmp_path / "a", documents(3), kinds=["questions"])
        server.bodies.clear()
        written(server, tmp_path / "a", documents(3), kinds=["questions"], **changed)
        assert len(server.bodies) == 3


def test_further_settings_do_not_change_what_an_answer_belongs_to(tmp_path: Path) -> None:
    with serving(good_answer) as server:
        written(server, tmp_path / "a", documents(3))
        server.bodies.clear()
        written(
            server, tmp_path / "a", documents(3), at_once=2, timeout=9, tokens=10**5, key_variable="OTHER"
        )
        assert server.bodies == []


def test_a_failure_keeps_what_was_paid_for(tmp_path: Path) -> None:
    broken = [True]

    def answer(body: dict[str, Any]) -> Reply:
        return (401, "no") if broken[0] and len(server.bodies) > 5 else good_answer(body)

    with serving(answer) as server:
        with pytest.raises(StageFailed, match="status 401"):
            written(server, tmp_path / "a", documents(8), at_once=1)
        broken[0] = False
        server.bodies.clear()
        made = written(server, tmp_path / "a", documents(8))
        assert len(server.bodies) == made.facts["requests"] - 5


def test_the_key_is_written_nowhere(tmp_path: Path) -> None:
    heard = Heard()
    with serving(good_answer) as server:
        made = written(server, tmp_path / "a", documents(3), heard, kinds=KINDS)
    assert all(f"Bearer {KEY}" in headers.values() for headers in server.headers)
    assert KEY not in json.dumps(made.facts) + repr(made) + "".join(heard.messages)
    assert KEY not in (tmp_path / "a").read_text()
    assert all(KEY not in json.dumps(body) for body in server.bodies)
