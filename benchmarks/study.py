"""Does a model that studies answer more? Documents alone against documents with questions, at equal tokens.

    python benchmarks/study.py --domain anatomy.jsonl --documents 60 --replay us_history.jsonl \\
        --tasks business.jsonl --general wikitext.jsonl --tokens 40_960 --seeds 17,18,19 \\
        --suites medical:quick --data DIR

Arms, each with the same number of tokens: *raw* (documents, no replay), *replay* (a quarter of the rows is
general text), *study* (questions and reading tasks alone), *raw + study* (documents and study, one to one),
*+ instructions* (half of the replay are questions and tasks on other general text), *+ phases* (questions
first, and more of them at the end), *+ noise* (a tenth of the documents' input tokens is replaced) and
*+ shuffle* (sentences in another order as well). From *raw + study* on, an arm has what those before it have.

Every model is compared with its base, and with the seed's *replay* arm: recall of the domain's facts by
group, suites, held-out text. Runs that are recorded already are not made again.

The recall probe says which facts the questions of the corpus ask for, not which of them a short training has
read: give so few documents that all arms read them at least once (the table shows how often).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL, Part, source
from peak_rate import KEPT_IN_SPITE, seldom
from ruamel.yaml import YAML
from seeds import mean_over_seeds

TEXTS = ("domain", "replay", "tasks", "general")

AGAINST = "replay"
"""The arm that others are compared with."""

DOCUMENTS = {"documents": 1, "reading": 0, "questions": 0}
STUDY = {"documents": 0, "reading": 1, "questions": 2}
QUESTIONS = {"documents": 0, "reading": 0, "questions": 1}
ARMS = ("raw", AGAINST, "study", "raw + study", "+ instructions", "+ phases", "+ noise", "+ shuffle")


def weights(arm: str, ratio: float) -> Any:
    """Return the mixture of an arm's domain rows, with `ratio` tokens of documents to one of study."""
    both = {**STUDY, "documents": 3 * ratio}
    last = {"documents": 2 * ratio, "reading": 1, "questions": 3}
    phases: list[Part] = [
        {"until": 0.1, "weights": QUESTIONS},
        {"until": 0.85, "weights": both},
        {"weights": last},
    ]
    if arm in ("raw", AGAINST):
        return {"weights": DOCUMENTS}
    if arm == "study":
        return {"weights": STUDY}
    if arm in ("raw + study", "+ instructions"):
        return {"weights": both}
    if arm != "+ shuffle":
        return phases
    halves = [(phase, phase["weights"]["documents"] / 2) for phase in phases]
    return [
        {**phase, "weights": {**phase["weights"], "documents": half, "shuffled": half}}
        for phase, half in halves
    ]


def recipe(options: argparse.Namespace, arm: str, seed: int, against: Path | None) -> dict[str, Any]:
    """Return the recipe of one arm."""
    place = ARMS.index(arm)
    text: Part = {"name": "text", "weight": 1, "sources": [source(options.replay)]}
    tasks: Part = {"name": "tasks", "weight": 1, "sources": [source(options.tasks)], "study": {}}
    replay: Any = [source(options.replay)]
    if place >= ARMS.index("+ instructions"):
        replay = {"mixture": [text, tasks]}
    study: Part = {"probe": options.probe, "forms": options.forms}
    if arm == "+ shuffle":
        study["shuffle"] = True
    if options.ontology:
        study |= {"ontologies": [options.ontology], "ontology_terms": options.terms}
    corpus = {
        "domain": [{**source(options.domain), "limit": options.documents}],
        "study": study,
        "general": [source(options.general)],
        "replay": replay,
        "sequence_length": options.length,
        "heldout": options.heldout,
        "heldout_min": {"documents": 4, "bytes": 2_000, "most": 0.25},
        "start_token": options.start_token,
        "end_token": options.start_token,
    }
    pretrain = {
        "name": "learn",
        "tokens": options.tokens,
        "batch_sequences": 8,
        "replay": 0 if arm == "raw" else 0.25,
        "mixture": weights(arm, options.ratio),
        "epochs": 100,
        "schedule": {"kind": "rewarm-cosine", "peak": options.peak, "floor": 0, "warmup": 0.05},
        "monitor": seldom(options) | {"tokens": 2_000},  # the evaluation measures
        "checkpoint": {"every": 1_000_000},
    }
    if place >= ARMS.index("+ noise"):
        pretrain["input_noise"] = 0.1
    evaluate: Part = {"heldout_tokens": options.probe_tokens}
    if against is not None:
        evaluate["against"] = ["base", str(against)]
    if arm in options.tested:
        evaluate["suites"] = options.suites.split(",")
        if options.data is not None:
            evaluate["data"] = str(options.data)
    stages = [{"corpus": corpus}, {"pretrain": pretrain}, {"evaluate": evaluate}]
    return {"name": f"study-{seed}", "base": options.model, "seed": seed, "stages": stages}


def measure(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Run an arm and return its comparisons with the base and with the arm that others are compared with."""
    options.runs.mkdir(parents=True, exist_ok=True)
    against = model_of(options.runs, seed) if arm != AGAINST else None
    if against is not None and not against.is_dir():
        raise SystemExit(f"there is no model of the arm {AGAINST} to compare with, seed {seed}")
    path = options.runs / f"study-{seed}.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, arm, seed, against), file)
    done = subprocess.run([sys.executable, "-m", "cpt", "run", str(path), "--runs", str(options.runs)])
    if done.returncode not in KEPT_IN_SPITE:
        raise SystemExit(done.returncode)
    run = options.runs / f"study-{seed}"
    evaluated, learned = only(run, "evaluate-"), only(run, "learn-")
    scores = json.loads((evaluated / "scores" / "scores.json").read_text(encoding="utf-8"))
    made = json.loads((learned / "artifact.json").read_text(encoding="utf-8"))["parents"]["corpus"]
    corpus = json.loads((only(run, f"corpus-{made[:12]}") / "artifact.json").read_text(encoding="utf-8"))
    ledger = json.loads((learned / "training" / "ledger.json").read_text(encoding="utf-8"))
    if arm == AGAINST:
        shutil.move(learned / "model", model_of(options.runs, seed))
    for folder in (evaluated, learned):  # the corpus is kept for the other arms
        shutil.rmtree(folder)
    found: dict[str, Any] = {"study": corpus["metrics"]["study"], "ledger": ledger, "base": chosen(scores)}
    if against is not None:
        found[AGAINST] = chosen(next(iter(scores["against"].values())))
    return found


def model_of(runs: Path, seed: int) -> Path:
    """Return the folder of the model that a seed's others are compared with."""
    return runs.absolute() / f"{AGAINST}-{seed}"


def chosen(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a comparison that are recorded."""
    kept = {key: scores[key] for key in ("bits_per_byte", "recall") if key in scores}
    if "suites" in scores:
        suites = scores["suites"]
        kept["averages"] = suites["averages"]
        kept["measures"] = {name: found["averages"] for name, found in suites.get("measures", {}).items()}
    return kept


def only(run: Path, beginning: str) -> Path:
    """Return the only finished folder of a run whose name begins so."""
    (folder,) = (path for path in run.glob(f"{beginning}*") if not path.name.endswith(".partial"))
    return folder


def _shown(row: dict[str, Any], group: str) -> str:
    """Return the share of a group's questions that are answered, before and after."""
    found = row["base"].get("recall", {}).get(group)
    return f"{found['before']['value']:.3f} to {found['after']['value']:.3f}" if found else ""


def table(rows: list[dict[str, Any]]) -> str:
    """Return recall by group, and bits per byte, each arm against its base."""
    groups = ("trained", "untrained", "reversed", "absent")
    heads = "".join(f"{group:>22}" for group in groups)
    lines = [f"{'arm':<18}{'seed':>6}{heads}{'domain':>10}{'general':>10}{'epochs':>8}"]
    for row in rows:
        text = row["base"]["bits_per_byte"]
        recall = "".join(f"{_shown(row, group):>22}" for group in groups)
        changes = "".join(f"{text[name]['difference']['value']:>+10.4f}" for name in ("domain", "general"))
        documents = row["ledger"]["domain"]["parts"].get("domain.documents", {"epochs": 0})
        lines.append(f"{row['arm']:<18}{row['seed']:>6}{recall}{changes}{documents['epochs']:>8.2f}")
    return "\n".join(lines)


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each arm's changes as means over its seeds.

    Recall is compared with the arm `AGAINST` of the same seed, and with the base ("against the base"); text
    and suites with the base. The share is that of the gain on domain text that `AGAINST` has with the same
    seeds.
    """
    found: dict[str, dict[str, Any]] = {}
    references = {row["seed"]: row for row in rows if row["arm"] == AGAINST}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        changes: dict[str, list[dict[str, Any]]] = {}
        for name, change in (found for row in mine for found in _changes(row)):
            changes.setdefault(name, []).append(change)
        found[arm] = {name: mean_over_seeds(each) for name, each in changes.items()}
        gains = [(_gain(row), _gain(references[row["seed"]])) for row in mine if row["seed"] in references]
        if gains:
            found[arm]["share"] = sum(own for own, _ in gains) / sum(other for _, other in gains)
        parts = [row["ledger"]["domain"]["parts"] for row in mine if "ledger" in row]
        for part in ("documents", "questions"):
            if epochs := [each[f"domain.{part}"]["epochs"] for each in parts if f"domain.{part}" in each]:
                found[arm][f"{part}: epochs"] = sum(epochs) / len(epochs)
    return found


def _changes(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the differences of one training, each with the interval of its items."""
    base = row["base"]
    for group, answers in row.get(AGAINST, {}).get("recall", {}).items():
        yield f"{group}: p_gold", answers["p_gold"]["difference"]
        yield f"{group}: accuracy", answers["difference"]
    for group, answers in base.get("recall", {}).items():
        yield f"{group}: p_gold against the base", answers["p_gold"]["difference"]
        yield f"{group}: accuracy against the base", answers["difference"]
    for probe, text in base["bits_per_byte"].items():
        yield f"{probe}: bits per byte", text["difference"]
    for name, averages in {"accuracy": base.get("averages", {}), **base.get("measures", {})}.items():
        for suite, average in averages.items():
            low, high = average["interval"]
            yield f"{suite}: {name}", {"value": average["difference"], "low": low, "high": high}


def _gain(row: dict[str, Any]) -> float:
    return float(row["base"]["bits_per_byte"]["domain"]["difference"]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for key in TEXTS:
        parser.add_argument(f"--{key}", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--documents", type=int, default=24, help="of the domain, from the first on")
    parser.add_argument("--ratio", type=float, default=1.0, help="tokens of documents to one of study")
    parser.add_argument("--ontology", help="OBO file to ask questions of")
    parser.add_argument("--terms", type=int, default=200, help="of the ontology")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default="<|endoftext|>", help="before and after documents, or auto")
    parser.add_argument("--tokens", type=lambda text: int(text.replace("_", "")), default=100_000)
    parser.add_argument("--peak", type=float, default=3e-4)
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--heldout", type=float, default=0.15, help="share of the domain's documents")
    parser.add_argument("--probe", type=int, default=200, help="items of each group of the recall probe")
    parser.add_argument("--probe-tokens", type=int, default=10_000, help="of each held-out text")
    parser.add_argument("--forms", type=int, default=8, help="questions of a fact")
    parser.add_argument("--suites", default="medical:smoke")
    parser.add_argument("--tested", nargs="*", choices=ARMS, default=ARMS, help="arms to run the suites for")
    parser.add_argument("--data", type=Path, help="folder of the suites' data")
    parser.add_argument("--seeds", default="17,18,19")
    parser.add_argument("--only", nargs="*", choices=ARMS, default=ARMS, help="arms")
    parser.add_argument("--name", default="study", help="of the result file")
    options = parser.parse_args()
    for key in TEXTS:
        setattr(options, key, getattr(options, key).absolute())
    same = (
        *("documents", "ratio", "ontology", "terms", "tokens", "peak", "length", "heldout"),
        *("probe", "probe_tokens", "forms", "suites", "start_token"),
    )
    setting = {
        "model": options.model if options.model == MODEL else Path(options.model).name,
        "texts": {key: hashlib.sha256(getattr(options, key).read_bytes()).hexdigest() for key in TEXTS},
        **{name: getattr(options, name) for name in same},
    }
    earlier = record.RESULTS / f"{options.name}.json"
    rows: list[dict[str, Any]] = []
    if earlier.exists():
        figures = json.loads(earlier.read_text(encoding="utf-8"))["figures"]
        rows = figures["rows"] if figures["setting"] == setting else []
    for seed in map(int, options.seeds.split(",")):
        recorded = {row["arm"] for row in rows if row["seed"] == seed}
        arms = [arm for arm in dict.fromkeys((AGAINST, *options.only)) if arm not in recorded]
        if arms and AGAINST in recorded and not model_of(options.runs, seed).is_dir():
            measure(options, AGAINST, seed)  # its run was removed when the seed was done
        for arm in arms:
            rows.append({"arm": arm, "seed": seed} | measure(options, arm, seed))
            record.write(options.name, {"setting": setting, "rows": rows, "means": means(rows)})
            print(table(rows), flush=True)
        for folder in (model_of(options.runs, seed), options.runs / f"study-{seed}"):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
