"""List all commands, and import each only when it is called: `cpt --help` then takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Place(NamedTuple):
    """The place of a command.

    Attributes:
        module: Module in `cpt.cli`.
        name: Name of its function, or of the Typer application of a group.
        help: First sentence of its help, as the list of commands shows it.
        launchable: Whether words after `--` go to `accelerate launch`.
    """

    module: str
    name: str
    help: str
    launchable: bool = False


COMMANDS: dict[str, Place] = {
    "init": Place(
        "init",
        "init",
        "Write a commented recipe that fits your text, model, machine and time, or a template.",
    ),
    "presets": Place(
        "presets",
        "presets",
        "List the packaged recipes: what each is for, what it needs, and what it gave when it was run.",
    ),
    "doctor": Place(
        "doctor",
        "doctor",
        "Check Python, packages, devices, memory, disks and optional packages of this machine.",
    ),
    "validate": Place(
        "recipes",
        "validate",
        "Check a recipe and report all problems at once. Runs and downloads nothing.",
        launchable=True,
    ),
    "plan": Place(
        "recipes",
        "plan",
        "Show what `cpt run` would do with the same arguments: run, cached or stale for each stage, and why.",
        launchable=True,
    ),
    "estimate": Place(
        "estimate",
        "estimate",
        "Predict peak memory by part, time and cost of every stage that trains, without training.",
    ),
    "run": Place(
        "run",
        "run",
        "Run a recipe: keep finished results, redo changed stages, resume interrupted ones.",
        launchable=True,
    ),
    "continue": Place(
        "run",
        "continue_",
        "Continue a finished training from a checkpoint, with a new schedule and, by default, a fresh "
        "optimizer.",
        launchable=True,
    ),
    "sweep": Place(
        "sweep",
        "sweep",
        "Try combinations of settings and seeds, and report effects, trade-off and the best configuration.",
        launchable=True,
    ),
    "law": Place(
        "law", "app", "Fit a mixture law on small runs, and ask it how much replay a larger one should have."
    ),
    "status": Place("status", "status", "Show the progress of a run, also while another process runs it."),
    "watch": Place("watch", "watch", "Show a run in the browser: its report so far, updated until Ctrl-C."),
    "clean": Place(
        "clean",
        "clean",
        "Remove what runs no longer use: older results, abandoned attempts, unfinished writes.",
    ),
    "publish": Place(
        "publish",
        "publish",
        "Write a run's model with a card of its figures, sources and limits, and upload it to the hub.",
    ),
    "report": Place(
        "report",
        "report",
        "Show the main figures and the path of a run's report, or compare several runs on one page.",
    ),
    "diff": Place(
        "diff", "diff", "Show the differences from A to B: settings, data, first differing stage, figures."
    ),
    "show": Place("status", "show", "Show the result of a stage: settings, inputs, figures, files."),
    "ls": Place("status", "ls", "List all runs, the newest first."),
    "corpus": Place(
        "corpus",
        "app",
        "Build a corpus, see what it holds and what was removed; select, deduplicate, decontaminate text.",
    ),
    "tokenizer": Place(
        "tokenizer",
        "app",
        "Measure a tokenizer, change a model's vocabulary, choose how new tokens are initialised.",
    ),
    "eval": Place(
        "evaluating",
        "app",
        "Evaluate models on suites of benchmarks and on texts, and compare them item by item.",
    ),
    "merge": Place(
        "merging",
        "app",
        "Merge models of one architecture: task arithmetic, TIES, DARE and the rest, vocabularies aligned.",
    ),
    "schedule": Place(
        "schedule", "app", "Show a learning-rate schedule: its rates in every phase, and its curve."
    ),
}
"""Commands in the order of the help."""


class LazyGroup(TyperGroup):
    """A group that imports a command when it is called, and only names it where commands are listed."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Return a command: a name and a help text in a list, the whole of it elsewhere."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        return TyperCommand(cmd_name, help=place.help) if self._listing else load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the called command; after a wrong name suggest near ones."""
        self.commands = dict.fromkeys(COMMANDS, TyperCommand("name"))  # only the names are read
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        with self._names_only():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return completions of a command's name."""
        with self._names_only():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _names_only(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def load(name: str) -> Any:
    """Import a command and return it as the command line's library needs it."""
    place = COMMANDS[name]
    found = getattr(import_module(f"cpt.cli.{place.module}"), place.name)
    if isinstance(found, typer.Typer):
        command = get_command(found)
    else:
        options: dict[str, Any] = {}
        if place.launchable:
            from cpt.cli.launch import LaunchableCommand

            options["cls"] = LaunchableCommand
        alone = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
        alone.command(name, **options)(found)
        command = get_command(alone)
    command.name = name
    return command
