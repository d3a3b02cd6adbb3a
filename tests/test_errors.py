"""Messages of errors do not contradict themselves."""

from __future__ import annotations

from pathlib import Path

from cpt.errors import DiskFull


def test_a_disk_that_is_too_small_and_one_that_became_full() -> None:
    small, became = DiskFull(Path("runs"), 1_000, 10), DiskFull(Path("runs"), 1_000, 9_000)
    assert small.message == "no space left in runs: 1,000 bytes are needed, 10 are free"
    assert became.message == "the disk of runs became full while 1,000 bytes were written"
    assert "--runs" not in str(small.hint)
