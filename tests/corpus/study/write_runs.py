"""Writing about documents with a server of the test."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from chat_server import StandIn

from cpt.corpus.documents import Document
from cpt.corpus.study.language import load_language
from cpt.corpus.study.write.endpoint import Endpoint
from cpt.corpus.study.write.requests import Asker
from cpt.corpus.study.write.settings import WriteSettings
from cpt.corpus.study.write.writer import Written, write
from cpt.progress import NullProgress

MANY = 10**6


class Heard(NullProgress):
    """Keeps messages; stops like Ctrl-C at a number of reports."""

    def __init__(self, stop_at: int = -1) -> None:
        self.messages: list[str] = []
        self.updates: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        self.updates.append((done, total))
        if len(self.updates) == self._stop_at:
            raise KeyboardInterrupt


def written(
    server: StandIn,
    file: Path,
    texts: list[Document],
    progress: Heard | None = None,
    seed: int = 3,
    identity: str = "writer",
    probed: Collection[str] = (),
    **settings: Any,
) -> Written:
    """Write about documents."""
    given = {"model": server.address, "name": "writer-8b", "tokens": MANY, "at_once": 4}
    given |= {"key_variable": "OPENAI_API_KEY", **settings}
    how = WriteSettings.model_validate(given)
    asker = Asker(file, identity, how.temperature, lambda: Endpoint(how))
    return write(lambda: iter(texts), how, load_language("en"), asker, seed, progress or Heard(), probed)
