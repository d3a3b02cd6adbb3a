"""What makes a model the same model: weights, tokenizer, and the settings that its scores depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cpt.models.folder_files import weight_names
from cpt.models.tokenizer import FILE, read_settings
from cpt.references.cache import file_sha256

_IRRELEVANT = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")
"""Settings of config.json that say how it was saved, not what the model computes."""

_SETTINGS = ("config.json", "generation_config.json")


def model_fingerprint(folder: Path) -> str:
    """SHA-256 of a model folder's weights, tokenizer and configuration: the same wherever it lies."""
    digest = hashlib.sha256()
    for name in [*weight_names(folder), FILE]:
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    for name in _SETTINGS:
        said = read_settings(folder / name)
        kept = {key: value for key, value in said.items() if key not in _IRRELEVANT}
        digest.update(f"{name}\0{json.dumps(kept, sort_keys=True)}\n".encode())
    return digest.hexdigest()
