"""`cpt eval`: evaluate models on suites and texts, compare them, find contamination."""

from __future__ import annotations

import typer

from cpt.cli.evaluating import comparing, contamination, running, texts

app = typer.Typer(
    add_completion=False,
    help="Evaluate models on suites of benchmarks and on texts, and compare them item by item.",
    no_args_is_help=True,
)
app.command("suites")(running.suites)
app.command("run")(running.run)
app.command("compare")(comparing.compare)
app.command("text")(texts.text)
app.command("leaderboard")(comparing.leaderboard)
app.command("contamination")(contamination.contamination)
