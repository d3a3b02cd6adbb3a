"""Tell whether a folder is a Hugging Face model that can be loaded whole and without pickles."""

from __future__ import annotations

from pathlib import Path

from cpt.errors import ReferenceUnavailable
from cpt.models.folder_files import weight_names


def missing_from_model(folder: Path) -> list[str]:
    """Names of what a model folder lacks: its configuration, its fast tokenizer, its safetensors weights."""
    needed = ["config.json", "tokenizer.json", *weight_names(folder)]
    return [name for name in needed if not (folder / name).is_file()]


def require_model(folder: Path, text: str) -> Path:
    """Return `folder` if it is a complete model, all of whose weights are in its files.

    Raises:
        ReferenceUnavailable: A file is missing; only pickled weights have a hint of their own.
        ModelError: A file is damaged, or the weights are not those that config.json asks for.
    """
    missing = missing_from_model(folder)
    if not missing:
        from cpt.models.loading import check_model

        check_model(folder)
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
