"""Keep models' answers to requests on disk, so that an interrupted or repeated evaluation continues.

An answer is found again by everything that it depends on: the model's fingerprint, its precision and the
tokens before its texts (together the *identity*), the request as it is put to the model, prompt and
continuation or generation settings, and the contract number of the code that answers such requests. A changed
task therefore asks anew, and tasks with the same requests share answers.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import StageFailed
from cpt.models.folder_files import weight_names
from cpt.models.tokenizer import FILE as TOKENIZER_FILE
from cpt.models.tokenizer import read_settings
from cpt.references.cache import cache_folder, file_sha256

CONTRACTS = {  # raise a kind's number when the code answers the same request otherwise: it is asked anew
    "loglikelihood": 1,
    "loglikelihood_rolling": 1,
    "generate_until": 2,  # 2: the tokenizer's end token ends a text too
    "windows": 1,  # nats of the documents of a tokenised text
}

NEW_TOKENS = 256
"""Number of tokens to generate where a task names none, as in lm-eval."""


FILE = "requests.sqlite"

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID"

_WRITE_SECONDS = 1.0
"""Answers are written at least so often."""

_WAIT_SECONDS = 60.0
"""Seconds to wait for another process that writes."""

_KEYS_AT_ONCE = 500
"""Keys of one query; SQLite takes at least 999."""


def request_key(kind: str, arguments: Sequence[Any]) -> str:
    """Return the hash of a request: its kind (loglikelihood, …), its arguments, and the code that answers."""
    answering = [kind, CONTRACTS[kind], *([NEW_TOKENS] if kind == "generate_until" else [])]
    text = json.dumps([answering, *arguments], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def answer_cache() -> Path:
    """Return the folder of all models' answers."""
    return cache_folder() / "evals" / "answers"


@dataclass(frozen=True)
class Answer:
    """A model's answer to a request.

    Attributes:
        value: (log-likelihood, greedy), a log-likelihood, or a text.
        truncated: True if the request was longer than the model reads and lost its beginning.
    """

    value: Any
    truncated: bool = False


class RequestCache:
    """File of answers, seen for one identity; processes may share it."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], on_message: Callable[[str], None]) -> None:
        """Open the cache.

        Args:
            folder: Folder of the file.
            identity: Everything that the answers depend on besides the request.
            on_message: Function of a message; called if the file is damaged, set aside and begun anew.

        Raises:
            StageFailed: The file cannot be used, although it may be in order.
        """
        self._identity = json.dumps(dict(identity), sort_keys=True)
        self._new: dict[str, Answer] = {}
        self._written = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        try:
            self._database = _open(file)
        except sqlite3.OperationalError as error:
            raise StageFailed(
                f"the cache {file} cannot be used: {error}",
                hint="Another process may be writing it, or the folder cannot be written.",
            ) from error
        except sqlite3.DatabaseError as error:
            aside = file.with_name(f"{FILE}.damaged-{int(time.time())}")
            file.replace(aside)
            for beside in (f"{FILE}-wal", f"{FILE}-shm"):
                (folder / beside).unlink(missing_ok=True)
            on_message(f"the cache {file} is damaged ({error}): set aside as {aside.name}, a new one begun")
            self._database = _open(file)

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the known answers, by key."""
        self.write()
        by_row_key = {self._row_key(key): key for key in keys}
        row_keys = list(by_row_key)
        found: dict[str, Answer] = {}
        for start in range(0, len(row_keys), _KEYS_AT_ONCE):
            part = row_keys[start : start + _KEYS_AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part)
            for row_key, answer in rows:
                value, truncated = json.loads(answer)
                found[by_row_key[row_key]] = Answer(value, truncated)
        return found

    def keep(self, key: str, answer: Answer) -> None:
        """Add an answer; it is on disk within about a second."""
        self._new[key] = answer
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the answers that are not on disk yet."""
        rows = [
            (self._row_key(key), json.dumps([answer.value, answer.truncated]))
            for key, answer in self._new.items()
        ]
        if rows:
            try:
                with self._database:
                    self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                raise StageFailed(f"answers cannot be kept: {error}") from error
        self._new.clear()
        self._written = time.monotonic()

    def close(self) -> None:
        """Write, and close the file."""
        self.write()
        self._database.close()

    def _row_key(self, key: str) -> bytes:
        return hashlib.sha256(f"{self._identity}\0{key}".encode()).digest()


def _open(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_WAIT_SECONDS)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        with database:
            database.execute(_TABLE)
        checked = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if checked != "ok":
            raise sqlite3.DatabaseError(checked)
    except BaseException:
        database.close()
        raise
    return database


_IRRELEVANT = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")
"""Settings of config.json that do not change what the model computes."""

_CONFIG_FILES = ("config.json", "generation_config.json")


def model_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights, tokenizer and configuration: the same in any folder."""
    digest = hashlib.sha256()
    for name in [*weight_names(folder), TOKENIZER_FILE]:
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    for name in _CONFIG_FILES:
        settings = read_settings(folder / name)
        kept = {key: value for key, value in settings.items() if key not in _IRRELEVANT}
        digest.update(f"{name}\0{json.dumps(kept, sort_keys=True)}\n".encode())
    return digest.hexdigest()
