"""Read the source model of a hypernetwork: its vocabulary, its embedding rows, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from cpt.errors import DataError
from cpt.models.vocabulary import vocabulary_tensors
from cpt.models.weights import load_tensor, stored_tensors
from tokenizer_tools.embeddings import Role
from tokenizer_tools.resize_model import with_roles
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary

_ROWS_AT_ONCE = 8192
_VARIANT_COSINE = 0.5


@dataclass(frozen=True)
class SourceModel:
    """The vocabulary side of a model.

    Attributes:
        folder: Folder of the model.
        vocabulary: Its vocabulary.
        rows: Rows by role, each [V, H], a bias [V, 1], in the stored data type. V is the number of ids that
            are read.
    """

    folder: Path
    vocabulary: Vocabulary
    rows: Mapping[Role, Tensor]

    @property
    def size(self) -> int:
        """Return the number of ids V that are read."""
        return len(next(iter(self.rows.values())))

    @property
    def widths(self) -> dict[Role, int]:
        """Return the width of the rows by role."""
        return {role: rows_VH.shape[1] for role, rows_VH in self.rows.items()}

    def first(self, size: int) -> SourceModel:
        """Return the rows of the first ids alone."""
        return replace(self, rows={role: rows_VH[:size] for role, rows_VH in self.rows.items()})

    @cached_property
    def rows_sha256(self) -> str:
        """Return the SHA-256 of all rows as float32, so that a wider data type changes nothing."""
        digest = hashlib.sha256()
        for role, rows_VH in sorted(self.rows.items()):
            digest.update(f"{role} {list(rows_VH.shape)}\n".encode())
            for part_CH in rows_VH.split(_ROWS_AT_ONCE):
                digest.update(part_CH.float().contiguous().numpy().astype("<f4", copy=False).data)
        return digest.hexdigest()

    @cached_property
    def tokens_sha256(self) -> str:
        """Return the SHA-256 of the tokens in the order of their ids."""
        tokens = list(self.vocabulary.tokens[: self.size])
        return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


def roles_of(model: Path) -> list[Role]:
    """Return the roles of the matrices that a model has for its vocabulary, by their names alone."""
    return [role for _, role in with_roles(vocabulary_tensors(model))]


def read_source(model: Path) -> SourceModel:
    """Read the vocabulary and the embedding rows of a model folder.

    Raises:
        DataError: The tokenizer has ids without a row, or the tokenizer or the embeddings cannot be read.
    """
    vocabulary = read_vocabulary(model)
    size, stored = len(vocabulary.tokens), stored_tensors(model)
    rows: dict[Role, Tensor] = {}
    for name, role in with_roles(vocabulary_tensors(model)):
        loaded = load_tensor(stored[name], name)
        rows_VH = loaded.reshape(-1, 1) if role == "bias" else loaded
        if len(rows_VH) < size:
            raise DataError(
                f"the tokenizer in {model} has {size:,} ids, but {name} has {len(rows_VH):,} rows"
            )
        rows[role] = rows_VH[:size]
    return SourceModel(model, vocabulary, rows)


def require_variant(base: SourceModel, variant: SourceModel) -> None:
    """Raise if a model is no fine-tuned variant of another one.

    Fine-tuning moves embedding rows little: those of a variant point nearly where the base's rows point,
    while rows of unrelated models are nearly orthogonal.

    Raises:
        DataError: The embeddings have other roles or widths, or the rows of common tokens are unlike.
    """
    pairs = zip(base.vocabulary.tokens[: base.size], variant.vocabulary.tokens, strict=False)
    common_C = torch.tensor(
        [i for i, (token, other) in enumerate(pairs) if token is not None and token == other]
    )
    if base.widths != variant.widths or not len(common_C):
        reason = "it has other embeddings or other tokens"
    else:
        role = next(iter(base.rows))
        rows_CH, others_CH = (each.rows[role][common_C].float() for each in (base, variant))
        cosine = torch.cosine_similarity(rows_CH, others_CH).mean()
        if cosine >= _VARIANT_COSINE:
            return
        reason = f"the embedding rows of their common tokens have a mean cosine of {cosine.item():.2f}"
    raise DataError(
        f"{variant.folder} is no fine-tuned variant of {base.folder}: {reason}",
        hint="Give a model that was trained from the hypernetwork's source model.",
    )
