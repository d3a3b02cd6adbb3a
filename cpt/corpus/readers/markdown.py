"""Read a Markdown file as one document. Its front matter (YAML between lines ---) is metadata, not text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Document, data_error
from cpt.corpus.readers.files import ReadFiles, read_text
from cpt.corpus.readers.records import kept_fields
from cpt.errors import Problem

_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.{0,65536}?\n)---[ \t]*(?:\r?\n|$)", re.DOTALL)


def read_markdown(
    path: Path, name: str, metadata: tuple[str, ...], files: ReadFiles | None = None
) -> Document:
    """Return the text as it is written, without front matter.

    Args:
        metadata: Fields of the front matter that are kept; null where it has none.
        files: Receiver of the file's hash.

    Raises:
        SourceError: It is not UTF-8, or too long; names the place.
        OSError: The compressed stream is damaged or truncated.
    """
    text = read_text(path, files)
    found = _FRONT_MATTER.match(text)
    facts = _mapping(found[1]) if found else None
    if found and facts is not None:
        text = text[found.end() :].lstrip("\r\n")
    kept = kept_fields(metadata, facts or {}) if metadata else None
    if isinstance(kept, Problem):
        raise data_error([Problem(kept.message, file=str(path))])
    return Document(name, text, metadata=kept)


def _mapping(yaml: str) -> Mapping[str, Any] | None:
    """Parse front matter; None if it is none: text may begin with a line --- too."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.tokens import AliasToken

    try:
        if any(isinstance(token, AliasToken) for token in YAML(pure=True).scan(yaml)):
            return None  # a few aliases of aliases stand for more values than memory holds
        facts = YAML(typ="safe", pure=True).load(yaml)
    except (YAMLError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, Mapping) else None
