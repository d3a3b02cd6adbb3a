"""From a reference to a folder with a fast tokenizer, converted once if it comes in another format."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cpt.models.folder_files import check_settings_files
from cpt.progress import NullProgress, Progress
from cpt.references import gguf, hub
from cpt.references.cache import building, cache_folder, file_sha256, publish
from cpt.references.resolve import is_gguf, resolve_file
from cpt.references.syntax import HubModel, LocalPath, parse

_SILENT = NullProgress()
_FILE = "tokenizer.json"


def resolve_tokenizer(reference: str, progress: Progress = _SILENT) -> Path:
    """Folder with the tokenizer (tokenizer.json and its configuration) of a reference.

    Args:
        reference: a model, a tokenizer folder, or a tokenizer's own file, anywhere that references lead to.

    Raises:
        ReferenceUnavailable: it cannot be had, or differs from its pin.
        DataError: it is a tokenizer of no known format, or damaged.
        ModelError: the JSON files of its folder are damaged.
        RecipeError: the reference is malformed.
    """
    from cpt.references.tokenizer_files.convert import FILES

    parsed = parse(reference)
    if isinstance(parsed.place, HubModel):
        progress.message(f"looking for the tokenizer of {parsed.text} (cache, then the Hugging Face hub)")
        path = hub.tokenizer_snapshot(parsed.place, FILES)
    else:
        path = resolve_file(reference, progress)
    if path.is_dir():
        check_settings_files(path)
        return path if (path / _FILE).is_file() else _converted(path, _folder_sha256(path, FILES), progress)
    if is_gguf(parsed):
        return gguf.convert_tokenizer(path, file_sha256(path), progress)
    if path.name == _FILE and isinstance(parsed.place, LocalPath):
        return path.parent
    return _converted(path, file_sha256(path), progress)


def _converted(source: Path, sha256: str, progress: Progress) -> Path:
    from cpt.references.tokenizer_files.convert import CONVERTER, convert

    target = cache_folder() / "tokenizers" / f"{sha256[:32]}-{CONVERTER}"
    if target.is_dir():
        return target
    with building(target) as scratch:
        if not target.is_dir():
            progress.message(f"converting the tokenizer {source.name} (once)")
            publish(convert(source, scratch / "tokenizer"), target)
    return target


def _folder_sha256(folder: Path, patterns: tuple[str, ...]) -> str:
    """SHA-256 over the names and contents of what a folder's tokenizer may consist of."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()
