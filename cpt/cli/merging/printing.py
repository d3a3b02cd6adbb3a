"""What a merge will do, and what it did: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cpt.cli.output import out, print_json, rows
from cpt.formatting import plural, size

if TYPE_CHECKING:
    from merging.merge import MergeReport
    from merging.plan import Plan


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
    from merging.memory import PROGRAM, expected_bytes
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
