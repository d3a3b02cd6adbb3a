"""`cpt merge`: what merging does with models."""

from __future__ import annotations

import typer

from cpt.cli.merging import analyse

app = typer.Typer(help="Merge models, and measure what would be merged.", no_args_is_help=True)
app.command("analyse")(analyse.analyse)


@app.callback()
def _options() -> None:
    """Options of `cpt merge` itself."""
