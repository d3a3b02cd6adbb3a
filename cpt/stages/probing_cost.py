"""What the readings that gates cannot do without cost, where that is more than probes may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.monitor.budget import NEEDED, least_share
from cpt.monitor.gates import Gate, acted_upon
from cpt.monitor.schedule import Moment, When
from cpt.stages.monitor_config import Monitor

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe

Reads = tuple[str, int, When]
"""A probe's name, the tokens that it reads, and its schedule."""

_START = Moment(0, 0)


def asked_for(monitor: Monitor, held_out: Iterable[str]) -> list[Reads]:
    """The probes of text as they are asked for, before the text is known."""
    found: list[Reads] = [(name, monitor.tokens, monitor.regular) for name in held_out]
    for name, text in monitor.texts.items():
        found.append((name, text.tokens or monitor.tokens, text.when(monitor.regular)))
    if monitor.drift is not None:
        found.append(("drift", monitor.drift.tokens, monitor.drift.when(monitor.regular)))
    if monitor.early_end is not None:
        found.append(("early-end", monitor.early_end_tokens, monitor.early_end.when(monitor.regular)))
    return found


def built(probes: Sequence[Probe]) -> list[Reads]:
    """The probes of text as they are."""
    from cpt.monitor.probes.drift import DriftProbe
    from cpt.monitor.probes.early_end import EarlyEndProbe
    from cpt.monitor.probes.text import TextProbe

    tokens = {probe.name: probe.text.tokens for probe in probes if isinstance(probe, TextProbe)}
    tokens |= {probe.name: probe.samples.tokens for probe in probes if isinstance(probe, DriftProbe)}
    tokens |= {probe.name: probe.tokens for probe in probes if isinstance(probe, EarlyEndProbe)}
    return [(probe.name, tokens[probe.name], probe.when) for probe in probes if probe.name in tokens]


def over_budget(
    monitor: Monitor, gates: Sequence[Gate], reads: Sequence[Reads], tokens: int, steps: int | None
) -> str | None:
    """That gates need more than the budget, and what to do; None if they do not, or nothing acts.

    Args:
        tokens: of the run; `steps`: of it, None if that is not known yet.
    """
    gated = acted_upon(gates)
    if not gated or monitor.budget is None or not tokens:
        return None
    sizes: Mapping[str, int] = {name: size for name, size, _ in reads}
    end = None if steps is None else Moment(steps, tokens)
    due = {name: NEEDED if end is None else when.left(_START, end) for name, _, when in reads}
    share = least_share(tokens, sizes, due, gated)
    if share <= monitor.budget:
        return None
    return (
        f"the first and last readings, and those that gates need ({', '.join(sorted(gated))}), take about "
        f"{share:.0%} of the time, more than the budget of {monitor.budget:.0%}: raise monitor.budget, or "
        "lower monitor.tokens"
    )
