"""Read lists of terms: lines of text, names and synonyms of an ontology, or strings in Python code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cpt.corpus.ratings.concepts import Concept
from cpt.corpus.readers import format_of
from cpt.corpus.readers.files import ReadFiles, open_bytes, read_text, read_whole
from cpt.corpus.readers.obo import term_frames
from cpt.errors import SourceError

TermFormat = Literal["auto", "text", "obo", "python"]


def read_terms(
    path: Path, format: TermFormat = "auto", synonyms: bool = True, files: ReadFiles | None = None
) -> Iterator[Concept]:
    """Yield the terms of a file; the same term may occur more than once.

    Args:
        format: Format of the file; "auto" goes by its name. In text, every line that is not blank is a term.
            In Python code, which is never run, every string in a list, tuple or set and every key of a
            dictionary is one.
        synonyms: Count an ontology's synonyms as their term; false: names only.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file is unusable; names it, and the line if known.
    """
    found = format_of(path) if format == "auto" else format
    try:
        match found:
            case "obo":
                yield from _ontology(path, synonyms, files)
            case "python":
                yield from _strings(path, files)
            case "text":
                for line in read_text(path, files).splitlines():
                    if name := line.strip():
                        yield Concept(name, (name,))
            case _:
                raise SourceError(
                    f"{path}: terms are read from text, OBO and Python files",
                    hint="Set format: text if every line is a term.",
                )
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error


def _ontology(path: Path, synonyms: bool, files: ReadFiles | None) -> Iterator[Concept]:
    for frame in term_frames(path, files):
        name, others, obsolete = "", [], False
        for clause in frame:
            match type(clause).__name__:
                case "NameClause":
                    name = clause.name
                case "SynonymClause":
                    others.append(clause.synonym.desc)
                case "IsObsoleteClause":
                    obsolete = clause.obsolete
        if name and not obsolete:
            yield Concept(name, (name, *others) if synonyms else (name,))


def _strings(path: Path, files: ReadFiles | None) -> Iterator[Concept]:
    with open_bytes(path, files) as stream:
        source = read_whole(stream, path)
    try:
        module = ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path}: not Python source that can be read: {error}") from error
    for node in ast.walk(module):
        items: list[ast.expr | None] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [*node.elts]
        elif isinstance(node, ast.Dict):
            items = [*node.keys]
        for item in items:
            if isinstance(item, ast.Constant) and isinstance(item.value, str) and item.value.strip():
                yield Concept(item.value.strip(), (item.value.strip(),))


def without_duplicates(concepts: Iterator[Concept]) -> list[Concept]:
    """Return concepts with those of one name joined, in the order of their first occurrence."""
    forms: dict[str, dict[str, None]] = {}
    for concept in concepts:
        forms.setdefault(concept.name, {}).update(dict.fromkeys(concept.forms))
    return [Concept(name, tuple(found)) for name, found in forms.items()]
