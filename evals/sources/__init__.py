"""Published data sets as local files, by domain.

A data set is a `Source` in one of the modules: `finance`, `flare` (finance in FLARE's form), `general`,
`legal`, `medical`. Any `Source` in a module of this package is found by itself.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from evals.sources.base import Files, Rows, Source

__all__ = ["Files", "Rows", "Source", "sources"]


@functools.cache
def sources() -> Mapping[str, Source]:
    """Return every data set that is known in its local form, by name."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    found = {
        each.name: each for module in modules for each in vars(module).values() if isinstance(each, Source)
    }
    return dict(sorted(found.items()))
