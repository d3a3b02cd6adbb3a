"""Resolve references to hypernetworks: local folders, and repositories on the hub."""

from __future__ import annotations

from pathlib import Path

from cpt.models.tokenizer import FILE as TOKENIZER_FILE
from cpt.progress import NullProgress, Progress
from cpt.references.folders import resolve_folder

WEIGHTS, CONFIG, CARD, TOKENIZER = "hypernetwork.safetensors", "config.json", "README.md", "tokenizer"
"""Names of the files of a hypernetwork's folder, and of its folder with the source tokenizer."""

STEPS, CHECKPOINT, STATE = "steps.jsonl", "checkpoint", "state.json"
"""Names of the log of its training, of the folder with the last checkpoint, and of a file in that."""

_NETWORK = (WEIGHTS, CONFIG, CARD, f"{TOKENIZER}/*")
_TRAINING = (STEPS, f"{CHECKPOINT}/*")
_SILENT = NullProgress()


def resolve_hypernetwork(reference: str, progress: Progress = _SILENT) -> Path:
    """Return the folder of a hypernetwork: a local one, or that of a hub repository.

    Raises:
        ReferenceUnavailable: It is not there, or cannot be fetched.
        MissingInput: The repository holds no hypernetwork.
        RecipeError: The reference is malformed.
    """
    return resolve_folder(reference, _NETWORK, (WEIGHTS, CONFIG, f"{TOKENIZER}/{TOKENIZER_FILE}"), progress)


def resolve_training(reference: str, progress: Progress = _SILENT) -> Path:
    """Return the folder of a hypernetwork with the checkpoint that its training continues from.

    Raises:
        ReferenceUnavailable: It is not there, or cannot be fetched.
        MissingInput: The repository holds no checkpoint of a hypernetwork's training.
        RecipeError: The reference is malformed.
    """
    parts = (STATE, "checkpoint.json", "weights.safetensors", "optimizer.safetensors")
    needed = (WEIGHTS, CONFIG, STEPS, *(f"{CHECKPOINT}/{part}" for part in parts))
    return resolve_folder(reference, (*_NETWORK, *_TRAINING), needed, progress)
