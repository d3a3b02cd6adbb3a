"""Plan the readings that the probe share pays for, and the size of each sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from cpt.monitor.gates import Gate, Limit, acted_upon
from cpt.monitor.noise import EXCESS, detectable_rise, needed_items
from cpt.monitor.probe_work import FORWARD, NEW_TOKENS, OTHERS, WEIGHTS, Demand, ProbeWork, planned_shares
from cpt.monitor.schedule import Every, Moment, When
from cpt.sources import PART
from cpt.stages.pretrain.config import DEFAULT_TOKENS, Monitor
from cpt.stages.pretrain.probe_texts import FEWEST
from cpt.stages.pretrain.samples import PROMPT

ITEM = 100
"""Assumed number of tokens of a task's item, before the task is loaded."""


def probe_work_of(monitor: Monitor, sources: int) -> ProbeWork | None:
    """Return the work that probes may do, and what sampling before and after the training takes of it.

    Args:
        sources: number of sources of the corpus that have held-out text.
    """
    if monitor.probe_share is None:
        return None
    tokens = monitor.drift.tokens if monitor.drift else 0
    if monitor.samples:
        tokens += 2 * sources * monitor.samples.texts * (PROMPT + monitor.samples.tokens)
    return ProbeWork(monitor.probe_share, FORWARD * tokens)


def probe_demands(
    monitor: Monitor,
    gates: Sequence[Gate],
    texts: Mapping[str, int],
    end: Moment,
    *,
    documents: Mapping[str, int] = MappingProxyType({}),
    weights: bool = True,
    new_tokens: bool = False,
    mixed: int | None = None,
) -> dict[str, Demand]:
    """Return the demands of all probes as the settings ask for them, before what they read is known.

    Args:
        texts: number of tokens that are read of each text.
        end: end of the run.
        documents: number of documents that are read of each text, as far as it is known.
        weights: True if the update of the weights can be probed.
        new_tokens: True if the model has new tokens.
        mixed: steps between updates of online mixing, at which it needs every part's loss; None without it.
    """
    gated, usual = acted_upon(gates), monitor.regular
    found = {}
    for name, tokens in texts.items():
        when = text_schedule(name, monitor, mixed)
        items, always = documents.get(name), mixed is not None and PART in name
        work = FORWARD * tokens
        found[name] = Demand.of(work, when, end, gated=name in gated, items=items, always=always)
    for name, task in monitor.tasks.items():
        work, when = FORWARD * ITEM * task.items, task.when(usual)
        found[name] = Demand.of(work, when, end, gated=name in gated, items=task.items)
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


def text_schedule(name: str, monitor: Monitor, mixed: int | None) -> When:
    """Return the schedule of a text's probe.

    Args:
        mixed: steps between updates of online mixing; None without it.
    """
    if name in monitor.texts:
        return monitor.texts[name].when(monitor.regular)
    return Every(mixed) if mixed is not None and PART in name else monitor.regular


def planned_readings(probe_work: ProbeWork | None, demands: Mapping[str, Demand], tokens: int) -> str:
    """Describe how many readings of those that are due are made, and their share of the training's work."""
    shares = planned_shares(probe_work, tokens, demands)
    said, total = [], probe_work.other_work if probe_work else 0.0
    for name, each in demands.items():
        work = each.done(shares[name])
        made, due = (2 + sum(share > 0 for share in shares[name])), 2 + each.between
        total += work
        part = min([share for share in shares[name] if share], default=1.0)
        least = f" on {part:.0%} of its sample or more" if part < 1 else ""
        said.append(f"{name} {made} of {due} readings{least} ({work / tokens:.1%})")
    bound = "" if probe_work is None else f" of {100 * probe_work.share:g}% allowed"
    return f"probes {', '.join(said)}: {total / tokens:.1%} of the training's work{bound}"


def over_share(probe_work: ProbeWork | None, demands: Mapping[str, Demand], tokens: int) -> str | None:
    """Return a warning if required readings exceed the probe share, else None."""
    if probe_work is None or not tokens:
        return None
    share = (probe_work.other_work + sum(each.least for each in demands.values())) / tokens
    if share <= probe_work.share:
        return None
    gated = sorted(name for name, each in demands.items() if each.needed)
    by = "gates or online mixing need" if any(each.always for each in demands.values()) else "gates need"
    needed = f", and those that {by} ({', '.join(gated)})," if gated else ""
    return (
        f"the first and last readings{needed} take {share:.1%} of the training's work, more than the share "
        f"of {100 * probe_work.share:g}%, and are made all the same: raise monitor.probe_share, or lower "
        "monitor.tokens"
    )


SPREAD, USUAL = 0.04, 190
"""Standard deviation by which the rises of single documents of so many tokens differ, in bits per byte.

It is not known before training, so it is assumed. Recorded runs of a model of 135M parameters had 0.02 to
0.04 where general text in such documents rose by 0.01 to 0.06 (benchmarks/results/forgetting_limit.json)."""

_NEARLY = 0.9
"""Part of the documents that are needed which counts as enough: their mean length is an estimate."""


@dataclass(frozen=True)
class Sizes:
    """The number of tokens that are read of each text.

    Attributes:
        names: names of the texts.
        given: numbers of tokens from the settings, by text.
        limits: tightest limit of each text, in bits per byte.
        window: largest number of tokens of a document that are read at first.
        paid: largest number of tokens of each text that the probe share pays for.
        mixed: steps between updates of online mixing; None without it.
    """

    names: Sequence[str] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    window: int = 1024
    paid: float = math.inf
    mixed: int | None = None

    @property
    def growing(self) -> list[str]:
        """Names of the texts whose sample size follows from their limits."""
        return [name for name in self.limits if name not in self.given]

    def tokens(self, name: str, length: float | None = None) -> int:
        """Return the number of tokens that are read of a text.

        Args:
            length: mean number of tokens of its documents, within a window; None: the usual one is assumed.
        """
        if name not in self.growing:
            return self.given.get(name, DEFAULT_TOKENS)
        length = length or min(USUAL, self.window)
        documents = documents_needed(self.limits[name].allowed, length) or 0
        return max(self.least(name), math.ceil(min(documents * length, self.paid)))

    def least(self, name: str) -> int:
        """Return the smallest number of tokens that are read of a text: enough documents for a gate."""
        enough = FEWEST * self.window if name in self.limits else 0
        return self.given.get(name, max(DEFAULT_TOKENS, enough))

    def schedule(self, name: str, monitor: Monitor) -> When:
        """Return the schedule of a text's probe."""
        return text_schedule(name, monitor, self.mixed)

    def shown(self, name: str, tokens: int, documents: int, held: int) -> str:
        """Describe the rise of a text that will be found, and what is missing for a smaller one.

        Args:
            tokens: number of tokens that are read.
            documents: number of documents that are read.
            held: number of documents that the text has.
        """
        limit, length = self.limits[name], tokens / documents
        error = spread(length) / math.sqrt(documents)
        found = detectable_rise(limit.allowed, error, documents)
        said = f"{limit}: {documents:,} documents of {name} are read, {tokens:,} tokens"
        if math.isfinite(found):
            said += (
                f", with an expected standard error of {error:.2g}: a true rise of {found:.2g} or more is "
                "found with a chance of 95%"
            )
        needed = documents_needed(limit.allowed, length)
        if needed is None or documents >= _NEARLY * needed:
            return said
        if documents >= held:
            remedy = "give the text more documents"
        elif name in self.given:
            remedy = "raise its `tokens`, or leave them out"
        else:
            remedy = "raise monitor.probe_share, or train on more tokens"
        return f"{said}; to find {limit.allowed * (1 + EXCESS):.2g} takes {needed:,} documents: {remedy}"

    def asked(self, name: str) -> str:
        """Describe the sample that a limit needs of a text that is not known yet."""
        limit = self.limits[name]
        needed = documents_needed(limit.allowed, USUAL)
        if needed is None:
            return f"{limit}: no sample is large enough to tell any rise from none"
        rise, read = limit.allowed * (1 + EXCESS), self.tokens(name)
        return (
            f"{limit}: to find a true rise of {rise:.2g} with a chance of 95% takes about {needed:,} "
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
    mixed: int | None = None,
) -> Sizes:
    """Return the sizes of all texts.

    Args:
        held_out: names of the corpus's texts that are probed.
        end: end of the run; None: not known.
        weights, new_tokens, mixed: see `probe_demands`.
    """
    names = [*held_out, *monitor.texts]
    own = {name: text.tokens for name, text in monitor.texts.items()}
    given = {name: size for name in names if (size := own.get(name) or monitor.tokens)}
    sizes = Sizes(names, given, tightest(gates, names), monitor.window, mixed=mixed)
    probe_work = probe_work_of(monitor, len(sources_of(held_out)))
    if probe_work is None or end is None or not sizes.growing:
        return sizes
    least = {name: sizes.least(name) for name in names}
    demands = probe_demands(monitor, gates, least, end, weights=weights, new_tokens=new_tokens, mixed=mixed)
    others = sum(2 * each.work for name, each in demands.items() if name not in sizes.growing)
    left = max(0.0, (1 - OTHERS) * (probe_work.share * end.tokens - probe_work.other_work - others))
    readings = sum(demands[name].least / demands[name].work for name in sizes.growing)
    return replace(sizes, paid=left / (FORWARD * readings))


def sources_of(held_out: Sequence[str]) -> list[str]:
    """Return the names of probed texts that are whole sources, and no part of one."""
    return [name for name in held_out if PART not in name]


def tightest(gates: Iterable[Gate], texts: Sequence[str]) -> dict[str, Limit]:
    """Return the tightest limit of a rise that gates set each text."""
    found: dict[str, Limit] = {}
    for gate in gates:
        limit = gate.limit
        if limit.probe in texts and not limit.recovery:
            found[limit.probe] = min(found.get(limit.probe, limit), limit, key=lambda each: each.allowed)
    return found


def documents_needed(limit: float, length: float) -> int | None:
    """Return the documents with which a rise of the limit and a third is found with a chance of 95%.

    Args:
        length: mean number of tokens that are read of a document.
    """
    return needed_items(limit, spread(length) / math.sqrt(FEWEST), FEWEST)


def spread(length: float) -> float:
    """Return the standard deviation by which the rises of documents differ; short ones differ more."""
    return SPREAD * max(1.0, math.sqrt(USUAL / length))
