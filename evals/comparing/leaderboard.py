"""Rank models by suite, and compare each with the best: who is behind it beyond the noise?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from evals.comparing.comparison import AverageComparison, compare
from evals.comparing.verdicts import Correction, adjust
from evals.results import Average, Record, Results, averages

RESAMPLES = 2000


class Standing(Record):
    """A model's place in a suite.

    Attributes:
        rank: Rank by score; 1 is the best.
        against_best: Difference from the best model (A) to this one (B), its p-value corrected for the number
            of models; None for the best itself. "no change" is a tie.
    """

    rank: int
    model: str
    fingerprint: str
    average: Average
    against_best: AverageComparison | None


class NotRanked(Record):
    """A model that was evaluated on the suite in another way than the ranked ones."""

    model: str
    fingerprint: str
    why: str


class Ranking(Record):
    """Models by their macro average in a suite, all on the same items with the same settings."""

    suite: str
    level: str
    tasks: int
    standings: tuple[Standing, ...]
    not_ranked: tuple[NotRanked, ...]


def leaderboard(
    results: Sequence[Results],
    *,
    confidence: float = 0.95,
    correction: Correction = "holm",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Ranking, ...]:
    """Rank models by suite.

    The largest set of models with the same tasks, items and settings is ranked.

    Args:
        results: Evaluations.
        confidence: Level of the intervals.
        correction: Correction for the number of models.
        resamples: Number of resamples.
        seed: Seed of the resamples.
    """
    rankings = []
    for suite in dict.fromkeys(suite for each in results for suite in each.suites):
        having = [found for each in results if (found := _only(each, suite)) is not None]
        if not having:
            continue
        (usual, _), *_ = Counter(map(_signature, having)).most_common(1)
        ranked = [each for each in having if _signature(each) == usual]
        ranked.sort(key=lambda each: -each.averages[suite].score)
        rankings.append(
            Ranking(
                suite=suite,
                level=ranked[0].suites[suite],
                tasks=len(ranked[0].tasks),
                standings=_standings(ranked, suite, confidence, correction, resamples, seed),
                not_ranked=tuple(
                    NotRanked(model=each.model, fingerprint=each.fingerprint, why=_why(each, ranked[0]))
                    for each in having
                    if _signature(each) != usual
                ),
            )
        )
    return tuple(rankings)


def _only(results: Results, suite: str) -> Results | None:
    """Return the part of an evaluation in one suite's average; None if there is none."""
    tasks = tuple(task for task in results.tasks if task.suite == suite and task.higher_is_better)
    if not tasks:
        return None
    return results.model_copy(
        update={"tasks": tasks, "suites": {suite: results.suites[suite]}, "averages": averages(tasks)}
    )


def _signature(results: Results) -> Hashable:
    """Return a key that is equal for evaluations that can be compared."""
    return frozenset(results.settings.items()), frozenset(results.suites.items()), frozenset(_tasks(results))


def _tasks(results: Results) -> set[Hashable]:
    return {
        (
            task.task,
            task.group,
            task.metric,
            task.version,
            task.data,
            task.fewshot,
            frozenset(results.items[task.task].ids) if task.task in results.items else None,
        )
        for task in results.tasks
    }


def _why(results: Results, best: Results) -> str:
    """Return how an evaluation differs from the ranked ones."""
    (level,), (usual,) = results.suites.values(), best.suites.values()
    if level != usual:
        return f"at level {level}, the others at {usual}"
    settings = [
        f"{name} {results.settings.get(name)}, the others {best.settings.get(name)}"
        for name in sorted({*results.settings, *best.settings})
        if results.settings.get(name) != best.settings.get(name)
    ]
    if settings:
        return "; ".join(settings)
    names, usual_names = ({task.task for task in each.tasks} for each in (results, best))
    if names != usual_names:
        parts = [
            f"{word} {', '.join(sorted(some))}"
            for word, some in (("without", usual_names - names), ("also has", names - usual_names))
            if some
        ]
        return "; ".join(parts)
    differ = sorted({str(task[0]) for task in _tasks(results) ^ _tasks(best)})  # type: ignore[index]
    return f"other items, data or version of {', '.join(differ)}"


def _standings(
    ranked: Sequence[Results],
    suite: str,
    confidence: float,
    correction: Correction,
    resamples: int,
    seed: int,
) -> tuple[Standing, ...]:
    best, *others = ranked
    compared = [
        compare(
            best,
            other,
            confidence=confidence,
            correction="none",
            resamples=resamples,
            seed=seed,
            signal_only=False,  # the ranks are by the averages of all tasks, the same ones for every model
        ).averages[0]
        for other in others
    ]
    p_values = adjust([each.p for each in compared], correction)
    against = [
        each.model_copy(
            update={"p_adjusted": p, "verdict": each.verdict if p <= 1 - confidence else "no change"}
        )
        for each, p in zip(compared, p_values, strict=True)
    ]
    return tuple(
        Standing(
            rank=1 + sum(other.averages[suite].score > each.averages[suite].score for other in ranked),
            model=each.model,
            fingerprint=each.fingerprint,
            average=each.averages[suite],
            against_best=row,
        )
        for each, row in zip(ranked, [None, *against], strict=True)
    )
