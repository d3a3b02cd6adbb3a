"""Proof that a model's parameters all come from its files, and that every tensor in the files is used.

transformers fills parameters that the files lack with random numbers, and leaves out tensors for which the
configuration has no place; both with a warning only. Its own report on loading says which. It knows the names
that were changed since a model was saved, tied weights, and what a class declares as dispensable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cpt.errors import ModelError
from cpt.model_folder.architecture import cannot_be_built, is_known, model_class, settings
from cpt.model_folder.files import CONFIG, check_settings_files, read_object, weight_names
from cpt.model_folder.weights import StoredTensor, stored_tensors

OPTIONS: Mapping[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options of `from_pretrained` under which it reports instead of raising; the report is for `require_all`."""

_SHOWN = 4
_sound: set[tuple[tuple[str, int, int], ...]] = set()
"""Path, size and time of the files of every folder that was found sound."""

_FEWEST_LAYERS = 1_000


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


def require_all(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise unless every parameter came from the files, and every tensor in the files was used.

    Args:
        folder: what the message names.
        report: transformers' loading report.

    Raises:
        ModelError: lists the names, shortened where they are many.
    """
    problems = []
    if missing := sorted(report["missing_keys"]):
        problems.append(
            f"{len(missing):,} of the parameters that {CONFIG} asks for are not in the files: "
            f"{_list(missing)}"
        )
    if unused := sorted(report["unexpected_keys"]):
        problems.append(
            f"{len(unused):,} of the tensors in the files have no place in the model of {CONFIG}: "
            f"{_list(unused)}"
        )
    if wrong := sorted(report["mismatched_keys"]):
        shapes = [f"{name} is {list(stored)} instead of {list(asked)}" for name, stored, asked in wrong]
        problems.append(f"{len(wrong):,} tensors have another shape than {CONFIG} asks for: {_list(shapes)}")
    problems += report["error_msgs"]
    if problems:
        raise ModelError(
            f"the weights in {folder} are not those of its model: {'; '.join(problems)}",
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
    config = read_object(folder / CONFIG)
    stored = stored_tensors(folder)
    if not is_known(config):
        return
    _check_layers(folder, config, stored)
    facts = settings(folder)
    if config.get("quantization_config") is not None:
        return
    with torch.device("meta"):
        tensors = {name: torch.empty(tensor.shape) for name, tensor in stored.items()}
    with reports_left_to_us():
        try:
            _, report = model_class(folder, facts).from_pretrained(
                None, config=facts, state_dict=tensors, device_map="meta", **OPTIONS
            )
        except ModelError:
            raise
        except Exception as error:  # a damaged configuration makes a model raise anything
            raise cannot_be_built(folder, error) from error
    require_all(folder, report)


def _check_layers(folder: Path, config: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> None:
    """Refuse more layers than there are tensors: building them could take for ever."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        layers = part.get("num_hidden_layers")
        if isinstance(layers, int) and layers > max(_FEWEST_LAYERS, len(stored)):
            raise ModelError(
                f"{folder / CONFIG}: num_hidden_layers: {layers:,} layers, but the files hold "
                f"{len(stored):,} tensors",
                hint="Save or fetch the model again.",
            )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
