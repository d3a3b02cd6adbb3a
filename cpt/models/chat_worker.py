"""A process that renders chat templates, with bounded processor time and memory.

Run as a script with the seconds and bytes that a rendering may take. Every line on standard input is a JSON
object, the arguments of transformers' `render_jinja_template`; every line on standard output is the rendered
text or the error. A template that takes more ends the process.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

OUT_OF_MEMORY = 97
"""Exit code of a rendering that took too much memory."""


def main(seconds: int, more_bytes: int) -> None:
    """Answer until standard input ends."""
    from jinja2.exceptions import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    limit(resource.RLIMIT_AS, address_space() + more_bytes)
    for line in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + seconds)
        answer: dict[str, Any]
        try:
            rendered: Any = render_jinja_template(**json.loads(line))
            answer = {"text": rendered[0][0]}
        except MemoryError:
            sys.exit(OUT_OF_MEMORY)
        except Exception as error:  # a template is a program
            refused = isinstance(error, TemplateError)
            answer = {"error": f"{type(error).__name__}: {error}", "refused": refused}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def address_space() -> int:
    """Return the bytes of address space in use, or 0 if the system does not report them."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 2**33
    return pages * resource.getpagesize()


def limit(kind: int, value: int) -> None:
    """Set a limit of this process, as far as the system lets it."""
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):  # macOS refuses a limit below the address space in use
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
