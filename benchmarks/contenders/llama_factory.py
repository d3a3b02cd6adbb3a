"""LLaMA-Factory's `pt` stage with full parameters, in its own environment, packing the text for itself."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import tempfile
import types

import job as jobs
import torch
from step_times import StepTimes


def without_audio() -> None:
    """Give an empty torchaudio where there is none: it has no build for a PyTorch without CUDA."""
    if importlib.util.find_spec("torchaudio") is None:
        empty = types.ModuleType("torchaudio")
        empty.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = empty


def main() -> None:
    without_audio()
    from llamafactory.train.tuner import run_exp

    job = jobs.read()
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        run_exp(
            {
                "stage": "pt",
                "do_train": True,
                "finetuning_type": "full",
                "model_name_or_path": job.model,
                "dataset": "texts",
                "dataset_dir": job.data,
                "template": "empty",
                "cutoff_len": job.length,
                "packing": True,
                "output_dir": folder,
                "max_steps": job.steps,
                "per_device_train_batch_size": job.micro_batch,
                "gradient_accumulation_steps": job.accumulate,
                "learning_rate": 1e-5,
                "lr_scheduler_type": "constant",
                "bf16": True,
                "use_cpu": not torch.cuda.is_available(),
                "optim": "adamw_torch_fused",
                "adam_beta2": 0.95,
                "weight_decay": 0.1,
                "flash_attn": "sdpa",
                "disable_gradient_checkpointing": not job.gradient_checkpointing,
                "save_strategy": "steps" if job.checkpoint_every else "no",
                "save_steps": job.checkpoint_every or 500,
                "save_total_limit": 1,
                "logging_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                "dataloader_pin_memory": False,
            },
            callbacks=[times],
        )
    # its rows are cut from the text laid end to end, so every one is full
    jobs.report(times.seconds, job.rows_per_step * job.length, times.blocked)


if __name__ == "__main__":
    main()
