"""A log that another process writes, cuts back and writes again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt.watch.training_log import Tail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "steps.jsonl"


def line(step: int, seconds: float = 0.0) -> str:
    return json.dumps({"step": step, "seconds": seconds}) + "\n"


def steps(tail: Tail) -> list[int]:
    return [row["step"] for row in tail.rows()]


def test_rows_come_as_they_are_written(log: Path) -> None:
    tail = Tail(log)
    assert steps(tail) == []
    for step in range(5):
        with log.open("a") as file:
            file.write(line(step))
        assert steps(tail) == list(range(step + 1))
        assert steps(tail) == list(range(step + 1))


def test_half_a_row_is_left_for_later(log: Path) -> None:
    tail = Tail(log)
    log.write_text(line(0) + line(1)[:7])
    assert steps(tail) == [0]
    log.write_text(line(0) + line(1))
    assert steps(tail) == [0, 1]


def test_only_what_is_new_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = Tail(log)
    log.write_text("".join(map(line, range(1000))))
    tail.rows()
    parsed: list[bytes] = []
    monkeypatch.setattr(
        "cpt.watch.training_log.parse_rows", lambda text, *_, **__: parsed.append(text) or [{"step": -1}]
    )
    with log.open("a") as file:
        file.write(line(1000))
    assert len(tail.rows()) == 1001
    assert len(parsed) == 1


@pytest.mark.parametrize("more", [0, 1, 3, 10])
def test_a_log_that_was_cut_back_is_read_again(log: Path, more: int) -> None:
    """However much was written since: shorter than before, as long, or longer."""
    tail = Tail(log)
    log.write_text("".join(line(step, 1.0) for step in range(6)))
    assert steps(tail) == list(range(6))
    again = [line(step, 1.0) for step in range(3)] + [line(step, 2.0) for step in range(3, 3 + more)]
    log.write_text("".join(again))
    assert steps(tail) == list(range(3 + more))
    assert [row["seconds"] for row in tail.rows()] == [1.0] * 3 + [2.0] * more


def test_a_log_that_is_gone_has_no_rows(log: Path) -> None:
    tail = Tail(log)
    log.write_text(line(0))
    assert steps(tail) == [0]
    log.unlink()
    assert steps(tail) == []
