"""Resolve references to folders that are neither a model nor a tokenizer, such as a hypernetwork."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpt.errors import MissingInput
from cpt.progress import NullProgress, Progress
from cpt.references import hub
from cpt.references.resolve import resolve_file
from cpt.references.syntax import HubModel, parse

_SILENT = NullProgress()


def resolve_folder(
    reference: str, files: Sequence[str], needed: Sequence[str], progress: Progress = _SILENT
) -> Path:
    """Return the local path of a folder: a local one, or a hub repository at its commit.

    Args:
        reference: Reference of the folder.
        files: Patterns of the files that are fetched from a hub repository, those in subfolders too.
        needed: Names of the files without which a repository is not what is looked for.
        progress: Receiver of messages.

    Raises:
        ReferenceUnavailable: The folder is not there, or the repository cannot be fetched.
        MissingInput: The repository lacks a file that is needed.
        RecipeError: The reference is malformed.
    """
    parsed = parse(reference)
    if not isinstance(parsed.location, HubModel):
        return resolve_file(reference, progress)
    progress.message(f"looking for {parsed.text} (cache, then the Hugging Face hub)")
    folder = hub.folder_snapshot(parsed.location, files, needed)
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise MissingInput(f"{parsed.text} lacks {', '.join(missing)}", hint="Name another repository.")
    return folder
