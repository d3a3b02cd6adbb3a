"""`cpt merge`: merge models as flags, a plan or mergekit's file describe it; print plan and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cpt.cli.merging import options
from cpt.cli.merging.job import (
    MergeJob,
    command_of,
    fingerprints_meanwhile,
    from_flags,
    output_problems,
    problems_of,
    resolved,
)
from cpt.cli.merging.plan_file import from_mergekit, from_plan, is_mergekits, read_mergekit
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.errors import Problem, RecipeError, UsageError
from cpt.formatting import plural, size
from cpt.recipe.document import parse, read, read_text
from cpt.stages.merge.request import ModelFolder

if TYPE_CHECKING:
    from merging.plan import Plan
    from merging.run import MergeReport


MEGA = 1_000_000


def merge(
    plan: options.PlanArgument = None,
    base: options.Base = None,
    add: options.Add = None,
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
    output: options.Out = None,
    dry_run: options.DryRun = False,
    as_json: Json = False,
) -> None:
    """Merge models of one architecture, tensor by tensor; align their vocabularies by the tokens' spelling.

    Example: cpt merge --base B --add domain:0.8 --add instruct:1.0 --method ties --density 0.5 --out merged

    Example: cpt merge plan.yaml --out merged

    PLAN is a YAML file with the same settings (base, method, models, parameters, tokenizer, settings, dtype,
    compute_dtype, seed, shard_size), or a file for mergekit-yaml, which is taken where the result is equal.

    Exit codes: 0 merged, 1 a model cannot be had, 2 a model is damaged, or the models or the settings do not
    fit; then nothing is written.
    """
    if output is None and not dry_run:
        raise UsageError("say where the result goes", hint="Give --out DIR, or --dry-run.")
    flags: dict[str, Any] = {
        "base": base,
        "add": add,
        "method": method,
        "density": density,
        "normalize": normalize,
        "set": settings,
        "tokenizer": tokenizer,
        "settings-of": settings_of,
        "chat-template": template,
        "dtype": dtype,
        "compute-dtype": compute_dtype,
    }
    with show_progress(resumable=False) as view:
        if plan is not None:
            job = _from_file(plan, flags, seed, shard_size, view)
        else:
            job = from_flags(
                base,
                add or [],
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
            )
        _merge(job, output, view, dry_run, as_json)


def _from_file(
    file: Path, flags: Mapping[str, Any], seed: int | None, shard_size: str | None, view: ProgressBar
) -> MergeJob:
    given = [f"--{name}" for name, value in flags.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} cannot be given with a file", hint=f"Write it into {file}.")
    content = _content(file)
    document = read(file)
    if not is_mergekits(content):
        return from_plan(document, seed, shard_size)
    configuration = read_mergekit(document)
    folders = resolved(configuration.references, document.folder, view)
    return from_mergekit(configuration, folders, seed, shard_size)


def _content(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise UsageError(
            f"there is no plan {file}", hint="Name a YAML file, or give --base, --add and --method."
        )
    content = parse(read_text(file), str(file))
    if not isinstance(content, Mapping):
        message = "a plan is a list of `key: value` lines: base, method, models"
        raise RecipeError([Problem(message, file=str(file), line=1)])
    return content


def _merge(job: MergeJob, output: Path | None, view: ProgressBar, dry_run: bool, as_json: bool) -> None:
    from merging.plan import plan, read_inputs
    from merging.request import shard_bytes

    problems = [*problems_of(job), *output_problems(output)]
    if problems:
        raise RecipeError(problems)
    folders = resolved(job.references, job.folder, view)
    request = job.request({name: ModelFolder(folder) for name, folder in folders.items()})
    candidates = read_inputs(request)
    planned = plan(request, candidates)
    if dry_run or output is None:
        rows = {
            each.name: planned.rows if planned.alignment is None else each.vocabulary.rows
            for each in candidates
        }
        return print_plan(planned, rows, job.notes, as_json)
    from merging.run import run

    view.message(f"merging {plural(len(request.models), 'model')} by {request.method}, tensor by tensor")
    marks = fingerprints_meanwhile(job.references, job.folder)

    def progress(done: int, total: int) -> None:
        view.update(done // MEGA, total // MEGA, "MB merged")
        if done == total and not marks.done():
            view.message("reading what is left of the models for their fingerprints")

    report = run(
        planned,
        output,
        shard_bytes=shard_bytes(job.config.shard_size),
        command=command_of(job, request, output),
        fingerprints=marks,
        progress=progress,
    )
    return print_report(report, output, job.notes, as_json)


def print_plan(plan: Plan, rows_of: Mapping[str, int], notes: Sequence[str], as_json: bool) -> None:
    """Print a plan.

    Args:
        rows_of: Number of rows of each model's embedding.
    """
    facts = plan_facts(plan, rows_of, notes)
    if as_json:
        return print_json(facts)
    console = out()
    console.print(Text.assemble((plan.method.name, "bold"), f": {plan.method.line}"), soft_wrap=True)
    table = rows("model", "parameters", "rows#", "folder")
    for parent in facts["parents"]:
        values = ", ".join(f"{name}={value}" for name, value in parent["parameters"].items())
        role = "base" if parent["is_base"] else values
        table.add_row("", parent["name"], role, f"{parent['rows']:,}", parent["folder"])
    console.print(table)
    for name, value in facts["parameters"].items():
        console.print(Text(f"  {name}: {value}"), soft_wrap=True)
    _print_vocabulary(facts)
    memory = facts["expected_memory_bytes"]
    console.print(
        f"  result: {plural(facts['tensors'], 'tensor')}, {facts['number_of_parameters']:,} parameters, "
        f"{facts['dtype']}, {size(facts['bytes'])}"
    )
    console.print(
        f"  memory: at most about {size(memory['total'])} ({size(memory['merging'])} for the tensors at work)"
    )
    _print_notes(facts["notes"])
    console.print("  Nothing is written: --dry-run.")
    return None


def plan_facts(plan: Plan, rows_of: Mapping[str, int], notes: Sequence[str]) -> dict[str, Any]:
    """Return a plan as plain data; arguments as of `print_plan`."""
    from merging.kernels import PROGRAM, expected_bytes
    from merging.writer import size_of

    request = plan.request
    merging = expected_bytes(plan)
    alignment = plan.alignment
    return {
        "method": plan.method.name,
        "parents": [
            {
                "name": model.name,
                "is_base": model is request.base,
                "folder": str(model.folder),
                "parameters": dict(model.parameters),
                "rows": rows_of[model.name],
            }
            for model in request.inputs
        ],
        "parameters": dict(request.parameters),
        "vocabulary_of": plan.vocabulary_of.name if plan.tokenizer is None else "union",
        "settings_of": plan.settings_of.name,
        "rows": plan.rows,
        "rows_by_case": alignment.counts() if alignment else {},
        "rows_from": _rows_from(plan),
        "special_tokens_by_role": [list(each) for each in alignment.by_role] if alignment else [],
        "dropped": {name: len(tokens) for name, tokens in alignment.dropped.items()} if alignment else {},
        "tensors": len(plan.tensors),
        "number_of_parameters": plan.parameters,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "bytes": sum(size_of(tensor) for tensor in plan.tensors),
        "expected_memory_bytes": {"merging": merging, "program": PROGRAM, "total": merging + PROGRAM},
        "notes": [*notes, *plan.notes, *filter(None, [plan.reach_note])],
    }


def _rows_from(plan: Plan) -> list[dict[str, Any]]:
    """Return groups of rows: what is done with them, and the models they come from."""
    if plan.alignment is None:
        return []
    names = plan.alignment.names
    return [
        {
            "case": str(group.case),
            "models": [names[number] for number, _ in group.sources],
            "rows": len(group.rows),
            "first": int(group.rows[0]),
            "last": int(group.rows[-1]),
        }
        for group in plan.alignment.groups
    ]


def _print_vocabulary(facts: Mapping[str, Any]) -> None:
    console = out()
    settings = facts["settings_of"]
    console.print(
        f"  vocabulary: {facts['vocabulary_of']}, {facts['rows']:,} rows; "
        f"chat template and generation settings: {settings}"
    )
    if facts["rows_from"]:
        table = rows("rows#", "from … to#", "what is done with them", "models", indent=4)
        for group in facts["rows_from"]:
            span = f"{group['first']} … {group['last']}"
            table.add_row("", f"{group['rows']:,}", span, group["case"], ", ".join(group["models"]))
        console.print(table)
    for name, token, as_ in facts["special_tokens_by_role"]:
        console.print(Text(f"    {token} of {name} is taken for {as_}: the same role"), soft_wrap=True)
    for name, count in facts["dropped"].items():
        console.print(f"    {count:,} tokens of {name} are left out")


def print_report(report: MergeReport, output: Path, notes: Sequence[str], as_json: bool) -> None:
    """Print what was merged, and its folder."""
    written = sum(file.stat().st_size for file in output.iterdir())
    facts = {"folder": str(output), **asdict(report), "bytes": written, "notes": [*notes, *report.notes]}
    if as_json:
        return print_json(facts)
    console = out()
    console.print(Text(str(output), style="bold"))
    console.print(
        f"  {report.parameters:,} parameters, {report.dtype}, {size(written)}; merged by {report.method}"
    )
    console.print(
        f"  vocabulary: {report.vocabulary_of}, {report.rows:,} rows; "
        f"chat template and generation settings: {report.settings_of}"
    )
    for case, count in report.rows_by_case.items():
        console.print(f"    {count:,} rows {case}")
    for name, count in report.dropped.items():
        console.print(f"    {count:,} tokens of {name} are left out")
    if report.rows_by_case:
        console.print("    every row: merge_rows.json")
    _print_notes(facts["notes"])
    console.print(
        "  README.md has the models, fingerprints and the command; sha256sum -c SHA256SUMS checks it."
    )
    return None


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        out().print(Text(f"  note: {note}"), soft_wrap=True)
