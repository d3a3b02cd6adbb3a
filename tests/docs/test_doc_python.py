"""Python in the documentation parses, and what it imports from the project exists."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from importlib import import_module

import pytest
from doc_pages import Block, blocks

PACKAGES = ("cpt", "tokenizer_tools", "merging", "evals")


def missing(code: str) -> Iterator[str]:
    """Yield the names that code takes from the project's packages, and that are not there."""
    tree = ast.parse(code)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            for alias in node.names:
                found = _attribute(str(node.module), alias.name)
                modules[alias.asname or alias.name] = found
                if found is None:
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in PACKAGES:
                    modules[(alias.asname or alias.name).split(".")[0]] = import_module(
                        alias.name.split(".")[0]
                    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            if owner is not None and not hasattr(owner, node.attr):
                yield f"{node.value.id}.{node.attr}"


def _attribute(module: str, name: str) -> object:
    try:
        return getattr(import_module(module), name, None) or import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return None


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_block_of_python_is_that_of_the_code(block: Block) -> None:
    assert list(missing(textwrap.dedent(block.text))) == []


def test_what_is_missing_is_found() -> None:
    code = "import cpt\nfrom merging import nothing\ncpt.run('a')\ncpt.walk('a')\n"
    assert list(missing(code)) == ["merging.nothing", "cpt.walk"]
