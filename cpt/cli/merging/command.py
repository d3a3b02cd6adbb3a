"""`cpt merge`: from flags, from a plan, from mergekit's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpt.cli.evaluating.progress import Shown, shown
from cpt.cli.merging import options
from cpt.cli.merging.asked import SHARD_SIZE, Asked, command_of, problems_of, shard_bytes
from cpt.cli.merging.delegating import delegate
from cpt.cli.merging.flags import from_flags
from cpt.cli.merging.mergekit_file import MergekitFile, is_mergekits
from cpt.cli.merging.mergekit_file import read as read_mergekit
from cpt.cli.merging.plan_file import from_plan
from cpt.cli.merging.printing import print_plan, print_report
from cpt.cli.merging.references import RESERVED, fingerprints_meanwhile, in_folders, name_of, resolved
from cpt.cli.options import Json
from cpt.errors import CannotMerge, Problem, RecipeError, UsageError
from cpt.formatting import plural
from cpt.recipe.document import parse, read, read_text

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
    from merging.plan import plan, read_parents

    problems = [*problems_of(asked), *_in_the_way(output)]
    if problems:
        raise RecipeError(problems)
    folders = resolved(asked.references, asked.folder, view)
    request = in_folders(asked.request, folders)
    candidates = read_parents(request)
    worked_out = plan(request, candidates)
    if dry_run or output is None:
        rows = {
            each.name: worked_out.rows if worked_out.alignment is None else each.vocabulary.rows
            for each in candidates
        }
        return print_plan(worked_out, rows, asked.notes, as_json)
    from merging.merge import run

    view.message(f"merging {plural(len(request.models), 'model')} by {request.method}, tensor by tensor")
    marks = fingerprints_meanwhile(asked.references, asked.folder)

    def progress(done: int, total: int) -> None:
        view.update(done // MEGA, total // MEGA, "MB merged")
        if done == total and not marks.done():
            view.message("reading what is left of the models for their fingerprints")

    report = run(
        worked_out,
        output,
        shard_bytes=shard_bytes(asked.shard_size),
        command=command_of(asked, output),
        fingerprints=marks,
        progress=progress,
    )
    return print_report(report, output, asked.notes, as_json)


def _in_the_way(output: Path | None) -> Iterator[Problem]:
    from merging.output import check_free

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
