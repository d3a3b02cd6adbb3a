"""Models from folders: class and shapes without weights, and the check that all weights come from files.

A model without weights is built by the class in config.json, on PyTorch's meta device, which takes no memory.

transformers fills parameters that the files lack with random numbers, and ignores tensors that the
configuration has no place for, with only a warning. Its own report on loading lists both. It knows renamed
parameters, tied weights, and weights that a class declares as dispensable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from cpt.errors import ModelError
from cpt.models.folder_files import CONFIG, SINGLE, check_settings_files, read_object, weight_names
from cpt.models.weights import StoredTensor, stored_tensors

_MOST_LAYERS = 2_000
"""Twice as many as the deepest model known (DeepNet, arXiv 2203.00555): building layers takes time."""

_MOST_PARAMETERS = 10**14


def read_config(folder: Path) -> dict[str, Any]:
    """Read the folder's config.json.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        return read_object(folder / CONFIG)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG}") from error


def settings(folder: Path) -> Any:
    """Return the model's configuration, with transformers' defaults for what config.json leaves out.

    Raises:
        ModelError: transformers knows no such model, or config.json holds values that no model has.
    """
    from transformers import AutoConfig

    config = read_config(folder)
    try:
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises errors of any class for a damaged file
        if is_known(config):
            raise cannot_be_built(folder, error) from error
        raise _unknown(folder) from error
    layers = getattr(found.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and not 0 < layers <= _MOST_LAYERS:
        raise ModelError(
            f"{folder / CONFIG}: num_hidden_layers: {layers:,}: a model has 1 to {_MOST_LAYERS:,} layers",
            hint="Save or fetch the model again.",
        )
    return found


def is_known(config: Mapping[str, Any]) -> bool:
    """Return True unless config.json is of a model of which transformers has no code."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    return not isinstance(kind, str) or kind in CONFIG_MAPPING


def cannot_be_built(folder: Path, error: Exception) -> ModelError:
    """Return the error for a configuration of which transformers makes no model."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ModelError(
        f"{folder / CONFIG} describes no model that can be built: {type(error).__name__}: "
        f"{' '.join(lines)[:300]}",
        hint="Save or fetch the model again.",
    )


def generates(folder: Path) -> bool:
    """Return True if the model generates text, token by token."""
    return bool(model_class(folder, settings(folder)).can_generate())


def counts_positions_from_padding(folder: Path) -> bool:
    """Return True if positions are numbered from the padding token's id on, as RoBERTa does."""
    model = without_weights(folder)
    words = model.get_input_embeddings().weight.shape
    return any(
        module.padding_idx is not None and module.weight.shape != words
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
    )


def without_weights(folder: Path, *, more_tokens: int = 0) -> Any:
    """Return the model with shapes but no memory.

    Args:
        more_tokens: added to the size of its vocabulary.

    Raises:
        ModelError: transformers knows no such model, or cannot build it.
    """
    config = settings(folder)
    config.get_text_config().vocab_size += more_tokens
    try:
        with torch.device("meta"):
            model = model_class(folder, config)(config)
    except ModelError:
        raise
    except Exception as error:  # as in `settings`
        raise cannot_be_built(folder, error) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > _MOST_PARAMETERS:
        raise ModelError(
            f"{folder / CONFIG} describes a model of {parameters:,} parameters: more than any machine holds",
            hint="Save or fetch the model again.",
        )
    return model


def per_token(folder: Path) -> set[str]:
    """Return the names of the parameters whose shape follows the size of the vocabulary."""
    shapes, larger = (
        {name: tensor.shape for name, tensor in model.state_dict().items()}
        for model in (without_weights(folder), without_weights(folder, more_tokens=1))
    )
    return {name for name, shape in shapes.items() if shape != larger[name]}


class StoredNames:
    """Names under which a folder stores a model's parameters.

    Folders name them as the model does, with or without the prefix of the model that carries the head.
    Where transformers renames parameters on loading, it is the tensor that no other parameter has, of the
    right shape, whose name ends most alike.

    Args:
        model: without weights.
        stored: the folder's tensors.
    """

    def __init__(self, model: Any, stored: Mapping[str, StoredTensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        self._prefix = f"{model.base_model_prefix}."
        self._stored = stored
        claimed = {candidate for name in self._shapes for candidate in self._candidates(name)}
        self._others = [name for name in stored if name not in claimed]

    def of(self, name: str) -> str | None:
        """Return the stored name of a parameter, or None."""
        for candidate in self._candidates(name):
            if candidate in self._stored:
                return candidate
        alike = [other for other in self._others if self._stored[other].shape == self._shapes[name]]
        best = max(alike, key=lambda other: _common_end(name, other), default=None)
        return best if best is not None and _common_end(name, best) else None

    def of_all(self, names: Iterable[str]) -> list[str]:
        """Return the different stored names of parameters."""
        return list(dict.fromkeys(found for name in names if (found := self.of(name)) is not None))

    def _candidates(self, name: str) -> tuple[str, str, str]:
        return name, name.removeprefix(self._prefix), self._prefix + name


def _common_end(name: str, other: str) -> int:
    """Return the number of equal parts of two dotted names, from the end."""
    pairs = zip(reversed(name.split(".")), reversed(other.split(".")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def model_class(folder: Path, config: Any) -> Any:
    """Return the class that config.json names; else the one for its kind of model with the largest head."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    for classes in (
        transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        transformers.MODEL_FOR_MASKED_LM_MAPPING,
        transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        transformers.MODEL_MAPPING,
    ):
        if type(config) in classes:
            return classes[type(config)]
    raise _unknown(folder)


def _unknown(folder: Path) -> ModelError:
    config = read_config(folder)
    names = config.get("architectures") or ["no architecture named"]
    return ModelError(
        f"{folder} holds no model that transformers knows ({', '.join(map(str, names))}, "
        f"model_type {config.get('model_type')!r})"
    )


_SHOWN = 4
_DISPENSABLE = re.compile(r"(^|\.)pooler\.|^cls\.seq_relationship\.")
"""Heads of pretraining that published encoders (BERT, RoBERTa) hold beside the model that they name."""
_sound: set[tuple[tuple[str, int, int], ...]] = set()
"""Path, size and time of the files of every folder that was found sound."""


def check_model(folder: Path) -> None:
    """Check a model folder: its JSON files, and its weights against its config.json.

    Only headers are read, and no parameter takes memory: 0.2 seconds for 30 layers. A folder is checked once
    as long as its files stay the same. Quantised weights, and models that transformers does not know, are
    left to the library that loads them.

    Raises:
        ModelError: lists everything that is wrong.
    """
    names = [CONFIG, *weight_names(folder)]
    files = [file for name in names if (file := folder / name).is_file()]
    check_settings_files(folder)
    state = tuple((str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    if state not in _sound:
        _check_weights(folder)
        _sound.add(state)


def load_whole(
    loader: Any, source: str | Path | None, named: Path, *, complete: type | None = None, **options: Any
) -> Any:
    """Load a model by `from_pretrained`, which must find all its parameters and use every tensor.

    Args:
        loader: class of transformers.
        source: first argument of its `from_pretrained`.
        named: folder or file that messages name.
        complete: class that uses every tensor. Where another is loaded, such as the language model of one
            that also sees, tensors may be left over.
        options: further arguments.

    Raises:
        ModelError: lists the names that do not fit, shortened where they are many.
    """
    with reports_left_to_us():
        model, report = loader.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    if complete is not None and type(model) is not complete:
        report = {**report, "unexpected_keys": ()}
    _require_all(named, report)
    return model


def _require_all(named: Path, report: Mapping[str, Any]) -> None:
    shapes = [f"{name} {list(has)} for {list(asked)}" for name, has, asked in report["mismatched_keys"]]
    found = {
        "missing from the files": report["missing_keys"],
        "in the files, but not in the model": [
            name for name in report["unexpected_keys"] if not _DISPENSABLE.search(name)
        ],
        "of another shape": shapes,
    }
    problems = [f"{what}: {_shortened(names)}" for what, names in found.items() if names]
    problems += report["error_msgs"]
    if problems:
        raise ModelError(
            f"the weights in {named} are not those that its {CONFIG} asks for: {'; '.join(problems)}",
            hint=f"Save or fetch the model again; its weights and its {CONFIG} must be of the same model.",
        )


@contextmanager
def reports_left_to_us() -> Iterator[None]:
    """Silence transformers' own loading reports and progress bars: our messages say what is wrong."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check_weights(folder: Path) -> None:
    config = read_config(folder)
    stored = stored_tensors(folder)
    if not is_known(config):
        return
    facts = settings(folder)
    if "transformers_weights" in config:
        raise ModelError(
            f"{folder / CONFIG}: transformers_weights: weights under a name of their own are not read",
            hint=f"Name the file {SINGLE}, and remove the key.",
        )
    if config.get("quantization_config") is not None:
        return
    with torch.device("meta"):
        tensors = {name: torch.empty(tensor.shape) for name, tensor in stored.items()}
    try:
        load_whole(
            model_class(folder, facts), None, folder, config=facts, state_dict=tensors, device_map="meta"
        )
    except ModelError:
        raise
    except Exception as error:  # a damaged configuration makes a model raise anything
        raise cannot_be_built(folder, error) from error


def _shortened(names: Collection[str]) -> str:
    """Return the first names in order, and their number."""
    first = ", ".join(sorted(names)[:_SHOWN])
    return f"{first}, … ({len(names):,} in all)" if len(names) > _SHOWN else first
