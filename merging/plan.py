"""Plan a merge: every tensor of the result and its sources. Nothing is merged yet.

Everything that can be found wrong without reading the weights is found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch

from cpt.errors import CannotMerge, DataError
from merging.adapters import read_model
from merging.align import Alignment, Case, Group, align
from merging.candidates import Candidate, alike, check_same_architecture, is_tied, new_tokens
from merging.check import check_request
from merging.kernels import Piece, TensorPlan, seed_of
from merging.methods import Method, find_method
from merging.request import (
    AUTO,
    BASE,
    STORED,
    InputModel,
    MergeRequest,
    layer_of,
    values,
)
from merging.sources import FileSource, Source, rows_of
from merging.tokenizer_union import contains_all, out_of_reach, union


@dataclass(frozen=True, eq=False)
class Plan:
    """A merge that is ready to run. The inputs are the base, if there is one, and the models.

    Attributes:
        request: Request that is planned.
        method: Merge method.
        tensors: Tensors of the result, in the order in which the first input stores them.
        vocabulary_of: Input whose vocabulary, configuration and tokenizer the result has; a union has more
            tokens.
        settings_of: Input whose chat template and generation settings the result has.
        rows: Number of rows of the result's embedding.
        tied: True if the output embedding is the input embedding; None where that is the same in all inputs.
        alignment: Origin of the result's rows; None where all vocabularies are the same.
        tokenizer: Content of the result's tokenizer.json where no input has it.
        new_tokens: Ids of tokens that are new in every input that has them.
        notes: Differences between the inputs that do not keep them from being merged.
    """

    request: MergeRequest
    method: Method
    tensors: tuple[TensorPlan, ...]
    vocabulary_of: Candidate
    settings_of: Candidate
    rows: int
    tied: bool | None = None
    alignment: Alignment | None = None
    tokenizer: Mapping[str, Any] | None = None
    new_tokens: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the result: that of its largest tensor."""
        return max(self.tensors, key=lambda tensor: np.prod(tensor.shape, dtype=np.int64)).dtype

    @property
    def parameters(self) -> int:
        """Number of the result's parameters."""
        return sum(int(np.prod(tensor.shape, dtype=np.int64)) for tensor in self.tensors)

    @property
    def ids(self) -> Mapping[str, int]:
        """Id by token."""
        return self.alignment.target.ids if self.alignment else self.vocabulary_of.tokens

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """Id by token, for the tokens that a union adds to the first input's."""
        if self.tokenizer is None:
            return {}
        return {
            token: self.ids[token] for token in self.ids.keys() - self.vocabulary_of.vocabulary.ids.keys()
        }

    @cached_property
    def out_of_reach(self) -> tuple[str, ...]:
        """Tokens that a union adds and that its tokenizer never produces."""
        return () if self.tokenizer is None else out_of_reach(self.tokenizer, self.added_tokens)

    @property
    def reach_note(self) -> str:
        """Note on the tokens that are out of reach; empty where there are none."""
        lost, is_are = self.out_of_reach, "is" if len(self.out_of_reach) == 1 else "are"
        if not lost:
            return ""
        return (
            f"{len(lost):,} of {len(self.added_tokens):,} tokens that the union adds {is_are} out of reach: "
            f"its tokenizer cuts text otherwise before it makes them, such as {lost[0]!r}"
        )


def read_inputs(request: MergeRequest, which: Sequence[InputModel] | None = None) -> tuple[Candidate, ...]:
    """Read the models of a request, without their weights.

    Args:
        which: Models of the request to read; None for all, the base first.

    Raises:
        CannotMerge: Some cannot be read; the message says which and why.
    """
    found: list[Candidate] = []
    problems = []
    for model in request.inputs if which is None else which:
        try:
            base = next((each for each in found if request.base and each.name == request.base.name), None)
            found.append(read_model(model.name, model.folder, base))
        except DataError as error:
            problems.append(f"{model.name}: {error}")
    if problems:
        raise CannotMerge(problems)
    return tuple(found)


def plan(request: MergeRequest, candidates: Sequence[Candidate] | None = None) -> Plan:
    """Plan a merge.

    Args:
        request: Merge to plan.
        candidates: Inputs as `read_inputs` returns them, so that they are read once for many merges.

    Raises:
        CannotMerge: Models, method and parameters do not fit together; nothing was written.
    """
    method = check_request(request)
    named = {candidate.name: candidate for candidate in candidates or read_inputs(request)}
    inputs = [named[model.name] for model in request.inputs]
    same = alike(inputs)
    notes = check_same_architecture(inputs, same_vocabulary=same)
    planner = _Planner(request, method, inputs)
    try:
        return planner.without_alignment(notes) if same else planner.with_alignment(notes)
    except DataError as error:
        raise CannotMerge([str(error)]) from error


def _places_in_sum(request: MergeRequest, method: Method) -> list[int]:
    """Return each input's place in the sums of a merge, the base first.

    Task arithmetic in float64 sums its models in an order of their own, so that a permutation of them
    changes no bit of a row. The order of the inputs themselves stays that of the request: ids of a union,
    configuration and chat template follow from it and must not depend on the weights.
    """
    order = list(range(len(request.models)))
    if method.name == "task-arithmetic" and request.compute_dtype is None:

        def key(number: int) -> tuple[str, str, str]:
            model = request.models[number]
            return repr(sorted(model.parameters.items())), model.folder.name, str(model.folder)

        order.sort(key=key)
    first = int(request.base is not None)
    return [*range(first), *(first + order.index(number) for number in range(len(order)))]


class _Planner:
    """Plans the tensors of a request whose inputs fit together."""

    def __init__(self, request: MergeRequest, method: Method, inputs: Sequence[Candidate]) -> None:
        self._request, self._method, self._inputs = request, method, inputs
        self._by_name = {model.name: model for model in inputs}
        has_base = request.base is not None
        self._has_base = has_base and method.base != "none"
        self._merged = list(range(int(has_base and not self._has_base), len(inputs)))
        names = [layer for name in inputs[0].sources if (layer := layer_of(name)) is not None]
        self._layers = max(names, default=-1) + 1
        self._place_in_sum = _places_in_sum(request, method)

    def without_alignment(self, notes: Sequence[str]) -> Plan:
        """Plan a merge where all vocabularies are the same."""
        tensors = [self._plain(name) for name in self._inputs[0].sources]
        chosen = self._chosen_model() or self._models_first()
        rows = int(
            chosen.config.get("vocab_size") or chosen.config.get("text_config", {}).get("vocab_size", 0)
        )
        return self._plan(tensors, chosen, rows, notes)

    def with_alignment(self, notes: Sequence[str]) -> Plan:
        """Plan a merge where rows must be aligned first."""
        anchor, target, tokenizer = self._target()
        alignment = align(
            names=[model.name for model in self._inputs],
            vocabularies=[model.vocabulary for model in self._inputs],
            inputs=self._merged,
            base=0 if self._has_base else None,
            target=target,
            anchor=self._inputs.index(anchor),
            least=self._method.least,
        )
        if not any(group.case == Case.MERGED for group in alignment.groups):
            raise CannotMerge(["the models have no token in common"])
        tied = is_tied(self._inputs)
        per_token = {name for model in self._inputs for name in model.tensors.names}
        tensors = [self._plain(name) for name in self._inputs[0].sources if name not in per_token]
        tensors = [*self._per_token(alignment, tied), *tensors]
        return self._plan(tensors, anchor, target.rows, notes, alignment, tied=tied, tokenizer=tokenizer)

    def _plan(
        self,
        tensors: Sequence[TensorPlan],
        anchor: Candidate,
        rows: int,
        notes: Sequence[str],
        alignment: Alignment | None = None,
        **more: Any,
    ) -> Plan:
        settings = self._named(self._request.settings or "") or anchor
        return Plan(
            request=self._request,
            method=self._method,
            tensors=tuple(tensors),
            vocabulary_of=anchor,
            settings_of=settings,
            rows=rows,
            notes=tuple(notes),
            alignment=alignment,
            new_tokens=new_tokens(self._inputs, alignment.target.ids if alignment else anchor.tokens),
            **more,
        )

    def _chosen_model(self) -> Candidate | None:
        """Return the input that the request names for the vocabulary."""
        return self._named(self._request.tokenizer)

    def _named(self, choice: str) -> Candidate | None:
        if choice == BASE and self._request.base is not None:
            return self._inputs[0]
        return self._by_name.get(choice)

    def _models_first(self) -> Candidate:
        """Return the first of models with the same vocabulary, one with a chat template if there is any."""
        models = self._inputs[int(self._request.base is not None) :]
        found = contains_all(models, same=True)
        assert found is not None
        return found

    def _target(self) -> tuple[Candidate, Any, Mapping[str, Any] | None]:
        """Return the input with the vocabulary, the vocabulary, and a tokenizer.json that no input has."""
        chosen = self._chosen_model()
        if chosen is None and self._request.tokenizer == AUTO:
            chosen = contains_all(self._inputs[int(self._request.base is not None) :])
        if chosen is not None:
            return chosen, chosen.vocabulary, None
        vocabulary, tokenizer = union(self._inputs)
        return self._inputs[0], vocabulary, tokenizer

    def _plain(self, name: str) -> TensorPlan:
        """Plan a tensor without a row per token."""
        summed = sorted(self._merged, key=self._place_in_sum.__getitem__)
        sources = tuple(self._inputs[number].sources[name] for number in summed)
        return self._tensor(name, sources[0].shape, sources, (self._piece(name, 0, summed, sources),))

    def _per_token(self, alignment: Alignment, tied: bool) -> Iterator[TensorPlan]:
        """Plan the tensors with a row per token, under all names under which the first input stores them."""
        names = [model.tensors for model in self._inputs]
        outputs = [each.output or (each.input if each.tied else None) for each in names]
        untied = next((each.output for each in names if each.output and not each.tied), None)
        parts: list[tuple[str, list[str | None]]]
        parts = [(names[0].input, [each.input for each in names])]
        parts += [] if tied or untied is None else [(untied, outputs)]
        parts += [(names[0].bias, [each.bias for each in names])] if names[0].bias else []
        for result, stored in parts:
            if any(name is None for name in stored):
                raise CannotMerge([f"{result} is not in all models"])
            made = self._aligned(result, [name for name in stored if name], alignment)
            yield made
            for copy, of in names[0].copies.items():
                if of == result:
                    yield replace(made, name=copy)

    def _aligned(self, result: str, stored: Sequence[str], alignment: Alignment) -> TensorPlan:
        sources = [
            by_rows(model.sources[name], model.vocabulary.rows)
            for model, name in zip(self._inputs, stored, strict=True)
        ]
        pieces = tuple(
            self._group_piece(result, number, group, sources, len(alignment.groups) == 1)
            for number, group in enumerate(alignment.groups)
        )
        flat = self._inputs[0].sources[stored[0]].shape[:1] == (1,) and len(sources[0].shape) == 1
        shape = (alignment.target.rows, *sources[0].shape[1:])
        return self._tensor(result, (1, *shape) if flat else shape, sources, pieces)

    def _group_piece(
        self, name: str, number: int, group: Group, sources: Sequence[Source], only: bool
    ) -> Piece:
        """Plan the rows of one group."""
        summed = sorted(group.sources, key=lambda source: self._place_in_sum[source[0]])
        having = [place for place, _ in summed]
        taken = tuple(rows_of(sources[place], rows) for place, rows in summed)
        rows = None if only else group.rows
        if group.case in (Case.MERGED, Case.PARTLY):
            return replace(self._piece(name, number, having, taken), rows=rows)
        if group.case == Case.AVERAGED:
            weights = self._weights(name, having)
            return Piece(
                taken,
                method=find_method("linear"),
                shared={"normalize": True},
                per_model=tuple({"weight": weight} for weight in weights),
                rows=rows,
            )
        return Piece(taken, rows=rows)

    def _weights(self, name: str, having: Sequence[int]) -> list[float]:
        """Return the weights of an average: the models' where they make sense, else equal ones."""
        _, per_model = values(self._request, self._method, name, self._layers)
        first = len(self._inputs) - len(self._request.models)
        weights = [float(per_model[place - first].get("weight", 1.0)) for place in having]
        return weights if min(weights) >= 0 and sum(weights) > 0 else [1.0] * len(having)

    def _piece(self, name: str, number: int, having: Sequence[int], sources: Sequence[Source]) -> Piece:
        """Plan a piece that the method merges.

        Args:
            name: Name of the tensor.
            number: Number of the piece.
            having: Numbers of the inputs that the rows come from.
            sources: Rows of these inputs.
        """
        shared, per_model = values(self._request, self._method, name, self._layers)
        first = len(self._inputs) - len(self._request.models)
        return Piece(
            tuple(sources),
            has_base=self._has_base,
            method=self._method,
            shared=shared,
            per_model=tuple(per_model[place - first] for place in having if place >= first),
            seed=seed_of(self._request.seed, name, number),
        )

    def _tensor(
        self, name: str, shape: tuple[int, ...], sources: Sequence[Source], pieces: tuple[Piece, ...]
    ) -> TensorPlan:
        widest = reduce(torch.promote_types, (source.dtype for source in sources))
        if not widest.is_floating_point:
            return TensorPlan(name, shape, widest, None, pieces)
        dtype = widest if self._request.dtype is None else getattr(torch, self._request.dtype)
        return TensorPlan(name, shape, dtype, self._compute(widest), pieces)

    def _compute(self, widest: torch.dtype) -> torch.dtype | None:
        """Return the data type of the arithmetic."""
        chosen = self._request.compute_dtype
        if chosen == STORED:
            return None
        if chosen is not None:
            found: torch.dtype = getattr(torch, chosen)
            return found
        exact = self._method.name == "task-arithmetic"
        return torch.float64 if exact else torch.promote_types(widest, torch.float32)


def by_rows(source: Source, rows: int) -> Source:
    """Return a bias of shape [1, V] as a source with a row per token."""
    if source.shape == (1, rows) and isinstance(source, FileSource):
        return FileSource(source.name, replace(source.stored, shape=(rows,)))
    return source
