"""The vocabulary side of a model folder: its embedding tensors, and the folder rewritten with new ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpt.errors import DataError
from cpt.model_folder.weights import (
    INDEX,
    StoredTensor,
    link_or_copy,
    stored_tensors,
    weight_files,
    write_with_replaced,
)


@dataclass(frozen=True)
class VocabularyTensors:
    """Names, as stored, of the tensors with one row per token, and whether output rows are the input rows.

    A tied model's file may hold its output embedding a second time; `output` then names it all the same.
    """

    input: str
    output: str | None
    bias: str | None
    tied: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the input embedding first."""
        return tuple(name for name in (self.input, self.output, self.bias) if name is not None)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json."""
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder} is not a model folder: it has no config.json") from error
    except ValueError as error:
        raise DataError(f"{file} is not valid JSON: {error}") from error
    return config


def vocabulary_tensors(folder: Path) -> VocabularyTensors:
    """Find the embedding tensors of a causal language model.

    Raises:
        DataError: the architecture is unknown, or its embeddings are not among the stored tensors.
    """
    model = _without_weights(folder)
    stored = stored_tensors(folder)
    names = {id(module): name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or head is None:
        raise DataError(f"{folder} holds no causal language model ({', '.join(_architectures(folder))})")

    def stored_name(module: Any, parameter: str) -> str | None:
        name = f"{names[id(module)]}.{parameter}"
        candidates = (name, name.removeprefix(f"{model.base_model_prefix}."))
        return next((candidate for candidate in candidates if candidate in stored), None)

    tied = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    found = VocabularyTensors(
        input=stored_name(embedding, "weight") or "",
        output=stored_name(head, "weight"),
        bias=stored_name(head, "bias") if getattr(head, "bias", None) is not None else None,
        tied=tied,
    )
    if not found.input or not (tied or found.output):
        raise DataError(f"the weights in {folder} lack the {'output' if found.input else 'input'} embedding")
    return found


def check_shapes(folder: Path) -> None:
    """Check that every stored tensor has the shape that config.json asks for.

    Raises:
        DataError: names the tensors that do not.
    """
    model = _without_weights(folder)
    prefix = f"{model.base_model_prefix}."
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = []
    for name, tensor in stored_tensors(folder).items():
        shape = expected.get(name, expected.get(prefix + name))
        if shape is not None and shape != tensor.shape:
            wrong.append(f"{name} is {list(tensor.shape)}, config.json asks for {list(shape)}")
    if wrong:
        raise DataError(f"the weights in {folder} do not fit their config.json: {'; '.join(wrong)}")


def write_resized(folder: Path, output: Path, replaced: Mapping[str, torch.Tensor], rows: int) -> None:
    """Write the weights and config.json of `folder` into `output` with new vocabulary tensors.

    Files that hold none of the replaced tensors are hard-linked.

    Args:
        replaced: new tensors by stored name, each with `rows` rows.
        rows: becomes config.json's `vocab_size`.
    """
    output.mkdir(parents=True, exist_ok=True)
    stored = stored_tensors(folder)
    for file in weight_files(folder):
        inside = {name: new for name, new in replaced.items() if stored[name].file == file}
        if inside:
            write_with_replaced(file, output / file.name, inside)
        else:
            link_or_copy(file, output / file.name)
    if (folder / INDEX).is_file():
        _write_index(folder, output, stored, replaced)
    config = read_config(folder)
    holder = config if "vocab_size" in config else config.get("text_config", config)
    holder["vocab_size"] = rows
    write_json(output / "config.json", config)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as Hugging Face folders hold it."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_index(
    folder: Path, output: Path, stored: Mapping[str, StoredTensor], replaced: Mapping[str, torch.Tensor]
) -> None:
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    growth = sum(
        new.numel() * new.element_size() - (stored[name].end - stored[name].start)
        for name, new in replaced.items()
    )
    metadata = index.setdefault("metadata", {})
    if "total_size" in metadata:
        metadata["total_size"] += growth
    write_json(output / INDEX, index)


def _architectures(folder: Path) -> list[str]:
    return [str(name) for name in read_config(folder).get("architectures") or ["no architecture named"]]


def _without_weights(folder: Path) -> Any:
    """The model's modules with shapes but no memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read_config(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} holds no causal language model that transformers knows "
            f"({', '.join(_architectures(folder))}): {error}"
        ) from error
