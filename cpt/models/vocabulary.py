"""The vocabulary side of a model folder: its embedding tensors, and the folder rewritten with new ones."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cpt.errors import DataError
from cpt.models.folder_files import INDEX, is_sharded, read_object
from cpt.models.loading import StoredNames, per_token, read_config, without_weights
from cpt.models.weights import (
    StoredTensor,
    link_or_copy,
    load_tensor,
    stored_tensors,
    weight_files,
    write_with_replaced,
)

__all__ = [
    "VocabularyTensors",
    "check_shapes",
    "read_config",
    "vocabulary_tensors",
    "write_json",
    "write_resized",
]


@dataclass(frozen=True)
class VocabularyTensors:
    """Stored names of the tensors with one row per token.

    A tied model's file may hold its output embedding a second time; `output` then names it all the same.

    Attributes:
        input: the input embedding [V, H].
        output: the output embedding [V, H]; None where it is tied and not stored, or the model has none.
        bias: the output's bias, [V] or [1, V].
        tied: True if the output embedding is the input embedding.
        copies: further names under which one of these is stored once more, each with the name that it copies.
    """

    input: str
    output: str | None
    bias: str | None
    tied: bool
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names, the input embedding first."""
        named = (self.input, self.output, self.bias)
        return (*(name for name in named if name is not None), *self.copies)


def vocabulary_tensors(folder: Path) -> VocabularyTensors:
    """Find the tensors with one row per token.

    The model may be a decoder, an encoder with or without a language-model head, or an encoder-decoder.

    Raises:
        DataError: the architecture is unknown, its embeddings are not among the stored tensors, or it has
            tensors per token that are neither embeddings nor the output's bias.
    """
    model, stored = without_weights(folder), stored_tensors(folder)
    places, groups = StoredNames(model, stored), _per_token_parameters(folder, model)
    modules = {id(module): name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    inputs = places.of_all([f"{modules[id(embedding)]}.weight", *groups.pop(id(embedding.weight), ())])
    outputs = []
    if head is not None:
        outputs = places.of_all([f"{modules[id(head)]}.weight", *groups.pop(id(head.weight), ())])
    shared = head is not None and head.weight is embedding.weight
    if not inputs or (head is not None and not (shared or outputs)):
        raise DataError(f"the weights in {folder} lack the {'output' if inputs else 'input'} embedding")
    biases = places.of_all(_bias(folder, model, groups))
    inputs = [name for name in inputs if name not in outputs[:1] or name == inputs[0]]
    copies = {name: first for first, *more in filter(None, (inputs, outputs, biases)) for name in more}
    return VocabularyTensors(
        input=inputs[0],
        output=next((name for name in outputs[:1] if name != inputs[0]), None),
        bias=next(iter(biases), None),
        tied=shared and (not outputs or _same_values(stored, inputs[0], outputs[0])),
        copies=copies,
    )


def check_shapes(folder: Path) -> None:
    """Check that every stored tensor has the shape that config.json asks for.

    Raises:
        DataError: names the tensors that do not.
    """
    model = without_weights(folder)
    prefix = f"{model.base_model_prefix}."
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = []
    for name, tensor in stored_tensors(folder).items():
        known = (expected.get(candidate) for candidate in (name, prefix + name, name.removeprefix(prefix)))
        shape = next((shape for shape in known if shape is not None), None)
        if shape is not None and shape != tensor.shape:
            wrong.append(f"{name} is {list(tensor.shape)}, config.json asks for {list(shape)}")
    if wrong:
        raise DataError(f"the weights in {folder} do not fit their config.json: {'; '.join(wrong)}")


def write_resized(folder: Path, output: Path, replaced: Mapping[str, torch.Tensor], rows: int) -> None:
    """Write the weights and config.json of `folder` into `output` with new vocabulary tensors.

    Files that hold none of the replaced tensors are hard-linked. What is stored under several names
    (`VocabularyTensors.copies`) is replaced under all of them.

    Args:
        replaced: new tensors by stored name, each with `rows` rows.
        rows: becomes config.json's `vocab_size`.
    """
    output.mkdir(parents=True, exist_ok=True)
    stored = stored_tensors(folder)
    copies = vocabulary_tensors(folder).copies
    replaced = {**replaced, **{name: replaced[of] for name, of in copies.items() if of in replaced}}
    for file in weight_files(folder):
        inside = {name: new for name, new in replaced.items() if stored[name].file == file}
        if inside:
            write_with_replaced(file, output / file.name, inside)
        else:
            link_or_copy(file, output / file.name)
    if is_sharded(folder):
        _write_index(folder, output, stored, replaced)
    config = read_config(folder)
    holders = [part for part in (config, config.get("text_config", {})) if "vocab_size" in part]
    for holder in holders or [config]:
        holder["vocab_size"] = rows
    write_json(output / "config.json", config)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as Hugging Face folders hold it."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_index(
    folder: Path, output: Path, stored: Mapping[str, StoredTensor], replaced: Mapping[str, torch.Tensor]
) -> None:
    index = read_object(folder / INDEX)
    growth = sum(
        new.numel() * new.element_size() - (stored[name].end - stored[name].start)
        for name, new in replaced.items()
    )
    metadata = index.setdefault("metadata", {})
    if "total_size" in metadata:
        metadata["total_size"] += growth
    write_json(output / INDEX, index)


def _per_token_parameters(folder: Path, model: Any) -> dict[int, list[str]]:
    """Return the names of each parameter with one row per token, by identity: tied ones are one."""
    named = per_token(folder)
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for name, parameter in model.state_dict(keep_vars=True).items():
        if name in named:
            groups[id(parameter)].append(name)
    return groups


def _bias(folder: Path, model: Any, groups: Mapping[int, Sequence[str]]) -> Sequence[str]:
    """Return the names of the remaining parameter, which must be the output's bias; empty if none is left."""
    shapes = {names[0]: model.state_dict()[names[0]].shape for names in groups.values()}
    strange = [name for name, shape in shapes.items() if max(shape) != shape.numel()]
    if strange or len(shapes) > 1:
        raise DataError(
            f"the model in {folder} has tensors with one row per token whose use is unknown: "
            f"{', '.join(strange or shapes)}",
            hint="Its vocabulary cannot be changed.",
        )
    return next(iter(groups.values()), ())


def _same_values(stored: Mapping[str, StoredTensor], name: str, other: str) -> bool:
    return name == other or torch.equal(load_tensor(stored[name], name), load_tensor(stored[other], other))
