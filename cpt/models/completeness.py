"""Proof that a model's parameters all come from its files, and that every tensor in the files is used.

transformers fills parameters that the files lack with random numbers, and leaves out tensors for which the
configuration has no place; both with a warning only. Its own report on loading says which. It knows the names
that were changed since a model was saved, tied weights, and what a class declares as dispensable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cpt.errors import ModelError
from cpt.models.architecture import cannot_be_built, is_known, model_class, read_config, settings
from cpt.models.folder_files import CONFIG, SINGLE, check_settings_files, weight_names
from cpt.models.weights import stored_tensors

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
    """The first names in order, and how many there are."""
    first = ", ".join(sorted(names)[:_SHOWN])
    return f"{first}, … ({len(names):,} in all)" if len(names) > _SHOWN else first
