"""Online mixing of a domain's parts (Skill-It) against the same share of each, and against a law's mixture.

Short trainings on each part alone give the graph of which part helps which. Together with some on mixtures
they give a D-CPT law of each part's loss by its own share; the law's mixture is that with the least mean loss
over the parts. Then trainings of twice as many tokens are compared. Replay is the same in all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from decisions.arms import compared, figures, measured, run, with_mean
from decisions.sweeps import Work, command, said_by, seeds_of, sweep

if TYPE_CHECKING:
    from cpt.laws import Law, Row

RECIPE = Path(__file__).parent / "learn.yaml"
LENGTH, BATCH = 128, 8
REPLAY = 0.125
HELD_OUT = 1_600
"""Tokens that a reading reads of each text: of all parts, of the domain and of general text."""

FINE = 20
"""Number of equal shares that the law's mixture is made of."""

MEAN = "mean of the parts"


class Plan(NamedTuple):
    """The size of the short trainings. every: steps between readings, and between updates of the mixture."""

    tokens: int
    every: int


PLANS = {"full": Plan(32_768, 8), "short": Plan(7_168, 4)}


def work(options: argparse.Namespace, seeds: int) -> list[Work]:
    """Return the work of the study."""
    plan, parts = PLANS[options.plan], len(options.domain)
    readings = 3 + plan.tokens // (BATCH * LENGTH * plan.every)
    each = HELD_OUT * (parts + 2)
    return [
        Work(seeds * (2 * parts + 1), plan.tokens, readings * each),
        Work(seeds * 3, 2 * plan.tokens, 3 * each),
    ]


def studied(options: argparse.Namespace) -> dict[str, Any]:
    """Learn the graph and the laws, compare the mixtures, and return what was found."""
    if len(options.domain) < 2:
        raise SystemExit("skills: give two parts or more, each as --domain NAME=FILE")
    plan, label = PLANS[options.plan], f"skills-{options.plan}"
    names = [name for name, _ in options.domain]
    words = shared(options, plan.tokens)
    read = [*words, f"pretrain.monitor.every={plan.every}", "pretrain.monitor.probe_share=null"]
    mixtures = ",".join(map(mixture, mixed(names)))
    alone = sweep(command(options, RECIPE, read, f"{label}-alone", "--skills", "pretrain"), options.runs)
    together = sweep(
        command(options, RECIPE, read, f"{label}-mixed", "--vary", f"pretrain.mixture={mixtures}"),
        options.runs,
    )
    graph = options.runs / f"{label}-graph.json"
    said = ["law", "skills", f"{label}-alone", "--out", str(graph), "--runs", str(options.runs), "--json"]
    learned = json.loads(said_by([sys.executable, "-m", "cpt", *said]))
    runs = [run for found in (alone, together) for row in found["configurations"] for run in row["runs"]]
    laws = {name: fitted(options, runs, name) for name in names}
    longer = shared(options, 2 * plan.tokens)
    every = f"{{graph: {json.dumps(str(graph))}, every: {plan.every}}}"
    uniform = f"pretrain.mixture={mixture(dict.fromkeys(names, 1))}"
    first = seeds_of(options)[0]  # laws know trained tokens, which are more than those asked for
    ran = run(options, RECIPE, [*longer, uniform, f"seed={first}"], f"{label}-uniform-s{first}")
    weights = best_mixture(laws, figures(ran.folder).tokens)
    arms = {
        "uniform": [uniform],
        "skill-it": [uniform, f"pretrain.skill_it={every}"],
        "law": [f"pretrain.mixture={mixture(weights)}"],
    }
    found = measured(options, RECIPE, arms, label, longer)
    means = {
        arm: {s: with_mean(each, probes(names), MEAN) for s, each in seeds.items()}
        for arm, seeds in found.items()
    }
    return {
        "graph": learned,
        "laws": {
            name: law.model_dump(mode="json", exclude={"texts": {"domain": {"draws"}}})
            for name, law in laws.items()
        },
        "mixture": weights,
        "updates": {f"s{seed}": updates(options, f"{label}-skill-it-s{seed}") for seed in found["skill-it"]},
        "arms": compared(means, "uniform", [MEAN, *probes(names), "general"]),
    }


def shared(options: argparse.Namespace, tokens: int) -> list[str]:
    """Return the overrides of all trainings on some tokens."""
    parts = [{"path": str(file.absolute()), "part": name} for name, file in options.domain]
    sources = [f"corpus.{role}.0.path={getattr(options, role).absolute()}" for role in ("replay", "general")]
    words = [f"corpus.domain={json.dumps(parts)}", *sources, f"pretrain.tokens={tokens}"]
    words += [f"pretrain.batch_sequences={BATCH}", f"pretrain.replay={REPLAY}", "pretrain.epochs=20"]
    warmup = round(BATCH * LENGTH / tokens, 4)  # one step, whatever the tokens
    words += [f"pretrain.schedule={{kind: constant, peak: 3e-4, warmup: {warmup}}}"]
    return [*words, "pretrain.monitor.parts=true", f"pretrain.monitor.tokens={HELD_OUT}"]


def mixture(weights: Mapping[str, int]) -> str:
    """Return a mixture as a recipe has it."""
    return json.dumps({"weights": dict(weights)})


def mixed(names: Sequence[str]) -> list[dict[str, int]]:
    """Return the mixtures of the laws' runs: equal shares, and each part with four times as much."""
    return [dict.fromkeys(names, 1), *({name: 4 if name == own else 1 for name in names} for own in names)]


def probes(names: Sequence[str]) -> list[str]:
    """Return the names of the parts' probes."""
    from cpt.sources import DOMAIN, PART

    return [f"{DOMAIN}{PART}{name}" for name in names]


def fitted(options: argparse.Namespace, runs: Sequence[str], part: str) -> Law:
    """Return the law of one part's loss by its share of what is trained on."""
    from cpt import laws

    return laws.fit([row for run in runs for row in rows_of(options, run, part)], draws=100)


def rows_of(options: argparse.Namespace, run: str, part: str) -> Iterator[Row]:
    """Yield the readings of one part in a run, with the part's share of the rows."""
    from cpt.json_file import read_json
    from cpt.laws import Row
    from cpt.models.weights import count_parameters
    from cpt.recipe.journal import find_run
    from cpt.recipe.law_rows import pretrain_record

    (probe,) = probes([part])
    record = pretrain_record(find_run(options.runs, run), None)
    folder = record.path("training")
    ledger: dict[str, Any] = read_json(folder / "ledger.json", dict[str, Any])
    share = ledger["domain"]["parts"][probe]["sequences"] / sum(row["sequences"] for row in ledger.values())
    size = count_parameters(record.path("model"))
    read = [json.loads(line) for line in (folder / "probes.jsonl").read_text(encoding="utf-8").splitlines()]
    own = [row for row in read if row["probe"] == probe and row["step"] != 1]  # which is the warm-up
    for row in own:
        loss = own[0]["value"] + (row["rise"] or 0.0)  # a reading may see a part of the documents
        heldout = f"seed {record.seed}"
        yield Row(
            run=run, parameters=size, tokens=row["tokens"], share=share, domain_loss=loss, heldout=heldout
        )


def best_mixture(laws: Mapping[str, Law], tokens: int) -> dict[str, int]:
    """Return the weights, of sum `FINE`, with the least mean predicted loss over the parts."""
    from cpt.laws.predict import Setting

    settings = {name: Setting.of(law) for name, law in laws.items()}

    def loss(weights: Mapping[str, int]) -> float:
        shares = {name: (1 - REPLAY) * weight / FINE for name, weight in weights.items()}
        own = (s.losses("domain", s.size(None), tokens, shares[name]) for name, s in settings.items())
        return sum(map(float, own))

    return min(divisions(list(laws), FINE), key=loss)


def divisions(names: Sequence[str], total: int) -> Iterator[dict[str, int]]:
    """Yield every way to divide a number among names."""
    if len(names) == 1:
        yield {names[0]: total}
        return
    for own in range(total + 1):
        for rest in divisions(names[1:], total - own):
            yield {names[0]: own, **rest}


def updates(options: argparse.Namespace, run: str) -> list[dict[str, Any]]:
    """Return the updates of a run's mixture: step, losses and shares."""
    from cpt.recipe.journal import find_run
    from cpt.recipe.law_rows import pretrain_record

    file = pretrain_record(find_run(options.runs, run), None).path("training") / "mixture.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{key: row[key] for key in ("step", "losses", "shares")} for row in rows]
