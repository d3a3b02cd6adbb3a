"""`cpt tokenizer`: measure a tokenizer, change a model's vocabulary, choose an initialisation."""

from __future__ import annotations

import typer

from cpt.cli.tokenizer import changes, initialisers, report

app = typer.Typer(
    add_completion=False,
    help="Measure a tokenizer, change a model's vocabulary, choose how new tokens are initialised.",
    no_args_is_help=True,
)
app.command("report")(report.report)
app.command("extend")(changes.extend)
app.command("prune")(changes.prune)
app.command("replace")(changes.replace)
app.command("transfer")(changes.transfer)
app.command("train")(changes.train)
app.command("transliterate")(changes.transliterate)
app.command("methods")(initialisers.methods)
app.command("helper")(initialisers.helper)
app.command("compare")(initialisers.compare)
