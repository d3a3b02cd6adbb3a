"""Define `cpt watch`: a live page of a run."""

from __future__ import annotations

import os
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from cpt.cli.options import DEFAULT_RUNS, RunArgument, Runs
from cpt.cli.output import out
from cpt.errors import did_you_mean
from cpt.recipe.journal import runs as known_runs

_NICE = 10


def watch(
    run: RunArgument = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port of the page; 0 for any. Default: 8417, else any."
        ),
    ] = None,
    open_: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the page in a browser. Default: if a screen exists."),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Show a run in the browser: its report so far, updated until Ctrl-C.

    The run may begin later, be killed and continue. The page is served to this machine only; from another
    machine: ssh -L 8417:127.0.0.1:8417 HOST

    Example: cpt watch medical
    """
    from cpt.watch.run_watcher import RunWatcher
    from cpt.watch.server import Server

    watched = RunWatcher(runs, run)
    server = Server(watched, port)
    found = watched.run()
    name = found.name if found else run or "the next run"
    waiting = "" if found else f"; there is none in {runs} yet"
    out().print(f"{name}{waiting}: {server.address} (Ctrl-C ends this, not the run)", soft_wrap=True)
    if not found and (hint := did_you_mean(name, [other.name for other in known_runs(runs)])):
        out().print(hint, markup=False, soft_wrap=True)
    if hasattr(os, "nice"):
        os.nice(_NICE)  # the training has priority
    if open_ or (open_ is None and _has_screen()):
        webbrowser.open(server.address)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def _has_screen() -> bool:
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
