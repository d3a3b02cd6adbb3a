"""Read the prose in modules of the standard library from source text, without importing them."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from cpt.errors import DataError, ReferenceUnavailable, SourceError
from cpt.references.syntax import PythonModule, parse


def module_source(module: PythonModule) -> Path:
    """Return the source file of a module of the standard library.

    Raises:
        ReferenceUnavailable: This Python installation has no source of the module.
    """
    stem = Path(sysconfig.get_paths()["stdlib"], *module.name.split("."))
    tried = [stem.with_suffix(".py"), stem / "__init__.py"]
    for path in tried:
        if path.is_file():
            return path
    raise ReferenceUnavailable(
        f"this Python has no source of {module.name}: looked for {' and '.join(map(str, tried))}",
        hint="Install Python's full standard library, or name a text file of your own instead.",
    )


def read_python_prose(reference: str) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of a module's one dictionary of strings, else of its module-level strings.

    Args:
        reference: `python:MODULE`, or the path of a Python source file.

    Raises:
        DataError: The source cannot be parsed, or holds no such strings.
    """
    location = parse(reference).location
    path = module_source(location) if isinstance(location, PythonModule) else Path(reference).expanduser()
    yield from prose_of(path.read_bytes(), path)


def prose_of(source: bytes, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the prose of source code, as `read_python_prose` does.

    Args:
        source: Source code.
        path: Path of the source, for messages.

    Raises:
        DataError: As in `read_python_prose`.
    """
    try:
        module = ast.parse(source, filename=str(path))
    except (RecursionError, MemoryError) as error:  # the parser raises these for deep nesting
        raise SourceError(f"{path}: not Python source that can be read: it is nested too deeply") from error
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise SourceError(f"{path}{line}: not Python source: {error.args[0]}") from error
    values = list(_assignments(module))
    mappings = [strings for _, value in values if (strings := _dictionary(value))]
    plain = [(name, text) for name, value in values if (text := _string(value))]
    if len(mappings) > 1:
        raise DataError(f"{path}: has {len(mappings)} dictionaries of strings: which one is prose?")
    strings = mappings[0] if mappings else plain
    if not strings:
        raise DataError(
            f"{path}: has neither a dictionary of strings nor strings at module level",
            hint="python: references read modules like pydoc_data.topics.",
        )
    yield from strings


def _assignments(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _dictionary(value: ast.expr) -> list[tuple[str, str]]:
    """Return the items of a dictionary literal of strings; nothing for any other value."""
    if not isinstance(value, ast.Dict):
        return []
    pairs = zip(value.keys, value.values, strict=True)
    items = [(_string(key), _string(text)) for key, text in pairs]
    strings = [(key, text) for key, text in items if key is not None and text is not None]
    return strings if len(strings) == len(items) else []


def _string(value: ast.expr | None) -> str | None:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
