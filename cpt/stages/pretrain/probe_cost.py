"""The work of a stage's probes: planned before their texts are known, and told before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.monitor.budget import FORWARD, NEW_TOKENS, WEIGHTS, Demand, ProbeBudget, planned_shares
from cpt.monitor.gates import Gate, acted_upon
from cpt.monitor.schedule import Moment
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.samples import PROMPT

ITEM = 100
"""Tokens of a task's item that are assumed before the task is loaded."""


def allowance_of(monitor: Monitor, sources: int) -> ProbeBudget | None:
    """Return the work that probes may do, and what sampling before and after the training takes of it.

    Args:
        sources: number of held-out texts of the corpus.
    """
    if monitor.budget is None:
        return None
    tokens = monitor.drift.tokens if monitor.drift else 0
    if monitor.samples:
        tokens += 2 * sources * monitor.samples.texts * (PROMPT + monitor.samples.tokens)
    return ProbeBudget(monitor.budget, FORWARD * tokens)


def asked_for(
    monitor: Monitor,
    gates: Sequence[Gate],
    texts: Mapping[str, int],
    end: Moment,
    *,
    weights: bool = True,
    new_tokens: bool = False,
) -> dict[str, Demand]:
    """Return the demands of all probes as the settings ask for them, before what they read is known.

    Args:
        texts: tokens of each text that are read.
        end: of the run.
        weights: whether the update of the weights can be probed; `new_tokens`: whether there are any.
    """
    gated, usual = acted_upon(gates), monitor.regular
    found = {}
    for name, tokens in texts.items():
        when = monitor.texts[name].when(usual) if name in monitor.texts else usual
        found[name] = Demand.of(FORWARD * tokens, when, end, gated=name in gated)
    for name, task in monitor.tasks.items():
        found[name] = Demand.of(FORWARD * ITEM * task.items, task.when(usual), end, gated=name in gated)
    if (drift := monitor.drift) is not None:
        found["drift"] = Demand.of(FORWARD * drift.tokens, drift.when(usual), end, gated="drift" in gated)
    if (early := monitor.early_end) is not None:
        work = FORWARD * monitor.early_end_tokens
        found["early-end"] = Demand.of(work, early.when(usual), end, gated="early-end" in gated)
    whole = {"weights": (WEIGHTS, monitor.weights.when(usual))} if monitor.weights and weights else {}
    whole |= {"new-tokens": (NEW_TOKENS, usual)} if new_tokens else {}
    for name, (work, when) in whole.items():
        found[name] = Demand.of(work, when, end, divisible=False, gated=name in gated)
    return found


def planned_readings(allowance: ProbeBudget | None, demands: Mapping[str, Demand], tokens: int) -> str:
    """Say how many readings are made of those that are due, and their share of the training's work."""
    shares = planned_shares(allowance, tokens, demands)
    said, total = [], allowance.other_work if allowance else 0.0
    for name, each in demands.items():
        work = each.done(shares[name])
        made, due = (2 + sum(share > 0 for share in shares[name])), 2 + each.between
        total += work
        part = min([share for share in shares[name] if share], default=1.0)
        least = f" on {part:.0%} of its sample or more" if part < 1 else ""
        said.append(f"{name} {made} of {due} readings{least} ({work / tokens:.1%})")
    bound = "" if allowance is None else f" of {100 * allowance.share:g}% allowed"
    return f"probes {', '.join(said)}: {total / tokens:.1%} of the training's work{bound}"


def over_budget(allowance: ProbeBudget | None, demands: Mapping[str, Demand], tokens: int) -> str | None:
    """Say that readings which are made in any case take more than the budget, and what to do."""
    if allowance is None or not tokens:
        return None
    share = (allowance.other_work + sum(each.least for each in demands.values())) / tokens
    if share <= allowance.share:
        return None
    gated = sorted(name for name, each in demands.items() if each.needed)
    needed = f", and those that gates need ({', '.join(gated)})," if gated else ""
    return (
        f"the first and last readings{needed} take {share:.1%} of the training's work, more than the budget "
        f"of {100 * allowance.share:g}%, and are made all the same: raise monitor.budget, or lower "
        "monitor.tokens"
    )
