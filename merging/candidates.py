"""Read the models of a merge, their tensors and tokens, and check that they fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cpt.errors import CannotMerge
from cpt.models.loading import check_model, read_config, settings
from cpt.models.token_ids import read_new_tokens
from cpt.models.tokenizer import load_tokenizer, special_tokens
from cpt.models.vocabulary import VocabularyTensors, vocabulary_tensors
from cpt.models.weights import stored_tensors
from merging.sources import Source, file_source

_SHOWN = 8
_STRUCTURE = (
    "architectures",
    "model_type",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "num_experts_per_tok",
)
_BEHAVIOUR = (
    "rope_parameters",
    "rope_theta",
    "rope_scaling",
    "rms_norm_eps",
    "layer_norm_eps",
    "sliding_window",
    "max_position_embeddings",
    "partial_rotary_factor",
)


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a model.

    Attributes:
        ids: Id by token, for tokens with a row.
        rows: Number of rows of the embedding, padding included.
        roles: Special token by role ("bos", ...).
    """

    ids: Mapping[str, int]
    rows: int
    roles: Mapping[str, str]

    def same_rows(self, other: Vocabulary) -> bool:
        """Return True if every row has the same token in both."""
        return self.rows == other.rows and self.ids == other.ids


@dataclass(frozen=True)
class Candidate:
    """A model that may go into a merge.

    The way in which a model is stored does not matter to a merge: an adapter is its base's sources, some of
    them replaced.

    Attributes:
        name: Name of the model in messages.
        folder: Folder with the configuration and generation settings.
        sources: Tensors by name, in the order in which they are stored.
        config: Content of config.json.
        tokens: Id by token, of the whole tokenizer.
        own_tokenizer: Folder with the tokenizer and chat template where that is not `folder`: an adapter may
            bring its own.
        new_tokens: Ids of tokens that the model's ancestor did not have.
    """

    name: str
    folder: Path
    sources: Mapping[str, Source]
    config: Mapping[str, Any]
    tokens: Mapping[str, int]
    own_tokenizer: Path | None = None
    new_tokens: Collection[int] = ()

    @property
    def tokenizer_folder(self) -> Path:
        """Folder with the tokenizer and chat template."""
        return self.own_tokenizer or self.folder

    @cached_property
    def tensors(self) -> VocabularyTensors:
        """Names of the tensors with a row per token; builds the model without its weights."""
        return vocabulary_tensors(self.folder)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Tokens with a row."""
        rows = self.sources[self.tensors.input].shape[0]
        within = {token: token_id for token, token_id in self.tokens.items() if token_id < rows}
        return Vocabulary(within, rows, special_tokens(self.tokenizer_folder))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor; of tensors with a row per token without the number of rows.

        Copies and the output embedding are left out: a tied output is the input.
        """
        shapes = {name: source.shape for name, source in self.sources.items()}
        for name in self.tensors.names:
            shapes[name] = shapes[name][1:]
        for name in self.tensors.copies:
            del shapes[name]
        if self.tensors.output is not None:
            del shapes[self.tensors.output]
        return shapes


def read_candidate(name: str, folder: Path) -> Candidate:
    """Read a model folder: only headers and the tokenizer.

    Raises:
        ModelError: The folder holds no readable model, or a damaged one.
    """
    check_model(folder)
    config = read_config(folder)
    stored = stored_tensors(folder)
    sources = {tensor: file_source(tensor, where) for tensor, where in stored.items()}
    tokens = load_tokenizer(folder).get_vocab(with_added_tokens=True)
    return Candidate(name, folder, sources, config, tokens, new_tokens=read_new_tokens(folder))


def alike(candidates: Sequence[Candidate]) -> bool:
    """Return True if all models have the same tensors and tokens, so that no rows need alignment.

    The folders alone decide. A model that ties its embeddings but stores both needs a closer look.
    """
    first, *others = candidates
    shapes = [{name: source.shape for name, source in model.sources.items()} for model in candidates]
    keys = ("vocab_size", "tie_word_embeddings", "architectures")
    same = all(
        other.tokens == first.tokens
        and special_tokens(other.tokenizer_folder) == special_tokens(first.tokenizer_folder)
        and all(other.config.get(key) == first.config.get(key) for key in keys)
        and shape == shapes[0]
        for other, shape in zip(others, shapes[1:], strict=True)
    )
    tied = first.config.get("tie_word_embeddings", True) is not False
    per_token = [shape for shape in shapes[0].values() if shape[:1] == (first.config.get("vocab_size"),)]
    return same and (not tied or sum(len(shape) == 2 for shape in per_token) == 1)


def new_tokens(candidates: Sequence[Candidate], ids: Mapping[str, int]) -> tuple[int, ...]:
    """Return the ids of a result's new tokens, ascending: those that are new in every model that has them.

    Args:
        candidates: Models of the merge.
        ids: Id by token in the result.
    """
    found: set[str] = set()
    for candidate in candidates:
        if candidate.new_tokens:
            known = set(candidate.new_tokens)
            found |= {token for token, token_id in candidate.tokens.items() if token_id in known}
    for candidate in candidates if found else ():
        known = set(candidate.new_tokens)
        found -= {token for token, token_id in candidate.tokens.items() if token_id not in known}
    return tuple(sorted(ids[token] for token in found if token in ids))


def check_same_architecture(candidates: Sequence[Candidate], *, same_vocabulary: bool) -> list[str]:
    """Check that all models have the same tensors, of the same shapes except for the number of tokens.

    Returns:
        Settings that differ although the tensors do not, in words.

    Raises:
        CannotMerge: The problems list the differences from the first model.
    """
    first, *others = candidates
    differences = [
        line for other in others for line in _different_structure(first, other, tensors=not same_vocabulary)
    ]
    if differences:
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CannotMerge(
            ["models of different architectures cannot be merged: " + "; ".join(differences[:_SHOWN]) + more],
            hint="Merge models that were trained from the same base.",
        )
    return [line for other in others for line in _different(first, other, _BEHAVIOUR)]


def is_tied(candidates: Sequence[Candidate]) -> bool:
    """Return True if every model's output embedding is its input embedding, so that the result's is."""
    return all(candidate.tensors.tied for candidate in candidates)


def _different_structure(first: Candidate, other: Candidate, *, tensors: bool) -> Iterator[str]:
    if first.config.get("architectures") != other.config.get("architectures"):
        kinds = [model.config.get("architectures") for model in (first, other)]
        yield f"{first.name} is {kinds[0]}, {other.name} is {kinds[1]}"
        return
    if tensors:
        yield from _different_tensors(first, other)
    yield from _different(first, other, _STRUCTURE)


def _different(first: Candidate, other: Candidate, keys: Sequence[str]) -> Iterator[str]:
    """Report settings that differ; where config.json files differ, transformers' defaults fill gaps."""
    if all(first.config.get(key) == other.config.get(key) for key in keys):
        return
    ours, theirs = (settings(model.folder).get_text_config().to_dict() for model in (first, other))
    for key in keys:
        if ours.get(key) != theirs.get(key):
            yield f"{key} is {ours.get(key)} in {first.name}, {theirs.get(key)} in {other.name}"


def _different_tensors(first: Candidate, other: Candidate) -> Iterator[str]:
    ours, theirs = first.shapes, other.shapes
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield (
                f"{name} is {_in_words(ours.get(name))} in {first.name}, "
                f"{_in_words(theirs.get(name))} in {other.name}"
            )


def _in_words(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
