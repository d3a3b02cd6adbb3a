"""The stages that a recipe can name, one package or module each."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from cpt.stages.base import Stage

KINDS = ("corpus", "hypernetwork", "vocabulary", "pretrain", "merge", "evaluate", "report")
"""Every kind of stage, in the order in which a recipe usually names them."""

_SINGLE_MODULES = frozenset({"report"})
"""Kinds that are one module; every other kind is a package with a module `stage`."""


@cache
def stages() -> dict[str, Stage[Any]]:
    """Return every stage by its kind. The modules import nothing heavy until a stage runs."""
    modules = {kind: kind if kind in _SINGLE_MODULES else f"{kind}.stage" for kind in KINDS}
    return {kind: import_module(f"cpt.stages.{name}").STAGE for kind, name in modules.items()}
