"""The house itself: imports run one way, docstrings follow the rule of prose, keys are on their page."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("cpt", "tokenizer_tools", "merging", "evals")
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in (ROOT / package).rglob("*.py")
}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}

FLOORS = (
    ("cpt.cli", "cpt.watch"),
    ("cpt.estimate", "cpt.publishing", "cpt.starter", "cpt.sweep"),
    ("cpt.recipe", "cpt.initialiser_trial"),
    ("cpt.stages",),
    ("cpt.report",),
    ("cpt.training", "cpt.corpus", "cpt.laws", "evals", "merging", "tokenizer_tools"),
    ("cpt.monitor",),
    ("cpt.references",),
    ("cpt.models",),
)
"""Rooms from the top floor to the lowest. Imports run down, or stay on a floor."""

_BANNED = re.compile(r"^(What|Whether|Where|That|How|Tells?|As many|Those|Which)\b")
"""Beginnings of a docstring that name no action and no thing."""


def imports(name: str) -> Iterator[str]:
    """Every module of the project that a module imports, also within functions, but not for types alone."""
    typing_only = {
        id(node)
        for block in ast.walk(TREES[name])
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else node.module


def test_no_module_imports_itself_through_others() -> None:
    sys.setrecursionlimit(10_000)
    graph = {name: {each for each in imports(name) if each in FILES and each != name} for name in FILES}
    state: dict[str, int] = {}
    circles: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        state[name] = 1
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                circles.append([*path[path.index(other) :], other] if other in path else [name, other])
            elif other not in state:
                visit(other, [*path, other])
        state[name] = 2

    for name in graph:
        if name not in state:
            visit(name, [name])
    assert circles == []


def test_imports_run_down_the_floors() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

    def floor_of(name: str) -> int | None:
        return next((floor[room] for room in floor if name == room or name.startswith(f"{room}.")), None)

    up = [
        f"{name} imports {other}"
        for name in FILES
        for other in imports(name)
        if (here := floor_of(name)) is not None and (there := floor_of(other)) is not None and there < here
    ]
    assert up == []


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    wrong = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and _BANNED.match(text):
                    wrong.append(f"{name}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert wrong == []
