"""Which of a model's tokens are new: those that the model that it descends from did not have.

A change of vocabulary writes them beside the model; training and merges carry them on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from cpt.errors import ModelError

FILE = "new_tokens.json"


def write_new_tokens(folder: Path, ids: Iterable[int]) -> None:
    """Write the ids of a model folder's new tokens."""
    content = json.dumps({"ids": sorted({int(token_id) for token_id in ids})})
    (folder / FILE).write_text(content + "\n", encoding="utf-8")


def read_new_tokens(folder: Path) -> tuple[int, ...]:
    """Ids of a model folder's new tokens, ascending; none where nothing is said of them.

    Raises:
        ModelError: the file is not as `write_new_tokens` writes it.
    """
    file = folder / FILE
    if not file.is_file():
        return ()
    try:
        ids = json.loads(file.read_text(encoding="utf-8"))["ids"]
        return tuple(sorted({int(token_id) for token_id in ids}))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f'{file} is no list of new tokens: {{"ids": [49152, …]}} is expected',
            hint="Remove it if the model has no new tokens.",
        ) from error
