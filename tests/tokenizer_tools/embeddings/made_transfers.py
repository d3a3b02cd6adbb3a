"""Transfers made by hand: a source vocabulary of given spellings, new tokens of given pieces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models

from tokenizer_tools.embeddings import Role, method
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import Vocabulary

PIECES = [[0, 1], [2], [3, 0, 3, 4], [], [4, 3, 2, 1, 0]]
ROLES: tuple[Role, ...] = ("input", "output", "tied", "bias")


def vocabulary(spellings: Sequence[str | None]) -> Vocabulary:
    """A vocabulary that can be looked at but not used; None is an id without a token."""
    return Vocabulary(
        folder=Path(),
        kind="byte-level BPE",
        tokenizer=Tokenizer(models.BPE()),
        tokens=spellings,
        surfaces=[None if spelling is None else spelling.encode() for spelling in spellings],
        special={},
        roles={},
    )


def made_transfer(
    pieces: Sequence[Sequence[int]] = PIECES,
    source: Sequence[str | None] = ("a", "bc", "def", " g", "h", "i"),
    shared: Sequence[int] | None = None,
    seed: int = 0,
) -> Transfer:
    """New tokens follow the source's; all used source tokens are shared unless it is said which."""
    used = [i for i, spelling in enumerate(source) if spelling is not None]
    ids = np.array(used if shared is None else shared, dtype=np.int64)
    new = ["".join(source[i] or "" for i in ids_of) or "é" for ids_of in pieces]
    return Transfer(
        source=vocabulary(source),
        target=vocabulary([*source, *new]),
        model=Path(),
        shared_source=ids,
        shared_target=ids,
        new=np.arange(len(pieces), dtype=np.int64) + len(source),
        pieces=pieces,
        seed=seed,
    )


def made_rows(
    name: str, transfer: Transfer, matrix_VH: torch.Tensor, role: Role = "input", **parameters: Any
) -> torch.Tensor:
    """Rows that a method makes."""
    found = method(name)
    return found.prepare(transfer, found.parameters(**parameters))(matrix_VH, role)


def matrix(rows: int = 6, width: int = 4, seed: int = 0) -> torch.Tensor:
    """A source matrix."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
