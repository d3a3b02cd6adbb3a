"""`cpt merge search`: choose weights by evaluation of merges that are made in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cpt.cli.evaluating.inputs import documents_of
from cpt.cli.merging import options
from cpt.cli.merging.job import (
    MergeJob,
    command_of,
    fingerprints_by_name,
    from_flags,
    known_problems,
    output_problems,
    problems_of,
    resolved,
)
from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.errors import CannotMerge, GateFailed, Problem, RecipeError, UsageError
from cpt.references import check
from cpt.stages.merge.config import MergeSearch
from cpt.stages.merge.request import ModelFolder

LOG, PAGE = ".search.jsonl", ".search.html"
"""Endings of the names of the log and of the page, which stand beside the result."""


def search(
    base: Annotated[
        str, typer.Option("--base", metavar="[NAME=]MODEL", help="Model that changes are measured from.")
    ],
    add: Annotated[
        list[str],
        typer.Option(
            "--add",
            metavar="[NAME=]MODEL[:WEIGHT]",
            help="A model; its weight is searched unless given.",
        ),
    ],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            metavar="[NAME=]FILE",
            help="Text that merges are measured on: `domain` is to improve, `general` must not become worse; "
            "others may have limits. Report results on other text.",
        ),
    ],
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the result.")],
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="LIMIT",
            help="`general <= +0.01`, with 95% confidence; without any: the knee of the Pareto front.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="NAME=ITEMS", help="A task of cpt eval suites, for limits: `piqa=100`."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Folder with the tasks' data.")
    ] = None,
    points: Annotated[
        int, typer.Option("--points", metavar="N", min=1, help="Largest number of merges to try.")
    ] = 12,
    bounds: Annotated[
        tuple[float, float], typer.Option("--bounds", metavar="LOW HIGH", help="Bounds of every weight.")
    ] = (0.0, 1.0),
    densities: Annotated[
        tuple[float, float] | None,
        typer.Option("--densities", metavar="LOW HIGH", help="Search the density too, shared by all models."),
    ] = None,
    groups: Annotated[
        int, typer.Option("--groups", metavar="N", min=1, help="Groups of layers with weights of their own.")
    ] = 1,
    tokens: Annotated[
        int,
        typer.Option("--tokens", metavar="N", min=2, help="Number of tokens of each text for every merge."),
    ] = 8_000,
    window: Annotated[
        int, typer.Option("--window", metavar="N", min=2, help="Largest number of tokens read at once.")
    ] = 1024,
    start_token: Annotated[
        str,
        typer.Option("--start-token", metavar="TOKEN", help="Token before every document; `none` for none."),
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|bf16|fp32", help="Precision of the measurement.")
    ] = "auto",
    method: options.MethodName = None,
    density: options.Density = None,
    normalize: options.Normalize = None,
    settings: options.Settings = None,
    tokenizer: options.TokenizerOf = None,
    settings_of: options.SettingsOf = None,
    template: options.ChatTemplate = None,
    dtype: options.Dtype = None,
    compute_dtype: options.ComputeDtype = None,
    seed: options.Seed = None,
    shard_size: options.ShardSize = None,
    as_json: Json = False,
) -> None:
    """Choose merge weights by evaluation: every merge is made in memory, measured and logged; one is written.

    Example: cpt merge search --base B --add M --text domain=law.jsonl --text general=wiki.jsonl
    --limit 'general <= +0.01' --out merged

    The log and a page with the front stand beside the result: merged.search.jsonl, merged.search.html. The
    same command continues a search that was stopped.

    Exit codes: 0 merged, 2 the models or the settings do not fit, 3 no weights keep the limit, 4 none are
    shown to keep it: the best compromise is written.
    """
    job = from_flags(
        base,
        add,
        density=density,
        normalize=normalize,
        words=settings or [],
        seed=seed,
        method=method,
        tokenizer=tokenizer,
        settings=settings_of,
        chat_template=template,
        dtype=dtype,
        compute_dtype=compute_dtype,
        shard_size=shard_size,
        search={
            "points": points,
            "bounds": bounds,
            "density": densities,
            "groups": groups,
            "tokens": tokens,
            "window": window,
            "tasks": _tasks(task or []),
            "data": data,
            "precision": precision,
        },
        gates=[{"limit": each} for each in limit or []],
    )
    texts = named_texts(text)
    problems = list(_problems(job, texts, output))
    if problems:
        raise RecipeError(problems)
    with show_progress(resumable=True) as view:
        facts, broken = _search(job, texts, None if start_token == "none" else start_token, output, view)
    if as_json:
        print_json(facts)
    else:
        _print(facts, output)
    if broken is not None:
        raise broken


def _tasks(words: Sequence[str]) -> dict[str, Any]:
    """Return items by task: `piqa=100`."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, items = word.partition("=")
        if not (name and equals and items):
            raise UsageError(f"--task {word} is not NAME=ITEMS", hint="Write it like --task piqa=100.")
        if name in found:
            raise UsageError(f"--task {name} is given twice", hint="Give it once.")
        found[name] = {"items": items}
    return found


def _problems(job: MergeJob, texts: Mapping[str, str], output: Path) -> Iterator[Problem]:
    """Find everything that is wrong and can be found without the models."""
    from cpt.sources import DOMAIN, GENERAL
    from cpt.stages.pretrain.probes import task_problems
    from cpt.training.features.gate_controller import limit_problems
    from merging.search import search_space

    settings = job.config.search or MergeSearch()
    yield from output_problems(output)
    try:
        space = search_space(
            job.request(), bounds=settings.bounds, density=settings.density, groups=settings.groups
        )
        yield from problems_of(job, space.request_at(space.centre))
    except CannotMerge as error:
        yield from (Problem(problem, hint=error.hint) for problem in error.problems)
        yield from known_problems(job)
    for name in (DOMAIN, GENERAL):
        if name not in texts:
            yield Problem(f"there is no {name} text", key="--text", hint=f"Give --text {name}=FILE.")
    for name, reference in texts.items():
        wrong = check(reference, Path.cwd())
        if wrong is not None:
            yield replace(wrong, key=f"--text {name}")
    for name in settings.tasks:
        yield from task_problems(name, settings.data)
        if name in texts:
            yield Problem(f"{name} is a text and a task", key="--task", hint="Give the text another name.")
    probes: dict[str, Any] = dict.fromkeys(texts, "text") | dict.fromkeys(settings.tasks, "task")
    for gate in job.config.gates:
        for problem in limit_problems(gate.limit, "--limit", probes, under="--text or --task"):
            yield replace(problem, key="--limit")


def _search(
    job: MergeJob, texts: Mapping[str, str], start_token: str | None, output: Path, view: ProgressBar
) -> tuple[dict[str, Any], GateFailed | None]:
    """Search, write the result, the log and the page; return the facts, and the limit that is broken."""
    import tempfile

    from cpt.corpus.document_tokenizer import special_token
    from cpt.stages.merge.search import Material, require_limits, search_and_write, search_metrics
    from merging.plan import read_inputs
    from merging.request import shard_bytes

    folders = resolved(job.references, job.folder, view)
    marks = fingerprints_by_name(job.references, job.folder)
    request = job.request({name: ModelFolder(folder, marks[name]) for name, folder in folders.items()})
    documents = {name: _texts(name, reference, view) for name, reference in texts.items()}
    settings = job.config.search or MergeSearch()
    with tempfile.TemporaryDirectory() as scratch:
        found, _, _ = search_and_write(
            request,
            read_inputs(request),
            settings,
            job.config.gates,
            Material(documents, lambda folder: special_token(folder, start_token, "bos"), request.seed),
            Path(scratch),
            _beside(output, LOG),
            output,
            _Progress(view),
            shard_bytes=shard_bytes(job.config.shard_size),
            command=lambda chosen: command_of(job, chosen, output),
        )
    metrics = search_metrics(found, job.config.gates, tuple(settings.tasks), stage=None)
    facts = {"folder": str(output), "method": request.method, **metrics}
    _write_page(facts, [model.name for model in request.models], output)
    try:
        require_limits(metrics, stage=None)
    except GateFailed as error:
        return facts, error
    return facts, None


def _texts(name: str, reference: str, view: ProgressBar) -> list[str]:
    removed: dict[str, int] = {}
    texts = [document.text for document in documents_of(reference, removed, view)]
    for reason, count in removed.items():
        view.message(f"{name}: {count:,} entries left out: {reason}")
    if len(texts) < 2:
        raise UsageError(
            f"{reference} holds {len(texts)} documents: too few to tell noise", hint="Give more text."
        )
    return texts


class _Progress:
    """A stage's progress, shown by the command."""

    def __init__(self, view: ProgressBar) -> None:
        self._view = view

    def message(self, text: str) -> None:
        self._view.message(text)

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:  # noqa: ARG002
        self._view.update(done, total, unit)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Ignore notes: a search has none."""


def _write_page(facts: Mapping[str, Any], models: Sequence[str], output: Path) -> None:
    from cpt.atomic import write_text
    from cpt.report.merge_pages import render_search
    from cpt.report.schema.artifacts import WeightSearch

    search = WeightSearch.model_validate({**facts, **facts["search"], "models": models})
    write_text(_beside(output, PAGE), render_search(search, datetime.now(UTC).isoformat(timespec="seconds")))


def _beside(output: Path, ending: str) -> Path:
    return output.absolute().with_name(output.name + ending)


def _print(facts: Mapping[str, Any], output: Path) -> None:
    """Print the front as a table."""
    console, points = out(), facts["search_points"]
    front = sorted(
        (point for point in points if point["front"] or point["chosen"]), key=lambda p: p["domain_gain"]
    )
    names, measured = list(points[0]["values"]), list(points[0]["changes"])
    console.print(Text(str(output), style="bold"), soft_wrap=True)
    console.print(f"  {len(points)} merges tried; chosen: {facts['search']['why']}")
    table = rows("", *(f"{name}#" for name in names), *(f"{name}#" for name in measured), "proposed by")
    for point in front:
        changes = (point["changes"][name] for name in measured)
        cells = (
            f"{c['change']:+.4f}" + ("" if c["error"] is None else f" ± {1.96 * c['error']:.4f}")
            for c in changes
        )
        values = (f"{point['values'][name]:.4g}" for name in names)
        style = "bold" if point["chosen"] else ""
        table.add_row("", "→" if point["chosen"] else "", *values, *cells, point["by"], style=style)
    console.print(table)
    console.print("  Changes from the base: bits per byte, or shares of wrong answers; less is better.")
    for each in facts["search"]["at_bounds"]:
        console.print(Text(f"  {each['says']}"), soft_wrap=True)
    for gate in facts["gates"]:
        console.print(Text(f"  {gate['limit']}: {gate['verdict']}, {gate['why']}"), soft_wrap=True)
    for ending in (LOG, PAGE):
        console.print(Text(f"  {_beside(output, ending).name}"), soft_wrap=True)
