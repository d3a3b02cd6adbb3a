"""Writing in the background: one job at a time, and no error is lost.

Why not `torch.distributed.checkpoint.async_save` (read in torch 2.13): its `FileSystemWriter` keeps its metadata
as a pickle; its `HuggingFaceStorageWriter` writes safetensors, but makes one `bytes` of every file first, which
holds the interpreter's lock, and so the loop, for as long as the copy takes (0.3 s for 400 MB here; with
`save_file`, which lets go of the lock, 0.01 s) and needs the memory twice more. Neither renames into place nor
checksums, so that what is below and in `folder.py` would be needed around it anyway. What it does besides is
done here alike: the state is copied to host memory that is used again, a thread writes it, one is in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


class Background:
    """Runs one job at a time in a thread that does not keep the process alive."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._running is not None and not self._running.done()

    def start(self, job: Callable[[], None]) -> None:
        """Begin a job, as soon as the one before has ended; raises what that one raised."""
        self.wait()
        self._running = Future()
        Thread(target=_run, args=(job, self._running), daemon=True).start()

    def check(self) -> None:
        """Raise what a job that has ended has raised."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is under way; raises what the job raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def _run(job: Callable[[], None], outcome: Future[None]) -> None:
    try:
        outcome.set_result(job())
    except BaseException as error:
        outcome.set_exception(error)
