"""Pretrain with LLaMA-Factory's `pt` stage, in its own environment: all weights, or a LoRA adapter.

Settings are those of its examples (examples/train_lora/*_pretrain.yaml): packing, a cosine with a warm-up
of 0.1, LoRA of rank 8 on all layers. Two differ, in its favour on a CPU: activations are kept instead of
computed again, and AdamW is fused.
"""

from __future__ import annotations

import json
from pathlib import Path

import peer_job
import torch
from llama_factory import without_audio
from step_times import StepTimes


def main() -> None:
    without_audio()
    from llamafactory.train.tuner import run_exp

    job = peer_job.read()
    data = Path(f"{job.output}-data")
    data.mkdir(parents=True)
    info = {"texts": {"file_name": job.text, "columns": {"prompt": "text"}}}
    (data / "dataset_info.json").write_text(json.dumps(info))
    adapter = {"lora_rank": 8, "lora_target": "all"} if job.trainable == "lora" else {}
    times = StepTimes()
    run_exp(
        {
            "stage": "pt",
            "do_train": True,
            "finetuning_type": job.trainable,
            **adapter,
            "model_name_or_path": job.model,
            "dataset": "texts",
            "dataset_dir": str(data),
            "template": "empty",
            "cutoff_len": job.length,
            "packing": True,
            "overwrite_cache": True,
            "preprocessing_num_workers": job.processes,
            "output_dir": job.output,
            "max_steps": job.steps,
            "per_device_train_batch_size": job.at_once,
            "gradient_accumulation_steps": job.accumulate,
            "learning_rate": job.rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": job.warmup_steps,
            "seed": job.seed,
            "bf16": job.bf16,
            "use_cpu": not torch.cuda.is_available(),
            "optim": "adamw_torch_fused",
            "flash_attn": "sdpa",
            "disable_gradient_checkpointing": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        },
        callbacks=[times],
    )
    peer_job.report(times.seconds)


if __name__ == "__main__":
    main()
