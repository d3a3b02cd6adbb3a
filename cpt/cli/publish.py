"""Define `cpt publish`: a run's model with its card, in a folder or on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cpt.cli.options import DEFAULT_RUNS, Json, RunArgument, Runs
from cpt.cli.output import out, print_json
from cpt.cli.tokenizer.options import shown, staged_output
from cpt.errors import UsageError
from cpt.publishing.bundle import Bundle, fill, final_model, limits_not_held
from cpt.publishing.hub import require_repository_id, upload
from cpt.recipe.failures import interruptible
from cpt.recipe.journal import Run, find_run

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*", re.IGNORECASE)


def publish(
    run: RunArgument = None,
    output: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="New folder for model, card and recipe.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ORG/NAME", help="Repository of the hub to upload them to.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", metavar="", help="Make a new repository public; else it is private.")
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="ID", help="Licence of the model as the hub has it: apache-2.0, …"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Publish a model whose limits are not held.")
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Write a run's model with a card of its figures, sources and limits, and upload it to the hub.

    `--out` alone uploads nothing: look at the folder before you do. No text of the sources is in it.
    The tokenizer is checked for transformers, vLLM and llama.cpp.

    Example: cpt publish medical --out medical-model --licence apache-2.0
    """
    if output is None and to is None:
        raise UsageError("give --out DIR, --to ORG/NAME, or both", hint="--out writes a folder to look at.")
    if to is not None:
        require_repository_id(to)
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UsageError(
            f"--licence {licence} is no id of a licence", hint="Such as apache-2.0, mit, llama3.2."
        )
    found = find_run(runs, run)
    final_model(found)
    _require_limits(found, force)
    name = to or (output.name if output else "")
    if output is not None:
        with staged_output(output) as folder:
            bundle = fill(folder, found, name, licence)
        address = upload(output, to, private=not public) if to else None
    else:
        with (
            interruptible("Nothing is left. The same command begins again."),
            # beside the run, where weights can be links
            tempfile.TemporaryDirectory(prefix=".tmp-publish-", dir=found.folder.parent) as folder,
        ):
            bundle = fill(Path(folder), found, name, licence)
            shown().message(f"uploading to {to}")
            address = upload(Path(folder), name, private=not public)
    if as_json:
        findings = [{"what": each.what, "right": each.right, "text": each.text} for each in bundle.findings]
        return print_json(
            {
                "folder": str(output) if output else None,
                "address": address,
                "stage": bundle.stage,
                "measured": bundle.measured,
                "compatibility": findings,
                "limits_not_held": bundle.limits,
            }
        )
    return _print(bundle, output, address, licence)


def _require_limits(run: Run, force: bool) -> None:
    wrong = limits_not_held(run)
    if wrong and not force:
        raise UsageError(
            "; ".join(f"{stage}: {message}" for stage, message in wrong.items()),
            hint="The card would say so: --force publishes the model all the same.",
        )


def _print(bundle: Bundle, output: Path | None, address: str | None, licence: str | None) -> None:
    console = out()
    for finding in bundle.findings:
        sign = "ok" if finding.right else "note"
        console.print(Text(f"{sign:5} {finding.what}: {finding.text}"), soft_wrap=True)
    if not bundle.measured:
        console.print("The card has no figures: no last `evaluate` stage compares this model with its base.")
    if licence is None:
        console.print("The card names no licence: --licence ID, once you know what base and text allow.")
    if output is not None:
        console.print(f"{output}: the model of stage {bundle.stage}, README.md, recipe.yaml", soft_wrap=True)
    if address is not None:
        console.print(address)
