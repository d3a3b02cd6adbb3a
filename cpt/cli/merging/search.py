"""`cpt merge search`: weights chosen by evaluation of merges that are made in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from rich.text import Text

from cpt.cli.evaluating.inputs import documents_of
from cpt.cli.evaluating.progress import Shown, shown
from cpt.cli.merging import options
from cpt.cli.merging.asked import Asked, command_of, problems_of, shard_bytes
from cpt.cli.merging.flags import from_flags
from cpt.cli.merging.references import in_folders, resolved, unknown_references, with_fingerprints
from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.errors import CannotMerge, GateFailed, Problem, RecipeError, UsageError
from cpt.recipe.explain import findings
from cpt.references import check
from cpt.stages.merge.config import MergeGate, MergeSearch

if TYPE_CHECKING:
    from merging.search import Found, Space

DOMAIN, GENERAL = "domain", "general"
LOG, PAGE = ".search.jsonl", ".search.html"
"""What the names of the log and of the page end in, beside the result."""


@dataclass(frozen=True)
class _Wanted:
    """What a search is asked for: settings, budgets, texts by name."""

    settings: MergeSearch
    gates: tuple[MergeGate, ...]
    texts: Mapping[str, str]


def search(
    base: Annotated[
        str, typer.Option("--base", metavar="[NAME=]MODEL", help="What changes are measured from.")
    ],
    add: Annotated[
        list[str],
        typer.Option(
            "--add",
            metavar="[NAME=]MODEL[:WEIGHT]",
            help="A model; its weight is searched unless it is given.",
        ),
    ],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            metavar="[NAME=]FILE",
            help="What merges are measured on: `domain` is to gain, `general` must not rise; others may have "
            "budgets. Report on other text than this.",
        ),
    ],
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the result.")],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help="`general <= +0.01`, 95% sure; without any: the knee of the front.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="NAME=ITEMS", help="A task of cpt eval suites, for budgets: `piqa=100`."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Folder with the tasks' data.")
    ] = None,
    points: Annotated[int, typer.Option("--points", metavar="N", min=1, help="Most merges to try.")] = 12,
    bounds: Annotated[
        tuple[float, float], typer.Option("--bounds", metavar="LOW HIGH", help="Of every weight.")
    ] = (0.0, 1.0),
    densities: Annotated[
        tuple[float, float] | None,
        typer.Option("--densities", metavar="LOW HIGH", help="Search the density too, one for all models."),
    ] = None,
    groups: Annotated[
        int, typer.Option("--groups", metavar="N", min=1, help="Groups of layers with weights of their own.")
    ] = 1,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=2, help="Tokens of each text that every merge reads.")
    ] = 8_000,
    window: Annotated[
        int, typer.Option("--window", metavar="N", min=2, help="Most tokens read at once.")
    ] = 1024,
    start_token: Annotated[
        str, typer.Option("--start-token", metavar="TOKEN", help="Before every document; `none` for none.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", metavar="auto|bf16|fp32", help="Of measuring.")
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
    --budget 'general <= +0.01' --out merged

    The log and a page with the front lie beside the result: merged.search.jsonl, merged.search.html. The
    same command goes on where a search was stopped.

    Exit codes: 0 merged, 2 the models or the settings do not fit, 3 no weights keep the budget, 4 none are
    shown to keep it: the best compromise is written.
    """
    asked = from_flags(
        base,
        add,
        method,
        density,
        normalize,
        settings or [],
        tokenizer,
        settings_of,
        template,
        dtype,
        compute_dtype,
        seed,
        shard_size,
    )
    wanted = _wanted(
        {
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
        budget or [],
        named_texts(text),
    )
    problems = list(_problems(asked, wanted, output))
    if problems:
        raise RecipeError(problems)
    with shown(kept=True) as view:
        facts, broken = _search(asked, wanted, None if start_token == "none" else start_token, output, view)
    if as_json:
        print_json(facts)
    else:
        _print(facts, output)
    if broken is not None:
        raise broken


def _tasks(words: Sequence[str]) -> dict[str, Any]:
    """Items by task: `piqa=100`."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, items = word.partition("=")
        if not (name and equals and items):
            raise UsageError(f"--task {word} is not NAME=ITEMS", hint="Write it like --task piqa=100.")
        if name in found:
            raise UsageError(f"--task {name} is given twice", hint="Give it once.")
        found[name] = {"items": items}
    return found


def _wanted(settings: Mapping[str, Any], budgets: Sequence[str], texts: Mapping[str, str]) -> _Wanted:
    """Checked settings.

    Raises:
        RecipeError: with every mistake.
    """
    problems: list[Problem] = []

    def made(model: type[BaseModel], data: dict[str, Any]) -> Any:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for found in findings(error, model, data):
                problems.append(Problem(found.message, key=".".join(map(str, found.where)), hint=found.hint))

    search, gates = made(MergeSearch, dict(settings)), [made(MergeGate, {"budget": each}) for each in budgets]
    if problems:
        raise RecipeError(problems)
    return _Wanted(search, tuple(gates), texts)


def _problems(asked: Asked, wanted: _Wanted, output: Path) -> Iterator[Problem]:
    """Everything that can be told without the models."""
    from cpt.stages.pretrain.gates import budget_problems
    from cpt.stages.pretrain.probe_setup import task_problems
    from merging.output import check_free

    try:
        check_free(output)
    except CannotMerge as error:
        yield Problem(error.message, hint=error.hint)
    try:
        space = _space(asked, wanted.settings)
        yield from problems_of(replace(asked, request=space.request_at(space.centre)))
    except CannotMerge as error:
        yield from (Problem(problem, hint=error.hint) for problem in error.problems)
        yield from asked.problems
        for name, problem in unknown_references(asked.references, asked.folder):
            yield replace(problem, key=name)
    for name in (DOMAIN, GENERAL):
        if name not in wanted.texts:
            yield Problem(f"there is no {name} text", key="--text", hint=f"Give --text {name}=FILE.")
    for name, reference in wanted.texts.items():
        wrong = check(reference, Path.cwd())
        if wrong is not None:
            yield replace(wrong, key=f"--text {name}")
    for name in wanted.settings.tasks:
        yield from task_problems(name, wanted.settings.data)
        if name in wanted.texts:
            yield Problem(f"{name} is a text and a task", key="--task", hint="Give the text another name.")
    probes: dict[str, Any] = dict.fromkeys(wanted.texts, "text") | dict.fromkeys(
        wanted.settings.tasks, "task"
    )
    for gate in wanted.gates:
        for problem in budget_problems(gate.budget, "--budget", probes, under="--text or --task"):
            yield replace(problem, key="--budget")


def _space(asked: Asked, settings: MergeSearch) -> Space:
    from merging.search import search_space

    return search_space(
        asked.request, bounds=settings.bounds, density=settings.density, groups=settings.groups
    )


def _search(
    asked: Asked, wanted: _Wanted, start_token: str | None, output: Path, view: Shown
) -> tuple[dict[str, Any], GateFailed | None]:
    """Search, write the result, the log and the page; what was found, and the budget that is broken."""
    import tempfile

    from cpt.corpus.tokens import special_token
    from cpt.stages.merge.search import Material, find_weights, require_budgets, search_metrics
    from merging.plan import read_parents

    folders = resolved(asked.references, asked.folder, view)
    request = with_fingerprints(in_folders(asked.request, folders), asked.references, asked.folder)
    assert request.base is not None
    texts = {name: _texts(name, reference, view) for name, reference in wanted.texts.items()}
    material = Material(texts, lambda folder: special_token(folder, start_token, "bos"), request.seed)
    candidates = read_parents(request)
    with tempfile.TemporaryDirectory() as scratch:
        found = find_weights(
            request,
            candidates,
            wanted.settings,
            wanted.gates,
            material,
            Path(scratch),
            _beside(output, LOG),
            _Told(view),
        )
    _write(replace(asked, request=request), found, candidates, output)
    metrics = search_metrics(found, wanted.gates, tuple(wanted.settings.tasks), stage=None)
    facts = {"folder": str(output), "method": request.method, **metrics}
    _write_page(facts, [model.name for model in request.models], output)
    try:
        require_budgets(metrics, stage=None)
    except GateFailed as error:
        return facts, error
    return facts, None


def _texts(name: str, reference: str, view: Shown) -> list[str]:
    removed: dict[str, int] = {}
    texts = [document.text for document in documents_of(reference, removed, view)]
    for reason, count in removed.items():
        view.message(f"{name}: {count:,} entries left out: {reason}")
    if len(texts) < 2:
        raise UsageError(
            f"{reference} holds {len(texts)} documents: too few to tell noise", hint="Give more text."
        )
    return texts


class _Told:
    """Progress of a stage, shown by the command."""

    def __init__(self, view: Shown) -> None:
        self._view = view

    def message(self, text: str) -> None:
        self._view.message(text)

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:  # noqa: ARG002
        self._view.update(done, total, unit)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """A search notes nothing."""


def _write(asked: Asked, found: Found, candidates: Sequence[Any], output: Path) -> None:
    from cpt.stages.merge.search import chosen_sentence
    from merging.merge import run
    from merging.plan import plan

    chosen = found.space.request_at(found.chosen.values)
    run(
        plan(chosen, candidates),
        output,
        shard_bytes=shard_bytes(asked.shard_size),
        command=command_of(replace(asked, request=chosen), output),
        chosen=chosen_sentence(found),
    )


def _write_page(facts: Mapping[str, Any], models: Sequence[str], output: Path) -> None:
    from cpt.atomic import write_text
    from cpt.report.merge_pages import render_search
    from cpt.report.schema.artifacts import WeightSearch

    search = WeightSearch.model_validate({**facts, **facts["search"], "models": models})
    write_text(_beside(output, PAGE), render_search(search, datetime.now(UTC).isoformat(timespec="seconds")))


def _beside(output: Path, ending: str) -> Path:
    return output.absolute().with_name(output.name + ending)


def _print(facts: Mapping[str, Any], output: Path) -> None:
    """The front as a table."""
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
        console.print(Text(f"  {gate['budget']}: {gate['verdict']}, {gate['why']}"), soft_wrap=True)
    for ending in (LOG, PAGE):
        console.print(Text(f"  {_beside(output, ending).name}"), soft_wrap=True)
