"""A mixture law (D-CPT) of small runs: what it predicts of other runs, and the mixture that it advises.

The law is fitted on a sweep over shares of replay, by readings along the way. The rate is constant after a
short warm-up, so that a reading after n tokens is that of a training of n tokens. Then trainings of twice as
many tokens are made: with 5% replay, which is no share of the fit, with 25%, which is one, and with the share
that the law advises. Their readings are predicted by the law, and their ends compared at equal tokens.

    D-CPT (arXiv 2406.01375), on its own runs: R² 0.9967 of general and 0.9796 of domain loss as fitted; held
    out 0.9126 for other numbers of tokens, and 0.9717 for other mixtures.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from decisions.arms import compared, figures
from decisions.sweeps import Work, command, said_by, seeds_of, sweep, texts

if TYPE_CHECKING:
    from cpt.laws import Law, Row

RECIPE = Path(__file__).parent / "learn.yaml"
LENGTH = 128
LIMIT = "general <= +0.01"
USUAL = ("0.05", "0.25")
"""Shares that the advised one is compared with."""

HELD_OUT = 4_000
"""Tokens that a reading reads of each of two texts."""

PAPER = {"fitted": {"general": 0.9967, "domain": 0.9796}, "tokens": 0.9126, "mixture": 0.9717}
"""R² of the paper's law, to be printed beside ours."""


class Plan(NamedTuple):
    """The runs of the fit.

    Attributes:
        shares: Shares of replay.
        tokens: Tokens of a training; those that are predicted have twice as many.
        batch: Sequences of a batch.
        every: Steps between readings.
    """

    shares: tuple[str, ...]
    tokens: int
    batch: int
    every: int

    def work(self, runs: int, tokens: int) -> Work:
        """Return the work of runs of some tokens; readings are dense at first."""
        readings = 3 + tokens // (self.batch * LENGTH * self.every)
        return Work(runs, tokens, readings * 2 * HELD_OUT)


PLANS = {
    "full": Plan(("0", "0.1", "0.15", "0.25", "0.35", "0.5"), 40_960, 20, 2),
    "short": Plan(("0", "0.1", "0.25", "0.5"), 12_800, 20, 2),
}


def work(options: argparse.Namespace, seeds: int) -> list[Work]:
    """Return the work of the study, for all its domains."""
    plan = PLANS[options.plan]
    fitted = plan.work(seeds * len(plan.shares), plan.tokens)
    predicted = plan.work(seeds * (len(USUAL) + 1), 2 * plan.tokens)
    return [each for _ in options.domain for each in (fitted, predicted)]


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, predict, take the advice and compare; return what was found by domain."""
    return {name: _studied(options, name, file) for name, file in options.domain}


def _studied(options: argparse.Namespace, name: str, domain: Path) -> dict[str, Any]:
    from cpt.laws import read_law

    plan, label = PLANS[options.plan], f"law-{options.plan}-{name}"
    fitted = sweep(request(options, domain, f"{label}-fit", plan.tokens, plan.shares), options.runs)
    file = options.runs / f"{label}.json"
    words = ["law", "fit", f"{label}-fit", "--out", str(file), "--runs", str(options.runs), "--json"]
    told = json.loads(said_by([sys.executable, "-m", "cpt", *words]))
    usual = sweep(request(options, domain, f"{label}-ends", 2 * plan.tokens, USUAL), options.runs)
    advice = advised(file, trained_tokens(options, usual))
    taken = whole_rows(advice, plan.batch)
    ends = usual
    if taken is not None and taken not in map(float, USUAL):  # the same sweep, with one share more
        shares = [*USUAL, f"{taken:g}"]
        ends = sweep(request(options, domain, f"{label}-ends", 2 * plan.tokens, shares), options.runs)
    return {
        "law": told,
        "fit": fitted,
        "paper": PAPER,
        "predicted": predicted(options, read_law(file), plan, fitted, ends),
        "advice": advice,
        "ends": ends,
        "compared": end_table(options, ends, taken),
    }


def request(
    options: argparse.Namespace, domain: Path, name: str, tokens: int, shares: Sequence[str]
) -> list[str]:
    """Return the command of a sweep over shares of replay."""
    plan = PLANS[options.plan]
    words = [*texts(options, domain), f"pretrain.tokens={tokens}", f"pretrain.batch_sequences={plan.batch}"]
    words += [f"pretrain.micro_batch_sequences={plan.batch}"]
    # of the same length, whatever the tokens
    warmup = round(plan.batch * LENGTH / tokens, 4)
    words += [f"pretrain.schedule={{kind: constant, peak: 3e-4, warmup: {warmup}}}", "pretrain.epochs=20"]
    words += [f"pretrain.monitor.every={plan.every}", "pretrain.monitor.probe_share=null"]
    words += [f"pretrain.monitor.tokens={HELD_OUT}"]
    more = ["--vary", f"pretrain.replay={','.join(shares)}", "--limit", LIMIT]
    return command(options, RECIPE, words, name, *more)


def trained_tokens(options: argparse.Namespace, found: Mapping[str, Any]) -> int:
    """Return the mean number of tokens that the runs of a sweep trained on: more than they were asked for.

    The last step is whole, and rows hold fewer tokens than they have room for. A law knows trained tokens.
    """
    runs = [run for row in found["configurations"] for run in row["runs"]]
    return round(fmean(figures(options.runs / run).tokens for run in runs))


def advised(law: Path, tokens: int) -> dict[str, Any]:
    """Return the law's advice for a number of tokens, or the error that there is none."""
    words = [
        sys.executable,
        "-m",
        "cpt",
        "law",
        "advise",
        str(law),
        "--tokens",
        str(tokens),
        "--limit",
        LIMIT,
    ]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr.strip()}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def whole_rows(advice: Mapping[str, Any], batch: int) -> float | None:
    """Return the advised share, rounded up to whole sequences of a batch as a recipe does.

    None without advice, or where none is left for the domain.
    """
    if "error" in advice:
        return None
    rows = math.ceil(advice["replay"]["value"] * batch - 1e-6)
    return rows / batch if rows < batch else None


def predicted(
    options: argparse.Namespace, law: Law, plan: Plan, fitted: dict[str, Any], ends: dict[str, Any]
) -> dict[str, Any]:
    """Return how well a law predicts the readings of runs that it was not fitted on, by kind of reading.

    tokens: after more tokens than the fit has, at one of its shares. mixture: within its tokens, at another
    share. both: at another share after more tokens.
    """
    from cpt.laws.rows import level

    named = {run for row in ends["configurations"] for run in row["runs"]}
    every = [run for found in (fitted, ends) for row in found["configurations"] for run in row["runs"]]
    rows = level(
        rows_of(options, every)
    )  # all documents that are held out are known: to the level of the fit
    known = {round(row.share, 3) for row in rows if row.run not in named and row.tokens}
    most = max(row.tokens for row in rows if row.run not in named)
    kinds: dict[str, list[Row]] = {"tokens": [], "mixture": [], "both": []}
    for row in rows:
        if row.run in named and row.tokens:
            seen, within = round(row.share, 3) in known, row.tokens <= most
            if not (seen and within):
                kinds["tokens" if seen else "mixture" if within else "both"].append(row)
    return {kind: qualities(law, own) for kind, own in kinds.items() if own}


def rows_of(options: argparse.Namespace, runs: Iterable[str]) -> list[Row]:
    """Return the rows of finished runs."""
    from cpt.recipe.journal import find_run
    from cpt.recipe.law_rows import rows_of_runs

    return rows_of_runs([("domain", find_run(options.runs, run)) for run in runs])


def qualities(law: Law, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the agreement of predictions with readings, by text."""
    import numpy as np

    from cpt.laws import predict
    from cpt.laws.fit import quality

    found = {}
    for text in law.texts:
        read = [row for row in rows if row.loss(text) is not None]
        guessed = [predict(law, tokens=row.tokens, replay=1 - row.share).losses[text].value for row in read]
        agreed = quality(np.array(guessed), np.array([row.loss(text) for row in read], float))
        found[text] = agreed.model_dump() | {"readings": len(read)}
    return found


def end_table(options: argparse.Namespace, ends: dict[str, Any], taken: float | None) -> dict[str, Any]:
    """Return the changes of the longer trainings, compared with 5% on the same seeds.

    Args:
        taken: Share that the law advises, whose runs may be those of a usual one; None without advice.
    """
    seeds = seeds_of(options)
    found = {}
    for row in ends["configurations"]:
        value = row["values"]["pretrain.replay"]
        by_name = {run.rpartition("-s")[2]: run for run in row["runs"]}
        own = {s: figures(options.runs / by_name[str(s)]) for s in seeds if str(s) in by_name}
        found |= {f"replay {value:g}": own} if f"{value:g}" in USUAL else {}
        found |= {"advised": own} if value == taken else {}
    return compared(found, f"replay {float(USUAL[0]):g}", ["domain", "general"])
