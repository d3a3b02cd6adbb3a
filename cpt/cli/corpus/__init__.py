"""Define `cpt corpus`: build a corpus, and look into one."""

from __future__ import annotations

import typer

from cpt.cli.corpus import build, contents

app = typer.Typer(
    help="Build a corpus, see what it holds and what was removed from it.", no_args_is_help=True
)
app.command("build")(build.build)
app.command("stats")(contents.stats)
app.command("inspect")(contents.inspect)
app.command("sample")(contents.sample)
