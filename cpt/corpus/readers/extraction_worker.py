"""A process that extracts text from files of one format, with bounded processor time and memory.

Run as a module with the format, and the seconds and bytes that a file may take. On standard input, every file
is its length (8 bytes, little-endian) and its content; on standard output, every answer is a length and a
JSON object with `text`, or with `reason` and `detail`. A file that takes more ends the process.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from cpt.corpus.readers.extracted import LENGTH, OUT_OF_MEMORY, NoText
from cpt.models.chat_worker import address_space, limit


def main(format: str, seconds: int, more_bytes: int) -> None:
    """Answer until standard input ends."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    extract = importlib.import_module(f"cpt.corpus.readers.{format}").extract
    limit(resource.RLIMIT_AS, address_space() + more_bytes)
    while (content := _read(sys.stdin.buffer)) is not None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + seconds)
        try:
            answer = {"text": extract(content)}
        except NoText as error:
            answer = {"reason": error.reason, "detail": error.detail}
        except MemoryError:
            sys.exit(OUT_OF_MEMORY)
        except RecursionError:
            answer = {"reason": "damaged", "detail": "it is nested too deeply"}
        except Exception as error:  # a library's bug at one file is no reason to lose the others
            answer = {"reason": "damaged", "detail": f"{type(error).__name__}: {error}"}
        _write(output, answer)


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    try:
        return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


def _write(stream: BinaryIO, answer: dict[str, Any]) -> None:
    try:
        data = json.dumps(answer).encode()
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    with suppress(BrokenPipeError):
        stream.write(LENGTH.pack(len(data)) + data)
        stream.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
