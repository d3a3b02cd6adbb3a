"""Optimizers and adapters at equal tokens, and in the memory of the cheapest for the time that AdamW takes.

Peaks are measured first: every method trains for a few steps in a process of its own, whose largest resident
size the system tells. The ceiling is the least of them, with the whole batch in one micro batch. For the
second study every method has the largest micro batch with which its peak is below the ceiling, and as many
tokens as it trains on in the time that AdamW, with its own micro batch, takes for the plan's tokens.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from decisions.arms import compared, measured, run, step_seconds
from decisions.sweeps import Work, seeds_of, texts

RECIPE = Path(__file__).parent / "learn.yaml"
LENGTH = 128
"""Tokens of a sequence."""

READ, READ_FOR_COST = 16_000, 4_000
"""Tokens that a run only reads: two texts, twice. It is less where memory and time alone are measured."""

SLACK = 1.02
"""Peaks of the same process differ by so much from one time to the next."""

STEPS = 6
"""Steps of a training that is made to measure its memory and time."""

REFERENCE = "adamw"


class Method(NamedTuple):
    """A way to train.

    Attributes:
        settings: Overrides.
        peaks: Peaks of the rate, the first one in every plan.
    """

    settings: tuple[str, ...] = ()
    peaks: tuple[str, ...] = ("3e-4", "1e-3")


def _optimizer(settings: str) -> Method:
    return Method((f"pretrain.optimizer={settings}",))


METHODS = {
    "adamw": Method(),
    # published: 0.25, at a higher rate, which would also be that of the embeddings, which AdamW moves
    "galore": _optimizer("{kind: galore, rank: 144, scale: 1}"),
    # a quarter of the width, as published
    "apollo": _optimizer("{kind: apollo, rank: 144}"),
    # signs at a tenth of the rate, as published for fine-tuning
    "frugal": _optimizer("{kind: frugal, density: 0.25, sign_scale: 0.1}"),
    "adamw-8bit": _optimizer("{kind: adamw-8bit}"),
    "muon": _optimizer("{kind: muon, adjust: match-adamw}"),
    # adapters want about ten times the rate of whole weights (Biderman et al., arXiv 2405.09673)
    "lora": Method(("pretrain.trainable={kind: lora, variant: rslora, rank: 64}",), ("1e-3", "3e-3")),
    "adalora": Method(
        ("pretrain.trainable={kind: lora, variant: adalora, rank: 64, allocation: {every: 2}}",),
        ("1e-3", "3e-3"),
    ),
}


class Plan(NamedTuple):
    """The size of the trainings. peaks: number of rates of each method."""

    tokens: int
    batch: int
    peaks: int


PLANS = {"full": Plan(65_536, 8, 2), "short": Plan(14_336, 8, 1)}


def work(options: argparse.Namespace, seeds: int) -> list[Work]:
    """Return the work of a study; about two micro batches of each method are tried."""
    plan = PLANS[options.plan]
    arms = len(METHODS) * (plan.peaks if options.study == "optimizers" else 1)
    tries = len(METHODS) * (1 if options.study == "optimizers" else 2)
    found = [Work(tries, STEPS * plan.batch * LENGTH, READ_FOR_COST), Work(seeds * arms, plan.tokens, READ)]
    return [each for _ in options.domain for each in found]


class Cost(NamedTuple):
    """The cost of a method with a micro batch.

    Attributes:
        peak: Largest resident size of the process, in bytes.
        first: Seconds of the first step, which makes projections and state.
        step: Seconds of each later step, the median: a busy machine makes single ones longer.
    """

    peak: int
    first: float
    step: float

    def seconds(self, steps: int) -> float:
        """Return the time of a training."""
        return self.first + (steps - 1) * self.step

    def steps(self, seconds: float) -> int:
        """Return the number of steps that a time affords, at least 1."""
        return max(1, 1 + int((seconds - self.first) / self.step + 1e-9))


class Costs:
    """The costs of all methods by micro batch, measured once and kept in a file beside the runs."""

    def __init__(self, options: argparse.Namespace, domain: Path, label: str) -> None:
        self._options, self._domain, self._label = options, domain, label
        self._file = options.runs / f"{label}-costs.json"
        self._known: dict[str, list[Any]] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def of(self, method: str, micro: int) -> Cost:
        """Return the cost of a method."""
        key = f"{method} {micro}"
        if key not in self._known:
            self._known[key] = list(self._measure(method, micro))
            self._file.write_text(json.dumps(self._known, indent=1))
        return Cost(*self._known[key])

    def _measure(self, method: str, micro: int) -> Cost:
        options, batch = self._options, PLANS[self._options.plan].batch
        name = f"{self._label}-cost-{method}-m{micro}"
        words = [*settings(options, self._domain, method), f"pretrain.tokens={STEPS * batch * LENGTH}"]
        words += [f"pretrain.micro_batch_sequences={micro}", f"seed={seeds_of(options)[0]}"]
        words += [f"pretrain.monitor.tokens={READ_FOR_COST // 4}"]
        run(options, RECIPE, [*words, "--until", "corpus"], name)  # its memory is not that of a training
        ran = run(options, RECIPE, [*words, "--force", "pretrain"], name)
        first, *later = step_seconds(ran.folder)
        return Cost(ran.peak, first, median(later))


def settings(options: argparse.Namespace, domain: Path, method: str, peak: int = 0) -> list[str]:
    """Return the overrides of a method at one of its peaks, by number."""
    rate = METHODS[method].peaks[peak]
    rates = [f"pretrain.schedule.peak={rate}", f"pretrain.schedule.floor={float(rate) / 10:g}"]
    batch = [f"pretrain.batch_sequences={PLANS[options.plan].batch}", "pretrain.epochs=20"]
    return [*texts(options, domain), *batch, *METHODS[method].settings, *rates]


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Run a study on all its domains, and return what it found by domain."""
    one = equal_tokens if options.study == "optimizers" else equal_memory
    return {name: one(options, name, file) for name, file in options.domain}


def equal_tokens(options: argparse.Namespace, name: str, domain: Path) -> dict[str, Any]:
    """Compare all methods at equal tokens, with the whole batch in one micro batch; add their costs."""
    plan = PLANS[options.plan]
    costs = Costs(options, domain, f"optimizers-{options.plan}-{name}")
    measured_costs = {method: costs.of(method, plan.batch)._asdict() for method in METHODS}
    words = [f"pretrain.tokens={plan.tokens}", f"pretrain.micro_batch_sequences={plan.batch}"]
    arms = {
        f"{method} {METHODS[method].peaks[peak]}": [*settings(options, domain, method, peak), *words]
        for method in METHODS
        for peak in range(plan.peaks)
    }
    found = measured(options, RECIPE, arms, f"optimizers-{options.plan}-{name}")
    rows = compared(found, next(iter(arms)))
    return {"arms": rows, "costs": measured_costs}


def equal_memory(options: argparse.Namespace, name: str, domain: Path) -> dict[str, Any]:
    """Compare all methods below one ceiling of memory, in the time that AdamW takes there."""
    plan = PLANS[options.plan]
    costs = Costs(options, domain, f"optimizers-{options.plan}-{name}")
    ceiling = min(costs.of(method, plan.batch).peak for method in METHODS)
    micro = {method: afforded(costs, method, plan.batch, ceiling) for method in METHODS}
    time = costs.of(REFERENCE, micro[REFERENCE] or 1).seconds(plan.tokens // (plan.batch * LENGTH))
    arms, settled = {}, {}
    for method in METHODS:
        if (own := micro[method]) is None:
            settled[method] = {"micro_batch": None, "peak": costs.of(method, 1).peak}
            continue
        cost = costs.of(method, own)
        tokens = cost.steps(time) * plan.batch * LENGTH
        settled[method] = {"micro_batch": own, "tokens": tokens, **cost._asdict()}
        words = [f"pretrain.tokens={tokens}", f"pretrain.micro_batch_sequences={own}"]
        arms[method] = [*settings(options, domain, method), *words]
    found = measured(options, RECIPE, arms, f"optimizers-memory-{options.plan}-{name}")
    reference = REFERENCE if REFERENCE in arms else next(iter(arms))
    rows = compared(found, reference)
    return {"arms": rows, "methods": settled, "ceiling": ceiling, "seconds": time, "reference": reference}


def afforded(costs: Costs, method: str, batch: int, ceiling: int) -> int | None:
    """Return the largest micro batch, halved from the whole batch, below a ceiling; None if there is none."""
    micro = batch
    while costs.of(method, micro).peak > SLACK * ceiling:
        if micro == 1:
            return None
        micro = max(1, micro // 2)
    return micro
