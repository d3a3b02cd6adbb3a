"""The Hugging Face Trainer: bfloat16 by autocast, float32 weights, a fused AdamW.

It attends across the documents of a sequence, as it does out of the box.
"""

from __future__ import annotations

import tempfile
from typing import Any

import job as jobs
import numpy as np
import shapes
import torch
from cpt_loop import product_rate
from step_times import StepTimes
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def pad(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack rows, the shorter ones padded and their padding masked and without loss."""
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(
        [row["labels"] for row in rows], batch_first=True, padding_value=-100
    )
    return {"input_ids": ids, "labels": labels, "attention_mask": (labels != -100).long()}


def _model(name: str) -> Any:
    if name in shapes.SHAPES:
        return shapes.random_model(name, "sdpa")
    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)


def main() -> None:
    job = jobs.read()
    rows = [torch.from_numpy(tokens.astype(np.int64)) for tokens, _ in job.rows()]
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=_model(job.model),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=job.steps,
                per_device_train_batch_size=job.micro_batch,
                gradient_accumulation_steps=job.accumulate,
                learning_rate=1e-5,
                lr_scheduler_type="constant",
                bf16=True,
                use_cpu=not torch.cuda.is_available(),
                optim="adamw_torch_fused",
                adam_beta2=0.95,
                weight_decay=0.1,
                max_grad_norm=1.0,
                gradient_checkpointing=job.gradient_checkpointing,
                save_strategy="steps" if job.checkpoint_every else "no",
                save_steps=job.checkpoint_every or 500,
                save_total_limit=1,
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
    more: dict[str, Any] = {"gpu": None, "product_flops": product_rate()}
    if torch.cuda.is_available():
        more = {"gpu": torch.cuda.get_device_name(), "peak_gpu_bytes": torch.cuda.max_memory_allocated()}
    jobs.report(times.seconds, sum(map(len, rows)) / job.steps, times.blocked, **more)


if __name__ == "__main__":
    main()
