"""Define the `cpt` command. Commands parse, call and print; they contain no logic."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import rich_utils

from cpt import __version__
from cpt.cli.commands import LazyGroup
from cpt.cli.output import explain
from cpt.cli.silence import silence_libraries
from cpt.errors import CptError, UsageError
from cpt.escaping import escape_controls
from cpt.recipe.failures import REFUSED, explain_os_error
from cpt.training.deterministic import allow_deterministic

_UsageMistake: Any = typer.BadParameter.__mro__[2]
"""ClickException: any mistake in options or arguments, from whichever click this Typer uses."""

_RENAMED_OPTIONS = {("cpt merge search", "--budget"): "--limit"}
"""Command and former name of an option -> its name."""

app = typer.Typer(
    name="cpt",
    cls=LazyGroup,
    help="Continual pretraining of language models: a recipe goes in, a better model and a report come out.",
    epilog="Start with: cpt presets, then cpt run RECIPE.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"cpt {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Read options of the command itself."""


def _share_processors() -> None:
    """Make waiting threads of torch sleep early. Call it before torch is imported; user settings win.

    By default GNU OpenMP lets them spin 300,000 times. If another process keeps a core busy, each of torch's
    many small steps then costs a time slice. Measured on two cores with layers of a 135M-parameter model:
    13 passes a second alone, 0.3 beside a busy loop; with 10,000 spins 12 alone, 4 beside the loop.
    GOMP_SPINCOUNT would override a policy that the user has set.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _explain_mistake(mistake: Any, as_json: bool) -> int:
    """Print what is wrong with options or arguments, with the usage; return the exit code."""
    former = (getattr(mistake.ctx, "command_path", ""), getattr(mistake, "option_name", ""))
    if former in _RENAMED_OPTIONS:
        mistake.message = f"{former[1]} is now called {_RENAMED_OPTIONS[former]}"
        mistake.possibilities = ()
    message = escape_controls(mistake.format_message())
    if as_json:
        return explain(UsageError(message), as_json)
    mistake.format_message = lambda: message
    rich_utils.rich_format_error(mistake)
    return int(mistake.exit_code)


def _refused(error: OSError) -> CptError:
    """Return an error for what the system refused: a path named by the user, or a full disk."""
    explained = explain_os_error(error, Path.cwd())
    if error.errno not in REFUSED:
        return explained
    return UsageError(explained.message, hint=explained.hint)


def _print_traceback(error: BaseException | None) -> None:
    sys.stderr.write(escape_controls("".join(traceback.format_exception(error))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; print errors on standard error, without traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, debug = "--json" in words, "--debug" in words or bool(os.environ.get("CPT_DEBUG"))
    if not debug:
        silence_libraries()
    _share_processors()
    allow_deterministic()
    try:
        code = app(words, prog_name="cpt", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except CptError as error:
        if debug:
            _print_traceback(error)
        return explain(error, as_json)
    except OSError as error:
        return explain(_refused(error), as_json)
    except _UsageMistake as mistake:
        return _explain_mistake(mistake, as_json)
    except Exception as caught:
        unexplained = caught.__cause__ if isinstance(caught, typer.Abort) else caught  # of an EOFError
        if debug:
            _print_traceback(unexplained)
        unexpected = CptError(
            f"unexpected {type(unexplained).__name__}: {unexplained}",
            hint="This is a mistake in cpt; CPT_DEBUG=1 shows the traceback. Please report it.",
        )
        return explain(unexpected, as_json)
