"""`cpt merge`: merge, average, search and analyse models of one architecture."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cpt.cli.merging import analyse, average, extract, merge, methods, search

_MERGE = "models"


class _Group(TyperGroup):
    """A group that runs `models` unless the first word is a command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            args = [_MERGE, "--help"]
        elif args[0] not in self.commands:
            args = [_MERGE, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        if name != _MERGE or found is None:
            return name, found, rest
        found.epilog = f"More: cpt merge {' | '.join(other for other in self.commands if other != _MERGE)}."
        return "", found, rest


app = typer.Typer(
    add_completion=False,
    cls=_Group,
    help="Merge models of one architecture: task arithmetic, TIES, DARE and the rest, vocabularies aligned.",
)
app.command(_MERGE, hidden=True)(merge.merge)
app.command("methods")(methods.methods)
app.command("analyse")(analyse.analyse)
app.command("average")(average.average)
app.command("extract")(extract.extract)
app.command("search")(search.search)
