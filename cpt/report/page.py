"""The run report as one self-contained HTML page: no requests, light and dark, whole without its script."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from markupsafe import Markup

from cpt.report import charts, wording
from cpt.report.environment import environment
from cpt.report.schema import Facts, Interval, Probe, Vocabulary


class Headline(NamedTuple):
    """One of the key numbers under the verdict."""

    label: str
    figure: str
    note: str
    role: str = "ink"
    judgement: str = ""


class Measure(NamedTuple):
    """How a row's figures are written, and which direction is good."""

    name: str
    level: Callable[[float | None], str]
    change: Callable[[float | None], str]
    lower_is_better: bool
    unit: str = ""


class Comparison(NamedTuple):
    """One row of the before/after table; the intervals' bounds are already in words."""

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


def render(facts: Facts) -> str:
    """The page. Every string from data is escaped; only our own charts are inlined as they are.

    Returns:
        HTML text, the same for the same facts.
    """
    return (
        environment()
        .get_template("template.html")
        .render(
            facts=facts,
            headlines=headlines(facts),
            comparisons=comparisons(facts),
            charts=draw(facts),
            clauses=facts.verdict.split("; "),
            has_gap=wording.has_gap,
            reasons=removal_reasons(facts),
            gap_finding=wording.gap_finding,
            final_words=final_words(facts),
            vocabulary=vocabulary_gain(facts.vocabulary),
            file_name=f"{slug(facts.name)}.yaml",
        )
    )


def draw(facts: Facts) -> dict[str, dict[str, Markup]]:
    """Charts by section and title; a chart that has nothing to show is left out."""
    training = facts.training
    drawn = {
        "levels": {"Bits per byte": charts.bits_before_after(facts.probes)},
        "gap": {
            name: charts.stability_gap(name, probe, final_name(facts, probe))
            for name, probe in facts.probes.items()
        },
        "training": {
            "Training loss": charts.training_loss(training) if training else None,
            "Learning rate": charts.learning_rate(training) if training else None,
        },
        "tokens": {"Tokens trained": charts.tokens_by_source(facts.tokens)},
        "tasks": {"Task scores": charts.tasks_before_after(facts.tasks)},
        "seconds": {"Time": charts.time_by_stage(facts.seconds)},
    }
    return {
        section: {title: Markup(svg) for title, svg in found.items() if svg}
        for section, found in drawn.items()
    }


def final_name(facts: Facts, probe: Probe) -> str:
    """What a training curve's end marker is called; without evaluate it is the curve's own end."""
    if probe.measured_by == "training":
        return "end"
    return "merged" if facts.merge else "final"


def final_words(facts: Facts) -> str:
    """What the end markers of the training curves are."""
    if all(probe.measured_by == "training" for probe in facts.probes.values()):
        return "where training ended"
    model = "final model"
    if facts.merge:
        weights = [
            f", {merged.model}" + ("" if merged.weight is None else f" at weight {merged.weight:g}")
            for merged in facts.merge.models
        ]
        model = f"merged model ({facts.merge.method}{''.join(weights)})"
    return f"the {model}, drawn at the base level plus its change in held-out bits per byte"


def headlines(facts: Facts) -> list[Headline]:
    """The four key numbers."""
    sources = " + ".join(f"{wording.compact(tokens)} {source}" for source, tokens in facts.tokens.items())
    rate = facts.tokens_per_second
    return [
        probe_headline("domain", facts.probes.get("domain"), relative=True),
        probe_headline("general", facts.probes.get("general"), relative=False),
        Headline("Tokens trained", wording.count(sum(facts.tokens.values())), sources or "no training stage"),
        Headline(
            "Time, all stages",
            wording.duration(sum(facts.seconds.values()) if facts.seconds else None),
            f"{wording.count(rate)} tokens per second in training" if rate else "no training stage",
        ),
    ]


def probe_headline(name: str, probe: Probe | None, *, relative: bool) -> Headline:
    """A probe's change: as a percentage of the base's bits per byte, or in bits per byte."""
    label = f"{name.capitalize()} text"
    if probe is None or probe.before is None or probe.after is None or probe.difference is None:
        return Headline(label, wording.NOTHING, "not measured", name)
    share = probe.difference.value / probe.before if probe.before else 0.0
    figure = wording.signed(probe.difference.value)
    if relative:
        figure = f"{wording.signed(100 * share, 0 if abs(share) >= 0.0995 else 1)}%"
    found = wording.judgement(probe.difference, lower_is_better=True)
    levels = f"{wording.number(probe.before)} to {wording.number(probe.after)} bits per byte"
    return Headline(label, figure, levels, name, found)


def comparisons(facts: Facts) -> list[Comparison]:
    """Rows of the before/after table: probes in bits per byte, then tasks in percent."""
    bits = Measure("bits per byte", wording.number, wording.signed, lower_is_better=True)
    rows = []
    for name, probe in facts.probes.items():
        if probe.before is None or probe.after is None or probe.difference is None:
            continue
        before = probe.before_interval or Interval(value=probe.before)
        after = probe.after_interval or Interval(value=probe.after)
        rows.append(compare(f"{name} text", name, bits, before, after, probe.difference))
    for name, task in facts.tasks.items():
        score = Measure(task.metric, wording.percent, wording.points, lower_is_better=False, unit=" pts")
        rows.append(compare(name, "ink", score, task.before, task.after, task.difference))
    return rows


def compare(
    label: str, role: str, measure: Measure, before: Interval, after: Interval, difference: Interval
) -> Comparison:
    """One row of the before/after table."""

    def in_words(interval: Interval, words: Callable[[float | None], str], unit: str = "") -> tuple[str, str]:
        bounds = f"{words(interval.low)} to {words(interval.high)}" if interval.known else ""
        return words(interval.value) + unit, bounds

    return Comparison(
        label,
        measure.name,
        role,
        *in_words(before, measure.level),
        *in_words(after, measure.level),
        *in_words(difference, measure.change, measure.unit),
        wording.judgement(difference, lower_is_better=measure.lower_is_better),
    )


def vocabulary_gain(vocabulary: Vocabulary) -> dict[str, str]:
    """What the new tokens bought: fewer tokens for the same text."""
    before, after = vocabulary.bytes_per_token_before, vocabulary.bytes_per_token_after
    added = None
    if vocabulary.before is not None and vocabulary.after is not None:
        added = vocabulary.after - vocabulary.before
    gain = {"tokens": wording.signed(added, 0), "ratio": wording.NOTHING, "finding": ""}
    if before and after:
        gain["ratio"] = wording.signed(after - before, 2)
        if after > before:
            saved = wording.percent(1 - before / after, 0)
            gain["finding"] = (
                f"The same domain text takes {saved} fewer tokens, so each training token covers more."
            )
    return gain


def removal_reasons(facts: Facts) -> list[str]:
    """Every reason for which a document was removed from some source."""
    return list(dict.fromkeys(reason for source in facts.documents.values() for reason in source.removed))


def slug(name: str) -> str:
    """A recipe's name as a file name that needs no quoting in a shell."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "recipe"
