"""A model with new tokens merged with one that lacks them: by cpt, and by mergekit from the same folders.

    python benchmarks/merging_vocabularies.py --medical FILE.jsonl --legal FILE.jsonl --work DIR

Both parents are trained on from one base by cpt's own recipe: the medical one with new tokens, the legal one
with the base's vocabulary. Every merge is task arithmetic with the same weights. Of every result is said what
became of its rows, recomputed here row by row in float64; whether its tokenizer still spells the text with
the new tokens; and its bits per byte on held-out text. Text that needs no new token must score as the vector
arithmetic in the base's vocabulary says: the largest difference between the two models' logits is measured.
Trainings are kept in --work, merges are made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL, divide, source
from ruamel.yaml import YAML

WEIGHTS = {"medical": 0.7, "legal": 0.5}
MERGEKIT: dict[str, dict[str, Any]] = {
    "mergekit": {},
    "mergekit, the base's tokenizer": {"tokenizer": {"source": "base"}},
    "mergekit, union of tokenizers": {"tokenizer": {"source": "union"}},
}
EMBEDDING = "model.embed_tokens.weight"
SENTENCE = 40


@dataclass(frozen=True)
class Folders:
    """The base, its two children, and held-out text by domain."""

    base: Path
    parents: Mapping[str, Path]
    heldout: Mapping[str, Path]


def trained(name: str, text: Path, options: argparse.Namespace) -> Path:
    """A model trained on from the base, the medical one with new tokens."""
    corpus = {"domain": [source(text)], "sequence_length": options.length}
    vocabulary = {"extend": {"tokens": options.new_tokens}, "embeddings": {"method": "subtoken-mean"}}
    pretrain = {
        "tokens": options.tokens,
        "batch_sequences": options.rows,
        "schedule": {"kind": "rewarm-cosine", "peak": 4e-4, "warmup": 0.1},
        "monitor": {"probe_share": "10%", "weights": None, "samples": None},
    }
    stages: list[dict[str, Any]] = [{"corpus": corpus}, {"pretrain": pretrain}]
    if name == "medical":
        stages.insert(1, {"vocabulary": vocabulary})
    file = options.work / f"{name}.yaml"
    with file.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(
            {"name": name, "base": options.model, "seed": options.seed, "stages": stages}, stream
        )
    runs = options.work / "runs"
    subprocess.run([sys.executable, "-m", "cpt", "run", str(file), "--runs", str(runs)], check=True)
    plan = [sys.executable, "-m", "cpt", "plan", str(file), "--runs", str(runs), "--json"]
    stages = json.loads(subprocess.run(plan, check=True, stdout=subprocess.PIPE, text=True).stdout)["stages"]
    return next(Path(stage["folder"]) for stage in stages if stage["kind"] == "pretrain") / "model"


def prepare(options: argparse.Namespace) -> Folders:
    """Divide the texts and train both parents."""
    from cpt.progress import NullProgress
    from cpt.references import locate, resolve_model

    halves = {name: divide(getattr(options, name), name, options.work, 0.1) for name in WEIGHTS}
    base = resolve_model(locate(options.model, Path.cwd()), NullProgress())
    parents = {name: trained(name, train, options) for name, (train, _) in halves.items()}
    heldout = {name: part(text, options.documents) for name, (_, text) in halves.items()}
    return Folders(base, parents, heldout)


def part(text: Path, documents: int) -> Path:
    """The first documents of a file, as a file beside it."""
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    path = text.with_suffix(".part.jsonl")
    path.write_text("".join(lines[:documents]), encoding="utf-8")
    return path


def without_new_tokens(folders: Folders) -> Path:
    """Held-out sentences, of `SENTENCE` characters at least, that are spelt without new tokens."""
    from tokenizers import Tokenizer

    old = Tokenizer.from_file(str(folders.base / "tokenizer.json")).get_vocab()
    extended = Tokenizer.from_file(str(folders.parents["medical"] / "tokenizer.json"))
    sentences = [
        sentence
        for text in folders.heldout.values()
        for line in text.read_text(encoding="utf-8").splitlines()
        for sentence in json.loads(line)["text"].split(". ")
        if len(sentence) >= SENTENCE and all(token in old for token in extended.encode(sentence).tokens)
    ]
    if not sentences:
        raise SystemExit("every held-out sentence needs a new token: give more --documents")
    path = folders.heldout["medical"].with_name("no_new_token.jsonl")
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in sentences), encoding="utf-8")
    return path


def by_cpt(folders: Folders, output: Path) -> str:
    """What `cpt merge` says of rows."""
    command = [sys.executable, "-m", "cpt", "merge", "--base", str(folders.base), "--json"]
    for name, weight in WEIGHTS.items():
        command += ["--add", f"{folders.parents[name]}:{weight}"]
    command += ["--method", "task-arithmetic", "--out", str(output)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return ", ".join(f"{count:,} rows {case}" for case, count in said["rows_by_case"].items())


def by_mergekit(folders: Folders, output: Path, more: Mapping[str, Any]) -> str:
    """What mergekit-yaml says on its error output."""
    configuration = {
        "merge_method": "task_arithmetic",
        "base_model": str(folders.base),
        "dtype": "float32",
        "models": [
            {"model": str(folders.parents[name]), "parameters": {"weight": weight}}
            for name, weight in WEIGHTS.items()
        ],
    } | dict(more)
    file = output.with_suffix(".yml")
    file.write_text(json.dumps(configuration))
    command = [sys.executable, "-m", "mergekit.scripts.run_yaml", str(file), str(output), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    return said_by(done.stderr) if done.returncode == 0 else f"failed: {said_by(done.stderr)}"


def said_by(output: str) -> str:
    """Warnings and errors of an error output."""
    lines = [
        line for line in output.splitlines() if line.startswith(("WARNING", "ERROR")) or "Error:" in line
    ]
    return "; ".join(lines[-3:])


def rows(folders: Folders, merged: Path) -> dict[str, Any]:
    """Every row of a result's embedding against the arithmetic, token by token.

    A token that the base has: base + Σ weight · (parent - base) over the parents that have it. One that the
    base lacks: the row of the one parent that has it.
    """
    import torch
    from tokenizers import Tokenizer

    from cpt.models.weights import load_tensor, stored_tensors

    def embedding(folder: Path) -> torch.Tensor:
        return load_tensor(stored_tensors(folder)[EMBEDDING], EMBEDDING).double()

    def vocabulary(folder: Path) -> dict[str, int]:
        return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()

    base, result = embedding(folders.base), embedding(merged)
    ids, old = vocabulary(merged), vocabulary(folders.base)
    parents = {name: (embedding(folder), vocabulary(folder)) for name, folder in folders.parents.items()}
    new = [token for token in parents["medical"][1] if token not in old]
    worst = {"old": 0.0, "new": 0.0}
    rowless = 0
    for token, place in ids.items():
        if place >= len(result):
            rowless += 1
            continue
        having = {name: each[known[token]] for name, (each, known) in parents.items() if token in known}
        if token in old:
            start = base[old[token]]
            expected = start + sum(WEIGHTS[name] * (row - start) for name, row in having.items())
        else:
            (expected,) = having.values()
        kind = "old" if token in old else "new"
        worst[kind] = max(worst[kind], float((result[place] - expected).abs().max()))
    kept = [token for token in new if ids.get(token, len(result)) < len(result)]
    return {
        "rows": len(result),
        "tokens_without_row": rowless,
        "new_tokens": len(new),
        "new_tokens_kept": len(kept),
        "largest_difference": worst if kept else {"old": worst["old"]},
    }


def arithmetic(folders: Folders, merged: Path, text: Path) -> float:
    """The largest difference of logits, over the base's tokens, from the arithmetic in its vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = {
        name: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for name, folder in {"base": folders.base, "merged": merged, **folders.parents}.items()
    }
    old = models["base"].get_input_embeddings().num_embeddings
    parameters = {name: dict(model.named_parameters()) for name, model in models.items()}
    with torch.no_grad():
        for name, start in parameters["base"].items():
            others = {parent: parameters[parent][name][: len(start)] for parent in WEIGHTS}
            start += sum(weight * (others[parent] - start) for parent, weight in WEIGHTS.items())
    tokenizer = AutoTokenizer.from_pretrained(folders.base)
    largest = 0.0
    for line in text.read_text(encoding="utf-8").splitlines()[:20]:
        ids = tokenizer(json.loads(line)["text"], return_tensors="pt")["input_ids"][:, :512]
        with torch.inference_mode():
            one, other = (models[name](ids).logits[..., :old] for name in ("base", "merged"))
        largest = max(largest, float((one - other).abs().max()))
    return largest


def bits(models: Mapping[str, Path], texts: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What `cpt eval text` reads of every text by model, all in the same windows; or why it refuses a model.

    Args:
        texts: by name; of the shortest, alone, it is seen which models can be read at all.
    """

    def evaluated(folders: Sequence[Path], read: Mapping[str, Path]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cpt", "eval", "text", *map(str, folders), "--json"]
        named = [f"--text={name}={file}" for name, file in read.items()]
        return subprocess.run([*command, *named], capture_output=True, text=True)

    shortest = min(texts, key=lambda name: texts[name].stat().st_size)
    found: dict[str, dict[str, Any]] = {}
    for name, folder in models.items():
        alone = evaluated([folder], {shortest: texts[shortest]})
        refusal = alone.stderr.strip().replace(str(folder), folder.name)
        found[name] = {text: {"refused": refusal} for text in texts} if alone.returncode else {}
    readable = {str(folder): name for name, folder in models.items() if not found[name]}
    together = evaluated([Path(folder) for folder in readable], texts)
    if together.returncode:
        raise SystemExit(together.stderr)
    keys = ("bits_per_byte", "stderr", "documents", "bytes", "tokens", "windows")
    for row in json.loads(together.stdout)["texts"]:
        found[readable[row["model"]]][row["text"]] = {key: row[key] for key in keys}
    return found


def figures(folders: Folders, merged: Path, said: str) -> dict[str, Any]:
    """Describe one result, with its rows."""
    return {"said": said} | (rows(folders, merged) if any(merged.glob("*.safetensors")) else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in WEIGHTS:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and merges")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--new-tokens", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=30_000, help="of each training")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--rows", type=int, default=10, help="sequences of a batch")
    parser.add_argument("--documents", type=int, default=100, help="held-out documents of each text")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    for merged in (options.work / "cpt", *options.work.glob("mergekit-?")):
        shutil.rmtree(merged, ignore_errors=True)
    folders = prepare(options)
    plain = without_new_tokens(folders)
    names = ("new_tokens", "tokens", "length", "rows", "documents", "seed")
    texts = {name: hashlib.sha256(getattr(options, name).read_bytes()).hexdigest() for name in WEIGHTS}
    model = options.model if options.model == MODEL else Path(options.model).name
    setting = {"model": model, "texts": texts} | {name: getattr(options, name) for name in names}
    results: dict[str, Any] = {}
    merged = options.work / "cpt"
    merges = {"cpt": merged}
    said = by_cpt(folders, merged)
    results["cpt"] = figures(folders, merged, said)
    results["cpt"]["logits_off"] = arithmetic(folders, merged, plain)
    for number, (name, more) in enumerate(MERGEKIT.items()):
        merged = options.work / f"mergekit-{number}"
        said = by_mergekit(folders, merged, more)
        results[name] = figures(folders, merged, said)
        merges[name] = merged
    parents = {"base": folders.base, **folders.parents}
    made = {name: folder for name, folder in merges.items() if any(folder.glob("*.safetensors"))}
    found = bits({**parents, **made}, {**folders.heldout, "no-new-token": plain})
    for name in made:
        results[name]["bits"] = found[name]
    read = {name: {text: found[name][text] for text in folders.heldout} for name in parents}
    written = record.write(
        "merging_vocabularies", {"setting": setting, "weights": WEIGHTS, "parents": read, "merges": results}
    )
    print(json.dumps({"parents": read, "merges": results}, indent=2), written)


if __name__ == "__main__":
    main()
