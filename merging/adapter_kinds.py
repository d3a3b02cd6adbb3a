"""What an adapter's configuration says: its kind, whether it can be merged, its scale, its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = ("LORA", "ADALORA")

_OF_NO_MATTER = frozenset(
    {  # where the factors come from, how they are trained and stored
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "beta1",
        "beta2",
        "bias",
        "deltaT",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "init_r",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "orth_reg_weight",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "target_r",
        "task_type",
        "tfinal",
        "tinit",
        "total_step",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
        "velora_config",
    }
)
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def kind_problems(config: Mapping[str, Any]) -> list[str]:
    """What an adapter is or does that cannot be merged; settings that are not known count as such."""
    kind = config.get("peft_type")
    if kind not in _KINDS:
        return [f"it is of kind {kind}, and only LoRA and AdaLoRA can be merged"]
    unknown = sorted(key for key, value in config.items() if value and key not in _OF_NO_MATTER)
    problems = [f"it uses {key}" for key in unknown]
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGE_THE_BASE):
        problems.append(f"it began with {start}, which changed its base's weights, too")
    return problems


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """By how much a module's product of factors is multiplied, as peft has it.

    Args:
        rank: of the factors as they are stored.
    """
    from peft.utils.other import get_pattern_key

    alphas: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = float(alphas.get(get_pattern_key(list(alphas), module), config.get("lora_alpha", 8)))
    if config["peft_type"] == "ADALORA":
        first = float(config.get("init_r", 12))  # of the factors before any of their ranks were taken away
        return (alpha if alpha > 0 else first) / (first + 1e-5)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def token_indices(config: Mapping[str, Any], module: str) -> Sequence[int]:
    """Numbers of the rows of an embedding that were trained, in the order in which they are stored."""
    given = config.get("trainable_token_indices") or ()
    if isinstance(given, Mapping):
        return next(
            (rows for name, rows in given.items() if module == name or module.endswith(f".{name}")), ()
        )
    return list(given)
