"""Name this project's key for keys that other trainers have, for the error about an unknown key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Ours(NamedTuple):
    """The place of a setting in a recipe.

    Attributes:
        stage: Kind of the stage; empty for a key of the recipe itself.
        key: Key within it, with dots.
        note: Difference in meaning; empty if there is none.
    """

    stage: str
    key: str
    note: str = ""


_PEAK = Ours("pretrain", "schedule.peak")
_BATCH = Ours("pretrain", "batch_sequences", "the sequences of one step, on all processes together")
_MICRO = Ours("pretrain", "micro_batch_sequences")
_WARMUP = Ours("pretrain", "schedule.warmup", "a share of the run, such as 0.05")
_LENGTH = Ours("corpus", "sequence_length")
_TOKENS = Ours("pretrain", "tokens", "tokens in place of steps")
_PRECISION = Ours("pretrain", "precision", "bf16 where the hardware has it, unless you set it")

FAMILIAR: dict[str, Ours] = {
    "learning_rate": _PEAK,
    "lr": _PEAK,
    "max_lr": _PEAK,
    "peak_lr": _PEAK,
    "max_learning_rate": _PEAK,
    "min_lr": Ours("pretrain", "schedule.floor"),
    "min_learning_rate": Ours("pretrain", "schedule.floor"),
    "lr_scheduler_type": Ours("pretrain", "schedule.kind"),
    "lr_scheduler": Ours("pretrain", "schedule.kind"),
    "warmup_ratio": _WARMUP,
    "warmup_steps": _WARMUP,
    "warmup_iters": _WARMUP,
    "num_train_epochs": Ours("pretrain", "epochs"),
    "num_epochs": Ours("pretrain", "epochs"),
    "max_steps": _TOKENS,
    "max_tokens": _TOKENS,
    "train_iters": _TOKENS,
    "per_device_train_batch_size": _MICRO,
    "micro_batch_size": _MICRO,
    "train_batch_size": _BATCH,
    "global_batch_size": _BATCH,
    "batch_size": _BATCH,
    "gradient_accumulation_steps": Ours(
        "pretrain", "batch_sequences", "accumulation follows from it and micro_batch_sequences"
    ),
    "weight_decay": Ours("pretrain", "optimizer.weight_decay"),
    "adam_beta1": Ours("pretrain", "optimizer.beta1"),
    "adam_beta2": Ours("pretrain", "optimizer.beta2"),
    "adam_epsilon": Ours("pretrain", "optimizer.eps"),
    "optim": Ours("pretrain", "optimizer.kind"),
    "max_grad_norm": Ours("pretrain", "clip"),
    "gradient_clipping": Ours("pretrain", "clip"),
    "bf16": _PRECISION,
    "fp16": _PRECISION,
    "mixed_precision": _PRECISION,
    "torch_compile": Ours("pretrain", "compile"),
    "neftune_noise_alpha": Ours("pretrain", "input_noise", "random tokens in place of noise on embeddings"),
    "save_steps": Ours("pretrain", "checkpoint.every"),
    "save_interval": Ours("pretrain", "checkpoint.every"),
    "save_total_limit": Ours("pretrain", "checkpoint.keep"),
    "eval_steps": Ours("pretrain", "monitor.every"),
    "eval_interval": Ours("pretrain", "monitor.every"),
    "report_to": Ours("pretrain", "trackers"),
    "finetuning_type": Ours("pretrain", "trainable.kind"),
    "adapter": Ours("pretrain", "trainable.kind"),
    "lora_rank": Ours("pretrain", "trainable.rank"),
    "lora_r": Ours("pretrain", "trainable.rank"),
    "lora_target": Ours("pretrain", "trainable.targets"),
    "lora_target_modules": Ours("pretrain", "trainable.targets"),
    "target_modules": Ours("pretrain", "trainable.targets"),
    "lora_alpha": Ours("pretrain", "trainable.alpha"),
    "max_seq_length": _LENGTH,
    "max_seq_len": _LENGTH,
    "sequence_len": _LENGTH,
    "seq_length": _LENGTH,
    "seq_len": _LENGTH,
    "cutoff_len": _LENGTH,
    "block_size": _LENGTH,
    "max_length": _LENGTH,
    "train_file": Ours("corpus", "domain"),
    "dataset": Ours("corpus", "domain"),
    "datasets": Ours("corpus", "domain"),
    "dataset_name": Ours("corpus", "domain"),
    "val_size": Ours("corpus", "heldout"),
    "val_set_size": Ours("corpus", "heldout"),
    "model_name_or_path": Ours("", "base"),
    "base_model": Ours("", "base"),
    "model": Ours("", "base"),
    "output_dir": Ours("", "name", "results are in runs/NAME"),
    "run_name": Ours("", "name"),
    "random_seed": Ours("", "seed"),
}
"""Keys of transformers' Trainer, LLaMA-Factory, Axolotl and LitGPT that are not keys here."""


def hint_for(where: Sequence[int | str]) -> str | None:
    """Return how a familiar key is written here; None for other keys.

    Args:
        where: Path of the key within its stage or its recipe.
    """
    *within, key = where
    ours = FAMILIAR.get(str(key))
    if ours is None or (within and "." not in ours.key):
        return None
    place = f"`{ours.key}` of a {ours.stage} stage" if ours.stage else f"the recipe's `{ours.key}`"
    return f"It is {place} here{f' ({ours.note})' if ours.note else ''}."
