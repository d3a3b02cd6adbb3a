"""Describe a comparison of runs in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.corpus.recall import recall_key
from cpt.formatting import NOTHING, compact, percent, signed
from cpt.report.comparison.comparability import ComparableMeasures
from cpt.report.comparison.pareto_front import Changes, Estimate, are_paired, lowest
from cpt.report.schema import Probe
from cpt.report.summary_text import has_gap, lacks_middle_readings

if TYPE_CHECKING:
    from cpt.report.comparison.facts import ReportedRun
    from cpt.report.comparison.schema import RunRow

ROUNDED = 0.05
"""Relative difference below which numbers of tokens count as equal."""

NAMED = 3
"""Maximum number of runs that a sentence names; further ones are counted."""


def verdict(changes: Mapping[str, Changes], beaten: Mapping[str, Sequence[str]]) -> str:
    """Return the best runs in one sentence, with clauses separated by semicolons.

    Args:
        changes: Changes of comparable runs.
        beaten: For each of them, the runs that dominate it.
    """
    if len(changes) < 2:
        return "No two runs were measured on the same domain and general text; they are not compared."
    domain = lowest({name: each.domain for name, each in changes.items()})
    general = lowest({name: each.general for name, each in changes.items()})
    if len(domain) == len(general) == len(changes):
        ranges = (
            f"{kind} text {_range(values)}"
            for kind, values in zip(Changes._fields, zip(*changes.values(), strict=True), strict=True)
        )
        return f"{_number(len(changes))} runs without a difference beyond the noise; {', '.join(ranges)}."
    both = [name for name in domain if name in general]
    clauses = [_best_on_both(both, changes)] if both else _two_ends(domain, general, changes)
    named = {*both} or {*domain, *general}
    between = [name for name, others in beaten.items() if not others and name not in named]
    if between:
        clauses.append(f"{listed(between)} {'is' if len(between) == 1 else 'are'} between")
    worse = [name for name, others in beaten.items() if others]
    if worse and not both:
        better = dict.fromkeys(other for name in worse for other in beaten[name] if not beaten[other])
        clauses.append(f"{listed(worse)} {'is' if len(worse) == 1 else 'are'} beaten by {listed(better)}")
    return f"{'; '.join(clauses)}."


def _best_on_both(best: Sequence[str], changes: Mapping[str, Changes]) -> str:
    domain, general = (signed(change.interval.value) for change in changes[best[0]])
    verb = "is" if len(best) == 1 else "are"
    found = f"{domain} bits per byte on domain text, {general} on general text"
    return f"{listed(best)} {verb} best on both; {found}"


def _two_ends(domain: Sequence[str], general: Sequence[str], changes: Mapping[str, Changes]) -> list[str]:
    """Return the runs that gain most and keep most, with their change on the other text."""
    most, kept = changes[domain[0]], changes[general[0]]
    gains = "gain" if most.domain.interval.value < 0 else "lose"
    amount = "most" if most.domain.interval.value < 0 else "least"
    verb = gains if len(domain) > 1 else f"{gains}s"
    return [
        f"{listed(domain)} {verb} {amount} on domain text ({signed(most.domain.interval.value)}, "
        f"general {signed(most.general.interval.value)})",
        f"{listed(general)} {'keep' if len(general) > 1 else 'keeps'} general text best "
        f"({signed(kept.general.interval.value)}, domain {signed(kept.domain.interval.value)})",
    ]


def basis(changes: Mapping[str, Changes], agreements: Mapping[str, ComparableMeasures]) -> str:
    """Return the basis of the verdict."""
    if len(changes) < 2:
        return "The changes of each run are below; they are not compared between runs."
    measures = [agreements[kind].measures[run] for kind in Changes._fields for run in changes]
    if all(measure.by == "evaluate" for measure in measures):
        means = "Each run's base model against its final model on the same held-out text."
    else:
        means = "First against last reading of the training probes on the same held-out text."
    first, *others = changes.values()
    if others and all(are_paired(*pair) for other in others for pair in zip(first, other, strict=True)):
        pairs = "the 95% interval of their difference, taken document by document, excludes zero"
        return f"{means} Two runs differ where {pairs}."
    if all(measure.change.known for measure in measures):
        return f"{means} Two runs differ where their intervals, taken as independent, leave a difference."
    return f"{means} Some changes have no interval: every printed difference counts for them."


def notes(
    runs: Sequence[ReportedRun], agreements: Mapping[str, ComparableMeasures], rows: Sequence[RunRow]
) -> list[str]:
    """Return notes on what is not compared or not equal, with reasons."""
    return [
        *_unfinished(runs),
        *_apart(agreements),
        *_began_elsewhere(rows),
        *_other_items(rows),
        *_unlike(
            "start from different models",
            [run.facts.base for run in runs],
            "each change is from the run's own base",
        ),
        *_unequal_tokens([sum(run.facts.tokens.values()) for run in runs]),
        *_unlike(
            "have vocabularies of different sizes",
            [f"{size:,}" for run in runs if (size := run.facts.vocabulary.after) is not None],
            "bits per byte compare across tokenizers, losses per token do not",
        ),
        *_unlike(
            "state intervals of different confidence",
            [percent(run.facts.confidence, 0) for run in runs],
            "they are compared as they are",
        ),
    ]


def _unfinished(runs: Sequence[ReportedRun]) -> Iterator[str]:
    for run in runs:
        if run.missing:
            verb = "has" if len(run.missing) == 1 else "have"
            yield f"{run.name} is {run.state}: {listed(run.missing, most=9)} {verb} not finished."


def _apart(agreements: Mapping[str, ComparableMeasures]) -> Iterator[str]:
    """Yield runs that are not comparable, with one note for several texts with the same reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for probe, agreement in agreements.items():
        for run, why in agreement.apart.items():
            reasons.setdefault((run, why), []).append(probe)
    for (run, why), probes in reasons.items():
        yield f"{run} is not compared on {listed(probes)} text: {why}."


def _began_elsewhere(rows: Sequence[RunRow]) -> Iterator[str]:
    """Yield runs whose training began at another level than that of the other runs."""
    for row in rows:
        found = {
            name: probe
            for name, probe in row.probes.items()
            if probe.offset is not None and not probe.began_alike
        }
        if found:
            levels = [f"{signed(probe.offset)} on {name} text" for name, probe in found.items()]
            yield (
                f"Training of {row.name} began at another level than the others' ({listed(levels)}), "
                "as after a change of the vocabulary or on another sample of the text: its gap is measured "
                "from there, and not compared with theirs."
            )


def _other_items(rows: Sequence[RunRow]) -> Iterator[str]:
    """Yield runs that answered other items of a task, or of a group of the recall probe, than most runs."""
    for row in rows:
        keys = {group: recall_key(group) for group in row.recall}
        groups = [group for group, key in keys.items() if key in row.other_items]
        if tasks := [name for name in row.other_items if name not in keys.values()]:
            yield f"{row.name} answered other items of {listed(tasks)}: these are not compared."
        if groups:
            # All groups are named: the probes of other documents usually differ in all four.
            named = listed(groups, most=len(groups))
            yield f"{row.name} was asked about other {named} facts (recall probe): these are not compared."


def _unequal_tokens(tokens: Sequence[int]) -> Iterator[str]:
    """Yield a note if runs were trained on different numbers of tokens, beyond rounding to whole steps."""
    if max(tokens) > (1 + ROUNDED) * min(tokens):
        least, most = (compact(each) if each else "none" for each in (min(tokens), max(tokens)))
        yield (
            f"The runs were trained on different numbers of tokens ({least} to {most}): "
            "their figures are not at equal cost."
        )


def _unlike(what: str, values: Sequence[str], so: str) -> Iterator[str]:
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        yield f"The runs {what} ({listed(different, most=4)}): {so}."


def recovery(probe: Probe) -> str:
    """Return the tokens until a probe is back at the base level, in words."""
    if probe.depth is None:
        return NOTHING
    if not has_gap(probe):
        return NOTHING if lacks_middle_readings(probe) else "no gap"
    return "never" if probe.recovery_tokens is None else f"{compact(probe.recovery_tokens)} tokens"


def listed(names: Iterable[str], most: int = NAMED) -> str:
    """Join names for a sentence: "a, b and c"; beyond `most` names "a, b and 4 more"."""
    found = list(names)
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} more"]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _range(estimates: Sequence[Estimate]) -> str:
    found = sorted(estimate.interval.value for estimate in estimates)
    return f"{signed(found[0])} to {signed(found[-1])}"


def _number(count: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}.get(count, str(count))
