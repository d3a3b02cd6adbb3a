"""Describe a run's figures in sentences. A change within its noise is no change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from cpt.formatting import change, count, fixed, percent, points, signed, typeset
from cpt.report.schema import (
    WORST_FIRST,
    EarlyEnd,
    Facts,
    Gate,
    Interval,
    MergeInput,
    MonitorCost,
    Probe,
    StabilityGap,
    TaskCurve,
    VectorPair,
    Vectors,
    WeightSearch,
)
from cpt.sources import DOMAIN, READING, SHUFFLED

MAIN = ("domain", "general")

READINGS = ("wanted", "readings")

INDEPENDENT = 0.1
"""Cosine below which vectors count as nearly independent: they share under 1% of their squared norm."""


def judgement(difference: Interval, *, lower_is_better: bool) -> str:
    """Return "better", "worse" or "no change"; "" if the noise is unknown."""
    if not difference.known:
        return ""
    if difference.is_noise:
        return "no change"
    better = difference.value < 0 if lower_is_better else difference.value > 0
    return "better" if better else "worse"  # a model that has diverged has no value: it is worse


def verdict(probes: Mapping[str, Probe], gates: Sequence[Gate] = ()) -> str:
    """Return the run in one sentence: domain text, general text, other texts that got worse, limits."""
    clauses = [clause(name, probe) for name, probe in probes.items() if name in MAIN]
    clauses += [clause(name, probe) for name, probe in probes.items() if name not in MAIN and _worse(probe)]
    spoken = [text for text in (*clauses, limits(gates)) if text]
    if not spoken:
        return "Nothing was measured on held-out text."
    sentence = "; ".join(spoken)
    return f"{sentence[0].upper()}{sentence[1:]}."


def clause(name: str, probe: Probe) -> str:
    """Return the change on one kind of text, without a full stop; "" if it was not measured."""
    if probe.difference is None or not probe.before:
        return ""
    difference = probe.difference.value
    if math.isnan(difference):
        return f"{name} text is no longer predicted at all: the model has diverged"
    if not probe.difference.known:
        return f"no finding on {name} text: {why_unknown(probe)}"
    if probe.difference.is_noise or float(f"{difference:.3f}") == 0.0:
        return f"{name} text unchanged ({signed(difference)})"
    size = change(probe.before, difference)
    if name == "domain":
        return f"{size} {'fewer' if difference < 0 else 'more'} bits per byte on domain text"
    return f"{name} text {size} {'better' if difference < 0 else 'worse'} ({signed(difference)})"


def why_unknown(probe: Probe) -> str:
    """Return the reason why a change has no interval."""
    return "one document of it is held out" if probe.documents == 1 else "its change has no interval"


def limits(gates: Sequence[Gate]) -> str:
    """Return the verdicts on the limits, without a full stop; "" without limits."""
    if not gates:
        return ""
    found = Counter(gate.verdict for gate in gates)
    total = f"{len(gates)} limit{'s' if len(gates) > 1 else ''}"
    if found["held"] == len(gates):
        return {1: "the limit held", 2: "both limits held"}.get(len(gates), f"all {total} held")
    if found["broken"]:
        several = len({gate.stage for gate in gates}) > 1
        names = ", ".join(
            typeset(gate.limit) + (f" in {gate.stage}" if several else "")
            for gate in gates
            if gate.verdict == "broken"
        )
        return f"{found['broken']} of {total} broken: {names}"
    if len(gates) == 1 and found["not shown"]:
        return "the limit is not shown to be held"
    rest = [f"{found[kind]} {kind}" for kind in WORST_FIRST[1:-1] if found[kind]]
    return f"{found['held']} of {total} held, {', '.join(rest)}"


def _worse(probe: Probe) -> bool:
    return probe.difference is not None and judgement(probe.difference, lower_is_better=True) == "worse"


def basis(probes: Mapping[str, Probe], confidence: float, *, merged: bool) -> str:
    """Return the basis of the verdict.

    Args:
        probes: Probes of the run.
        confidence: Confidence of evaluate's intervals, a share of 1.
        merged: True if the final model is a merge, not the trained model.
    """
    changes = [probe for probe in probes.values() if probe.difference is not None]
    if not changes:
        return "This recipe has neither an evaluate stage nor training probes."
    if any(probe.measured_by == "evaluate" for probe in changes):
        return (
            "Base model against final model on held-out text; a change counts only if its "
            f"{confidence:.0%} confidence interval excludes zero.{_only_in_training(probes, merged)}"
        )
    unmeasured = " The merged model itself was not measured." if merged else ""
    if any(probe.difference.known for probe in changes if probe.difference):
        known = "a change counts only if its 95% confidence interval on the same documents excludes zero"
        return f"First against last reading of the training probes; {known}.{unmeasured}"
    return (
        "First against last reading of the training probes. Without an evaluate stage no confidence "
        f"interval of the change is known.{unmeasured}"
    )


def _only_in_training(probes: Mapping[str, Probe], merged: bool) -> str:
    """Return a sentence on texts that only training measured; "" without such texts."""
    names = [name for name, probe in probes.items() if probe.measured_by == "training" and probe.difference]
    if not names:
        return ""
    before = ", before the merge" if merged else ""
    return f" Text of {', '.join(names)} was measured only in training{before}."


def has_gap(curve: StabilityGap) -> bool:
    """Return True if the curve got worse by more than noise, or without intervals by a printed digit."""
    if curve.gap is not None:
        return curve.gap
    return curve.depth is not None and float(f"{curve.depth:.3f}") > 0.0


def lacks_middle_readings(curve: StabilityGap) -> bool:
    """Return True if a curve has no reading between the first and the last, which could show a gap."""
    return len(curve.curve) == 2


def gap_finding(name: str, probe: Probe) -> str:
    """Return the finding of one probe's training curve."""
    subject = f"{name.capitalize()} text"
    if probe.depth is None:
        return f"{subject} was not followed during training."
    if not has_gap(probe):
        if lacks_middle_readings(probe):
            return f"{subject} was read only before and after training: whether there is a gap is not known."
        if float(f"{probe.depth:.3f}") > 0.0:
            most = f"rose by {fixed(probe.depth)} at most, within the noise of all its readings together"
            return f"{subject} {most}: no gap is proven."
        return f"{subject} never got worse than the base model during training: there is no gap."
    finding = f"{subject} first got worse: by {fixed(probe.depth)} bits per byte at its worst"
    if probe.trough_step is not None:
        finding += f", at step {count(probe.trough_step)}"
    if probe.area and probe.curve and probe.curve[-1].tokens:
        finding += f", and by {fixed(probe.area / probe.curve[-1].tokens)} on average over the training"
    left = probe.training.permanent if probe.training else None
    return f"{finding}. {_came_back(probe, signed(left))}"


def task_finding(name: str, task: TaskCurve) -> str:
    """Return the finding of a task's curve during training."""
    if task.depth is None:
        return f"{name} was read {count(len(task.curve))} times."
    if not has_gap(task):
        if lacks_middle_readings(task):
            return f"{name} was read only before and after training: whether it fell between is not known."
        return f"{name} never fell by more than the noise of all its readings together."
    where = "" if task.trough_step is None else f", at step {count(task.trough_step)}"
    fell = f"{name} fell by {points(task.depth).lstrip('+')} points at its worst{where}"
    return f"{fell}. {_came_back(task, f'{points(task.permanent)} points')}"


def _came_back(curve: StabilityGap, left: str) -> str:
    if curve.recovery_step is not None:
        return f"It was back at the base level by step {count(curve.recovery_step)}."
    if curve.forgotten is False:
        return f"The change left at the end of training is within the noise ({left})."
    return f"It was not back at the base level when training ended ({left})."


def ended_finding(ended: EarlyEnd) -> str:
    """Return why a gate ended a training, and which model is its result."""
    result = "its last model"
    if ended.result_step != ended.step:
        model = ended.result or f"the model of step {count(ended.result_step)}"
        result = f"{model}. Curves of probes end with it"
    why = f": {ended.why}" if ended.why else ""
    how = "was ended early," if ended.early else "ended"
    return f"Training {how} at step {count(ended.step)}{why}. The result is {result}."


def monitor_finding(cost: MonitorCost) -> str:
    """Return the probes' shares of the training's work and time, and the number of skipped readings."""
    if cost.share is None:
        return ""
    took = f"took {percent(cost.share)} of the training's time"
    if cost.work is None:
        return f"Probes {took}."
    finding = f"Probes did {percent(cost.work)} of the training's work"
    over = cost.probe_share is not None and cost.work > cost.probe_share
    if cost.probe_share is not None:
        finding += f", {'over' if over else 'within'} their share of {percent(cost.probe_share)},"
    finding += f" and {took}"
    wanted, made = (sum(getattr(probe, part) or 0 for probe in cost.probes.values()) for part in READINGS)
    finding += f". {count(made)} of {count(wanted)} readings were made" if wanted else ""
    finding += (
        ". First and last readings, those that gates require, and samples are never skipped" if over else ""
    )
    return f"{finding}."


def final_name(facts: Facts, probe: Probe) -> str:
    """Return the label of a training curve's end marker; without evaluate it marks the curve's end."""
    if probe.measured_by == "training":
        return "end"
    return "merged" if facts.merge else "final"


def final_words(facts: Facts) -> str:
    """Return the explanation of the training curves' end markers."""
    if all(probe.measured_by == "training" for probe in facts.probes.values()):
        return "where training ended"
    model = "final model"
    if facts.merge:
        weights = [f", {model_words(merged)}" for merged in facts.merge.models]
        model = f"merged model ({facts.merge.method}{''.join(weights)})"
    return f"the {model}, drawn at the base level plus its change in held-out bits per byte"


def recall_reading(facts: Facts) -> str:
    """Return how often the text of probed facts was read; empty if no training counted it."""
    domain = facts.ledger.get(DOMAIN)
    if domain is None:
        return ""
    parts = {part: row.epochs for part, row in domain.parts.items() if part not in (READING, SHUFFLED)}
    read = parts or {"domain text": domain.epochs}
    epochs = {name: times for name, times in read.items() if times is not None}
    if not epochs:
        return ""
    # rounded down: 0.999 times is less than once
    words = [f"{name} {math.floor(100 * times) / 100:.2f} times" for name, times in epochs.items()]
    found = f"The training read {' and '.join(words)}."
    if min(epochs.values()) < 1:
        found += (
            " What it read less than once it did not read whole: some facts of these groups were not read."
        )
    return found


def model_words(merged: MergeInput) -> str:
    """Return a merged model with its weight, in words."""
    if merged.varied:
        return f"{merged.model} at weights by layer"
    return merged.model + ("" if merged.weight is None else f" at weight {merged.weight:g}")


def vectors_finding(found: Vectors) -> str:
    """Return the finding of an analysis of task vectors."""
    lengths = ", ".join(
        f"{vector.name} changes the weights by {percent(vector.relative, 2)} of their norm"
        for vector in found.vectors
    )
    return " ".join([f"{lengths}.", *(_pair_words(pair) for pair in found.pairs)])


def _pair_words(pair: VectorPair) -> str:
    names = f"{pair.a} and {pair.b}"
    if pair.cosine is None or pair.random is None:
        return f"{names} have no angle: one of them changes nothing."
    size = abs(pair.cosine)
    if size <= 2 * pair.random:
        how = "as independent as random vectors"
    elif size < INDEPENDENT:
        how = "nearly independent"
    else:
        how = "pull the same way" if pair.cosine > 0 else "pull against each other"
        return f"{names} {how}: cosine {fixed(pair.cosine)}."
    return f"{names} are {how}: cosine {fixed(pair.cosine, 4)}, random vectors ± {fixed(pair.random, 5)}."


def search_finding(found: WeightSearch) -> str:
    """Return the chosen merge weights with the reason, in one sentence."""
    chosen = found.chosen
    values = ", ".join(f"{name} {value:.4g}" for name, value in chosen.values.items())
    changes = ", ".join(f"{name} {signed(each.change, 4)}" for name, each in chosen.changes.items())
    return f"{values}: {found.why}; changes from the base: {changes}."
