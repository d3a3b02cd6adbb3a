"""Pretrain with the Hugging Face Trainer, as transformers' run_clm.py does: all weights, packed text.

Documents are laid end to end with the tokenizer's end token between them, and cut into sequences. The rate
follows a cosine with a warm-up; other settings are the Trainer's own.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import peer_job
import torch
from step_times import StepTimes
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)


def sequences(ids: list[list[int]], length: int) -> list[dict[str, list[int]]]:
    """Lay documents end to end and cut them; the rest that fills no sequence is left out."""
    joined = list(itertools.chain.from_iterable(ids))
    rows = (joined[at : at + length] for at in range(0, len(joined) - length + 1, length))
    return [{"input_ids": row, "labels": row} for row in rows]


def main() -> None:
    job = peer_job.read()
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    lines = Path(job.text).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] + tokenizer.eos_token for line in lines]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    times = StepTimes()
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32),
        args=TrainingArguments(
            output_dir=job.output,
            max_steps=job.steps,
            per_device_train_batch_size=job.at_once,
            gradient_accumulation_steps=job.accumulate,
            learning_rate=job.rate,
            lr_scheduler_type="cosine",
            warmup_steps=job.warmup_steps,
            seed=job.seed,
            bf16=job.bf16,
            use_cpu=not torch.cuda.is_available(),
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=sequences(ids, job.length),
        data_collator=default_data_collator,
        callbacks=[times],
    )
    trainer.train()
    trainer.save_model(job.output)
    tokenizer.save_pretrained(job.output)
    peer_job.report(times.seconds)


if __name__ == "__main__":
    main()
