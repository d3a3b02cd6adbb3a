"""How much of each text is read: what its budgets ask for, as far as the text has it and the work is paid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cpt.monitor.budget import FORWARD, OTHERS
from cpt.monitor.gates import Budget, Gate
from cpt.monitor.noise import EXCESS, detectable_rise, needed_items
from cpt.monitor.schedule import Moment
from cpt.stages.pretrain.monitor_config import LEAST, Monitor
from cpt.stages.pretrain.probe_cost import allowance_of, asked_for
from cpt.stages.pretrain.probe_texts import FEWEST

SPREAD, USUAL = 0.04, 190
"""Standard deviation by which the rises of single documents of so many tokens differ, in bits per byte.

It is not known before training, so it is assumed. Recorded runs of a model of 135M parameters had 0.02 to
0.04 where general text in such documents rose by 0.01 to 0.06 (benchmarks/results: budget,
budget_own_samples)."""

_NEARLY = 0.9
"""Part of the documents that are needed which counts as enough: their mean length is an estimate."""


@dataclass(frozen=True)
class Sizes:
    """How many tokens of each text are read.

    Attributes:
        names: of the texts.
        given: numbers that the settings give, by text.
        limits: tightest limit of each text, in bits per byte.
        window: most tokens of a document that are read at first.
        paid: most tokens of each text that the budget of work pays for.
    """

    names: Sequence[str] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, Budget] = field(default_factory=dict)
    window: int = 1024
    paid: float = math.inf

    @property
    def growing(self) -> list[str]:
        """Texts of which as much is read as their limits ask for."""
        return [name for name in self.limits if name not in self.given]

    def tokens(self, name: str, length: float | None = None) -> int:
        """Return the tokens that are read of a text.

        Args:
            length: mean tokens of its documents, as far as a window reaches; None: not known, so the usual
                length is assumed.
        """
        if name not in self.growing:
            return self.given.get(name, LEAST)
        length = length or min(USUAL, self.window)
        documents = documents_needed(self.limits[name].limit, length) or 0
        return max(self.least(name), math.ceil(min(documents * length, self.paid)))

    def least(self, name: str) -> int:
        """Return the tokens that are read of a text at least: those of enough documents for a gate."""
        enough = FEWEST * self.window if name in self.limits else 0
        return self.given.get(name, max(LEAST, enough))

    def shown(self, name: str, tokens: int, documents: int, held: int) -> str:
        """Say what rise of a text will be found, and what it takes where that is not enough.

        Args:
            tokens, documents: that are read, of `held` documents.
        """
        budget, length = self.limits[name], tokens / documents
        error = spread(length) / math.sqrt(documents)
        found = detectable_rise(budget.limit, error, documents)
        said = f"{budget}: {documents:,} documents of {name} are read, {tokens:,} tokens"
        if math.isfinite(found):
            said += (
                f", with an expected standard error of {error:.2g}: a true rise of {found:.2g} or more is "
                "found with a chance of 95%"
            )
        needed = documents_needed(budget.limit, length)
        if needed is None or documents >= _NEARLY * needed:
            return said
        if documents >= held:
            remedy = "give the text more documents"
        elif name in self.given:
            remedy = "raise its `tokens`, or leave them out"
        else:
            remedy = "raise monitor.budget, or train on more tokens"
        return f"{said}; to find {budget.limit * (1 + EXCESS):.2g} takes {needed:,} documents: {remedy}"

    def asked(self, name: str) -> str:
        """Say what a limit asks of a text that is not known yet."""
        budget = self.limits[name]
        needed = documents_needed(budget.limit, USUAL)
        if needed is None:
            return f"{budget}: no sample is large enough to tell any rise from none"
        rise, read = budget.limit * (1 + EXCESS), self.tokens(name)
        return (
            f"{budget}: to find a true rise of {rise:.2g} with a chance of 95% takes about {needed:,} "
            f"documents of {USUAL} tokens; {read:,} tokens are read, about {max(1, round(read / USUAL)):,} "
            "such documents"
        )


def sizes_of(
    monitor: Monitor,
    gates: Sequence[Gate],
    held_out: Sequence[str],
    end: Moment | None,
    *,
    weights: bool = True,
    new_tokens: bool = False,
) -> Sizes:
    """Return the sizes of all texts.

    Args:
        held_out: the corpus's texts that are probed.
        end: of the run; None: not known.
        weights, new_tokens: see `asked_for`.
    """
    names = [*held_out, *monitor.texts]
    own = {name: text.tokens for name, text in monitor.texts.items()}
    given = {name: size for name in names if (size := own.get(name) or monitor.tokens)}
    sizes = Sizes(names, given, tightest(gates, names), monitor.window)
    allowance = allowance_of(monitor, len(held_out))
    if allowance is None or end is None or not sizes.growing:
        return sizes
    least = {name: sizes.least(name) for name in names}
    demands = asked_for(monitor, gates, least, end, weights=weights, new_tokens=new_tokens)
    others = sum(2 * each.work for name, each in demands.items() if name not in sizes.growing)
    left = max(0.0, (1 - OTHERS) * (allowance.share * end.tokens - allowance.other_work - others))
    readings = sum(demands[name].least / demands[name].work for name in sizes.growing)
    return replace(sizes, paid=left / (FORWARD * readings))


def tightest(gates: Iterable[Gate], texts: Sequence[str]) -> dict[str, Budget]:
    """Return the tightest limit of a rise that gates set each text."""
    found: dict[str, Budget] = {}
    for gate in gates:
        budget = gate.budget
        if budget.probe in texts and not budget.recovery:
            found[budget.probe] = min(found.get(budget.probe, budget), budget, key=lambda each: each.limit)
    return found


def documents_needed(limit: float, length: float) -> int | None:
    """Return the documents with which a rise of the limit and a third is found with a chance of 95%.

    Args:
        length: mean tokens of a document that are read.
    """
    return needed_items(limit, spread(length) / math.sqrt(FEWEST), FEWEST)


def spread(length: float) -> float:
    """Return the standard deviation by which the rises of documents differ; short ones differ more."""
    return SPREAD * max(1.0, math.sqrt(USUAL / length))
