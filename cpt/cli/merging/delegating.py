"""Merges that mergekit does itself, with our checks before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from cpt.cli.evaluating.progress import Shown
from cpt.cli.merging.mergekit_file import MergekitFile
from cpt.cli.merging.references import fingerprints_by_name
from cpt.cli.output import out, print_json
from cpt.errors import CptError, Problem, RecipeError
from cpt.formatting import size
from cpt.references import locate, resolve_file


def delegate(
    file: MergekitFile,
    folders: Mapping[str, Path],
    reason: str,
    output: Path | None,
    shard_bytes: int,
    seed: int,
    view: Shown,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have mergekit merge what our engine has no equal of, or say that it would.

    Args:
        folders: of the models, by how the file calls them.
        reason: why mergekit does it.
    """
    from merging import by_mergekit
    from merging.output import check_free

    if output is not None:
        check_free(output)
    adapters = _adapters(file)
    notes = [f"mergekit does this merge itself: {reason}", *file.notes]
    notes += by_mergekit.check(folders, adapters)
    needed = by_mergekit.expected_bytes(file.config, folders)
    if dry_run or output is None:
        return _print_plan(file, folders, needed, notes, as_json)
    view.message(f"mergekit merges by {file.config.merge_method}: {reason}")
    prints = fingerprints_by_name({name: name for name in file.references}, file.document.folder)
    report = by_mergekit.run(
        file.localised(lambda model: _placed(model, folders, adapters)),
        output,
        text=file.text,
        needed=needed,
        shard_bytes=shard_bytes,
        seed=seed,
        card=lambda _folder: _card(file, prints, seed, output),
    )
    if not (output / "generation_config.json").is_file():
        notes.append("no generation settings: mergekit leaves them out where it makes a tokenizer")
    written = sum(each.stat().st_size for each in output.iterdir())
    facts = {"folder": str(output), **asdict(report), "bytes": written, "notes": notes}
    if as_json:
        return print_json(facts)
    console = out()
    console.print(Text(str(output), style="bold"))
    console.print(
        f"  {report.parameters:,} parameters, {report.layers} layers, {report.rows:,} rows, "
        f"{report.dtype}, {size(written)}; merged by {report.method}"
    )
    for note in notes:
        console.print(Text(f"  note: {note}"), soft_wrap=True)
    return None


def _placed(model: Any, folders: Mapping[str, Path], adapters: Mapping[str, Path]) -> dict[str, Any]:
    """A `ModelReference` as data, in local folders."""
    found: dict[str, Any] = {"model": {"path": str(folders[str(model.model)])}}
    if model.lora:
        found["lora"] = {"path": str(adapters[str(model.lora)])}
    if model.override_architecture:
        found["override_architecture"] = model.override_architecture
    return found


def _adapters(file: MergekitFile) -> dict[str, Path]:
    """Folders of the adapters, which must be local.

    Raises:
        RecipeError: some cannot be had.
    """
    found, problems = {}, []
    for name, reference in file.adapters.items():
        try:
            found[name] = resolve_file(locate(reference, file.document.folder))
        except CptError as error:
            problems.append(Problem(f"adapter {name}: {error.message}", file=file.document.file))
    if problems:
        raise RecipeError(problems)
    return found


def _card(file: MergekitFile, prints: Mapping[str, str], seed: int, output: Path) -> str:
    """README.md of the result."""
    parents = [f"| {name} | `{mark}` |" for name, mark in prints.items()]
    fence = "`" * (3 + max((len(run) for run in file.text.split() if set(run) == {"`"}), default=0))
    seeded = f" --seed {seed}" if seed else ""
    return "\n".join(
        [
            *("---", "library_name: transformers", "tags: [merge]", "---", "", "# Merged model", ""),
            f"Made by mergekit's {file.config.merge_method}, from the file below.",
            *("", "| Model | Fingerprint |", "|---|---|", *parents, ""),
            *("Made again by:", "", "```"),
            f"cpt merge mergekit_config.yml{seeded} --out {output.name}",
            *("```", "", f"{fence}yaml", file.text.rstrip(), fence, ""),
        ]
    )


def _print_plan(
    file: MergekitFile, folders: Mapping[str, Path], needed: int, notes: list[str], as_json: bool
) -> None:
    facts = {
        "method": file.config.merge_method,
        "by": "mergekit",
        "parents": [{"name": name, "folder": str(folder)} for name, folder in folders.items()],
        "bytes": needed,
        "notes": notes,
    }
    if as_json:
        return print_json(facts)
    console = out()
    console.print(Text.assemble((file.config.merge_method, "bold"), ", by mergekit"))
    for name, folder in folders.items():
        console.print(Text(f"  {name}: {folder}"), soft_wrap=True)
    console.print(f"  result: about {size(needed)}")
    for note in notes:
        console.print(Text(f"  note: {note}"), soft_wrap=True)
    console.print("  Nothing is written: --dry-run.")
    return None
