"""Define `cpt corpus`: build a corpus, and look into one."""

from __future__ import annotations

import typer

from cpt.cli.corpus import alone, build, contents, study

app = typer.Typer(
    add_completion=False,
    help="Build a corpus, see what it holds and what was removed; select, deduplicate, decontaminate text.",
    no_args_is_help=True,
)
app.command("build")(build.build)
app.command("stats")(contents.stats)
app.command("inspect")(contents.inspect)
app.command("sample")(contents.sample)
app.command("select")(alone.select)
app.command("dedup")(alone.dedup)
app.command("decontaminate")(alone.decontaminate)
app.command("study")(study.study)
