"""Decide which runs are comparable: measured on the same held-out text, and on the same task items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from cpt.corpus.recall import recall_key
from cpt.report.facts.monitoring import interval
from cpt.report.schema import Facts, Interval, Probe

_READ = "read"
"""Mark of a measure whose fingerprint covers the parts that were read, not the complete text."""

SHOWN = 8
"""Number of characters of a fingerprint in a message."""


class Measure(NamedTuple):
    """Change of one run on a kind of text, with its method and text.

    text: fingerprint of all held-out text of that kind, or of the parts that the training probe read; None if
        the corpus is gone and the parts are unknown.
    sample: value that distinguishes samples of the text.
    """

    change: Interval
    by: str
    text: str | None
    sample: Hashable


class ComparableMeasures(NamedTuple):
    """Comparable measures by run, and the reasons why other runs are excluded."""

    measures: dict[str, Measure]
    apart: dict[str, str]


def comparable_measures(probes: Mapping[str, Probe], texts: Mapping[str, str | None]) -> ComparableMeasures:
    """Return the largest group of runs measured in the same way on the same text; the first among equals.

    Measures of evaluate take precedence over readings of training probes.

    Args:
        probes: One probe by run.
        texts: Fingerprint of the probe's held-out text by run.
    """
    evaluated = {name: found for name, probe in probes.items() if (found := _evaluated(probe, texts[name]))}
    trained = {name: found for name, probe in probes.items() if (found := _trained(probe, texts[name]))}
    together = _largest(evaluated)
    if len(together) < 2 and len(_largest(trained)) >= 2:
        together = _largest(trained)
    together = together or _largest(trained)
    if not together:
        return ComparableMeasures({}, dict.fromkeys(probes, "it was not measured"))
    model = next(iter(together.values()))
    others = [name for name in probes if name not in together]
    return ComparableMeasures(
        together, {name: _why(evaluated.get(name) or trained.get(name), model) for name in others}
    )


def offsets(probes: Mapping[str, Probe], texts: Mapping[str, str | None]) -> dict[str, float]:
    """Return each run's first level above that of most runs on the same text, in bits per byte.

    Arguments as in `comparable_measures`.
    """
    trained = {name: found for name, probe in probes.items() if (found := _trained(probe, texts[name]))}
    levels = {name: probes[name].training.before for name in _largest(trained)}  # type: ignore[union-attr]
    known = {name: level for name, level in levels.items() if level is not None}
    if not known:
        return {}
    (common, _), *_ = Counter(round(level, 3) for level in known.values()).most_common()
    exact = next(level for level in known.values() if round(level, 3) == common)
    return {name: level - exact for name, level in known.items()}


def _evaluated(probe: Probe, text: str | None) -> Measure | None:
    if probe.measured_by != "evaluate" or probe.difference is None:
        return None
    known = (probe.documents, probe.bytes)
    return Measure(probe.difference, "evaluate", text, known if text else (*known, probe.before))


def _trained(probe: Probe, text: str | None) -> Measure | None:
    change = interval(probe.training.permanent, probe.training.permanent_error) if probe.training else None
    if probe.training is None or change is None:
        return None
    if probe.sample:
        return Measure(change, "training", probe.sample, _READ)
    return Measure(change, "training", text, None if text else probe.training.before)


def _largest(measures: Mapping[str, Measure]) -> dict[str, Measure]:
    groups: dict[Hashable, dict[str, Measure]] = {}
    for name, measure in measures.items():
        groups.setdefault((measure.text, measure.sample), {})[name] = measure
    return max(groups.values(), key=len, default={})


def _why(own: Measure | None, model: Measure) -> str:
    """Return the reason why a measure is not comparable."""
    if own is None:
        return "it was not measured"
    if own.by != model.by:
        return "it has no evaluate stage: only its training probes were read"
    if _READ in (own.sample, model.sample):
        return "its training probe is not known to have read the same parts of the same documents"
    if own.text is None or model.text is None:
        return "its corpus is gone, so it is unknown whether its held-out text is the same"
    if own.text != model.text:
        return f"its held-out text is another ({own.text[:SHOWN]} instead of {model.text[:SHOWN]})"
    return "it was measured on another sample of the held-out text"


def other_items(
    runs: Mapping[str, Facts], fingerprints: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return for each run the tasks, suites and recall groups on which it answered other items than most.

    Items are compared by fingerprint. If it is unknown, as for suites, their number is compared, and with one
    base for all runs also the base's score, which is equal on equal items. A suite's average covers the tasks
    on which some model is above guessing. These can differ between runs and are compared by name.

    Args:
        runs: Facts by run.
        fingerprints: Fingerprints of items by run, and by task or key of a recall group.
    """
    one_base = len({facts.base for facts in runs.values()}) == 1
    marks: dict[str, dict[str, Hashable]] = {}
    for run, facts in runs.items():
        for name, items, base in _answered(facts):
            marks.setdefault(name, {})[run] = (items, round(base, 9) if one_base else None)
    for name, by_run in marks.items():
        if all(name in fingerprints[run] for run in by_run):
            marks[name] = {run: fingerprints[run][name] for run in by_run}
    found: dict[str, list[str]] = {run: [] for run in runs}
    for name, by_run in marks.items():
        kept = list(by_run.values())
        most = max(kept, key=kept.count)
        for run, mark in by_run.items():
            if mark != most:
                found[run].append(name)
    return found


def _answered(facts: Facts) -> Iterator[tuple[str, Hashable, float]]:
    """Yield name, known properties of the items, and base score of every task, recall group and suite."""
    for name, task in facts.tasks.items():
        yield name, (task.metric, task.items), task.before.value
    for group, found in facts.recall.items():
        yield recall_key(group), (found.metric, found.items), found.before.value
    if facts.suites is not None:
        for name, line in facts.suites.tasks.items():
            yield name, (line.metric, line.n), line.a
        for name, average in facts.suites.averages.items():
            averaged = tuple(task.task for task in facts.suites.by_suite.get(name, ()))
            yield name, (average.tasks, averaged), average.a
