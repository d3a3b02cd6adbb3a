"""Pair every weight of the base with the models' weights in its place; tell kinds of weights apart.

Rows of embeddings are matched by token, as in a merge (`merging.align`). Tied tensors, or tensors stored
twice, occur once. Rows that a model has and the base lacks are no change of the base's weights and are kept
apart.

The kind of a weight follows from the name under which an architecture stores it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from merging.align import ABSENT, row_map
from merging.candidates import Candidate, alike, check_same_architecture
from merging.kernels import reads
from merging.plan import by_rows
from merging.request import layer_of
from merging.sources import Source, rows_of

EMBEDDINGS, HEAD, OTHER = "embeddings", "head", "other"

_PATTERNS = (
    (EMBEDDINGS, r"embed_(tokens|positions|in)|(word|position|token_type|tok)_embeddings|wte|wpe|shared"),
    ("attention q", r"q_proj|q|query|wq|q_lin"),
    ("attention k", r"k_proj|k|key|wk|k_lin"),
    ("attention v", r"v_proj|v|value|wv|v_lin"),
    ("attention qkv", r"qkv_proj|query_key_value|c_attn|wqkv|qkv"),
    ("attention o", r"o_proj|o|out_proj|out_lin"),
    ("feed-forward gate", r"gate_proj|w1|wi_0"),
    ("feed-forward up", r"up_proj|w3|wi|wi_1|c_fc|fc1|fc_in|dense_h_to_4h|lin1"),
    ("feed-forward gate and up", r"gate_up_proj"),
    ("feed-forward down", r"down_proj|w2|fc2|fc_out|dense_4h_to_h|lin2"),
    ("router", r"router|gate"),
    ("norms", r".*norm.*|ln_\w+"),
    (HEAD, r"lm_head|embed_out"),
)  # fmt: skip
_KINDS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)
_PARAMETER = re.compile(r"\.(weight|bias)$")

_PROJECTION = re.compile(r"c_proj|dense|wo")
_PLACES = (
    ("attention o", re.compile(r"att", re.IGNORECASE)),
    ("feed-forward up", re.compile(r"\.intermediate\.")),
    ("feed-forward down", re.compile(r"mlp|\.output\.|relu|feed_forward", re.IGNORECASE)),
)
"""Kinds of projections with a common name, by the modules around them."""

KINDS = (*(kind for kind, _ in _KINDS), OTHER)
"""Every kind, in the order in which a model applies them, except for norms."""


def kind_of(tensor: str) -> str:
    """Return the kind of a stored tensor; `OTHER` if its name does not tell."""
    path = _PARAMETER.sub("", tensor)
    module = path.rpartition(".")[2]
    if _PROJECTION.fullmatch(module):
        return next((kind for kind, place in _PLACES if place.search(path)), OTHER)
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(module)), OTHER)


@dataclass(frozen=True, eq=False)
class Region:
    """Weights that the same models have.

    Attributes:
        name: Name of the tensor.
        kind: Kind of the weights.
        layer: Number of the layer; None outside of layers.
        base: Weights of the base.
        models: Weights of the models by number, of the base's shape.
    """

    name: str
    kind: str
    layer: int | None
    base: Source
    models: Mapping[int, Source]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return int(np.prod(self.base.shape, dtype=np.int64))

    def vectors(self) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Read the base's weights and the models' differences, in the order of `models`: [n] float64.

        Raises:
            DataError: A model's weights are damaged.
        """
        height = self.base.shape[0] if self.base.shape else 1
        for base, *models in reads((self.base, *self.models.values()), height, torch.float64):
            yield base.flatten(), [(model - base).flatten() for model in models]


@dataclass(frozen=True)
class Rows:
    """A comparison of a model's embedding rows with the base's.

    Attributes:
        shared: Number of tokens that both have.
        new: Number of tokens that the base lacks.
        missing: Number of the base's rows that the model lacks.
        padding: Number of the model's rows without a token, which are left out.
    """

    shared: int
    new: int
    missing: int
    padding: int


@dataclass(frozen=True, eq=False)
class Regions:
    """All weights of task vectors.

    Attributes:
        shared: Weights that the base has.
        new: Rows that the base lacks, of the tensors with a row per token, by model.
        rows: Comparison of the rows, by model; None where all vocabularies are the same.
    """

    shared: tuple[Region, ...]
    new: tuple[tuple[Source, ...], ...]
    rows: tuple[Rows, ...] | None


def regions(base: Candidate, models: Sequence[Candidate]) -> Regions:
    """Pair the models' weights with the base's.

    Raises:
        CannotMerge: The architectures differ.
    """
    together = (base, *models)
    same = alike(together)
    check_same_architecture(together, same_vocabulary=same)
    if same:
        return Regions(tuple(_plain(base, models, list(base.sources))), ((),) * len(models), None)
    per_token = {name for model in together for name in model.tensors.names}
    plain = _plain(base, models, [name for name in base.sources if name not in per_token])
    maps = [row_map(model.vocabulary, base.vocabulary) for model in models]
    new = [_new_rows(model, base, rows) for model, rows in zip(models, maps, strict=True)]
    tensors = list(_per_token(base, models))
    return Regions(
        shared=(*(region for tensor in tensors for region in _aligned(tensor, maps)), *plain),
        new=tuple(
            tuple(rows_of(tensor.models[number], rows) for tensor in tensors if number in tensor.models)
            if len(rows)
            else ()
            for number, rows in enumerate(new)
        ),
        rows=tuple(_counts(*each) for each in zip(models, maps, new, strict=True)),
    )


def _plain(base: Candidate, models: Sequence[Candidate], names: Sequence[str]) -> Iterator[Region]:
    """Return the regions of float tensors that have the same shape in all models."""
    for name in names:
        source = base.sources[name]
        if source.dtype.is_floating_point:
            theirs = {number: model.sources[name] for number, model in enumerate(models)}
            yield Region(name, kind_of(name), layer_of(name), source, theirs)


def _per_token(base: Candidate, models: Sequence[Candidate]) -> Iterator[Region]:
    """Return the tensors with a row per token, with each model's own rows.

    The output embedding is left out where it is the input embedding both in the base and in the model.
    """
    names = [model.tensors for model in models]
    inputs = {number: by_token(model, model.tensors.input) for number, model in enumerate(models)}
    yield Region(base.tensors.input, EMBEDDINGS, None, by_token(base, base.tensors.input), inputs)
    outputs = {
        number: by_token(model, each.input if each.tied or each.output is None else each.output)
        for number, (model, each) in enumerate(zip(models, names, strict=True))
        if not (each.tied and base.tensors.tied)
    }
    head = base.tensors.input if base.tensors.tied else base.tensors.output
    if outputs and head is not None:
        yield Region("output embedding", HEAD, None, by_token(base, head), outputs)
    biases = {number: by_token(model, model.tensors.bias) for number, model in enumerate(models)
              if model.tensors.bias}  # fmt: skip
    if base.tensors.bias and biases:
        yield Region(base.tensors.bias, HEAD, None, by_token(base, base.tensors.bias), biases)


def by_token(model: Candidate, name: str) -> Source:
    """Return a tensor with a row per token."""
    return by_rows(model.sources[name], model.vocabulary.rows)


def _aligned(tensor: Region, maps: Sequence[np.ndarray]) -> Iterator[Region]:
    """Return a tensor's rows grouped by the models that have them; rows that none has are left out."""
    numbers = list(tensor.models)
    used = np.stack([maps[number] != ABSENT for number in numbers])  # [H, V]
    for pattern in np.unique(used, axis=1).T:
        having = [number for number, has in zip(numbers, pattern, strict=True) if has]
        rows = np.flatnonzero((used == pattern[:, None]).all(axis=0))
        if having:
            theirs = {number: rows_of(tensor.models[number], maps[number][rows]) for number in having}
            yield Region(tensor.name, tensor.kind, None, rows_of(tensor.base, rows), theirs)


def _new_rows(model: Candidate, base: Candidate, rows: np.ndarray) -> np.ndarray:
    """Return the rows of a model whose tokens the base lacks: [N] int64."""
    if model.vocabulary.same_rows(base.vocabulary):
        return np.zeros(0, np.int64)
    tokens = np.array(sorted(set(model.vocabulary.ids.values())), np.int64)
    return np.setdiff1d(tokens, rows[rows != ABSENT])


def _counts(model: Candidate, rows: np.ndarray, new: np.ndarray) -> Rows:
    shared, vocabulary = int((rows != ABSENT).sum()), model.vocabulary
    return Rows(
        shared=shared,
        new=len(new),
        missing=len(rows) - shared,
        padding=vocabulary.rows - shared - len(new),
    )
