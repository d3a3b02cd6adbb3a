"""Options of `accelerate launch` (or torchrun), read from the environment variables of the processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.errors import Problem, UsageError
from cpt.training.distributed.environment import Environment
from cpt.training.features.anomalies import Anomalies
from cpt.training.optimizers.base import OptimizerConfig

if TYPE_CHECKING:
    from cpt.monitor.gates.gate import Gate

FSDP2_INSTEAD = "Shard a model that is too large over processes with --use_fsdp --fsdp_version 2."


def launched_environment(processes: int, environment: Mapping[str, str] = os.environ) -> Environment:
    """Return the environment of a run of this many processes on this machine.

    Raises:
        UsageError: The launch asks for something that this training does not support, or would ignore.
    """
    refuse_unsupported_launch(environment)
    return Environment(
        processes=processes, sharded=processes > 1 and _set(environment, "ACCELERATE_USE_FSDP")
    )


def refuse_unsupported_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse launch options that this training does not support, or would ignore.

    Raises:
        UsageError: An option is refused; the message names it, and the hint says what to do instead.
    """
    for what, name in _UNSUPPORTED.items():
        if _set(environment, name):
            raise UsageError(f"training with {what} is not supported", hint=FSDP2_INSTEAD)
    for option, (name, off, key) in _DECIDED_BY_THE_RECIPE.items():
        if _set(environment, name, off):
            raise UsageError(
                f"accelerate's {option} is not used: the recipe decides",
                hint=f"Leave {option} out (or switch it off), and set the pretrain stage's `{key}`.",
            )
    if _set(environment, "ACCELERATE_USE_FSDP"):
        _refuse_unsupported_sharding(environment)


def sharding_problems(
    optimizer: OptimizerConfig,
    anomalies: Anomalies,
    *,
    adapter: bool,
    new_rows: bool,
    stochastic_rounding: bool,
    float8: bool,
    gradient_checkpointing: bool,
    reference_model: bool,
    gates: Sequence[Gate] = (),
) -> list[Problem]:
    """Return the settings that need whole weights, which FSDP2 shards; keys are relative to the stage.

    Args:
        optimizer, anomalies, stochastic_rounding, float8, gradient_checkpointing, gates: Training settings.
        adapter: True if adapters train.
        new_rows: True if rows of new tokens train separately from the rest of their matrix.
        reference_model: True if the objective compares with a model that does not train.
    """
    refused = {
        ("optimizer.kind", f"{type(optimizer).__name__} (optimizer.kind)"): optimizer.needs_whole_matrices,
        ("trainable.kind", "an adapter (trainable.kind: lora)"): adapter,
        ("trainable", "rows of new tokens that train separately (trainable)"): new_rows,
        ("anomalies", "rolling back (anomalies)"): anomalies.rolls_back,
        ("master_weights", "stochastic rounding (master_weights: stochastic-rounding)"): stochastic_rounding,
        ("precision", "8-bit training (precision: fp8)"): float8,
        ("gates", "going back to an earlier point (gates)"): any(g.goes_back for g in gates),
        ("gradient_checkpointing", "gradient_checkpointing"): gradient_checkpointing,
        ("objective.kind", "a model to compare with (objective.kind)"): reference_model,
    }
    return [
        Problem(
            f"{what} needs whole weights in every process, and FSDP2 shards them",
            key=key,
            hint="Set it otherwise, or leave --use_fsdp out: then every process has the whole model.",
        )
        for (key, what), asked in refused.items()
        if asked
    ]


_UNSUPPORTED = {
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
    "a parallelism config": "ACCELERATE_USE_PARALLELISM_CONFIG",
}
_DECIDED_BY_THE_RECIPE = {
    "--mixed_precision": ("ACCELERATE_MIXED_PRECISION", "no", "precision"),
    "--dynamo_backend": ("ACCELERATE_DYNAMO_BACKEND", "no", "compile"),
    "--gradient_accumulation_steps": (
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        "1",
        "micro_batch_sequences",
    ),
}
"""Option -> environment variable, value that switches it off, and the recipe's setting for it."""


def _refuse_unsupported_sharding(environment: Mapping[str, str]) -> None:
    if environment.get("FSDP_VERSION") != "2":
        raise UsageError("FSDP version 1 is not supported", hint="Add --fsdp_version 2.")
    by_size = environment.get("FSDP_AUTO_WRAP_POLICY", "") == "SIZE_BASED_WRAP"
    refused = {
        "--fsdp_offload_params": _set(environment, "FSDP_OFFLOAD_PARAMS"),
        "--fsdp_activation_checkpointing": _set(environment, "FSDP_ACTIVATION_CHECKPOINTING"),
        "--fsdp_auto_wrap_policy SIZE_BASED_WRAP": by_size,
        "--fsdp_ignored_modules": _set(environment, "FSDP_IGNORED_MODULES"),
    }
    for option, asked in refused.items():
        if asked:
            raise UsageError(f"accelerate's {option} is not supported", hint="Leave it out.")


def _set(environment: Mapping[str, str], name: str, off: str = "no") -> bool:
    return environment.get(name, "").lower() not in {"", "false", "no", "0", off}
