"""Read from finished runs, each trained on one part of a domain, how far the loss on every part fell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from cpt.errors import CptError, Problem, RecipeError
from cpt.formatting import Z_95
from cpt.json_file import read_json, read_plain, read_rows
from cpt.monitor.skill_graph import Fall
from cpt.recipe.journal import Run
from cpt.recipe.law_rows import pretrain_record
from cpt.recipe.reported_runs import labels
from cpt.recipe.store import Record
from cpt.report.facts.records import FileShape
from cpt.seeds import mean_over_seeds
from cpt.sources import DOMAIN, PART


class _Reading(FileShape):
    """Row of `probes.jsonl`, as far as a fall is read from it."""

    step: int
    probe: str
    rise: float | None
    rise_error: float | None


class _Ended(FileShape):
    result_step: int


class _Summary(FileShape):
    ended: _Ended | None = None


class _Part(FileShape):
    sequences: int


class _Source(FileShape):
    parts: dict[str, _Part] | None = None


def falls_of_runs(runs: Sequence[Run], stage: str | None = None) -> dict[str, dict[str, Fall]]:
    """Return the falls of losses in bits per byte: by the part that was trained on, and the part measured.

    Falls of runs on the same part (seeds) are averaged. The error of a mean is that over documents, which may
    be the same in all runs, and that over runs.

    Args:
        stage: Name of the pretrain stage; needed if a run has several.

    Raises:
        RecipeError: Some runs have no such stage, did not train on exactly one part, or did not measure
            parts; lists all of them.
    """
    names, found, problems = labels(runs), dict[str, dict[str, list[Fall]]](), []
    order: dict[str, None] = {}
    for run in runs:
        try:
            parts, trained, falls = _falls(pretrain_record(run, stage))
        except CptError as error:
            problems.append(Problem(error.message, key=names[run.folder], hint=error.hint))
            continue
        order |= dict.fromkeys(parts)
        for target, fall in falls.items():
            found.setdefault(trained, {}).setdefault(target, []).append(fall)
    if not problems and (missing := [part for part in order if part not in found]):
        message = f"no run was trained on {', '.join(missing)} alone"
        problems.append(Problem(message, hint="`cpt sweep RECIPE --skills STAGE` makes a run for each part."))
    if problems:
        raise RecipeError(problems)
    return {
        part: {target: _mean(found[part][target]) for target in order if target in found[part]}
        for part in order
    }


def _falls(record: Record) -> tuple[list[str], str, dict[str, Fall]]:
    """Return the names of all parts, the one that was trained on, and the fall of each part's loss."""
    folder = record.path("training")
    ledger: dict[str, _Source] = read_json(folder / "ledger.json", dict[str, _Source])
    rows = ledger[DOMAIN].parts or {}
    parts = {name.removeprefix(f"{DOMAIN}{PART}"): row.sequences for name, row in rows.items()}
    trained = [name for name, sequences in parts.items() if sequences]
    if len(trained) != 1:
        read = f"on {', '.join(trained)}" if trained else "on a domain without parts"
        raise CptError(f"it was trained {read}, not on one part", hint="Give one part all of the weight.")
    ended = read_plain(folder / "summary.json", _Summary).get("ended")
    last = ended["result_step"] if ended else math.inf
    falls = {}
    for row in read_rows(folder / "probes.jsonl", _Reading):
        source, _, part = row["probe"].partition(PART)
        if source == DOMAIN and part in parts and row["step"] <= last and row["rise"] is not None:
            falls[part] = Fall(value=-row["rise"], error=row["rise_error"])  # the last one stays
    if not falls:
        raise CptError("it did not measure the parts", hint="Set monitor.parts: true.")
    return list(parts), trained[0], falls


def _mean(falls: Sequence[Fall]) -> Fall:
    """Return the mean of falls, with its error and its interval.

    Documents are many, so that their part of the interval is normal. Runs are few: theirs is Student's.
    """
    mean = mean_over_seeds([fall.value for fall in falls])
    documents = [fall.error for fall in falls if fall.error is not None]
    error = fmean(documents) if documents else None
    margin = None if error is None else Z_95 * error
    if mean.high is not None:
        margin = math.hypot(margin or 0.0, mean.high - mean.value)
        error = math.hypot(error or 0.0, stdev(mean.seeds) / math.sqrt(len(falls)))
    return Fall(value=mean.value, error=error, margin=margin)
