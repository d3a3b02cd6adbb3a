"""Measure what a piece of work costs this process: time, memory, descriptors and memory maps (Linux)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def of(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do some work; return its cost, in seconds and bytes, and what the work itself returns.

    The peak is that of resident memory with mapped pages of files (VmHWM); anonymous is memory that no file
    backs, at the end.
    """
    from cpt.estimate.devices import peak_resident_bytes

    before = peak_resident_bytes()
    with _Watch() as watch:
        begun, worked = time.perf_counter(), time.process_time()
        found = work()
        seconds, processor = time.perf_counter() - begun, time.process_time() - worked
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "seconds": seconds,
        "processor seconds": processor,
        "peak": peak_resident_bytes(),
        "before": before,
        "anonymous": 1024 * int(status["RssAnon"].split()[0]),
        "descriptors": watch.descriptors,
        "maps": watch.maps,
        **found,
    }


class _Watch:
    """The most descriptors and memory maps of this process, looked up five times a second."""

    def __init__(self) -> None:
        self.descriptors = self.maps = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            last = self._ended.wait(0.2)
            self.descriptors = max(self.descriptors, sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1)
            self.maps = max(self.maps, Path("/proc/self/maps").read_text().count("\n"))
            if last:
                return
