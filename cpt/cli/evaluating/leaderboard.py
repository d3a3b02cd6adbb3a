"""`cpt eval leaderboard`: the models of a folder of results, ranked by suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.options import (
    DEFAULT_RESULTS,
    Confidence,
    CorrectionName,
    check_choice,
)
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.errors import UsageError

if TYPE_CHECKING:
    from evals.comparing.leaderboard import Ranking, Standing


def leaderboard(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of results: runs/evals if left out.")
    ] = DEFAULT_RESULTS,
    confidence: Confidence = 0.95,
    correction: CorrectionName = "holm",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the resamples.")] = 0,
    as_json: Json = False,
) -> None:
    """Rank the evaluated models in every suite, and say who is behind the best beyond the noise.

    Example: cpt eval leaderboard runs/evals
    """
    from cpt.cli.evaluating.folders import result_folders
    from evals.comparing.correction import Correction
    from evals.comparing.leaderboard import leaderboard as ranked
    from evals.result_files import load_results

    check_choice("--correction", correction, get_args(Correction))
    found = [load_results(each) for each in result_folders(folder)]
    if not found:
        raise UsageError(f"{folder} holds no results of evaluations", hint="cpt eval run MODEL … makes some.")
    rankings = ranked(found, confidence=confidence, correction=correction, seed=seed)  # type: ignore[arg-type]
    if as_json:
        return print_json([ranking.model_dump(mode="json") for ranking in rankings])
    return _print(out(), rankings)


def _print(console: Console, rankings: Sequence[Ranking]) -> None:
    from evals.comparing.tables import with_error

    for ranking in rankings:
        heading = f"{ranking.suite}:{ranking.level}", "bold"
        console.print(Text.assemble(heading, (f"  macro average of {ranking.tasks} tasks", "dim")))
        table = rows("#", "model", "", "score#", "to the best#", "interval", "p#", "")
        for standing in ranking.standings:
            score = with_error(standing.average.score, standing.average.stderr)
            table.add_row(
                "", f"{standing.rank}", standing.model, standing.fingerprint[:8], score, *_against(standing)
            )
        console.print(table)
        for each in ranking.not_ranked:
            console.print(Text(f"  not ranked: {each.model}: {each.why}", style="dim"), soft_wrap=True)


def _against(standing: Standing) -> tuple[str, str, str, str]:
    from evals.comparing.tables import number

    found = standing.against_best
    if found is None:
        return "", "", "", "best"
    interval = "" if found.interval is None else " to ".join(number(x, signed=True) for x in found.interval)
    verdict = "tie" if found.verdict == "no change" else found.verdict
    return number(found.difference, signed=True), interval, f"{found.p_adjusted:.3f}", verdict
