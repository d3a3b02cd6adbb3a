"""Write in the background: one job at a time, and no error is lost.

Why not `torch.distributed.checkpoint.async_save` (as of torch 2.13): its `FileSystemWriter` keeps metadata as
a pickle; its `HuggingFaceStorageWriter` writes safetensors, but makes one `bytes` of every file first,
which needs the memory twice more and holds the interpreter's lock, and so the loop, while it is copied (0.3 s
for 400 MB on one core; 0.01 s with `save_file`, which lets go of the lock). Neither checksums or renames into
place, so what is below and in `store.py` would still be needed around it. What `async_save` does besides is
done here in the same way: the state is copied into host memory that is used again, a thread writes it, and
one write is in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


class Background:
    """A thread that runs one job at a time and does not keep the process alive."""

    def __init__(self) -> None:
        self._running: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """True while a job runs."""
        return self._running is not None and not self._running.done()

    def start(self, job: Callable[[], None]) -> None:
        """Start a job when the one before has ended; raise the error of that one."""
        self.wait()
        self._running = Future()
        Thread(target=_run, args=(job, self._running), daemon=True).start()

    def check(self) -> None:
        """Raise the error of a job that has ended."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Wait until no job runs; raise its error."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def _run(job: Callable[[], None], outcome: Future[None]) -> None:
    try:
        job()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(None)
