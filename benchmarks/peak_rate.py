"""Measure which peak of the learning rate suits a model and a run's length: domain gain against general text.

    python benchmarks/peak_rate.py peak_rate --domain nursing=FILE.jsonl --domain us_code=FILE.jsonl \\
        --general FILE.jsonl --replay FILE.jsonl --tokens 24_000,96_000 --peaks 1e-4,3e-4,6e-4 --seeds 17

Each run trains all weights, with one row of eight from --replay. Changes are paired by held-out document, in
bits per byte. Where --merge is given, a merge of the result with the base is searched as well, under that
limit for general text. Runs that are recorded already are not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL, Part, source
from ruamel.yaml import YAML

STAGE = "learn"
KEPT_IN_SPITE = (0, 3, 4)
"""Exit codes that leave a result: done, a limit broken, a limit not shown."""


def seldom(options: argparse.Namespace) -> Part:
    """Return settings of the monitor that reads probes before and after the training alone."""
    return {
        "every": 1_000_000,
        "tokens": options.probe_tokens,
        "window": options.length,
        "probe_share": "1%",
        "early_end": None,
        "weights": None,
        "samples": None,
    }


def recipe(options: argparse.Namespace, domain: Path, tokens: int, peak: float, seed: int) -> dict[str, Any]:
    """Train once at one peak, and search the weight of the merge if that is asked for."""
    corpus = {
        "domain": [source(domain)],
        "general": [source(options.general)],
        "replay": [source(options.replay)],
        "sequence_length": options.length,
        "heldout": options.heldout,
        "start_token": options.start_token,
        "end_token": options.start_token,
    }
    pretrain = {
        "name": STAGE,
        "tokens": tokens,
        "batch_sequences": 8,
        "replay": 1 / 8,
        "schedule": {"kind": "rewarm-cosine", "peak": peak, "floor": peak / 10, "warmup": 0.05},
        "monitor": seldom(options),
        "checkpoint": {"every": 1_000_000},
    }
    stages: list[Part] = [{"corpus": corpus}, {"pretrain": pretrain}]
    if options.merge is not None:
        merge = {
            "models": [{"from": STAGE, "weight": "auto"}],
            "search": {"points": options.points, "tokens": options.probe_tokens // 2},
            "gates": [{"limit": f"general <= +{options.merge:g}", "action": "warn"}],
        }
        stages.append({"merge": merge})
    return {"name": "peak-rate", "base": options.model, "seed": seed, "stages": stages}


def measure(options: argparse.Namespace, domain: Path, tokens: int, peak: float, seed: int) -> dict[str, Any]:
    """Run the recipe; returns its changes in bits per byte, with their standard errors."""
    options.runs.mkdir(parents=True, exist_ok=True)
    path = options.runs / "peak-rate.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, domain, tokens, peak, seed), file)
    done = subprocess.run([sys.executable, "-m", "cpt", "run", str(path), "--runs", str(options.runs)])
    if done.returncode not in KEPT_IN_SPITE:
        raise SystemExit(done.returncode)
    (folder,) = found(options.runs, STAGE)
    summary = json.loads((folder / "training" / "summary.json").read_text(encoding="utf-8"))
    figures: dict[str, Any] = {
        name: {"change": gap["end"] - gap["before"], "error": gap["permanent_error"]}
        for name, gap in summary["stability"].items()
        if name in ("domain", "general")
    }
    for merge in found(options.runs, "merge"):
        metrics = json.loads((merge / "artifact.json").read_text(encoding="utf-8"))["metrics"]
        figures["front"] = [
            {key: point[key] for key in ("weight", "domain_gain", "general_rise", "front", "chosen")}
            for point in metrics["search_points"]
        ]
        shutil.rmtree(merge)
    shutil.rmtree(folder)
    return figures | {"steps": summary["steps"]}


def found(runs: Path, stage: str) -> list[Path]:
    """Finished folders of a stage."""
    return [path for path in (runs / "peak-rate").glob(f"{stage}-*") if not path.name.endswith(".partial")]


def table(rows: list[dict[str, Any]]) -> str:
    """Changes side by side, with twice their standard errors."""
    lines = [f"{'corpus':<12}{'tokens':>10}{'peak':>9}{'seed':>6}{'domain':>20}{'general':>20}  merged"]
    for row in rows:
        domain, general = (
            f"{row[name]['change']:+.4f} ± {2 * (row[name]['error'] or 0):.4f}"
            for name in ("domain", "general")
        )
        chosen = next((point for point in row.get("front", ()) if point["chosen"]), None)
        merged = (
            f"{chosen['weight']:.2f}: {-chosen['domain_gain']:+.4f}, {chosen['general_rise']:+.4f}"
            if chosen
            else ""
        )
        lines.append(
            f"{row['corpus']:<12}{row['tokens']:>10,}{row['peak']:>9.0e}{row['seed']:>6}"
            f"{domain:>20}{general:>20}  {merged}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of the result file")
    parser.add_argument("--domain", action="append", required=True, metavar="NAME=FILE.jsonl")
    parser.add_argument("--general", type=Path, required=True, metavar="FILE.jsonl", help="probed only")
    parser.add_argument("--replay", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default="<|endoftext|>", help="before and after documents, or auto")
    parser.add_argument("--tokens", default="24_000,96_000", help="lengths of runs")
    parser.add_argument("--peaks", default="1e-4,3e-4,6e-4")
    parser.add_argument("--seeds", default="17")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--probe-tokens", type=int, default=8_000, help="of each held-out text")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of the domain's documents")
    parser.add_argument("--merge", type=float, metavar="RISE", help="search a merge within this rise")
    parser.add_argument("--points", type=int, default=6, help="merges that are tried")
    options = parser.parse_args()
    for key in ("general", "replay"):
        setattr(options, key, getattr(options, key).absolute())
    domains = {
        name: Path(path).absolute() for name, _, path in (each.partition("=") for each in options.domain)
    }
    files = {**domains, "general": options.general, "replay": options.replay}
    same = ("length", "probe_tokens", "heldout", "merge", "points")
    setting = {
        "model": options.model if options.model == MODEL else Path(options.model).name,
        "texts": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
        **{name: getattr(options, name) for name in same},
    }
    earlier = record.RESULTS / f"{options.name}.json"
    rows: list[dict[str, Any]] = []
    if earlier.exists():
        figures = json.loads(earlier.read_text(encoding="utf-8"))["figures"]
        rows = figures["rows"] if figures["setting"] == setting else []
    grid = product(
        map(int, options.seeds.split(",")),
        (int(each.replace("_", "")) for each in options.tokens.split(",")),
        map(float, options.peaks.split(",")),
        domains,
    )
    for seed, tokens, peak, name in grid:
        row = {"corpus": name, "tokens": tokens, "peak": peak, "seed": seed}
        if any(row.items() <= each.items() for each in rows):
            continue
        rows.append(row | measure(options, domains[name], tokens, peak, seed))
        record.write(options.name, {"setting": setting, "rows": rows})
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
