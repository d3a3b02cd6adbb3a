"""Whether a folder is a Hugging Face model that can be loaded without pickles."""

from __future__ import annotations

import json
from pathlib import Path

from cpt.errors import ReferenceUnavailable


def missing_from_model(folder: Path) -> list[str]:
    """Names of what a model folder lacks: its configuration, its fast tokenizer, its safetensors weights."""
    needed = ["config.json", "tokenizer.json", *weight_file_names(folder)]
    return [name for name in needed if not (folder / name).is_file()]


def weight_file_names(folder: Path) -> list[str]:
    """Names of the safetensors files that a model folder has or should have."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return ["model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "Save or fetch the model again."
        raise ReferenceUnavailable(f"{index} is damaged: {error}", hint=hint) from error


def require_model(folder: Path, text: str) -> Path:
    """`folder`, if it is a complete model.

    Raises:
        ReferenceUnavailable: Something is missing; only pickled weights have a hint of their own.
    """
    missing = missing_from_model(folder)
    if not missing:
        return folder
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
    if "model.safetensors" in missing and pickles:
        raise ReferenceUnavailable(
            f"{text} has its weights as pickles only ({', '.join(pickles[:3])}), which can run code",
            hint="Convert it once where you trust it: AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder) writes safetensors. Then name the new folder.",
        )
    if "tokenizer.json" in missing and len(missing) == 1:
        raise ReferenceUnavailable(
            f"{text} has no tokenizer.json (a fast tokenizer)",
            hint="AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes one for most models.",
        )
    raise ReferenceUnavailable(
        f"{text} is not a complete model folder: {', '.join(missing)} not found in {folder}",
        hint="A model folder holds config.json, tokenizer.json and model.safetensors (or its shards).",
    )
