"""Define `cpt law skills`: learn which part of a domain helps which, from runs on one part each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cpt.cli.named_runs import named_runs
from cpt.cli.options import DEFAULT_RUNS, Json, Runs, StageOfRuns, require_parents
from cpt.cli.output import out, print_json, rows
from cpt.errors import CptError, Problem, RecipeError
from cpt.formatting import plural, signed

if TYPE_CHECKING:
    from cpt.monitor.skill_graph import SkillGraph
    from cpt.recipe.journal import Run


def skills(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Name or folder of a finished run on one part, or of a sweep of such runs."
        ),
    ],
    output: Annotated[Path, typer.Option("--out", metavar="FILE", help="File for the graph.")] = Path(
        "skills.json"
    ),
    stage: StageOfRuns = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Learn which part of the domain helps which (Skill-It), from short runs on one part each.

    `cpt sweep RECIPE --skills STAGE` makes the runs; `skill_it: {graph: skills.json}` uses the graph.

    Example: cpt law skills my-skills --out skills.json
    """
    from cpt.monitor.skill_graph import learned_graph, write_graph
    from cpt.recipe.skill_falls import falls_of_runs

    require_parents(output)
    found: dict[Path, Run] = {}
    problems = []
    for name in run:
        try:
            found |= {each.folder.resolve(): each for each in named_runs(runs, name)}
        except CptError as error:
            problems.append(Problem(error.message, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    graph = learned_graph(falls_of_runs(list(found.values()), stage), [each.name for each in found.values()])
    write_graph(graph, output)
    if as_json:
        return print_json(graph.model_dump(mode="json") | {"file": str(output)})
    return _print(graph, output)


def _print(graph: SkillGraph, file: Path) -> None:
    """Print the falls and the edges; a fall whose interval holds 0 is dim."""
    console = out()
    console.print(Text("Fall of the loss, in bits per byte, and weight of the edge", style="bold"))
    table = rows("trained on", *(f"{name}#" for name in graph.skills))
    doubtful = 0
    for source in graph.skills:
        cells = []
        for target in graph.skills:
            fall = graph.falls[source].get(target)
            if fall is None:
                cells.append(Text("not measured", style="dim"))
                continue
            margin = "" if fall.margin is None else f" ± {fall.margin:.4f}"
            doubtful += fall.is_unsure and fall.value > 0
            words = f"{signed(fall.value, 4)}{margin}  {graph.edge(source, target):.2f}"
            cells.append(Text(words, style="dim" if fall.is_unsure else ""))
        table.add_row("", source, *cells)
    console.print(table)
    if doubtful:
        console.print(
            f"{plural(doubtful, 'edge')} (dim) may be chance: run longer, or with more --seeds.",
            soft_wrap=True,
        )
    console.print(f"Graph of {plural(len(graph.skills), 'part')}: {file}", soft_wrap=True)
