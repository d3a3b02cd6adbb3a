"""Compare two evaluations: find what changed beyond the noise, by task, group and suite.

Verdicts are corrected for the number of questions in three families, each at the whole level:

- groups of tasks, and tasks that are in no group (or alone in one): the questions that a reader asks. A group
  is the mean of its tasks: fifty subjects of five items each, none of which could show anything by itself;
- tasks inside groups: where in a group the change is. They do not wait for a verdict on their group: a group
  whose tasks moved in opposite directions has none, and its tasks must be found all the same;
- suites.

Tasks on which neither model is above guessing are in no family (`evals.comparing.signal`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from cpt.errors import UsageError
from evals.comparing.paired_tasks import (
    Difference,
    NotCompared,
    PairedTask,
    check_settings,
    match,
    suite_difference,
    task_difference,
)
from evals.comparing.signal import guessing, have_signal
from evals.comparing.verdicts import Correction, Judge, Verdict
from evals.measures import COMPARED, WITHOUT_GUESSING
from evals.metrics import aggregate, task_weights
from evals.results import Record, Results

RESAMPLES = 10_000


class ScoreComparison(Record):
    """Two scores on the same items; differences are B minus A.

    Attributes:
        interval: Interval of the difference by itself; None where the items cannot show one.
        p: Probability of a difference at least as large if there were none.
        p_adjusted: `p` corrected for the number of questions of its family; it decides the verdict.
        minimum_detectable_effect: Smallest true difference found with the comparison's power, after
            correction.
        verdict: Verdict on B against A; "no change" is a difference inside the noise, no proof of equality.
    """

    suite: str
    a: float
    a_stderr: float | None
    b: float
    b_stderr: float | None
    difference: float
    stderr: float | None
    interval: tuple[float, float] | None
    p: float
    p_adjusted: float
    minimum_detectable_effect: float | None
    verdict: Verdict


class TaskComparison(ScoreComparison):
    """A task on the items that both evaluations have.

    Attributes:
        n: Number of items compared.
        units: Number of independent items (items that share a text are one).
        only_a: Number of items that B lacks, which are ignored.
        only_b: Number of items that A lacks, which are ignored.
    """

    task: str
    group: str
    metric: str
    higher_is_better: bool
    chance: float | None
    n: int
    units: int
    only_a: int
    only_b: int


class GroupComparison(ScoreComparison):
    """Means over the tasks of a group of two or more."""

    group: str
    tasks: int


class AverageComparison(ScoreComparison):
    """Macro averages of a suite over the tasks with a signal.

    Attributes:
        groups: Number of groups.
        tasks: Number of tasks averaged.
        of: Number of tasks compared; the others are in `NoSignal` or `excluded`.
        excluded: Tasks compared but not averaged, because a lower score is better there.
    """

    groups: int
    tasks: int
    of: int
    excluded: tuple[str, ...]


class NoSignal(Record):
    """A task on which neither model is above guessing.

    Attributes:
        guessing: Score that needs no understanding; None where nothing is right by chance.
    """

    task: str
    suite: str
    group: str
    metric: str
    n: int
    a: float
    a_stderr: float | None
    b: float
    b_stderr: float | None
    guessing: float | None


class Findings(Record):
    """Verdicts on tasks, groups and suites by one measure.

    Attributes:
        tasks: Tasks with a verdict, also those inside groups.
        no_signal: Tasks without a verdict; a suite of such tasks alone has no average.
    """

    averages: tuple[AverageComparison, ...]
    groups: tuple[GroupComparison, ...]
    tasks: tuple[TaskComparison, ...]
    no_signal: tuple[NoSignal, ...] = ()


class Comparison(Findings):
    """Comparison of two evaluations, by the tasks' own metrics.

    Attributes:
        a: Reference of the first model.
        b: Reference of the second model.
        confidence: Level of the intervals; verdicts are at the level 1 - confidence.
        power: Power of `minimum_detectable_effect`.
        measures: The same by further measures (`evals.measures.COMPARED`), each with a family of questions
            of its own.
        notes: Facts about the comparison as a whole that its reader must know.
    """

    a: str
    b: str
    fingerprint_a: str
    fingerprint_b: str
    confidence: float
    correction: Correction
    power: float
    resamples: int
    seed: int
    measures: dict[str, Findings] = Field(default_factory=dict)
    not_compared: tuple[NotCompared, ...] = ()
    notes: tuple[str, ...] = ()


def compare(
    a: Results,
    b: Results,
    *,
    confidence: float = 0.95,
    correction: Correction = "holm",
    power: float = 0.8,
    resamples: int = RESAMPLES,
    seed: int = 0,
    signal_only: bool = True,
) -> Comparison:
    """Compare two evaluations on the items that they share.

    Args:
        a: Evaluation of the first model.
        b: Evaluation of the second model.
        confidence: Level of the intervals.
        correction: Correction for the number of questions of a family, of all suites together.
        power: Power of the minimum detectable effect.
        resamples: Number of resamples of a score that is no share.
        seed: Seed of the resamples.
        signal_only: True to leave out tasks on which neither model is above guessing. False makes the
            averages those of the evaluations.

    Raises:
        UsageError: The evaluations have different settings, or nothing in common.
    """
    check_settings(a, b)
    matched, not_compared = match(a, b)
    if not matched:
        reasons = "".join(f"\n  {left.suite} {left.task}: {left.why}" for left in not_compared)
        raise UsageError(f"{a.model} and {b.model} have no task that can be compared{reasons}")
    judge = Judge(1 - confidence, correction, power)

    def judged(
        tasks: Sequence[PairedTask], above_guessing: bool = signal_only
    ) -> tuple[Findings, list[Difference]]:
        found = [
            _Pair(
                task, task_difference(task, aggregate, confidence=confidence, resamples=resamples, seed=seed)
            )
            for task in tasks
        ]
        return _findings(found, judge, signal_only=above_guessing)

    scores, asked = judged(matched)
    further = {name: [found for task in matched if (found := task.by(name))] for name in COMPARED}
    return Comparison(
        a=a.model,
        b=b.model,
        fingerprint_a=a.fingerprint,
        fingerprint_b=b.fingerprint,
        confidence=confidence,
        correction=correction,
        power=power,
        resamples=resamples,
        seed=seed,
        **dict(scores),
        measures={
            name: judged(tasks, signal_only and name not in WITHOUT_GUESSING)[0]
            for name, tasks in further.items()
            if tasks
        },
        not_compared=tuple(not_compared),
        notes=(
            *_model_notes(a, b),
            *_item_notes(matched),
            *_signal_notes(scores),
            *judge.too_few_resamples(asked, resamples),
        ),
    )


def _findings(
    found: Sequence[_Pair], judge: Judge, *, signal_only: bool
) -> tuple[Findings, list[Difference]]:
    """Judge tasks, their groups and suites; return the family of groups and tasks outside groups, too."""
    kept = have_signal(*zip(*found, strict=True)) if signal_only else [True] * len(found)
    telling = [pair for pair, tells in zip(found, kept, strict=True) if tells]
    silent = [pair for pair, tells in zip(found, kept, strict=True) if not tells]
    groups = _by_group(telling)
    inside = {_name(pair): pair for pairs in groups.values() for pair in pairs}
    alone = {_name(pair): pair for pair in telling if _name(pair) not in inside}
    means = [
        suite_difference(
            [pair.difference for pair in pairs], task_weights(["g"] * len(pairs)), confidence=1 - judge.level
        )
        for pairs in groups.values()
    ]
    asked = [*means, *(pair.difference for pair in alone.values())]
    upwards = [*(True for _ in means), *(pair.task.a.higher_is_better for pair in alone.values())]
    judged = judge(asked, upwards)
    judged_inside = judge([pair.difference for pair in inside.values()], [True] * len(inside))
    of_tasks = dict(zip([*alone, *inside], [*judged[len(means) :], *judged_inside], strict=True))
    findings = Findings(
        averages=tuple(_averages(telling, [pair.task for pair in found], judge)),
        groups=tuple(
            GroupComparison(suite=suite, group=group, tasks=len(pairs), **fields)
            for ((suite, group), pairs), fields in zip(groups.items(), judged, strict=False)
        ),
        tasks=tuple(_task(pair, of_tasks[_name(pair)]) for pair in telling),
        no_signal=tuple(map(_no_signal, silent)),
    )
    return findings, asked


class _Pair(NamedTuple):
    """A task and its difference."""

    task: PairedTask
    difference: Difference


def _name(pair: _Pair) -> tuple[str, str]:
    return pair.task.a.suite, pair.task.a.task


def _by_group(pairs: Sequence[_Pair]) -> dict[tuple[str, str], list[_Pair]]:
    """Return tasks by suite and group, without groups of a single task and tasks in which lower is better."""
    groups: dict[tuple[str, str], list[_Pair]] = {}
    for pair in pairs:
        if pair.task.a.higher_is_better:
            groups.setdefault((pair.task.a.suite, pair.task.a.group), []).append(pair)
    return {name: members for name, members in groups.items() if len(members) > 1}


def _task(pair: _Pair, judged: Mapping[str, Any]) -> TaskComparison:
    task = pair.task
    return TaskComparison(
        task=task.a.task,
        suite=task.a.suite,
        group=task.a.group,
        metric=task.a.metric,
        higher_is_better=task.a.higher_is_better,
        chance=task.a.chance,
        n=len(task.first),
        units=pair.difference.units,
        only_a=task.only_a,
        only_b=task.only_b,
        **judged,
    )


def _no_signal(pair: _Pair) -> NoSignal:
    task, found = pair
    return NoSignal(
        task=task.a.task,
        suite=task.a.suite,
        group=task.a.group,
        metric=task.a.metric,
        n=len(task.first),
        a=found.a,
        a_stderr=found.a_stderr,
        b=found.b,
        b_stderr=found.b_stderr,
        guessing=guessing(task),
    )


def _averages(
    telling: Sequence[_Pair], matched: Sequence[PairedTask], judge: Judge
) -> Iterator[AverageComparison]:
    suites: dict[str, list[_Pair]] = {}
    for pair in telling:
        if pair.task.a.higher_is_better:
            suites.setdefault(pair.task.a.suite, []).append(pair)
    groups = {suite: [pair.task.a.group for pair in pairs] for suite, pairs in suites.items()}
    found = [
        suite_difference(
            [pair.difference for pair in pairs], task_weights(groups[suite]), confidence=1 - judge.level
        )
        for suite, pairs in suites.items()
    ]
    for suite, judged in zip(suites, judge(found, [True] * len(found)), strict=True):
        compared = [task.a for task in matched if task.a.suite == suite]
        yield AverageComparison(
            suite=suite,
            groups=len(set(groups[suite])),
            tasks=len(groups[suite]),
            of=len(compared),
            excluded=tuple(task.task for task in compared if not task.higher_is_better),
            **judged,
        )


def _model_notes(a: Results, b: Results) -> Iterator[str]:
    if a.fingerprint == b.fingerprint:
        yield "A and B are the same model."
    for name in sorted({*a.versions, *b.versions}):
        versions = a.versions.get(name, "none"), b.versions.get(name, "none")
        if versions[0] != versions[1]:
            yield f"{name} {versions[0]} scored A, {versions[1]} scored B."


def _item_notes(matched: Sequence[PairedTask]) -> Iterator[str]:
    for task in matched:
        if task.only_a or task.only_b:
            yield (
                f"{task.a.task}: items scored for one model alone are left aside, "
                f"{task.only_a:,} of A and {task.only_b:,} of B."
            )


def _signal_notes(scores: Findings) -> Iterator[str]:
    averaged = {average.suite for average in scores.averages}
    for suite in dict.fromkeys(task.suite for task in scores.no_signal):
        if suite not in averaged:
            yield f"{suite}: neither model is above guessing in any task, so the suite has no average."
