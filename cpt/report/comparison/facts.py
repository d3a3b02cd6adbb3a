"""Compare the facts of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from cpt.report.comparison import summary_text
from cpt.report.comparison.comparability import ComparableMeasures, comparable_measures, offsets, other_items
from cpt.report.comparison.figures import best_by_figure
from cpt.report.comparison.pareto_front import (
    Changes,
    Documents,
    Estimate,
    are_paired,
    difference,
    dominated_by,
)
from cpt.report.comparison.schema import ComparedProbe, Comparison, Pair, RunRow, Setting
from cpt.report.curves import thinned
from cpt.report.facts.monitoring import FIRST_PROBES
from cpt.report.schema import Facts, Probe

CURVE_POINTS = 250
"""Maximum length of a run's curve in a comparison."""


@dataclass(frozen=True)
class ReportedRun:
    """Facts of one run to compare.

    name: unique name. page: the run's own report, relative to the comparison's folder.
    missing: stages that have not finished.
    texts: fingerprint of the held-out text of each probe, if its corpus still exists.
    documents: loss of the final model on each document, by probe.
    items: fingerprint of the items of each task and recall group (`recall:untrained`), if known.
    """

    name: str
    facts: Facts
    state: str = "finished"
    folder: str = ""
    page: str | None = None
    missing: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, Documents] = field(default_factory=dict)
    items: Mapping[str, str] = field(default_factory=dict)


def compare(runs: Sequence[ReportedRun], settings: Sequence[Setting], created: str) -> Comparison:
    """Return all facts of a comparison.

    Args:
        runs: Runs to compare, at least one, with unique names.
        settings: Settings in which the runs' recipes differ.
        created: Current time, ISO 8601.
    """
    sides = {name: _side_by_side(runs, name) for name in probe_names(runs)}
    agreements = {name: comparable_measures(*side) for name, side in sides.items()}
    begun = {name: offsets(*side) for name, side in sides.items()}
    others = other_items({run.name: run.facts for run in runs}, {run.name: run.items for run in runs})
    rows = [
        row_of(run, number, agreements, begun, others[run.name]) for number, run in enumerate(runs, start=1)
    ]
    estimates = {name: estimates_of(runs, name, agreement) for name, agreement in agreements.items()}
    domain, general = (estimates.get(name, {}) for name in FIRST_PROBES)
    changes = {run: Changes(domain[run], general[run]) for run in domain if run in general}
    beaten = dominated_by(changes) if len(changes) > 1 else {}
    rows = [
        row.model_copy(update={"on_front": not beaten[row.name], "beaten_by": beaten[row.name]})
        if row.name in beaten
        else row
        for row in rows
    ]
    front = sorted(
        (name for name in beaten if not beaten[name]), key=lambda run: changes[run].domain.interval.value
    )
    return Comparison(
        verdict=summary_text.verdict(changes, beaten),
        basis=summary_text.basis(changes, agreements),
        created=created,
        confidence=max(run.facts.confidence for run in runs),
        notes=summary_text.notes(runs, agreements, rows),
        front=front,
        best=best_by_figure(rows, estimates),
        pairs=[pair for name, found in estimates.items() for pair in pairs_of(name, found)],
        runs=rows,
        settings=list(settings),
    )


def probe_names(runs: Sequence[ReportedRun]) -> list[str]:
    """Return the names of all runs' probes, domain and general first."""
    found = dict.fromkeys(name for run in runs for name in run.facts.probes)
    return sorted(found, key=lambda name: FIRST_PROBES.index(name) if name in FIRST_PROBES else len(found))


def estimates_of(
    runs: Sequence[ReportedRun], name: str, agreement: ComparableMeasures
) -> dict[str, Estimate]:
    """Return the changes on one text of the comparable runs.

    Runs of one base are compared document by document: the difference of their changes equals the difference
    of their final models.
    """
    one_base = len({run.facts.probes[name].before for run in runs if run.name in agreement.measures}) == 1
    return {
        run.name: Estimate(
            measure.change, run.documents.get(name) if one_base and measure.by == "evaluate" else None
        )
        for run in runs
        if (measure := agreement.measures.get(run.name)) is not None
    }


def pairs_of(name: str, estimates: Mapping[str, Estimate]) -> list[Pair]:
    """Return the difference of every two comparable runs on one text."""
    return [
        Pair(
            probe=name,
            a=a,
            b=b,
            difference=difference(estimates[a], estimates[b]),
            paired=are_paired(estimates[a], estimates[b]),
        )
        for a, b in combinations(estimates, 2)
    ]


def row_of(
    run: ReportedRun,
    number: int,
    agreements: Mapping[str, ComparableMeasures],
    begun: Mapping[str, Mapping[str, float]],
    others: Sequence[str],
) -> RunRow:
    """Return one run of the comparison."""
    facts = run.facts
    return RunRow(
        number=number,
        name=run.name,
        state=run.state,
        folder=run.folder,
        page=run.page,
        base=facts.base,
        created=facts.created,
        missing=list(run.missing),
        probes={
            name: measured(facts.probes[name], run.name, agreement, begun[name].get(run.name))
            for name, agreement in agreements.items()
            if name in facts.probes
        },
        tasks=facts.tasks,
        recall=facts.recall,
        suites=facts.suites,
        in_training=facts.watched.tasks,
        gates=facts.watched.gates,
        actions=len(facts.watched.actions),
        other_items=list(others),
        tokens=facts.tokens,
        steps=facts.training.steps if facts.training else None,
        tokens_per_second=facts.tokens_per_second,
        seconds=sum(facts.seconds.values()),
        vocabulary=facts.vocabulary.after,
    )


def measured(probe: Probe, run: str, agreement: ComparableMeasures, offset: float | None) -> ComparedProbe:
    """Return a probe with its change by the common measure, or by its own with the reason."""
    own = agreement.measures.get(run)
    known = {name: getattr(probe, name) for name in Probe.model_fields if name != "curve"}
    return ComparedProbe(
        **known,
        curve=thinned(probe.curve, lambda point: point.value, limit=CURVE_POINTS),
        change=own.change if own else probe.difference,
        apart=agreement.apart.get(run, ""),
        offset=offset,
    )


def _side_by_side(runs: Sequence[ReportedRun], name: str) -> tuple[dict[str, Probe], dict[str, str | None]]:
    """Return one probe of every run, and the fingerprint of its text."""
    probes = {run.name: run.facts.probes.get(name, Probe()) for run in runs}
    return probes, {run.name: run.texts.get(name) for run in runs}
