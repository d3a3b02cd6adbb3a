"""What each part of the quickstart contributes: the recipe with one part left out at a time.

    python benchmarks/ablation.py --runs runs

Variants that share stages share their artifacts, so the one that only leaves out the merge takes minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record
from ruamel.yaml import YAML

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
Stages = list[dict[str, Any]]


def without(kind: str) -> Callable[[Stages], Stages]:
    """Leave a stage out."""
    return lambda stages: [stage for stage in stages if kind not in stage]


def with_setting(kind: str, **settings: Any) -> Callable[[Stages], Stages]:
    """Change settings of a stage."""
    return lambda stages: [{kind: stage[kind] | settings} if kind in stage else stage for stage in stages]


VARIANTS: dict[str, Callable[[Stages], Stages]] = {
    "as it is": lambda stages: stages,
    "no new tokens": without("vocabulary"),
    "no replay": with_setting("pretrain", replay=0.0),
    "no merge": without("merge"),
    "merge weight 0.6": with_setting(
        "merge", models=[{"from": "pretrain", "weight": 0.6}], search=None, gates=[]
    ),
}


def measure(name: str, change: Callable[[Stages], Stages], runs: Path) -> dict[str, Any]:
    """Run one variant and read its report."""
    recipe = YAML(typ="safe").load(RECIPE)
    recipe["stages"] = change(recipe["stages"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        YAML(typ="safe").dump(recipe, path)
        command = [sys.executable, "-m", "cpt", "run", str(path), "--runs", str(runs)]
        done = subprocess.run(command)
        if done.returncode not in (0, 3, 4):  # 3 and 4: a budget is broken, or not shown to be held
            raise SystemExit(done.returncode)
    report = [sys.executable, "-m", "cpt", "report", recipe["name"], "--runs", str(runs), "--json"]
    facts = json.loads(subprocess.run(report, check=True, capture_output=True, text=True).stdout)
    probes = facts["probes"]
    return {
        "variant": name,
        "domain": probes["domain"]["after"],
        "domain_change": probes["domain"]["after"] - probes["domain"]["before"],
        "general": probes["general"]["after"],
        "general_change": probes["general"]["after"] - probes["general"]["before"],
        "general_depth": probes["general"]["depth"],
        "seconds": facts["seconds"],
        "tokens": facts["tokens"],
        "tasks": facts.get("tasks"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    rows = []
    for name in options.only:
        rows.append(measure(name, VARIANTS[name], options.runs))
        print(json.dumps(rows[-1]), flush=True)
        record.write("ablation", {"recipe": RECIPE.read_text(encoding="utf-8"), "variants": rows})


if __name__ == "__main__":
    main()
