"""Define `cpt law`: fit a mixture law on runs, predict losses by it, advise how much replay to use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.law_skills import skills
from cpt.cli.named_runs import named_runs
from cpt.cli.options import DEFAULT_RUNS, Json, Runs, StageOfRuns, require_parents, split_name
from cpt.cli.output import err, out, print_json, rows
from cpt.cli.progress_bar import show_progress
from cpt.errors import CptError, Problem, RecipeError, UsageError
from cpt.formatting import compact, percent, plural, signed
from cpt.recipe.journal import Run
from cpt.sources import DOMAIN

if TYPE_CHECKING:
    from cpt.laws import Advice, DomainProbe, Estimate, Law, LawWarning, Prediction, Row

app = typer.Typer(
    help="Fit a mixture law on small runs, and ask it how much replay a larger one should have.",
    no_args_is_help=True,
)

LawFile = Annotated[Path, typer.Argument(metavar="LAW", help="The law, a file that `cpt law fit` wrote.")]

Parameters = Annotated[
    float | None,
    typer.Option("--parameters", metavar="N", help="Parameters of the model, of a law of several sizes."),
]

DomainOption = Annotated[
    str | None, typer.Option("--domain", metavar="NAME", help="The domain, of a law of several.")
]

ProbeOption = Annotated[
    str | None,
    typer.Option(
        "--probe", metavar="RUN", help="A short run on a domain that a law of several was not fitted on."
    ),
]


def fit(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[DOMAIN=]RUN]...",
            help="Name or folder of a finished run, or of a sweep: its finished runs. With names of domains: "
            "`medical=RUN law=SWEEP`.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--out", metavar="FILE", help="File for the law.")] = Path(
        "law.json"
    ),
    row_file: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            metavar="FILE",
            help="JSON lines or CSV of readings: run, parameters, tokens, share (of domain text), "
            "domain_loss and general_loss in bits per byte, domain, heldout. 0 tokens: before training.",
        ),
    ] = None,
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            "--holdout",
            metavar="RUN",
            help="A run that is only predicted; can be repeated. Default: each is predicted by the others.",
        ),
    ] = None,
    stage: StageOfRuns = None,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", min=20, help="Bootstrap samples of the runs.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the bootstrap.")] = 17,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="SVG chart of loss against replay.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Fit losses as a function of model size, tokens and replay (D-CPT law), and write the law.

    The runs should share base and corpus, and differ in `pretrain.replay`, better in four values or more.

    Examples: cpt law fit replay-0 replay-5 replay-25 replay-50 --out law.json

    cpt law fit medical-sweep --out law.json
    """
    from cpt import laws

    require_parents(output, page)
    found = list(laws.read_rows(row_file)) if row_file else []
    found += _rows_of(run or (), runs, stage)
    if not found:
        raise UsageError("there is nothing to fit", hint="Name finished runs, or --rows FILE.")
    with show_progress(resumable=False) as progress:
        law = laws.fit(found, holdout=holdout or (), seed=seed, draws=draws, progress=progress)
    laws.write_law(law, output)
    if page is not None:
        _write_chart(law, found, page)
    if as_json:
        return print_json(_without_draws(law) | {"file": str(output)})
    return _print_law(out(), law, output, page)


def predict(
    law_file: LawFile,
    tokens: Annotated[
        float, typer.Option("--tokens", metavar="N", help="Tokens to train on, replay included.")
    ],
    replay: Annotated[
        float, typer.Option("--replay", metavar="X", help="Share of replay, from 0 to less than 1.")
    ],
    parameters: Parameters = None,
    domain: DomainOption = None,
    probe: ProbeOption = None,
    stage: StageOfRuns = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Predict the losses after a training, with 95% intervals.

    Example: cpt law predict law.json --tokens 20e6 --replay 0.1
    """
    from cpt import laws

    law = laws.read_law(law_file)
    found = laws.predict(
        law,
        tokens=tokens,
        replay=replay,
        parameters=parameters,
        domain=domain,
        probe=_probe(law, probe, runs, stage),
    )
    if as_json:
        return print_json(found.model_dump(mode="json"))
    return _print_prediction(out(), found, [*law.warnings, *found.warnings])


def advise(
    law_file: LawFile,
    tokens: Annotated[
        float | None, typer.Option("--tokens", metavar="N", help="Tokens to train on, replay included.")
    ] = None,
    domain_tokens: Annotated[
        float | None,
        typer.Option("--domain-tokens", metavar="N", help="Domain tokens alone; replay comes to them."),
    ] = None,
    compute: Annotated[
        float | None,
        typer.Option("--compute", metavar="C", help="Operations, 6 * parameters * tokens; chooses the size."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("--limit", metavar="LIMIT", help="Largest rise of general text: `general <= +0.01`."),
    ] = None,
    replay: Annotated[
        float | None,
        typer.Option("--replay", metavar="X", help="With --compute: choose the size alone, at this replay."),
    ] = None,
    parameters: Parameters = None,
    domain: DomainOption = None,
    probe: ProbeOption = None,
    stage: StageOfRuns = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Advise the share of replay with the lowest predicted domain loss within a limit.

    Example: cpt law advise law.json --tokens 20e6 --limit 'general <= +0.01'
    """
    from cpt import laws

    law = laws.read_law(law_file)
    try:
        found = laws.advise(
            law,
            tokens=tokens,
            domain_tokens=domain_tokens,
            compute=compute,
            limit=limit,
            parameters=parameters,
            replay=replay,
            domain=domain,
            probe=_probe(law, probe, runs, stage),
        )
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    if as_json:
        return print_json(found.model_dump(mode="json"))
    return _print_advice(out(), found)


app.command("fit")(fit)
app.command("predict")(predict)
app.command("advise")(advise)
app.command("skills")(skills)


def _rows_of(words: Sequence[str], root: Path, stage: str | None) -> list[Row]:
    """Return the rows of runs, each named `RUN`, `SWEEP` or `DOMAIN=RUN`.

    Raises:
        RecipeError: Some runs do not exist, are named twice, or have no readings; lists all of them.
    """
    from cpt.laws.rows import DOMAIN_NAME
    from cpt.recipe.law_noise import unmodelled
    from cpt.recipe.law_rows import rows_of_runs

    found: list[tuple[str, Run]] = []
    problems, seen = [], set()
    for word in words:
        domain, name = split_name(word)
        if not re.fullmatch(DOMAIN_NAME, domain or DOMAIN):
            hint = "A domain is named in small letters, digits, `-` and `_`."
            problems.append(Problem(f"`{domain}` is no name of a domain", hint=hint))
        try:
            named = named_runs(root, name)
        except CptError as error:
            problems.append(Problem(error.message, hint=error.hint))
            continue
        for run in named:
            if (place := run.folder.resolve()) in seen:
                problems.append(Problem(f"the run `{run.name}` is named twice", hint="Name different runs."))
            seen.add(place)
            found.append((domain or DOMAIN, run))
    if problems:
        raise RecipeError(problems)
    read = rows_of_runs(found, stage)
    for domain, keys in unmodelled(found, stage).items():
        _warn_of_noise("" if domain == DOMAIN else f"{domain}: ", keys)
    return read


_NAMED = 5
"""Largest number of settings that a line names."""


def _warn_of_noise(start: str, keys: Sequence[str]) -> None:
    """Report settings in which runs differ, and that the law does not know."""
    more = [f"{len(keys) - _NAMED} more"] if len(keys) > _NAMED else []
    words = ", ".join([*keys[:_NAMED], *more])
    message = f"{start}the runs differ in {words} too, which is noise to the law"
    err().print(Text(message, style="yellow"), soft_wrap=True)


def _probe(law: Law, run: str | None, root: Path, stage: str | None) -> DomainProbe | None:
    """Return the figures of a short run on a new domain."""
    if run is None:
        return None
    if law.probe is None:
        raise UsageError("--probe is for a law of several domains", hint="Leave it out.")
    from cpt.laws import probe_of
    from cpt.laws.rows import starts_of

    found = _rows_of([run], root, stage)
    return probe_of(found, starts_of(found), law.probe)


def _write_chart(law: Law, found: Sequence[Row], page: Path) -> None:
    from cpt.atomic import write_text
    from cpt.laws.rows import level
    from cpt.report.charts.law import losses_by_replay
    from cpt.report.theme import standalone

    write_text(page, standalone(losses_by_replay(law, level(found))))


def _without_draws(law: Law) -> dict[str, Any]:
    """Return a law as plain data, without the hundreds of numbers that only predictions read."""
    data = law.model_dump(mode="json")
    for text in data["texts"].values():
        del text["draws"]
    return data


def _print_law(console: Console, law: Law, file: Path, page: Path | None) -> None:
    table = rows("text", "readings#", "R²#", "Huber#", "held out: R²#", "Huber#", "error#")
    for text, found in law.texts.items():
        left = found.heldout
        more = [_r2(left.r2), f"{left.huber:.1e}", f"{left.mean_error:.4f}"] if left else ["", "", ""]
        fitted = [_r2(found.fitted.r2), f"{found.fitted.huber:.1e}"]
        table.add_row("", text, f"{found.readings:,}", *fitted, *more)
    console.print(table)
    for text, found in law.texts.items():
        coefficients = rows(text, "value#", "95% interval", "")
        for name, value in found.coefficients.items():
            low, high = found.intervals.get(name, (None, None))
            interval = "" if low is None else f"{low:.3g} to {high:.3g}"
            bound = found.at_bounds.get(name)
            interval = interval if bound is None else f"at its {bound} bound"
            coefficients.add_row("", name, f"{value:.4g}", interval, "")
        console.print(coefficients)
    _print_warnings(console, law.warnings)
    console.print(f"Law of {plural(len(law.runs), 'run')}: {file}", soft_wrap=True)
    if page is not None:
        console.print(f"Chart: {page}", soft_wrap=True)


def _r2(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _print_prediction(console: Console, found: Prediction, warnings: Sequence[LawWarning]) -> None:
    size = f"{compact(found.parameters)} parameters, {compact(found.tokens)} tokens"
    console.print(Text(f"{size}, {percent(found.replay)} replay", style="bold"))
    table = rows("bits per byte", "predicted#", "95% interval", "rise#", "95% interval")
    for text, loss in found.losses.items():
        rise = found.rises.get(text)
        rises = ["", ""] if rise is None else [signed(rise.value, 4), _interval(rise)]
        table.add_row("", text, f"{loss.value:.4f}", _interval(loss), *rises)
    console.print(table)
    _print_warnings(console, warnings)


def _interval(found: Estimate) -> str:
    return "" if found.low is None else f"{found.low:.4f} to {found.high:.4f}"


def _print_advice(console: Console, found: Advice) -> None:
    replay = found.replay
    interval = "" if replay.low is None else f" (95%: {percent(replay.low)} to {percent(replay.high)})"
    words = f"replay: {replay.value:.4f}{interval}"
    words += "" if found.limit is None else f", within {found.limit}"
    console.print(Text(words, style="bold"), soft_wrap=True)
    _print_prediction(console, found.prediction, found.warnings)
    if found.held is not None:
        console.print(
            f"The limit is kept by {percent(found.held, 0)} of the bootstrap's laws.", soft_wrap=True
        )


def _print_warnings(console: Console, warnings: Sequence[LawWarning]) -> None:
    for warning in dict.fromkeys(each.message for each in warnings):
        console.print(Text(f"  {warning}", style="yellow"), soft_wrap=True)
