"""Bring models with different vocabularies onto one, token by token, so that their weights can be merged.

Rows are matched by the token's spelling, never by id. A row that the base lacks is taken from the models
that have it (their mean), so their task vector there is zero and the merge leaves the row whole; a row
that a model lacks is the base's. A special token that is spelt otherwise keeps the row of its role.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from cpt.errors import StageFailed
from cpt.model_folder.tokenizer import special_tokens
from cpt.model_folder.vocabulary import VocabularyTensors, read_config, vocabulary_tensors, write_resized
from cpt.model_folder.weights import StoredTensor, load_tensor, stored_tensors

ABSENT = -1
"""In a row map: the model has no row for this token."""

_SHOWN = 8


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a model.

    Attributes:
        ids: id by token, for tokens that have a row.
        rows: rows of the embedding, padding included.
        roles: special token by role ("bos", ...).
    """

    ids: Mapping[str, int]
    rows: int
    roles: Mapping[str, str]

    def same_rows(self, other: Vocabulary) -> bool:
        """Whether every row means the same token."""
        return self.rows == other.rows and self.ids == other.ids


@dataclass(frozen=True)
class Candidate:
    """A model that goes into a merge: where it lies, its tensors, those with a row per token, its tokens."""

    name: str
    folder: Path
    stored: Mapping[str, StoredTensor]
    tensors: VocabularyTensors
    vocabulary: Vocabulary


def read_candidate(name: str, folder: Path) -> Candidate:
    """A model folder with its vocabulary.

    Raises:
        DataError: the folder is not a readable causal language model.
    """
    tensors = vocabulary_tensors(folder)
    stored = stored_tensors(folder)
    rows = stored[tensors.input].shape[0]
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    within = {token: token_id for token, token_id in ids.items() if token_id < rows}
    return Candidate(name, folder, stored, tensors, Vocabulary(within, rows, special_tokens(folder)))


def check_same_architecture(candidates: Sequence[Candidate]) -> None:
    """All models must have the same tensors, of the same shapes but for the number of tokens.

    Raises:
        StageFailed: lists what differs from the first model.
    """
    first, *others = candidates
    differences = [line for other in others for line in _differences(first, other)]
    if differences:
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise StageFailed(
            "models of different architectures cannot be merged: " + "; ".join(differences[:_SHOWN]) + more,
            hint="Merge models that were trained from the same base.",
        )


def choose_target(models: Sequence[Candidate]) -> Candidate:
    """The model whose vocabulary holds every token of all the models.

    Raises:
        StageFailed: there is none.
    """
    largest = max(models, key=lambda model: (len(model.vocabulary.ids), model.vocabulary.rows))
    for model in models:
        lacking = [token for token in model.vocabulary.ids if token not in largest.vocabulary.ids]
        if lacking:
            raise StageFailed(
                f"{largest.name} lacks {len(lacking):,} tokens of {model.name} (such as {lacking[0]!r}), and "
                f"{model.name} lacks some of {largest.name}",
                hint="Merge models with the same vocabulary, or with one vocabulary that extends the others.",
            )
    return largest


def row_map(source: Vocabulary, target: Vocabulary) -> np.ndarray:
    """For each row of the target the source's row of the same token: [target rows] int64, or `ABSENT`.

    Target rows without a token (padding) are absent in every other vocabulary.
    """
    rows = np.full(target.rows, ABSENT, dtype=np.int64)
    if source.same_rows(target):
        return np.arange(target.rows)
    for token, token_id in target.ids.items():
        rows[token_id] = source.ids.get(token, ABSENT)
    for role, token in target.roles.items():
        other = source.roles.get(role)
        if other is not None and other in source.ids and other not in target.ids and token in target.ids:
            place = target.ids[token]
            rows[place] = source.ids[other] if rows[place] == ABSENT else rows[place]
    return rows


def align(base: Candidate, models: Sequence[Candidate], target: Candidate, scratch: Path) -> list[Path]:
    """Folders of base and models in the target's vocabulary; those that need no change are their own.

    Args:
        target: one of the models.
        scratch: folder for the models that had to be rewritten.

    Returns:
        The base's folder, then the models' folders in their order.
    """
    everyone = [base, *models]
    if all(candidate.vocabulary.same_rows(target.vocabulary) for candidate in everyone):
        return [candidate.folder for candidate in everyone]
    replaced = _aligned_tensors(everyone, target.vocabulary)
    folders = []
    for index, candidate in enumerate(everyone):
        if candidate.vocabulary.same_rows(target.vocabulary):
            folders.append(candidate.folder)
        else:
            folders.append(scratch / f"aligned-{index}")
            write_resized(candidate.folder, folders[-1], replaced[index], target.vocabulary.rows)
    return folders


def _aligned_tensors(everyone: Sequence[Candidate], target: Vocabulary) -> list[dict[str, torch.Tensor]]:
    """Per model, the base first, its vocabulary tensors with the target's rows, by stored name."""
    maps = [row_map(candidate.vocabulary, target) for candidate in everyone]
    present = [torch.from_numpy(rows != ABSENT) for rows in maps]
    tied = everyone[0].tensors.tied
    aligned: list[dict[str, torch.Tensor]] = [{} for _ in everyone]
    for part in ("input", "bias") if tied else ("input", "output", "bias"):
        names = [getattr(candidate.tensors, part) for candidate in everyone]
        if all(names):
            rows = [_gather(*each) for each in zip(everyone, names, maps, strict=True)]
            for tensors, name, tensor in zip(aligned, names, fill_absent(rows, present), strict=True):
                tensors[name] = tensor
    if tied:  # a file may hold the output a second time
        for tensors, candidate in zip(aligned, everyone, strict=True):
            if candidate.tensors.output is not None:
                tensors[candidate.tensors.output] = tensors[candidate.tensors.input]
    return aligned


def fill_absent(rows: Sequence[torch.Tensor], present: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Fill the rows that some models lack.

    Args:
        rows: per model, the base first, [V, ...]; rows that it lacks may hold anything.
        present: per model [V], whether it has the row; some model other than the base has every row.

    Returns:
        Per model [V, ...], all of one data type: its own rows; where the base lacks them, for the base the
        mean of the models' rows; where a model lacks them, what the base has then.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in rows))
    masks = [mask.view(-1, *(1 for _ in rows[0].shape[1:])) for mask in present]
    others = list(zip(masks[1:], rows[1:], strict=True))
    total = torch.zeros(rows[0].shape, dtype=torch.float64)
    for mask, tensor in others:
        total += torch.where(mask, tensor.double(), 0)
    mean = total / torch.stack(masks[1:]).sum(0)
    base = torch.where(masks[0], rows[0].to(dtype), mean.to(dtype))
    return [base, *(torch.where(mask, tensor.to(dtype), base) for mask, tensor in others)]


def _gather(candidate: Candidate, name: str, rows: np.ndarray) -> torch.Tensor:
    return load_tensor(candidate.stored[name], name)[torch.from_numpy(np.maximum(rows, 0))]


def _differences(first: Candidate, other: Candidate) -> Iterator[str]:
    """What keeps two models from being merged, but for their numbers of tokens."""
    kinds = [read_config(model.folder).get("architectures") for model in (first, other)]
    if kinds[0] != kinds[1]:
        yield f"{first.name} is {kinds[0]}, {other.name} is {kinds[1]}"
    if first.tensors.tied != other.tensors.tied:
        tied, untied = (first, other) if first.tensors.tied else (other, first)
        yield f"{tied.name} ties its embeddings, {untied.name} does not"
    shapes = [_shapes(model) for model in (first, other)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        ours, theirs = shapes[0].get(name), shapes[1].get(name)
        if ours != theirs:
            yield f"{name} is {_in_words(ours)} in {first.name}, {_in_words(theirs)} in {other.name}"


def _shapes(model: Candidate) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor; of a vocabulary tensor without its rows. A tied output is the input's."""
    shapes = {name: tensor.shape for name, tensor in model.stored.items()}
    for name in model.tensors.names:
        shapes[name] = shapes[name][1:]
    if model.tensors.tied and model.tensors.output is not None:
        del shapes[model.tensors.output]
    return shapes


def _in_words(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
