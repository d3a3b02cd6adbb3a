"""Keep other libraries' bars, banners and warnings off the screen; their warnings go to a file."""

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
    """Makes control characters in records visible."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


def quiet_libraries() -> None:
    """Tell the libraries to be quiet; call it before they are imported. The user's own settings win."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def diverted(log: Path) -> Iterator[None]:
    """Send warnings and log records to a file, and anything printed on stdout to stderr."""
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(_Safe("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: log.parent.is_dir())  # before a run's folder is made there is no log
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
    """Let nothing be heard: of several processes only the main one speaks."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
