"""The stages that a recipe can name, one module each."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from cpt.stages.base import Stage

KINDS = ("corpus", "vocabulary", "pretrain", "merge", "evaluate", "report")
"""Every kind of stage, in the order in which a recipe usually names them."""


@cache
def stages() -> dict[str, Stage[Any]]:
    """Every stage by its kind. Imports the stages' modules, which import nothing heavy until they run."""
    return {kind: import_module(f"cpt.stages.{kind}").STAGE for kind in KINDS}
