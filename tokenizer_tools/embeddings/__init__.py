"""Initialisation of new tokens' embeddings: one module per method, found by name.

A method's module holds `METHOD`. Modules are imported on demand, so naming a method costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NAMES: Mapping[str, str] = {"subtoken-mean": "subtoken_mean"}
"""Module of every method by the method's name."""


@dataclass(frozen=True)
class Method:
    """A way to make embedding rows for new tokens.

    Attributes:
        rows: (source rows [V, H], for each new token the source ids it was made of) -> new rows [N, H] in
            the source's data type.
        parameters: what a recipe may set, by name, with its meaning.
    """

    name: str
    reference: str
    rows: Callable[[Tensor, Sequence[Sequence[int]]], Tensor]
    parameters: Mapping[str, str] = field(default_factory=dict)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        KeyError: there is none.
    """
    found: Method = import_module(f"{__name__}.{NAMES[name]}").METHOD
    return found
