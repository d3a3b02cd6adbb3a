"""Published data sets as local files: one module each; a file with a `SOURCE` adds one."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from evals.sources.base import Files, Rows, Source

__all__ = ["Files", "Rows", "Source", "sources"]


@functools.cache
def sources() -> Mapping[str, Source]:
    """Every data set that is known in its local form, by name."""
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in sorted(found, key=lambda source: source.name)}
