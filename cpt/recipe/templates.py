"""The recipes that come with cpt, for `cpt init`."""

from __future__ import annotations

from importlib.resources import files

from cpt.errors import UsageError
from cpt.recipe.suggest import did_you_mean


def templates() -> dict[str, str]:
    """Name of each packaged recipe -> its text."""
    found = (item for item in files("recipes").iterdir() if item.name.endswith(".yaml"))
    return {
        item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8")
        for item in sorted(found, key=lambda item: item.name)
    }


def template(name: str) -> str:
    """The text of one packaged recipe.

    Raises:
        UsageError: there is none of that name.
    """
    known = templates()
    if name not in known:
        raise UsageError(f"there is no template `{name}`", hint=did_you_mean(name, known))
    return known[name]


def about(text: str) -> str:
    """A recipe's first comment line: what it is for."""
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""
