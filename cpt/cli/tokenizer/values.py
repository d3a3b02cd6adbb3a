"""Small values on the command line: a method's parameters, steps, a method with its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cpt.errors import RecipeError, UsageError
from cpt.recipe.document import COMMAND_LINE, parse, plain


def parameters(words: Iterable[str]) -> dict[str, Any]:
    """`k=32` and the like, with values in YAML.

    Raises:
        UsageError: a word is not of that form.
    """
    found = {}
    for word in words:
        name, separator, text = word.partition("=")
        if name.strip() == "method":
            raise UsageError(f"`{word}` is no parameter", hint="Choose the method by --method.")
        if not separator or not name.strip():
            raise UsageError(f"`{word}` is no setting", hint="Write key=value, such as `k=32`.")
        try:
            found[name.strip().replace("-", "_")] = plain(parse(text, COMMAND_LINE))
        except RecipeError as error:
            raise UsageError(f"{name}: {error.problems[0].message}") from error
    return found


def method(word: str) -> dict[str, Any]:
    """`clp` or `clp:clip=false,top_k=20` as the `embeddings` of a vocabulary stage."""
    name, _, settings = word.partition(":")
    return {"method": name.strip(), **parameters(part for part in settings.split(",") if part.strip())}


def steps(text: str) -> tuple[int, ...]:
    """`0,50,200` as ascending numbers, 0 among them.

    Raises:
        UsageError: it is no list of numbers.
    """
    try:
        found = {int(part.replace("_", "")) for part in text.split(",")}
    except ValueError:
        found = {-1}
    if min(found) < 0:
        raise UsageError(f"--steps {text} is no list of numbers", hint="Write it like 0,50,200.")
    return tuple(sorted({0, *found}))
