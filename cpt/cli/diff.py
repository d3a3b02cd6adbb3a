"""Define `cpt diff`: show the differences of two runs, two recipes, or a run and a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.options import DEFAULT_RUNS, Json, Runs, run_names
from cpt.cli.output import out, print_json, rows
from cpt.cli.report import comparison_of
from cpt.errors import CptError, Problem, RecipeError
from cpt.formatting import NOTHING
from cpt.recipe.diff import StageDifference, as_text
from cpt.recipe.journal import Run, find_run
from cpt.recipe.run_diff import Differences, Side, differences, side_of_recipe, side_of_run

if TYPE_CHECKING:
    from cpt.report.comparison.schema import ComparedProbe, Comparison
    from cpt.report.schema import Interval

_SUFFIXES = (".yaml", ".yml")
_FINGERPRINT = 12


def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Name or folder of a run, or a recipe file.", autocompletion=run_names
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(metavar="B", help="The run or recipe to compare with A.", autocompletion=run_names),
    ],
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show the differences from A to B: settings, data, first differing stage, figures.

    A and B can be runs or recipes; figures are compared for two runs. Omitted settings count with their
    defaults.

    Example: cpt diff replay-10 replay-25

    Example: cpt diff medical medical.yaml
    """
    from cpt import stages

    found = _operands(runs, a, b)
    sides = _sides(found, (a, b), stages.stages())
    found_differences = differences(*sides)
    comparison, why_not = _figures(found)
    if as_json:
        return print_json(_facts(sides, found_differences, comparison, why_not))
    return _print(out(), sides, found_differences, comparison, why_not)


def _operands(root: Path, *words: str) -> list[Run | Path]:
    """Return runs and recipe files.

    Raises:
        RecipeError: Some do not exist; lists all of them.
    """
    found: list[Run | Path] = []
    problems = []
    for word in words:
        if Path(word).is_file() or Path(word).suffix in _SUFFIXES:
            found.append(Path(word))
            continue
        try:
            found.append(find_run(root, word))
        except CptError as error:
            problems.append(Problem(error.message, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return found


def _sides(operands: Iterable[Run | Path], words: Iterable[str], registry: Any) -> list[Side]:
    """Return both sides, or raise `RecipeError` with the problems of both recipes."""
    sides, problems = [], []
    for operand, word in zip(operands, words, strict=True):
        try:
            if isinstance(operand, Run):
                sides.append(side_of_run(operand, word, registry))
            else:
                sides.append(side_of_recipe(operand, registry))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return sides


def _figures(operands: list[Run | Path]) -> tuple[Comparison | None, str]:
    """Return the figures of two runs, or the reason why there are none."""
    both = [operand for operand in operands if isinstance(operand, Run)]
    if len(both) < 2:
        return None, ""
    if both[0].folder.resolve() == both[1].folder.resolve():
        return None, "both are the same run"
    try:
        return comparison_of(both, Path()), ""
    except RecipeError as error:
        return None, "; ".join(f"{problem.key}: {problem.message}" for problem in error.problems)


def _facts(
    sides: list[Side], found: Differences, comparison: Comparison | None, why_not: str
) -> dict[str, Any]:
    a, b = sides
    return {
        "a": {"name": a.name, "what": a.what},
        "b": {"name": b.name, "what": b.what},
        "verdict": verdict(found),
        "settings": [
            {"key": setting.key, "change": _change(setting.values), **setting.values}
            for setting in found.settings
        ],
        "stages": [asdict(stage) for stage in found.stages],
        "sources": [asdict(source) for source in found.sources],
        "versions": {name: {"a": a, "b": b} for name, (a, b) in found.versions.items()},
        "figures": _compared_figures(comparison) if comparison else None,
        "notes": _notes(sides, comparison, why_not),
    }


def _change(values: dict[str, Any]) -> str:
    if "a" not in values:
        return "added"
    return "changed" if "b" in values else "removed"


def _notes(sides: list[Side], comparison: Comparison | None, why_not: str) -> list[str]:
    unknown = [
        f"{side.name}: its results cannot be compared: {side.unknown}" for side in sides if side.unknown
    ]
    missing = [f"figures are not compared: {why_not}"] if why_not else []
    return [*unknown, *missing, *(comparison.notes if comparison else [])]


def verdict(found: Differences) -> str:
    """Return the first difference of two sides in one sentence."""
    first = found.first
    if first is None:
        if found.settings:
            return "The results are the same: the differing settings do not affect them."
        return "Nothing differs."
    if first.state != "differs":
        only = "A" if first.state == "only in a" else "B"
        sentence = f"{first.stage} is the first stage that differs: only {only} has it"
    else:
        why = "; ".join(first.why) or "it was made by another version of cpt"
        sentence = f"{first.stage} is the first stage that differs: {why}"
    after = [stage.stage for stage in found.stages if stage.follows]
    if after:
        sentence += f". What follows from it differs too: {', '.join(after)}"
    return f"{sentence}."


def _compared_figures(comparison: Comparison) -> dict[str, Any]:
    a, b = comparison.runs
    between = {pair.probe: pair for pair in comparison.pairs}
    probes = {
        name: {
            "a": _levels(a.probes[name]),
            "b": _levels(b.probes[name]),
            "difference": between[name].difference.model_dump(mode="json") if name in between else None,
        }
        for name in a.probes
        if name in b.probes
    }
    return {
        "bits_per_byte": probes,
        "tokens": {"a": a.trained, "b": b.trained},
        "seconds": {"a": a.seconds, "b": b.seconds},
        "tokens_per_second": {"a": a.tokens_per_second, "b": b.tokens_per_second},
    }


def _levels(probe: ComparedProbe) -> dict[str, Any]:
    return probe.model_dump(mode="json", include={"before", "after", "change", "after_interval"})


def _print(
    console: Console, sides: list[Side], found: Differences, comparison: Comparison | None, why_not: str
) -> None:
    for letter, side in zip("AB", sides, strict=True):
        console.print(Text.assemble((f"{letter}  ", "dim"), (side.name, "bold"), (f"  {side.what}", "dim")))
    console.print(Text(verdict(found), style="bold"), soft_wrap=True)
    _print_settings(console, found)
    _print_stages(console, found)
    _print_sources(console, found)
    _print_versions(console, found)
    if comparison is not None:
        _print_figures(console, comparison)
    for note in _notes(sides, comparison, why_not):
        console.print(Text(note, style="dim"), soft_wrap=True)


def _print_settings(console: Console, found: Differences) -> None:
    if not found.settings:
        return
    table = rows("setting", "A", "B")
    for setting in found.settings:
        a, b = (as_text(setting.values[side]) if side in setting.values else None for side in "ab")
        table.add_row("", setting.key, Text(a or NOTHING, style="red"), Text(b or NOTHING, style="green"))
    _titled(console, "settings", table)


def _print_stages(console: Console, found: Differences) -> None:
    table = rows("stage", "A", "B", "")
    for stage in found.stages:
        a, b = ((each or NOTHING)[:_FINGERPRINT] for each in (stage.a, stage.b))
        table.add_row("", stage.stage, Text(a, style="dim"), Text(b, style="dim"), _standing(stage))
    _titled(console, "results", table)


def _standing(stage: StageDifference) -> Text:
    if stage.state != "differs":
        words = {"only in a": "only in A", "only in b": "only in B"}.get(stage.state, stage.state)
        return Text(words, style="green" if stage.state == "same" else "yellow")
    follows = [f"follows from {', '.join(stage.follows)}"] if stage.follows else []
    return Text("; ".join([*stage.why, *follows]) or "made by another version of cpt", style="yellow")


def _print_sources(console: Console, found: Differences) -> None:
    if not found.sources:
        return
    table = rows("stage", "data", "A", "B")
    for source in found.sources:
        a, b = ((each or NOTHING)[:_FINGERPRINT] for each in (source.a, source.b))
        table.add_row("", source.stage, source.reference, a, b)
    _titled(console, "content of the data", table)


def _print_versions(console: Console, found: Differences) -> None:
    if not found.versions:
        return
    table = rows("package", "A", "B")
    for package, (a, b) in found.versions.items():
        table.add_row("", package, a or NOTHING, b or NOTHING)
    _titled(console, "versions", table)


def _print_figures(console: Console, comparison: Comparison) -> None:
    from cpt.formatting import count, duration_in_words

    a, b = comparison.runs
    between = {pair.probe: pair.difference for pair in comparison.pairs}
    table = rows("bits per byte", "A#", "B#", "difference#", "")
    for name in (name for name in a.probes if name in b.probes):
        words = [_with_interval(row.probes[name]) for row in (a, b)]
        table.add_row("", f"{name} text", *words, *_between(between.get(name)))
    table.add_row("", "tokens trained", count(a.trained), count(b.trained), "", "")
    table.add_row("", "time", duration_in_words(a.seconds), duration_in_words(b.seconds), "", "")
    speeds = count(a.tokens_per_second), count(b.tokens_per_second)
    table.add_row("", "tokens per second", *speeds, "", "")
    _titled(console, "figures: change from the base to the final model", table)


def _between(difference: Interval | None) -> list[str | Text]:
    """Return the difference of the second run to the first, and its verdict."""
    from cpt.formatting import signed
    from cpt.report.summary_text import judgement

    if difference is None:
        return ["", Text("not compared", style="dim")]
    found = judgement(difference, lower_is_better=True)
    style = {"better": "green", "worse": "red"}.get(found, "dim")
    words = signed(difference.value)
    if difference.known:
        words += f" ({signed(difference.low)} to {signed(difference.high)})"
    return [words, Text(found or "no interval", style=style)]


def _with_interval(probe: ComparedProbe) -> str:
    from cpt.formatting import signed

    if probe.change is None:
        return NOTHING
    low, high = signed(probe.change.low), signed(probe.change.high)
    return signed(probe.change.value) + (f" ({low} to {high})" if probe.change.known else "")


def _titled(console: Console, title: str, table: Any) -> None:
    console.print(f"\n{title}", style="dim")
    console.print(table)
