"""Make the key figures and the table rows of the report page, with formatted figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from cpt import formatting
from cpt.formatting import Z_95
from cpt.report.schema import (
    WORST_FIRST,
    Action,
    Facts,
    Gate,
    HypernetworkTraining,
    Interval,
    MixtureUpdate,
    Probe,
    Training,
    Vocabulary,
)
from cpt.report.summary_text import has_gap, judgement, lacks_middle_readings, why_unknown


class Headline(NamedTuple):
    """One of the key figures under the verdict."""

    label: str
    figure: str
    note: str
    role: str = "ink"
    judgement: str = ""


class RowFormat(NamedTuple):
    """Format of a row's figures, and the direction that is better."""

    name: str
    level: Callable[[float | None], str]
    change: Callable[[float | None], str]
    lower_is_better: bool
    unit: str = ""


_SCORE = RowFormat("", formatting.percent, formatting.points, lower_is_better=False, unit=" pts")
_P_GOLD = RowFormat("p_gold", formatting.fixed, formatting.signed, lower_is_better=False)


_OF_TASKS = ("accuracy", "p_gold")
"""Units of tasks: shares of 1, whose changes are in percentage points."""


class ChangeRow(NamedTuple):
    """One row of the before/after table, with formatted figures and intervals."""

    label: str
    measure: str
    role: str
    before: str
    before_range: str
    after: str
    after_range: str
    change: str
    change_range: str
    judgement: str
    sort: tuple[float, float, float]


class GateRow(NamedTuple):
    """A gate with its formatted value, and the used share of its limit (None if undefined)."""

    gate: Gate
    value: str
    error: str
    used: float | None


class ActionRow(NamedTuple):
    """An action of the controller with formatted figures."""

    action: Action
    value: str
    before: str
    after: str


def headlines(facts: Facts) -> list[Headline]:
    """Return the key figures, most important first: gains, losses, then tokens and time."""
    sources = " + ".join(f"{formatting.compact(tokens)} {source}" for source, tokens in facts.tokens.items())
    rate = facts.tokens_per_second
    found = [
        probe_headline("domain", facts.probes.get("domain"), relative=True),
        probe_headline("general", facts.probes.get("general"), relative=False),
        gap_headline(facts),
        gates_headline(facts),
        Headline(
            "Tokens trained", formatting.count(sum(facts.tokens.values())), sources or "no training stage"
        ),
        Headline(
            "Time, all stages",
            formatting.duration_in_words(sum(facts.seconds.values()) if facts.seconds else None),
            f"{formatting.count(rate)} tokens per second in training" if rate else "",
        ),
    ]
    return [headline for headline in found if headline]


def probe_headline(name: str, probe: Probe | None, *, relative: bool) -> Headline:
    """Return the change of a probe, relative to the base's bits per byte or in bits per byte."""
    label = f"{name.capitalize()} text"
    if probe is None or probe.before is None or probe.after is None or probe.difference is None:
        return Headline(label, formatting.NOTHING, "not measured", name)
    if not probe.difference.known:
        return Headline(label, formatting.NOTHING, f"no finding: {why_unknown(probe)}", name)
    share = probe.difference.value / probe.before if probe.before else 0.0
    figure = formatting.signed(probe.difference.value)
    if relative:
        figure = f"{formatting.signed(100 * share, 0 if abs(share) >= 0.0995 else 1)}%"
    found = judgement(probe.difference, lower_is_better=True)
    levels = f"{formatting.fixed(probe.before)} to {formatting.fixed(probe.after)} bits per byte"
    return Headline(label, figure, levels, name, found)


def gap_headline(facts: Facts) -> Headline | None:
    """Return the depth of the stability gap on general text, and its recovery."""
    general = facts.probes.get("general")
    if general is None or general.depth is None:
        return None
    if general.depth and general.depth_error is None:
        return Headline("Stability gap", formatting.NOTHING, f"no finding: {why_unknown(general)}", "general")
    if not has_gap(general):
        if lacks_middle_readings(general):
            note = "not known: general text was read only before and after"
            return Headline("Stability gap", formatting.NOTHING, note, "general")
        if float(f"{general.depth:.3f}") <= 0.0:
            return Headline("Stability gap", "none", "general text never got worse", "general")
        note = f"rose by {formatting.fixed(general.depth)} at most, within the noise of all readings together"
        return Headline("Stability gap", "none proven", note, "general")
    note = "bits per byte at worst, never back at the base level"
    if general.recovery_tokens is not None and general.curve:
        share = general.recovery_tokens / (general.curve[-1].tokens or 1)
        note = "bits per byte at worst, back at the base level after "
        note += f"{formatting.percent(share, 0)} of the tokens"
    return Headline("Stability gap", formatting.signed(general.depth), note, "general")


def controlled(facts: Facts) -> bool:
    """Return True if a controller may act on a limit; those of merges alone, and of warnings, only judge."""
    return any(gate.action not in ("fail", "warn") for gate in facts.watched.gates)


def gates_headline(facts: Facts) -> Headline | None:
    """Return the number of limits that held."""
    gates = facts.watched.gates
    if not gates:
        return None
    found = Counter(gate.verdict for gate in gates)
    worst = next(kind for kind in WORST_FIRST if found[kind])
    rest = [f"{found[kind]} {kind}" for kind in WORST_FIRST[:-1] if found[kind]]
    acted = len(facts.watched.actions)
    told = ["held", *rest]
    if acted:
        told[-1] += f"; the controller acted {acted} time{'s' if acted != 1 else ''}"
    elif controlled(facts):
        told[-1] += "; the controller never had to act"
    note = ", ".join(told)
    return Headline("Limits kept", f"{found['held']} of {len(gates)}", note, "ink", worst)


def change_rows(facts: Facts) -> list[ChangeRow]:
    """Return the rows of the before/after table: probes in bits per byte, then tasks in percent."""
    bits = RowFormat("bits per byte", formatting.fixed, formatting.signed, lower_is_better=True)
    evaluated = any(probe.measured_by == "evaluate" for probe in facts.probes.values())
    rows = []
    for name, probe in facts.probes.items():
        if probe.before is None or probe.after is None or probe.difference is None:
            continue
        before = probe.before_interval or Interval(value=probe.before)
        after = probe.after_interval or Interval(value=probe.after)
        in_training = evaluated and probe.measured_by == "training"
        measure = bits._replace(name="bits per byte, in training") if in_training else bits
        rows.append(change_row(f"{name} text", name, measure, before, after, probe.difference))
    for name, task in facts.tasks.items():
        measure = _SCORE._replace(name=task.metric)
        rows.append(change_row(name, "ink", measure, task.before, task.after, task.difference))
    return rows


def recall_rows(facts: Facts) -> list[ChangeRow]:
    """Return two rows for each group of the recall probe: right answers in percent, and p_gold."""
    rows = []
    for group, task in facts.recall.items():
        measure = _SCORE._replace(name=task.metric)
        rows.append(change_row(group, "ink", measure, task.before, task.after, task.difference))
        if (found := task.p_gold) is not None:
            rows.append(change_row(group, "ink", _P_GOLD, found.before, found.after, found.difference))
    return rows


def change_row(
    label: str, role: str, measure: RowFormat, before: Interval, after: Interval, difference: Interval
) -> ChangeRow:
    """Return one row of the before/after table."""

    def in_words(interval: Interval, words: Callable[[float | None], str], unit: str = "") -> tuple[str, str]:
        bounds = f"{words(interval.low)} to {words(interval.high)}" if interval.known else ""
        return words(interval.value) + unit, bounds

    return ChangeRow(
        label,
        measure.name,
        role,
        *in_words(before, measure.level),
        *in_words(after, measure.level),
        *in_words(difference, measure.change, measure.unit),
        judgement(difference, lower_is_better=measure.lower_is_better),
        (before.value, after.value, difference.value),
    )


def gate_rows(gates: list[Gate]) -> list[GateRow]:
    """Return the limits with formatted figures, worst first; the 95% interval as ±."""
    return [
        GateRow(
            gate,
            in_unit(gate.value, gate.unit),
            error_in_unit(gate),
            None if gate.used is None else min(max(gate.used, 0.0), 1.25),
        )
        for gate in sorted(gates, key=lambda gate: WORST_FIRST.index(gate.verdict))
    ]


def error_in_unit(gate: Gate) -> str:
    """Format half of the 95% interval of the measured value as ±; "" if its error is unknown."""
    if gate.unit == "probability" and gate.error is not None:
        return f"± {formatting.small(Z_95 * gate.error)}"
    return formatting.margin(gate.error, *((1, 100.0) if gate.unit in _OF_TASKS else ()))


def action_rows(facts: Facts) -> list[ActionRow]:
    """Return the controller's actions with formatted figures."""
    units = {gate.limit: gate.unit for gate in facts.watched.gates}
    return [
        ActionRow(
            action,
            in_unit(action.value, units.get(action.limit, "")),
            setting(action.before, action.action),
            setting(action.after, action.action),
        )
        for action in facts.watched.actions
    ]


def in_unit(value: float | None, unit: str) -> str:
    """Format a change in the unit of its probe."""
    if value is None:
        return formatting.NOTHING
    if unit in _OF_TASKS:
        return f"{formatting.points(value)} pts"
    if unit.startswith("share"):
        return formatting.percent(value)
    if unit == "probability":
        return formatting.small(value)
    return formatting.signed(value)


def setting(value: float | str | None, action: str) -> str:
    """Format a setting of the controller: share of replay, step of a rollback, or rate factor."""
    if value is None:
        return formatting.NOTHING
    if isinstance(value, str):
        return value
    if action in ("roll-back", "stop"):
        return f"step {formatting.count(value)}"
    return formatting.percent(value) if "replay" in action else f"{value:.3g}"


def zero_shot_rows(training: HypernetworkTraining) -> list[tuple[str, str, int, float, float]]:
    """Return tokenizer, text, last step that was read, and bits per byte in the first and last reading."""
    return [
        (tokenizer, text, max(curve), curve[min(curve)], curve[max(curve)])
        for text in training.texts
        for tokenizer, curve in training.curves(text).items()
    ]


def vocabulary_gain(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the effect of new tokens on vocabulary size and bytes per token, in words."""
    before, after = vocabulary.bytes_per_token_before, vocabulary.bytes_per_token_after
    added = None
    if vocabulary.before is not None and vocabulary.after is not None:
        added = vocabulary.after - vocabulary.before
    gain = {"tokens": formatting.signed(added, 0), "ratio": formatting.NOTHING, "finding": ""}
    if before and after:
        gain["ratio"] = formatting.signed(after - before, 2)
        if after > before:
            saved = formatting.percent(1 - before / after, 0)
            gain["finding"] = (
                f"The same domain text takes {saved} fewer tokens, so each training token covers more."
            )
    return gain


def removal_reasons(facts: Facts) -> list[str]:
    """Return all reasons for which documents were removed."""
    return list(dict.fromkeys(reason for source in facts.documents.values() for reason in source.removed))


MOST_UPDATES = 20
"""Largest number of updates of the mixture in the report's table."""


def mixture_rows(training: Training | None) -> list[MixtureUpdate]:
    """Return updates of online mixing, evenly spread: the first, the last, and others between."""
    updates = training.mixture if training else []
    if len(updates) <= MOST_UPDATES:
        return list(updates)
    step = (len(updates) - 1) / (MOST_UPDATES - 1)
    return [updates[round(number * step)] for number in range(MOST_UPDATES)]
