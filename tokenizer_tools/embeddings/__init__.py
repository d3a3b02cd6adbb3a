"""Initialisation of new tokens' embeddings: one module per method, found by its file name.

A new method is one new file `my_method.py` in this folder with a `METHOD`; it is then `my-method` in recipes
and on the command line. Files that start with `_` are shared parts. Modules are imported on demand, so
listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from tokenizer_tools.transfer import Transfer

Role = Literal["input", "output", "tied", "bias"]
"""What a matrix is for. "tied" is one matrix for input and output; "bias" is [V, 1], of the output."""

Rule = Callable[["Tensor", Role], "Tensor"]
"""(source rows [V, H], what they are for) -> rows of the new tokens [N, H], in the source's data type."""


class NoParameters(BaseModel):
    """Base of a method's parameters: every field has a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Method:
    """A way to make embedding rows for new tokens.

    Attributes:
        summary: what it does, in one line.
        reference: paper or repository.
        prepare: (transfer, parameters) -> rule. Does what is needed once: vectors, weights, training. The
            rule is then called for each of the model's vocabulary matrices.
        parameters: class of its parameters; a recipe sets them beside `method:`.
        needs_texts: whether it learns from `Transfer.texts`.
    """

    summary: str
    reference: str
    prepare: Callable[[Transfer, Any], Rule]
    parameters: type[NoParameters] = NoParameters
    needs_texts: bool = False


def names() -> list[str]:
    """Names of all methods."""
    found = (module.name for module in iter_modules([str(Path(__file__).parent)]))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        KeyError: there is none.
    """
    if name not in names():
        raise KeyError(name)
    found: Method = import_module(f"{__name__}.{name.replace('-', '_')}").METHOD
    return found


def methods() -> Iterator[tuple[str, Method]]:
    """Every method with its name."""
    return ((name, method(name)) for name in names())
