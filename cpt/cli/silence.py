"""Silence progress bars, banners and warnings of libraries; write their warnings to a file."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from cpt.escaping import escape_controls

_SETTINGS = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DATASETS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


class _Safe(logging.Formatter):
    """A formatter that makes control characters in log records visible."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


def silence_libraries() -> None:
    """Silence libraries by environment variables. Call it before they are imported; user settings win."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def redirect_warnings(log: Path) -> Iterator[None]:
    """Write warnings and log records to a file, and print standard output on standard error."""
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(_Safe("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: log.parent.is_dir())  # no log before the run's folder exists
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


@contextmanager
def silent() -> Iterator[None]:
    """Suppress all output, for processes other than the main one."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
