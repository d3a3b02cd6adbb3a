"""A model's configuration from its reference, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpt import references
from cpt.errors import ModelError, ReferenceUnavailable
from cpt.references import hub, wheel
from cpt.references.resolve import is_gguf
from cpt.references.syntax import HubFile, HubModel, LocalPath, Reference, WheelFile


def architecture(reference: str, *, fetch: bool) -> Any | None:
    """The configuration (transformers) of a model reference.

    Args:
        fetch: download what is missing: of a hub model its config.json alone, of a GGUF file all of it.

    Returns:
        None when it is not at hand and may not be fetched.

    Raises:
        ReferenceUnavailable: it cannot be had.
        ModelError: its config.json is damaged, or of no model that transformers knows.
    """
    parsed = references.parse(reference)
    file = _fetched(reference, parsed) if fetch else _at_hand(parsed)
    return None if file is None else read_architecture(file, parsed.text)


def read_architecture(file: Path, text: str) -> Any:
    """The configuration that lies in a config.json or in the header of a GGUF file.

    Args:
        text: how the user calls the model.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    from cpt.models.architecture import settings, without_weights
    from cpt.models.folder_files import CONFIG

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if file.suffix == ".gguf":
            return AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        if file.name == CONFIG:
            without_weights(file.parent)
            return settings(file.parent)
        return AutoConfig.from_pretrained(file, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # transformers raises whatever a damaged file makes it raise
        raise ReferenceUnavailable(
            f"the architecture of {text} cannot be read: {error}",
            hint="A model is a folder with config.json, org/name on the hub, or a .gguf file.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _fetched(reference: str, parsed: Reference) -> Path:
    if isinstance(parsed.location, HubModel):
        return hub.file(HubFile("model", parsed.location.repo, "config.json", parsed.location.revision))
    path = references.resolve_file(reference)
    return path / "config.json" if path.is_dir() else path


def _at_hand(parsed: Reference) -> Path | None:
    """The file that tells the architecture, if it is there already."""
    from huggingface_hub import try_to_load_from_cache

    match parsed.location:
        case HubModel(repo, revision):
            path: Any = try_to_load_from_cache(repo, "config.json", revision=revision)
        case HubFile(repo_type, repo, inside, revision):
            path = try_to_load_from_cache(repo, inside, revision=revision, repo_type=repo_type)
        case WheelFile() as place:
            path = wheel.cached_path(place)
        case LocalPath(path=local):
            path = local if is_gguf(parsed) else local / "config.json"
        case _:
            path = None
    return Path(path) if isinstance(path, str | Path) and Path(path).is_file() else None
