"""`cpt merge`: from flags, from a plan, from mergekit's file.

What a merge will do, and what it did: for people, and as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cpt.cli.evaluating.progress import Shown, shown
from cpt.cli.form import plural, size
from cpt.cli.merging import job
from cpt.cli.merging.delegating import delegate
from cpt.cli.merging.job import (
    RESERVED,
    SHARD_SIZE,
    Asked,
    command_of,
    fingerprints_meanwhile,
    from_flags,
    in_folders,
    name_of,
    problems_of,
    resolved,
    shard_bytes,
)
from cpt.cli.merging.plan_file import MergekitFile, from_plan, is_mergekits
from cpt.cli.merging.plan_file import read as read_mergekit
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.errors import CannotMerge, Problem, RecipeError, UsageError
from cpt.recipe.document import parse, read, read_text

if TYPE_CHECKING:
    from merging.plan import Plan
    from merging.run import MergeReport


def print_plan(plan: Plan, rows_of: Mapping[str, int], notes: Sequence[str], as_json: bool) -> None:
    """What would be merged.

    Args:
        rows_of: rows of each parent's embedding.
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
    """A plan as plain data; arguments as of `print_plan`."""
    from merging.kernels import PROGRAM, expected_bytes
    from merging.writer import size_of

    request = plan.request
    merging = expected_bytes(plan)
    alignment = plan.alignment
    return {
        "method": plan.method.name,
        "parents": [
            {
                "name": parent.name,
                "is_base": parent is request.base,
                "folder": str(parent.folder),
                "parameters": dict(parent.parameters),
                "rows": rows_of[parent.name],
            }
            for parent in request.parents
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
    """Which rows come about how, from which models."""
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
    """What was merged, and where it is."""
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
        "  README.md tells parents, fingerprints and the command; sha256sum -c SHA256SUMS checks it."
    )
    return None


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        out().print(Text(f"  note: {note}"), soft_wrap=True)


MEGA = 1_000_000


def merge(
    plan: job.PlanArgument = None,
    base: job.Base = None,
    add: job.Add = None,
    method: job.MethodName = None,
    density: job.Density = None,
    normalize: job.Normalize = None,
    settings: job.Settings = None,
    tokenizer: job.TokenizerOf = None,
    settings_of: job.SettingsOf = None,
    template: job.ChatTemplate = None,
    dtype: job.Dtype = None,
    compute_dtype: job.ComputeDtype = None,
    seed: job.Seed = None,
    shard_size: job.ShardSize = None,
    output: job.Out = None,
    dry_run: job.DryRun = False,
    as_json: Json = False,
) -> None:
    """Merge models of one architecture; tensor by tensor, their vocabularies aligned by the tokens' spelling.

    Example: cpt merge --base B --add domain:0.8 --add instruct:1.0 --method ties --density 0.5 --out merged

    Example: cpt merge plan.yaml --out merged

    PLAN is a YAML file with the same settings (base, method, models, parameters, tokenizer, settings, dtype,
    compute_dtype, seed, shard_size), or a file for mergekit-yaml, which is taken as it is.

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
    with shown(kept=False) as view:
        asked: Asked | None
        if plan is not None:
            asked = _from_file(plan, flags, seed, shard_size, output, view, dry_run, as_json)
        else:
            asked = from_flags(
                base,
                add or [],
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
        if asked is not None:
            _merge(asked, output, view, dry_run, as_json)


def _from_file(
    file: Path,
    flags: Mapping[str, Any],
    seed: int | None,
    shard_size: str | None,
    output: Path | None,
    view: Shown,
    dry_run: bool,
    as_json: bool,
) -> Asked | None:
    """What a file asks for; None if mergekit has done it."""
    given = [f"--{name}" for name, value in flags.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} cannot be given with a file", hint=f"Write it into {file}.")
    content = _content(file)
    document = read(file)
    if not is_mergekits(content):
        return from_plan(document, seed, shard_size)
    configuration = read_mergekit(document)
    folders = resolved(configuration.references, document.folder, view)
    from merging.mergekit_file import check_slices, needs_mergekit

    check_slices(configuration.config, folders)
    reason = needs_mergekit(configuration.config, folders)
    if reason is None:
        return _translated(configuration, folders, seed or 0, shard_size or SHARD_SIZE)
    size = _size(shard_size or SHARD_SIZE)
    delegate(configuration, folders, reason, output, size, seed or 0, view, dry_run, as_json)
    return None


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


def _translated(file: MergekitFile, folders: Mapping[str, Path], seed: int, shard_size: str) -> Asked:
    """mergekit's configuration as a request of ours."""
    from merging.mergekit_file import request_of

    names: dict[str, str] = {}
    for reference in file.references:
        names[reference] = name_of(reference, {*names.values(), *RESERVED})
    request, notes = request_of(file.config, folders, names, seed)
    used = {parent.name for parent in request.parents}
    return Asked(
        request,
        {name: reference for reference, name in names.items() if name in used},
        file.document.folder,
        shard_size,
        notes=(*file.notes, *notes),
        document=file.document,
    )


def _merge(asked: Asked, output: Path | None, view: Shown, dry_run: bool, as_json: bool) -> None:
    from merging.plan import plan, read_inputs

    problems = [*problems_of(asked), *_in_the_way(output)]
    if problems:
        raise RecipeError(problems)
    folders = resolved(job.references, job.folder, view)
    request = in_folders(job.request, folders)
    candidates = read_inputs(request)
    worked_out = plan(request, candidates)
    if dry_run or output is None:
        rows = {
            each.name: worked_out.rows if worked_out.alignment is None else each.vocabulary.rows
            for each in candidates
        }
        return print_plan(worked_out, rows, job.notes, as_json)
    from merging.run import run

    view.message(f"merging {plural(len(request.models), 'model')} by {request.method}, tensor by tensor")
    marks = fingerprints_meanwhile(job.references, job.folder)

    def progress(done: int, total: int) -> None:
        view.update(done // MEGA, total // MEGA, "MB merged")
        if done == total and not marks.done():
            view.message("reading what is left of the models for their fingerprints")

    report = run(
        worked_out,
        output,
        shard_bytes=shard_bytes(job.shard_size),
        command=command_of(asked, output),
        fingerprints=marks,
        progress=progress,
    )
    return print_report(report, output, job.notes, as_json)


def _in_the_way(output: Path | None) -> Iterator[Problem]:
    from merging.writer import check_free

    try:
        if output is not None:
            check_free(output)
    except CannotMerge as error:
        yield Problem(error.message, hint=error.hint)


def _size(text: str) -> int:
    try:
        return shard_bytes(text)
    except ValueError as error:
        raise UsageError(f"--shard-size: {error}") from None
