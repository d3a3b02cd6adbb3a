"""Does selection pay? Half of a mixed corpus, chosen, against the whole; and what the end of training reads.

    python benchmarks/selection.py --medical nursing.jsonl --reference anatomy.jsonl \\
        --other us_history.jsonl --negative ca1_opinions.jsonl --tokens 65_536 --seeds 17,18,19

The corpus is medical, general and noisy text: half, a third and a sixth of its bytes. A third of the noise
has its words shuffled, a third repeats a line, a third is lines of numbers. Medical text that no run trains
on is measured before and after: bits per byte. *Whole* trains on all tokens, the others on half as many,
chosen from the same corpus. With *small batches*, of half the sequences, half of the tokens are as many
steps. `--only` limits the runs; those that are recorded already are not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL, Part, source
from peak_rate import KEPT_IN_SPITE, seldom
from ruamel.yaml import YAML

PIECE = 2_500
"""Characters of a document of the corpus."""

BATCH = 16
"""Sequences of a batch."""

PROBE = "medical"
"""Probe of held-out medical text, which no filter reads."""

LAST = 0.15
"""Share of the steps at whose end the domain alone is read, where it is."""


def pieces(file: Path) -> list[str]:
    """The documents of a JSONL file, cut to pieces."""
    with file.open(encoding="utf-8") as lines:
        whole = [json.loads(line)["text"] for line in lines]
    cut = (text[at : at + PIECE] for text in whole for at in range(0, len(text), PIECE))
    return [piece for piece in cut if len(piece) >= PIECE // 2]


def noise(texts: list[str], chance: random.Random) -> list[str]:
    """The same number of pieces of noise: shuffled words, a line again and again, lines of numbers."""
    made = []
    for number, text in enumerate(texts):
        words = text.split()
        if number % 3 == 0:
            chance.shuffle(words)
            made.append(" ".join(words))
        elif number % 3 == 1:
            line = " ".join(words[: chance.randint(6, 14)])
            made.append("\n".join([line] * (PIECE // len(line))))
        else:
            rows = (" | ".join(str(chance.randint(0, 99_999)) for _ in range(8)) for _ in range(PIECE // 55))
            made.append("\n".join(rows))
    return made


def write(path: Path, texts: list[str]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def materials(options: argparse.Namespace) -> dict[str, Path]:
    """Write the parts of the corpus, held-out medical text, and examples for selection."""
    chance = random.Random(5)
    medical, other = pieces(options.medical), pieces(options.other)
    chance.shuffle(medical)
    chance.shuffle(other)
    heldout, medical = medical[: options.heldout], medical[options.heldout :][: options.pieces]
    general, spoilt = other[: options.pieces * 2 // 3], other[options.pieces * 2 // 3 :]
    folder = options.runs / "material"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: write(folder / f"{name}.jsonl", texts)
        for name, texts in {
            "medical": medical,
            "general": general,
            "noise": noise(spoilt[: options.pieces // 3], chance),
            "heldout": heldout,
            "reference": pieces(options.reference)[:300],
            "negative": pieces(options.negative)[:300],
        }.items()
    }


def arms(files: dict[str, Path], half: int, batch_tokens: int) -> dict[str, tuple[Part, Part, bool]]:
    """Settings of corpus and training by name, and whether they train on the whole corpus.

    Some more than is trained on is selected, as the last batch must be full.
    """
    reference = [source(files["reference"])]
    classifier = {"kind": "classifier", "positive": reference, "negative": [source(files["negative"])]}
    parts = [source(files[name]) | {"part": name} for name in ("medical", "general", "noise")]
    even = {"medical": 3, "general": 2, "noise": 1}
    early = (even["medical"] / 6 - LAST) / (1 - LAST)  # so that as much medical text is read in all
    first = {"medical": early, "general": (1 - early) * 2 / 3, "noise": (1 - early) / 3}
    in_order = [{"until": 1 - LAST, "weights": first}, {"weights": {"medical": 1, "general": 0, "noise": 0}}]

    small = {"batch_sequences": BATCH // 2}

    def chosen(by: Any, pretrain: Part | None = None) -> tuple[Part, Part, bool]:
        select = {"tokens": half + 2 * batch_tokens, "by": by, "max_repetition": 1}
        return {"select": select}, pretrain or {}, False

    return {
        "whole": ({}, {}, True),
        "half, random": chosen("random"),
        "half, classifier": chosen(classifier),
        "half, dsir": chosen({"kind": "dsir", "target": reference}),
        "half, n-gram": chosen({"kind": "n-gram", "reference": reference}),
        "whole, small batches": ({}, small, True),
        "half, random, small batches": chosen("random", small),
        "half, classifier, small batches": chosen(classifier, small),
        "parts, even": ({"domain": parts}, {"mixture": {"weights": even}}, True),
        "parts, medical last": ({"domain": parts}, {"mixture": in_order}, True),
    } | {
        f"half, {kind}": ({"clean": [kind], **chosen("random")[0]}, {}, False)
        for kind in ("gopher", "boilerplate")
    }


def recipe(options: argparse.Namespace, files: dict[str, Path], arm: str, seed: int) -> dict[str, Any]:
    """Build the corpus and train once."""
    half = options.tokens // 2
    corpus, pretrain, whole = arms(files, half, BATCH * options.length)[arm]
    shared = {
        "domain": [source(files[name]) for name in ("medical", "general", "noise")],
        "sequence_length": options.length,
        "heldout": 0.02,
        "start_token": "<|endoftext|>",
        "end_token": "<|endoftext|>",
    }
    training = {
        "tokens": options.tokens if whole else half,
        "batch_sequences": BATCH,
        "schedule": {
            "kind": "rewarm-cosine",
            "peak": options.peak,
            "floor": options.peak / 10,
            "warmup": 0.05,
        },
        "monitor": seldom(options) | {"texts": {PROBE: {"sources": [source(files["heldout"])]}}},
        "checkpoint": {"every": 1_000_000},
    }
    stages = [{"corpus": shared | corpus}, {"pretrain": training | pretrain}]
    return {"name": "selection", "base": options.model, "seed": seed, "stages": stages}


def measure(options: argparse.Namespace, files: dict[str, Path], arm: str, seed: int) -> dict[str, Any]:
    """Run a recipe; returns held-out medical text before and after, and what was trained on."""
    path = options.runs / "selection.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(options, files, arm, seed), file)
    done = subprocess.run([sys.executable, "-m", "cpt", "run", str(path), "--runs", str(options.runs)])
    if done.returncode not in KEPT_IN_SPITE:
        raise SystemExit(done.returncode)
    (folder,) = (options.runs / "selection").glob("pretrain-*")
    summary = json.loads((folder / "training" / "summary.json").read_text(encoding="utf-8"))
    gap = summary["stability"][PROBE]
    figures = {"before": gap["before"], "after": gap["end"], "error": gap["permanent_error"]}
    figures |= {"tokens": summary["tokens"], "steps": summary["steps"]}
    shutil.rmtree(options.runs / "selection")
    return figures


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds with their standard errors, and the difference to the whole corpus seed by seed."""
    lines = []
    whole = {row["seed"]: row["after"] for row in rows if row["arm"] == "whole"}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        after = [row["after"] for row in mine]
        more = [row["after"] - whole[row["seed"]] for row in mine if row["seed"] in whole]
        spread = statistics.stdev(more) / len(more) ** 0.5 if len(more) > 1 else 0.0
        lines.append(
            f"{arm:<22}{mine[0]['tokens']:>9,}{mine[0]['before']:>9.4f}{statistics.mean(after):>9.4f}"
            f"{statistics.mean(more) if more else 0:>+9.4f} ± {spread:.4f} ({len(mine)} seeds)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("medical", "reference", "other", "negative"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tokens", type=lambda text: int(text.replace("_", "")), default=65_536)
    parser.add_argument(
        "--pieces", type=int, default=90, help="medical documents; as much again is other text"
    )
    parser.add_argument("--heldout", type=int, default=60, help="medical documents to measure on")
    parser.add_argument("--probe-tokens", type=int, default=30_000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--peak", type=float, default=3e-4)
    parser.add_argument("--seeds", default="17,18,19")
    parser.add_argument("--only", nargs="*", help="arms, all if left out")
    parser.add_argument("--name", default="selection", help="of the results")
    options = parser.parse_args()
    options.runs = options.runs.absolute()
    files = materials(options)
    setting = {key: getattr(options, key) for key in ("tokens", "pieces", "heldout", "length", "peak")}
    if options.model != MODEL:
        setting["model"] = Path(options.model).name
    earlier = record.RESULTS / f"{options.name}.json"
    rows: list[dict[str, Any]] = []
    if earlier.exists():
        figures = json.loads(earlier.read_text(encoding="utf-8"))["figures"]
        rows = figures["rows"] if figures["setting"] == setting else []
    for seed in map(int, options.seeds.split(",")):
        for arm in options.only or arms(files, options.tokens // 2, 0):
            if any(row["arm"] == arm and row["seed"] == seed for row in rows):
                continue
            rows.append({"arm": arm, "seed": seed, **measure(options, files, arm, seed)})
            record.write(options.name, {"setting": setting, "rows": rows})
            print(table(rows), flush=True)


if __name__ == "__main__":
    main()
