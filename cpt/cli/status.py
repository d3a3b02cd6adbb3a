"""Define `cpt ls`, `cpt status` and `cpt show`: list runs, their progress and their results."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.cli.options import DEFAULT_RUNS, Json, RunArgument, Runs
from cpt.cli.output import coloured, out, print_json, rows
from cpt.errors import DamagedFile, UsageError, did_you_mean
from cpt.formatting import duration, fact, size
from cpt.recipe.diff import flat
from cpt.recipe.journal import FILE, Run, find_run
from cpt.recipe.journal import runs as all_runs
from cpt.recipe.store import Record


def ls(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """List all runs, the newest first.

    Example: cpt ls --runs /data/runs
    """
    found = all_runs(runs)
    if as_json:
        return print_json([_run_facts(run) for run in found])
    if not found:
        return out().print(f"No runs in {runs}.")
    table = rows("run", "state", "started", "took#", "stages#", "")
    for run in found:
        if run.problem:
            table.add_row("", run.name, coloured(run.state), "", "", "", f"{FILE}: {run.problem}")
            continue
        facts = _run_facts(run)
        done = f"{facts['stages_done']}/{facts['stages']}"
        started, took = _local(facts["started"]), duration(facts["seconds"])
        table.add_row("", run.name, coloured(run.state), started, took, done, "")
    return out().print(table)


def status(run: RunArgument = None, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Show the progress of a run, also while another process runs it.

    Example: cpt status medical
    """
    found = find_run(runs, run)
    if as_json:
        return print_json({**found.data, "state": found.state, "folder": str(found.folder)})
    console = out()
    started = _local(found.data.get("started"))
    console.print(
        Text.assemble((found.name, "bold"), "  ", coloured(found.state), (f"  since {started}", "dim"))
    )
    table = rows("stage", "state", "took#", "")
    progress = found.data.get("progress") or {}
    for name, stage in found.stages.items():
        state = "killed" if stage["state"] == "running" and found.state == "killed" else stage["state"]
        took = duration(stage["seconds"]) if stage.get("seconds") is not None else ""
        running = progress.get("stage") == name and state == "running"
        note = _progress(progress) if running else stage.get("gate", "")
        table.add_row("", name, coloured(state), took, note)
    console.print(table)
    if found.data.get("error"):
        console.print(Text(str(found.data["error"]), style="red"), soft_wrap=True)
    return None


def show(
    run: RunArgument = None,
    stage: Annotated[
        str | None, typer.Argument(help="Stage whose result is shown. Default: all stages.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show the result of a stage: settings, inputs, figures, files.

    Example: cpt show medical pretrain
    """
    found, stage = _run_and_stage(runs, run, stage)
    records = found.finished()
    require_readable(found, [stage] if stage is not None else list(found.stages))
    if stage is not None:
        if stage not in records:
            hint = did_you_mean(stage, records)
            raise UsageError(f"the run `{found.name}` has no finished stage `{stage}`", hint=hint)
        records = {stage: records[stage]}
    if as_json:
        facts = [_facts(record) for record in records.values()]
        return print_json(facts[0] if stage is not None else facts)
    if stage is None:
        return _print_artifacts(found, records)
    return _print_artifact(records[stage])


def require_readable(run: Run, stages: Iterable[str]) -> None:
    """Raise `DamagedFile` if the record of a finished stage is damaged."""
    for name in stages:
        fingerprint = run.stages[name]["fingerprint"] if name in run.stages else ""
        if fingerprint and run.store.damaged(name, fingerprint):
            folder = run.store.artifact_folder(name, fingerprint)
            found = "; ".join(run.store.damage(name, fingerprint))
            raise DamagedFile(folder, found, hint=f"`cpt run RECIPE --force {name}` makes it again.")


def _run_and_stage(runs: Path, run: str | None, stage: str | None) -> tuple[Run, str | None]:
    """Return run and stage; one word is a stage of the newest run, unless a run has that name."""
    if run is not None and stage is None:
        known = all_runs(runs)
        if known and run in known[0].stages and run not in [other.name for other in known]:
            return known[0], run
    return find_run(runs, run), stage


def _run_facts(run: Run) -> dict[str, Any]:
    states = [stage["state"] for stage in run.stages.values()]
    return {
        "name": run.name,
        "state": run.state,
        "started": run.data.get("started"),
        "seconds": sum(stage.get("seconds") or 0 for stage in run.stages.values()),
        "stages": len(states),
        "stages_done": sum(state in ("finished", "cached") for state in states),
        "folder": str(run.folder),
    } | ({"problem": f"{FILE}: {run.problem}"} if run.problem else {})


def _facts(record: Record) -> dict[str, Any]:
    files = [{"path": name, "bytes": count} for name, count in _files(record.folder)]
    return {**record.model_dump(mode="json"), "files": files}


def _files(folder: Path) -> list[tuple[str, int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def _print_artifacts(run: Run, records: dict[str, Record]) -> None:
    console = out()
    console.print(Text.assemble((run.name, "bold"), (f"  in {run.folder}", "dim")))
    table = rows("stage", "holds", "fingerprint", "took#", "size#")
    for name, record in records.items():
        total = size(sum(count for _, count in _files(record.folder)))
        kinds = ", ".join(record.kinds)
        table.add_row("", name, kinds, record.fingerprint[:12], duration(record.seconds), total)
    console.print(table)


def _print_artifact(record: Record) -> None:
    console = out()
    holds = ", ".join(record.kinds)
    console.print(Text.assemble((record.name, "bold"), (f"  {record.stage}, holds {holds}", "dim")))
    table = rows()
    table.add_column("", style="dim")
    table.add_column("", overflow="fold")
    table.add_row("", "folder", str(record.folder))
    table.add_row("", "fingerprint", record.fingerprint)
    table.add_row("", "made", f"{_local(record.created)}, took {duration(record.seconds)}")
    if record.gate:
        table.add_row("", "gate", Text(record.gate, style="yellow"))
    for role, content in record.parents.items():
        table.add_row("", f"from {record.sources.get(role, '?')}", f"{role}, {content[:12]}")
    console.print(table)
    _print_pairs(console, "settings", flat(record.config))
    _print_pairs(console, "figures", flat(record.metrics))
    _print_pairs(console, "files", {name: size(count) for name, count in _files(record.folder)})


def _print_pairs(console: Console, title: str, pairs: dict[str, Any]) -> None:
    if not pairs:
        return
    console.print(f"\n  {title}", style="bold")
    table = rows(indent=4)
    table.add_column("", style="dim")
    table.add_column("", overflow="fold")
    for name, value in pairs.items():
        table.add_row("", name, _value(value))
    console.print(table)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _progress(progress: dict[str, Any]) -> str:
    parts = [f"{progress['done']:,}/{progress['total']:,} {progress['unit']}"]
    parts += [fact(name, value) for name, value in progress.get("facts", {}).items()]
    return ", ".join(parts)


def _local(stamp: Any) -> str:
    """Format a stored UTC time in local time: `14:02` today, else with the date."""
    try:
        moment = datetime.fromisoformat(str(stamp)).astimezone()
    except ValueError:
        return "?"
    today = datetime.fromtimestamp(time.time(), UTC).astimezone().date()
    return moment.strftime("%H:%M" if moment.date() == today else "%Y-%m-%d %H:%M")
