"""Initialise the embeddings of new tokens: one module per method, found by its file name.

A new method is one new file `my_method.py` in this folder with a `METHOD`; it is then `my-method` in recipes
and on the command line. Files that start with `_` are shared parts. Modules are imported on demand, so
listing the names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from tokenizer_tools.transfer import Transfer

Role = Literal["input", "output", "tied", "bias"]
"""Role of a matrix. "tied" is one matrix for input and output; "bias" is [V, 1], of the output."""

Rule = Callable[["Tensor", Role], "Tensor"]
"""Function (source rows [V, H], role) -> rows of the new tokens [N, H], in the source's data type."""


class NoParameters(BaseModel):
    """Base of the parameters of methods: every field has a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Method:
    """A method that makes embedding rows for new tokens.

    Attributes:
        summary: Description in one line.
        reference: Address of the paper or repository.
        prepare: Function (transfer, parameters) -> rule. It does the work needed once: vectors, weights,
            training. The rule is then called for each of the model's vocabulary matrices.
        parameters: Class of the parameters; a recipe sets them beside `method:`.
        needs_texts: True if the method learns from `Transfer.texts`.
        needs: Names of the parameters without which the method cannot work.
        check: Function (model folder, parameters) that raises a `CptError` if the method cannot work for the
            model. It is called before anything is learned.
        remake: Function (transfer, parameters) -> transfer in which shared tokens that the method makes rows
            for too are new; None if shared tokens keep their rows.
        facts: Function (transfer, parameters) -> plain data on what the method does with the new tokens.
        resolvers: Function reference -> local path, by the name of each parameter that names neither a model
            nor a file.
    """

    summary: str
    reference: str
    prepare: Callable[[Transfer, Any], Rule]
    parameters: type[NoParameters] = NoParameters
    needs_texts: bool = False
    needs: tuple[str, ...] = ()
    check: Callable[[Path, Any], None] | None = None
    remake: Callable[[Transfer, Any], Transfer] | None = None
    facts: Callable[[Transfer, Any], dict[str, Any]] | None = None
    resolvers: Mapping[str, Callable[[str], Path]] = field(default_factory=dict)


def names() -> list[str]:
    """Return the names of all methods."""
    found = (module.name for module in iter_modules([str(Path(__file__).parent)]))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        KeyError: No method has the name.
    """
    if name not in names():
        raise KeyError(name)
    found: Method = import_module(f"{__name__}.{name.replace('-', '_')}").METHOD
    return found


def methods() -> Iterator[tuple[str, Method]]:
    """Return every method with its name."""
    return ((name, method(name)) for name in names())
