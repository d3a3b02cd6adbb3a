"""Define `cpt report`: show the report of one run, or compare several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cpt.cli.options import DEFAULT_RUNS, Json, Runs, run_names
from cpt.cli.output import out, print_json, rows
from cpt.cli.status import require_readable
from cpt.errors import CptError, Problem, RecipeError, UsageError
from cpt.formatting import duration
from cpt.json_file import read_plain
from cpt.recipe.journal import Run, find_run
from cpt.recipe.reported_runs import reported
from cpt.recipe.run_diff import differing, settings_of

if TYPE_CHECKING:
    from cpt.report.comparison.schema import ComparedProbe, Comparison, RunRow

PAGE = "comparison.html"


def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Name or folder of a run; several are compared. Default: the newest run.",
            autocompletion=run_names,
        ),
    ] = None,
    page_file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Page of a comparison of several runs. Default: RUNS/comparison.html.",
        ),
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show the main figures and the path of a run's report, or compare several runs on one page.

    With --json, print all figures. Unfinished runs are compared with the results they have.

    Example: cpt report medical --json

    Example: cpt report replay-0 replay-10 replay-25
    """
    if run is not None and len(run) > 1:
        return compare_runs(run, runs, page_file, as_json)
    if page_file is not None:
        raise UsageError("--out is for comparisons", hint="Name two runs or more.")
    found = find_run(runs, run[0] if run else None)
    page = _newest_report(found)
    data = report_data(page)
    if as_json:
        return print_json(data)
    return print_summary(out(), data, page)


def report_data(page: Path) -> dict[str, Any]:
    """Read the figures beside a report's page."""
    from cpt.report.facts.records import ReportSummary

    found: dict[str, Any] = read_plain(page.with_name("report.json"), ReportSummary)
    return found


def print_summary(console: Console, data: dict[str, Any], page: Path) -> None:
    """Print a report's verdict, its main figures and the path of its page."""
    if data.get("verdict"):
        console.print(Text(data["verdict"], style="bold"), soft_wrap=True)
    ended = (data.get("training") or {}).get("ended")
    if ended:
        from cpt.report.schema import EarlyEnd
        from cpt.report.summary_text import ended_finding

        console.print(Text(ended_finding(EarlyEnd.model_validate(ended)), style="yellow"), soft_wrap=True)
    table = rows("bits per byte", "before#", "after#", "change#", "gap#")
    for name, probe in data.get("probes", {}).items():
        before, after = probe.get("before"), probe.get("after")
        if before is None or after is None:
            continue
        change = Text(f"{after - before:+.4f}", style="green" if after <= before else "yellow")
        if (probe.get("difference") or {}).get("low") is None:
            change = Text(f"{after - before:+.4f}, no interval", style="dim")
        gap = f"{probe['depth']:.4f}" if probe.get("depth") is not None else ""
        table.add_row("", name, f"{before:.4f}", f"{after:.4f}", change, gap)
    if table.row_count:
        console.print(table)
    if data.get("recall"):
        console.print(_recall_rows(data["recall"]))
    suites = data.get("suites") or {}
    averages = suites.get("averages", {})
    if averages:
        console.print(_suite_rows(averages))
    for suite in dict.fromkeys(each["suite"] for each in suites.get("no_signal", ())):
        if suite not in averages:
            console.print(f"{suite}: neither model is above guessing in any task", soft_wrap=True)
    console.print(f"Report: {page}", soft_wrap=True)


def _recall_rows(groups: dict[str, Any]) -> Table:
    """Return a table of the right answers to questions on the domain's facts, by group of facts."""
    table = rows("recall of facts", "before#", "after#", "change#", "")
    for group, found in groups.items():
        before, after, change = (found[key]["value"] for key in ("before", "after", "difference"))
        low, high = (found["difference"].get(bound) for bound in ("low", "high"))
        noise = low is None or high is None or low <= 0 <= high
        style = "dim" if noise else "green" if change > 0 else "yellow"
        table.add_row("", group, f"{before:.4f}", f"{after:.4f}", Text(f"{change:+.4f}", style=style))
    return table


def _suite_rows(averages: dict[str, Any]) -> Table:
    """Return a table of the suites' macro averages and their verdicts."""
    table = rows("suite", "before#", "after#", "change#", "")
    for suite, each in averages.items():
        verdict = Text(
            each["verdict"], style={"better": "green", "worse": "yellow"}.get(each["verdict"], "dim")
        )
        table.add_row(
            "", suite, f"{each['a']:.4f}", f"{each['b']:.4f}", f"{each['difference']:+.4f}", verdict
        )
    return table


def compare_runs(names: Sequence[str], root: Path, page: Path | None, as_json: bool) -> None:
    """Compare runs on a page (with --json only if --out is given), and print the result."""
    target = page or root / PAGE
    comparison = comparison_of(find_runs(root, names), target.parent)
    if page is not None or not as_json:
        write_page(comparison, target)
    if as_json:
        return print_json(comparison.model_dump(mode="json"))
    return _print_comparison(out(), comparison, target)


def find_runs(root: Path, names: Sequence[str]) -> list[Run]:
    """Return several runs, each by its name under `root` or by its folder.

    Raises:
        RecipeError: Some runs do not exist, or are named twice; lists all of them.
    """
    found: dict[Path, Run] = {}
    problems = []
    for name in names:
        try:
            run = find_run(root, name)
        except CptError as error:
            problems.append(Problem(error.message, hint=error.hint))
            continue
        if run.folder.resolve() in found:
            problems.append(Problem(f"the run `{name}` is named twice", hint="Name different runs."))
        found[run.folder.resolve()] = run
    if problems:
        raise RecipeError(problems)
    return list(found.values())


def comparison_of(runs: Sequence[Run], beside: Path) -> Comparison:
    """Return the facts of a comparison.

    Args:
        runs: Runs to compare.
        beside: Folder of the page that shows the facts.

    Raises:
        RecipeError: Some runs have nothing to compare; lists all of them.
    """
    from cpt import stages
    from cpt.report.comparison.facts import compare
    from cpt.report.comparison.schema import Setting

    known = reported(runs, beside)
    recipes = {
        each.name: settings_of(run.data.get("recipe") or {}, stages.stages())
        for each, run in zip(known, runs, strict=True)
    }
    settings = [
        Setting(key=found.key, values=found.values) for found in differing(recipes) if found.key != "name"
    ]
    return compare(known, settings, datetime.now(UTC).isoformat(timespec="seconds"))


def write_page(comparison: Comparison, target: Path) -> None:
    """Write the page atomically.

    Raises:
        UsageError: The folder does not exist, or the target is a folder.
    """
    from cpt.atomic import write_text
    from cpt.report.comparison.page import render

    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="Make it first.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint=f"Name a file: {target / PAGE}.")
    write_text(target, render(comparison))


def _print_comparison(console: Console, comparison: Comparison, target: Path) -> None:
    console.print(Text(comparison.verdict, style="bold"))
    table = rows("run", "domain#", "general#", "depth#", "recovery#", "tokens#", "took#", "")
    for row in comparison.runs:
        table.add_row("", *_cells(row))
    console.print(table)
    if any(row.recall for row in comparison.runs):
        console.print(_compared_recall(comparison.runs))
    for note in comparison.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    console.print(f"Comparison: {target}", soft_wrap=True)


def _compared_recall(runs: Sequence[RunRow]) -> Table:
    """Return a table of right answers and p_gold of the final models, by run and group of facts."""
    from cpt.corpus.recall import recall_key
    from cpt.formatting import fixed, percent
    from cpt.report.comparison.figures import recall_groups

    groups = recall_groups(runs)
    table = rows("recall of facts", "", *(f"{group}#" for group in groups))
    for run in runs:
        style = {group: "dim" if recall_key(group) in run.other_items else "" for group in groups}
        asked = {group: run.recall[group] for group in groups if group in run.recall}
        right = {group: percent(task.after.value) for group, task in asked.items()}
        likely = {group: fixed(task.p_gold.after.value) for group, task in asked.items() if task.p_gold}
        for measure, found in (("right", right), ("p_gold", likely)):
            if found:
                cells = (Text(found.get(group, ""), style=style[group]) for group in groups)
                table.add_row("", run.name, measure, *cells)
    return table


def _cells(row: RunRow) -> list[str | Text]:
    from cpt.formatting import signed

    domain, general = row.probes.get("domain"), row.probes.get("general")
    depth = signed(general.depth) if general and general.depth is not None else ""
    place = {True: Text("on the front", style="green"), False: Text("beaten", style="dim"), None: Text("")}
    cells: list[str | Text] = [row.name, _change(domain), _change(general), depth, _recovery(general)]
    return [*cells, f"{row.trained:,}", duration(row.seconds), place[row.on_front]]


def _change(probe: ComparedProbe | None) -> Text:
    from cpt.formatting import signed

    if probe is None or probe.change is None:
        return Text("")
    style = "dim" if probe.apart else "green" if probe.change.value <= 0 else "yellow"
    return Text(signed(probe.change.value), style=style)


def _recovery(probe: ComparedProbe | None) -> str:
    from cpt.report.comparison.summary_text import recovery

    return recovery(probe) if probe else ""


def _newest_report(run: Run) -> Path:
    require_readable(run, [name for name, stage in run.stages.items() if stage["kind"] == "report"])
    current = [record for record in run.finished().values() if "report" in record.kinds]
    if not current:
        older = [record for record in run.store.artifacts() if "report" in record.kinds]
        if not older:
            hint = "A `report` stage makes it; finish the run first."
            raise UsageError(f"the run `{run.name}` has no report yet", hint=hint)
        raise UsageError(
            f"the run `{run.name}` has no report of its current settings yet",
            hint=f"Finish the run first. A report of earlier settings is at {older[-1].path('report')}.",
        )
    return current[-1].path("report") / "report.html"
