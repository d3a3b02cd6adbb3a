"""Two evaluations held against each other: what changed beyond the noise, task by task and suite by suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cpt.errors import UsageError
from evals.comparing.averages import weights
from evals.comparing.correction import Correction, adjust
from evals.comparing.differences import Difference, of_suite, of_task
from evals.comparing.matching import Matched, NotCompared, check_settings, match
from evals.metrics import aggregate
from evals.results import Frozen, Results

RESAMPLES = 10_000
Verdict = Literal["better", "worse", "no change"]


class Compared(Frozen):
    """Two scores on the same items; differences are B minus A.

    Attributes:
        interval: of the difference, for itself alone; None where the items do not tell.
        p: probability of a difference at least as large, were there none.
        p_adjusted: the same, corrected for the number of tasks (of suites); decides the verdict.
        visible: smallest true difference that would be found with the comparison's power, after correction.
        verdict: of B against A; "no change" is a difference inside the noise, not a proof of equality.
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
    visible: float | None
    verdict: Verdict


class TaskComparison(Compared):
    """A task on the items that both evaluations have.

    Attributes:
        n: items compared.
        units: of them independent (items that share a text are one).
        only_a, only_b: items left aside, as the other evaluation lacks them.
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


class AverageComparison(Compared):
    """Macro averages of a suite over the tasks compared.

    Attributes:
        apart: tasks compared but not averaged, as a lower score is better there.
    """

    groups: int
    tasks: int
    apart: tuple[str, ...]


class Comparison(Frozen):
    """What two evaluations say of two models.

    Attributes:
        a, b: the models' references.
        confidence: of the intervals; the verdicts are at the level 1 - confidence.
        power: that `visible` refers to.
        notes: what a reader must know of the comparison as a whole.
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
    averages: tuple[AverageComparison, ...]
    tasks: tuple[TaskComparison, ...]
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
) -> Comparison:
    """Compare two evaluations on the items that they share.

    Args:
        correction: for the number of tasks, of all suites together; averages are corrected among themselves.

    Raises:
        UsageError: the evaluations have different settings, or nothing in common.
    """
    check_settings(a, b)
    matched, not_compared = match(a, b)
    if not matched:
        reasons = "".join(f"\n  {left.suite} {left.task}: {left.why}" for left in not_compared)
        raise UsageError(f"{a.model} and {b.model} have no task that can be compared{reasons}")
    differences = [
        of_task(task, aggregate, confidence=confidence, resamples=resamples, seed=seed) for task in matched
    ]
    judge = _Judge(1 - confidence, correction, power)
    judged = judge(differences, [task.a.higher_is_better for task in matched])
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
        averages=tuple(_averages(matched, differences, judge)),
        tasks=tuple(map(_task, matched, differences, judged)),
        not_compared=tuple(not_compared),
        notes=(*_of_models(a, b), *_of_items(matched), *_of_draws(differences, judge, resamples)),
    )


@dataclass(frozen=True)
class _Judge:
    """Turns differences that are asked about together into verdicts."""

    level: float
    correction: Correction
    power: float

    def __call__(
        self, differences: Sequence[Difference], higher_is_better: Sequence[bool]
    ) -> list[dict[str, Any]]:
        """The fields of `Compared` but for the suite."""
        adjusted = adjust([found.p for found in differences], self.correction)
        strictest = self.strictest(len(differences))
        return [
            {
                "a": found.a,
                "a_stderr": found.a_stderr,
                "b": found.b,
                "b_stderr": found.b_stderr,
                "difference": found.difference,
                "stderr": found.stderr,
                "interval": found.interval,
                "p": found.p,
                "p_adjusted": p,
                "visible": found.visible(strictest, self.power),
                "verdict": self._verdict(found.difference if up else -found.difference, p),
            }
            for found, p, up in zip(differences, adjusted, higher_is_better, strict=True)
        ]

    def strictest(self, questions: int) -> float:
        """Level that a p-value has to reach were it the smallest of so many."""
        return self.level if self.correction == "none" else self.level / max(1, questions)

    def _verdict(self, gain: float, p: float) -> Verdict:
        if p > self.level or gain == 0:
            return "no change"
        return "better" if gain > 0 else "worse"


def _task(task: Matched, difference: Difference, judged: Mapping[str, Any]) -> TaskComparison:
    return TaskComparison(
        task=task.a.task,
        suite=task.a.suite,
        group=task.a.group,
        metric=task.a.metric,
        higher_is_better=task.a.higher_is_better,
        chance=task.a.chance,
        n=len(task.first),
        units=difference.units,
        only_a=task.only_a,
        only_b=task.only_b,
        **judged,
    )


def _averages(
    matched: Sequence[Matched], differences: Sequence[Difference], judge: _Judge
) -> Iterator[AverageComparison]:
    suites: dict[str, list[int]] = {}
    apart: dict[str, list[str]] = {}
    for place, task in enumerate(matched):
        if task.a.higher_is_better:
            suites.setdefault(task.a.suite, []).append(place)
        else:
            apart.setdefault(task.a.suite, []).append(task.a.task)
    groups = {suite: [matched[place].a.group for place in places] for suite, places in suites.items()}
    found = [
        of_suite([differences[place] for place in places], weights(groups[suite]), confidence=1 - judge.level)
        for suite, places in suites.items()
    ]
    for suite, judged in zip(suites, judge(found, [True] * len(found)), strict=True):
        yield AverageComparison(
            suite=suite,
            groups=len(set(groups[suite])),
            tasks=len(groups[suite]),
            apart=tuple(apart.get(suite, ())),
            **judged,
        )


def _of_models(a: Results, b: Results) -> Iterator[str]:
    if a.fingerprint == b.fingerprint:
        yield "A and B are the same model."
    for name in sorted({*a.versions, *b.versions}):
        versions = a.versions.get(name, "none"), b.versions.get(name, "none")
        if versions[0] != versions[1]:
            yield f"{name} {versions[0]} scored A, {versions[1]} scored B."


def _of_items(matched: Sequence[Matched]) -> Iterator[str]:
    for task in matched:
        if task.only_a or task.only_b:
            yield (
                f"{task.a.task}: items scored for one model alone are left aside, "
                f"{task.only_a:,} of A and {task.only_b:,} of B."
            )


def _of_draws(differences: Sequence[Difference], judge: _Judge, resamples: int) -> Iterator[str]:
    smallest = 1 / (resamples + 1)
    drawn = any(task.disagreement is None for task in differences)
    if drawn and judge.strictest(len(differences)) < smallest:
        yield (
            f"{resamples:,} resamples give no p-value below {smallest:.2g}: too few for a verdict on a "
            f"graded score among {len(differences):,} tasks."
        )
