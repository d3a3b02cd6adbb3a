"""`cpt eval compare` compares two evaluations item by item; `cpt eval leaderboard` ranks many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.inputs import (
    DEFAULT_RESULTS,
    Confidence,
    CorrectionName,
    Results,
    check_choice,
)
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.errors import UsageError
from cpt.sources import GENERAL

if TYPE_CHECKING:
    from cpt.models.bits_per_byte import Scores
    from evals.comparing.comparison import Comparison, Findings
    from evals.comparing.leaderboard import Ranking, Standing
    from evals.comparing.retention import Retention
    from evals.results import Results as Evaluation
    from evals.text_scores import TextScores


_LEFT = {"task", "metric", "domain", "interval", "verdict"}
_COLOURS = {"better": "green", "worse": "red"}


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Results of the model before: folder, or model.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Results of the model after: folder, or model.")],
    confidence: Confidence = 0.95,
    correction: CorrectionName = "holm",
    general: Annotated[
        str, typer.Option("--general", metavar="SUITE", help="Suite whose loss the retention score counts.")
    ] = GENERAL,
    clean: Annotated[
        list[Path] | None,
        typer.Option(
            "--clean",
            metavar="FILE",
            help="Leave out the dirty items of this contamination.json. May be repeated.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write a section for a model card.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the comparison: .svg, .png or .pdf.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the resamples.")] = 0,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Find what changed from A to B beyond the noise: by task, group and suite, and as a retention score.

    Both models' answers to the same items are compared, so that items hard for both widen no interval.

    Example: cpt eval compare BASE ADAPTED --markdown card.md --plot change.svg
    """
    from evals.comparing.comparison import compare as compared
    from evals.comparing.retention import retentions
    from evals.comparing.verdicts import Correction
    from evals.result_folders import find_results

    check_choice("--correction", correction, get_args(Correction))
    pair = [_clean(find_results(word, results), clean or ()) for word in (a, b)]
    if general != GENERAL:
        check_choice("--general", general, [suite for suite in pair[0].suites if suite in pair[1].suites])
    comparison = compared(
        *pair,
        confidence=confidence,
        correction=correction,  # type: ignore[arg-type]
        seed=seed,
    )
    scores = retentions(comparison, general)
    _write(comparison, scores, csv, markdown, plot)
    if as_json:
        return print_json(as_facts(comparison, scores))
    return print_comparison(out(), comparison, scores)


def _clean(evaluation: Evaluation, files: Sequence[Path]) -> Evaluation:
    from evals.contamination import drop_dirty_items, read_contamination

    for file in files:
        evaluation = drop_dirty_items(evaluation, read_contamination(file))
    return evaluation


def _write(
    comparison: Comparison,
    scores: Sequence[Retention],
    csv: Path | None,
    markdown: Path | None,
    plot: Path | None,
) -> None:
    from cpt.atomic import write_text
    from evals.comparing.plots import plot as draw
    from evals.comparing.tables import to_csv, to_markdown

    if plot is not None:
        draw(comparison, plot)
    for file, text in ((csv, to_csv(comparison)), (markdown, to_markdown(comparison, scores))):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)


def as_facts(comparison: Comparison, scores: Sequence[Retention]) -> dict[str, Any]:
    """Return a comparison as `--json` prints it: tasks, groups and averages by name."""
    facts = comparison.model_dump(mode="json", exclude={"tasks", "groups", "averages", "measures"})
    return {
        **facts,
        **_by_name(comparison),
        "measures": {name: _by_name(findings) for name, findings in comparison.measures.items()},
        "retention": {each.domain: each.model_dump(mode="json", exclude={"domain"}) for each in scores},
    }


def _by_name(findings: Findings) -> dict[str, Any]:
    return {
        "tasks": {task.task: task.model_dump(mode="json", exclude={"task"}) for task in findings.tasks},
        "groups": {f"{each.suite}/{each.group}": each.model_dump(mode="json") for each in findings.groups},
        "averages": {
            each.suite: each.model_dump(mode="json", exclude={"suite"}) for each in findings.averages
        },
        "no_signal": [each.model_dump(mode="json") for each in findings.no_signal],
    }


def print_comparison(console: Console, comparison: Comparison, scores: Sequence[Retention]) -> None:
    """Print a table for every suite, the retention scores, and how to read them."""
    from evals.comparing.tables import RETENTION_HEADINGS, explanation, retention_cells
    from evals.measures import COMPARED

    console.print(
        Text.assemble(("A ", "dim"), (comparison.a, "bold"), ("  B ", "dim"), (comparison.b, "bold"))
    )
    _print_findings(console, comparison)
    for measure, findings in comparison.measures.items():
        console.print()
        console.print(Text(COMPARED[measure], style="dim"))
        _print_findings(console, findings, f" by {measure}")
    if scores:
        console.print()
        console.print(Text(f"retention against {scores[0].general}, in points", style="bold"))
        _print_table(console, RETENTION_HEADINGS, [retention_cells(each) for each in scores])
    console.print()
    for note in (explanation(comparison), *comparison.notes):
        console.print(Text(note, style="dim"))
    for left in comparison.not_compared:
        console.print(
            Text(f"not compared: {left.suite} {left.task}: {left.why}", style="dim"), soft_wrap=True
        )


def _print_findings(console: Console, findings: Findings, how: str = "") -> None:
    from evals.comparing.tables import (
        HEADINGS,
        NO_SIGNAL,
        NO_SIGNAL_HEADINGS,
        by_suite,
        cells,
        no_signal_by_suite,
        no_signal_cells,
    )

    for suite, lines in by_suite(findings):
        console.print()
        console.print(Text(f"{suite}{how}", style="bold"))
        _print_table(console, HEADINGS, [cells(line) for line in lines])
    for suite, silent in no_signal_by_suite(findings).items():
        console.print()
        console.print(Text.assemble((f"{suite}{how}: no signal", "bold"), (f"  {NO_SIGNAL}", "dim")))
        _print_table(console, NO_SIGNAL_HEADINGS, [no_signal_cells(each) for each in silent])


def _print_table(console: Console, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    table = rows(*(heading if heading in _LEFT else f"{heading}#" for heading in headings))
    for line in lines:
        *cells, verdict = line
        table.add_row("", *cells, Text(verdict, style=_COLOURS.get(verdict, "dim")))
    console.print(table)


def leaderboard(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of results: runs/evals if left out.")
    ] = DEFAULT_RESULTS,
    confidence: Confidence = 0.95,
    correction: CorrectionName = "holm",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the resamples.")] = 0,
    as_json: Json = False,
) -> None:
    """Rank the evaluated models in every suite, and mark those behind the best beyond the noise.

    Example: cpt eval leaderboard runs/evals
    """
    from evals.comparing.leaderboard import leaderboard as ranked
    from evals.comparing.verdicts import Correction
    from evals.result_folders import load_results, result_folders

    check_choice("--correction", correction, get_args(Correction))
    found = [load_results(each) for each in result_folders(folder)]
    if not found:
        raise UsageError(f"{folder} holds no results of evaluations", hint="cpt eval run MODEL … makes some.")
    rankings = ranked(found, confidence=confidence, correction=correction, seed=seed)  # type: ignore[arg-type]
    if as_json:
        return print_json([ranking.model_dump(mode="json") for ranking in rankings])
    return _print_rankings(out(), rankings)


def _print_rankings(console: Console, rankings: Sequence[Ranking]) -> None:
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


def difference_of_texts(
    first: Scores | TextScores, scored: Scores | TextScores, confidence: float, seed: int
) -> dict[str, Any]:
    """Compute the paired difference of two models' bits per byte, over the documents that both scored."""
    from evals.comparing.statistics import compare_bits_per_byte

    both = (first.bytes > 0) & (scored.bytes > 0)
    found = compare_bits_per_byte(
        *((each.nats[both], each.bytes[both]) for each in (first, scored)), confidence=confidence, seed=seed
    ).difference
    return {"difference": found.value, "interval": None if found.low is None else [found.low, found.high]}


def difference_with_interval(each: Mapping[str, Any]) -> str:
    """Return a difference with its interval, or nothing."""
    if "difference" not in each:
        return ""
    if each["interval"] is None:
        return f"{each['difference']:+.4f}"
    low, high = each["interval"]
    return f"{each['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
