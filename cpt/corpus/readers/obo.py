"""Read ontologies in OBO format: one document per defined term."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Document, Item, Removed, data_error
from cpt.corpus.readers.files import ReadFiles, decode, open_bytes, read_lines, shown
from cpt.errors import Problem


def read_obo(path: Path, files: ReadFiles | None = None) -> Iterator[Item]:
    """Return every term as prose: its name, definition, comment and synonyms.

    Terms without a definition, and obsolete ones, are yielded as removed. Relations between terms (typedefs)
    are not documents.

    Args:
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file is not OBO, or not UTF-8; names the place.
        OSError: The compressed stream is damaged or truncated.
    """
    return map(_item, term_frames(path, files))


def term_frames(path: Path, files: ReadFiles | None = None) -> Iterator[Any]:
    """Yield fastobo's frame of every term; raises as `read_obo`."""
    import fastobo

    try:
        with open_bytes(path, files) as stream:
            for frame in fastobo.iter(stream, threads=1):
                if isinstance(frame, fastobo.term.TermFrame):
                    yield frame
    except SyntaxError as error:
        problem = Problem(f"not OBO: {shown(str(error.msg))}", file=str(path), line=error.lineno)
        raise data_error([problem]) from error
    except OSError as error:
        raise _utf8_error(path) or error from error
    except BaseException as error:
        # At a binary beginning the parser raises TypeError, and it panics at some lines (fastobo 0.14).
        if not isinstance(error, TypeError) and type(error).__name__ != "PanicException":
            raise
        problem = Problem("not OBO: the parser cannot read it", file=str(path))
        raise _utf8_error(path) or data_error([problem]) from error


def _item(frame: Any) -> Item:
    """Return a term as a document, from its clauses by fastobo's class names."""
    id, name, definition, comment, obsolete = str(frame.id), "", "", "", False
    synonyms: list[str] = []
    for clause in frame:
        match type(clause).__name__:
            case "NameClause":
                name = clause.name
            case "DefClause":
                definition = str(clause.definition)
            case "CommentClause":
                comment = clause.comment
            case "SynonymClause":
                synonyms.append(clause.synonym.desc)
            case "IsObsoleteClause":
                obsolete = clause.obsolete
    if obsolete:
        return Removed(id, "obsolete")
    if not definition.strip():
        return Removed(id, "no_definition")
    others = dict.fromkeys(synonym for synonym in synonyms if synonym != name)
    also = f"Also called: {'; '.join(others)}." if others else ""
    return Document(id, "\n".join(line for line in (name, definition, comment, also) if line))


def _utf8_error(path: Path) -> Exception | None:
    """Return the error that names the place where a file is not UTF-8, which the parser's does not."""
    with open_bytes(path) as stream:
        for number, line in enumerate(read_lines(stream, path), start=1):
            decoded = decode(line, path, number)
            if isinstance(decoded, Problem):
                return data_error([decoded])
    return None
