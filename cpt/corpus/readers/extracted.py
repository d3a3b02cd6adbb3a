"""Read files whose text must be extracted (HTML, PDF, DOCX), in a process with bounded time and memory.

A damaged or hostile file may make a library compute for ever, take all memory or crash. It ends only that
process, and the file is counted with the reason; the next file gets a new process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import cpt
from cpt.atomic import write_text
from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.extras import missing
from cpt.corpus.readers.files import ReadFiles, open_bytes
from cpt.errors import CptError, SourceError

LIBRARIES = {"html": "trafilatura", "pdf": "pypdfium2", "docx": "docx"}
"""The module that each format needs, from the extra `documents`."""

MOST_BYTES = 1 << 28
"""Bytes of the largest file."""

SECONDS = 60
"""Processor time of one file; the system adds up to a second. A book of 1,000 pages takes a few."""

MEGABYTES = 2048
"""Memory of one file, beside what the process itself takes."""

LENGTH = struct.Struct("<Q")
"""The length of a file or an answer in the pipes of a process."""

OUT_OF_MEMORY = 97
"""Exit code of a process that took too much memory."""


class NoText(Exception):
    """A file without text that can be read. `reason` is the ledger's, `detail` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def missing_library(format: str) -> str | None:
    """Return what is missing to read a format, with the remedy; None if nothing is."""
    module = LIBRARIES.get(format)
    return missing(f"format {format}", {} if module is None else {module: "documents"})


@dataclass(frozen=True)
class Extracting:
    """Settings of extraction.

    Attributes:
        processes: Number of files that are worked on at once.
        kept: Folder in which the text of every file is kept by its content; None: nothing is kept.
    """

    processes: int = 1
    kept: Path | None = None


class Extractions:
    """Several extractions at once, with the files in their order."""

    def __init__(self, how: Extracting) -> None:
        self._how = how
        self._all = [Extraction(how.kept) for _ in range(how.processes)]
        self._free: SimpleQueue[Extraction] = SimpleQueue()
        for extraction in self._all:
            self._free.put(extraction)

    def map(
        self, read: Callable[[Extraction, Path, str, str], Item], files: Iterable[tuple[Path, str, str]]
    ) -> Iterator[Item]:
        """Yield what a function makes of each file, in order.

        Args:
            read: Function of an extraction and a file, called in several threads.
            files: Path, name and format of each file.
        """

        def work(path: Path, name: str, format: str) -> Item:
            extraction = self._free.get()
            try:
                return read(extraction, path, name, format)
            finally:
                self._free.put(extraction)

        pending: deque[Future[Item]] = deque()
        pool, whole = ThreadPoolExecutor(self._how.processes), False
        try:
            for file in files:
                pending.append(pool.submit(work, *file))
                if len(pending) == 2 * self._how.processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
            whole = True
        finally:
            for future in pending:
                future.cancel()
            if not whole:  # nobody wants the files that are being worked on
                for extraction in self._all:
                    extraction.kill()
            pool.shutdown()

    def __enter__(self) -> Extractions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for extraction in self._all:
            extraction.close()


class Extraction:
    """The processes that extract text, one for each format; each starts with the first file of its format."""

    def __init__(self, kept: Path | None = None) -> None:
        """Prepare to extract.

        Args:
            kept: Folder in which the text of every file is kept by its content.
        """
        self._kept = kept
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the processes; a pipe would fill

    def read(self, path: Path, name: str, format: str, files: ReadFiles | None = None) -> Item:
        """Return a file as one document, or as removed with the reason.

        The reasons: "encrypted", "damaged", "undecodable", "no_text" (such as scanned pages) and "too_large":
        more than `MOST_BYTES`, `SECONDS` or `MEGABYTES`.

        Args:
            files: Receiver of the file's hash.

        Raises:
            SourceError: The library of the format is not installed.
            OSError: The compressed stream is damaged or truncated.
        """
        missing = missing_library(format)
        if missing is not None:
            raise SourceError(f"{path}: {missing}")
        with open_bytes(path, files) as stream:
            content = stream.read(MOST_BYTES + 1)
        if not content:
            return Removed(name, "empty")
        if len(content) > MOST_BYTES:
            return Removed(name, "too_large", detail=f"more than {MOST_BYTES:,} bytes")
        try:
            answer = self._answer(format, content)
        except NoText as error:
            return Removed(name, error.reason, detail=error.detail)
        if "text" in answer:
            return Document(name, answer["text"])
        return Removed(name, answer["reason"], detail=answer["detail"])

    def _answer(self, format: str, content: bytes) -> dict[str, str]:
        """Return the answer of a process, a kept one if there is: "text", or "reason" and "detail".

        Raises:
            NoText: The file ended the process.
            CptError: Something else did.
        """
        if self._kept is None:
            return self._ask(format, content)
        path = self._kept / f"{format}-{hashlib.sha256(content).hexdigest()}.json"
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is torn
            kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = self._ask(format, content)
        write_text(path, json.dumps(answer), concurrent=True)
        return answer

    def _ask(self, format: str, content: bytes) -> dict[str, str]:
        process = self._processes.get(format) or self._start(format)
        assert process.stdin is not None
        assert process.stdout is not None
        data = b""
        try:
            process.stdin.write(LENGTH.pack(len(content)))
            process.stdin.write(content)
            process.stdin.flush()
            head = process.stdout.read(LENGTH.size)
            size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else -1
            data = process.stdout.read(size) if size >= 0 else b""
            whole = len(data) == size
        except BrokenPipeError:
            whole = False
        if not whole:
            raise self._died(format)
        answer: dict[str, str] = json.loads(data)
        return answer

    def _start(self, format: str) -> subprocess.Popen[bytes]:
        if self._ended:
            raise NoText("damaged", "its reading was ended")
        words = [sys.executable, "-P", "-m", "cpt.corpus.readers.extraction_worker"]
        paths = [str(Path(cpt.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [*words, format, str(SECONDS), str(MEGABYTES << 20)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        )
        self._processes[format] = process
        return process

    def _died(self, format: str) -> NoText:
        """Return why a file ended the process."""
        process = self._processes.pop(format)
        code = process.wait()  # its output is closed, so it is ending
        _close(process)
        if code >= 0 and code != OUT_OF_MEMORY:  # a file can only end it by a signal
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise CptError(
                f"the process that reads {format} files ended by itself, with exit code {code}: {said}"
            )
        outside = code in (-signal.SIGKILL, -signal.SIGTERM)  # no file makes a library send itself these
        if outside and not self._ended:
            name = signal.Signals(-code).name
            raise CptError(
                f"the process that reads {format} files was killed from outside ({name})",
                hint="If the system did it because memory ran out, use fewer workers. Run the same command "
                "again: texts that are finished are kept.",
            )
        limits = f"more than {SECONDS} s of computing or {MEGABYTES} MB"
        if code in (-signal.SIGXCPU, OUT_OF_MEMORY):
            return NoText("too_large", limits)
        return NoText("damaged", f"the library crashed at it (exit code {code}), or it takes {limits}")

    def kill(self) -> None:
        """End the processes, also one that another thread waits for; no other one starts."""
        self._ended = True
        for process in list(self._processes.values()):
            process.kill()

    def close(self) -> None:
        """End the processes, for none of which a thread waits."""
        self.kill()
        for process in self._processes.values():
            process.wait()
            _close(process)
        self._processes = {}
        self._errors.close()

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # the rest of a file that was not taken
                stream.close()
