"""Read the rows that a mixture law is fitted on from finished runs: the readings of their pretrain stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import CptError, Problem, RecipeError, did_you_mean
from cpt.json_file import read_json, read_plain, read_rows
from cpt.laws.rows import TEXTS, Row
from cpt.models.weights import count_parameters
from cpt.recipe.journal import Run
from cpt.recipe.reported_runs import labels
from cpt.recipe.store import Record
from cpt.report.facts.records import ActionRow, FileShape, Schedule
from cpt.sources import DOMAIN
from cpt.training.schedules.phases import WARMUP

_PRETRAIN = "pretrain"


class _Reading(FileShape):
    """Row of `probes.jsonl`, as far as a law reads it."""

    step: int
    tokens: int
    probe: str
    value: float | None
    rise: float | None


class _Ended(FileShape):
    result_step: int


class _Summary(FileShape):
    schedule: Schedule
    ended: _Ended | None = None


class _Sequences(FileShape):
    sequences: int


def rows_of_runs(runs: Sequence[tuple[str, Run]], stage: str | None = None) -> list[Row]:
    """Return one row for each step at which the held-out texts were read, after the warm-up, and the start.

    Runs that differ in the seed hold out other documents, which `heldout` of their rows names.
    A reading may see a part of the held-out documents. Its loss is therefore the first one, of all documents,
    plus the rise on the documents that it saw.

    Args:
        runs: Runs, each with the name of its domain.
        stage: Name of the pretrain stage; needed if a run has several.

    Raises:
        RecipeError: Some runs have no such stage, or none with one share of replay; lists all of them.
    """
    names, problems = labels([run for _, run in runs]), []
    found: list[tuple[list[Row], _Origin]] = []
    for domain, run in runs:
        name = names[run.folder]
        try:
            record = pretrain_record(run, stage)
            found.append((_rows(name, domain, record), _Origin.of(run, record)))
        except CptError as error:
            problems.append(Problem(error.message, key=name, hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return list(_with_heldout(found))


class _Origin(NamedTuple):
    """The settings that the held-out text of a run and its first loss follow from, and the seed."""

    settings: str
    seed: int

    @classmethod
    def of(cls, run: Run, record: Record) -> _Origin:
        recipe = run.data.get("recipe") or {}
        stages = takewhile(lambda each: each.name != record.name, run.finished().values())
        made = [(each.stage, each.config, each.references) for each in stages]
        return cls(json.dumps([recipe.get("base"), made], sort_keys=True), record.seed)


def _with_heldout(found: Sequence[tuple[list[Row], _Origin]]) -> Iterator[Row]:
    """Yield rows with the name of their held-out documents, where runs differ in nothing else but the seed.

    A corpus holds out other documents for each seed.
    """
    groups: dict[tuple[str, int], set[str]] = {}
    for rows, origin in found:
        groups.setdefault((rows[0].domain, rows[0].parameters), set()).add(origin.settings)
    for rows, origin in found:
        alike = len(groups[rows[0].domain, rows[0].parameters]) == 1
        for row in rows:
            yield row.model_copy(update={"heldout": f"seed {origin.seed}"}) if alike else row


def pretrain_record(run: Run, stage: str | None) -> Record:
    """Return the record of a run's pretrain stage.

    Raises:
        CptError: It has none, or several of which none is named.
    """
    found = {name: record for name, record in run.finished().items() if record.stage == _PRETRAIN}
    if stage is not None and stage not in found:
        raise CptError(f"it has no finished pretrain stage `{stage}`", hint=did_you_mean(stage, found))
    if not found:
        raise CptError("it has no finished pretrain stage", hint="`cpt status` shows how far it is.")
    if stage is None and len(found) > 1:
        raise CptError(f"it has several pretrain stages: {', '.join(found)}", hint="Name one: --stage NAME.")
    return found[stage or next(iter(found))]


def _rows(name: str, domain: str, record: Record) -> list[Row]:
    """Return the rows of one pretrain stage."""
    folder = record.path("training")
    _require_one_share(record, folder)
    summary = read_plain(folder / "summary.json", _Summary)
    ledger: dict[str, _Sequences] = read_json(folder / "ledger.json", dict[str, _Sequences])
    share = ledger[DOMAIN].sequences / sum(row.sequences for row in ledger.values())
    parameters = count_parameters(record.path("model"))
    losses = _losses(read_rows(folder / "probes.jsonl", _Reading), summary)
    if not losses:
        raise CptError(
            "it read neither domain nor general text",
            hint="Give its corpus stage held-out text, or `general`.",
        )
    rows = []
    for tokens, found in sorted(losses.items()):
        values = {f"{text}_loss": value for text, value in found.items()}
        rows.append(Row(run=name, domain=domain, parameters=parameters, tokens=tokens, share=share, **values))
    return rows


def _require_one_share(record: Record, folder: Path) -> None:
    """Raise if the share of replay was not the same all along, or the training is not a whole one.

    Raises:
        CptError: A gate or a phase changed it, or the stage continued an earlier one.
    """
    if record.config.get("start") is not None:
        raise CptError(
            f"its stage {record.name} continues an earlier training, whose tokens count too",
            hint="Fit on runs that start from the base.",
        )
    mixture = record.config.get("mixture") or []
    if len({str(phase.get("replay")) for phase in mixture}) > 1:
        raise CptError("the phases of its mixture have different shares of replay")
    actions = [row for row in read_rows(folder / "actions.jsonl", ActionRow) if "replay" in row["action"]]
    if actions:
        raise CptError(
            f"a gate changed its share of replay at step {actions[0]['step']:,}: {actions[0]['action']}",
            hint="Fit on runs without such a gate.",
        )


def _losses(readings: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Return losses by tokens and text: before training, and after the warm-up until the result."""
    ended, schedule = summary.get("ended"), summary["schedule"]
    warm = min((phase["first"] for phase in schedule["phases"] if phase["name"] != WARMUP), default=0)
    found: dict[int, dict[str, float]] = {}
    for text in TEXTS:
        read = sorted((row for row in readings if row["probe"] == text), key=lambda row: int(row["step"]))
        if not read or read[0]["tokens"] != 0:
            continue
        for row in read:
            progress = row["tokens"] if schedule["unit"] == "tokens" else row["step"]
            kept = row["step"] == 0 or progress > warm
            if kept and (not ended or row["step"] <= ended["result_step"]):
                found.setdefault(row["tokens"], {})[text] = read[0]["value"] + (row["rise"] or 0.0)
    return found
