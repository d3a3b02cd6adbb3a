"""Options of `accelerate launch` (or torchrun), read from the environment variables of the processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpt.errors import UsageError
from cpt.training.distributed.environment import Environment

if TYPE_CHECKING:
    pass

FSDP2_INSTEAD = "Shard a model that is too large over processes with --use_fsdp --fsdp_version 2."


def launched_environment(processes: int, environment: Mapping[str, str] = os.environ) -> Environment:
    """Return the environment of a run of this many processes on this machine.

    Raises:
        UsageError: The launch asks for something that this training does not support, or would ignore.
    """
    refuse_unsupported_launch(environment)
    if processes == 1 or not _set(environment, "ACCELERATE_USE_FSDP"):
        return Environment(processes=processes)
    replicas = replicas_of_shards(processes, environment)
    return Environment(processes=processes, sharded=True, replicas=replicas)


def replicas_of_shards(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of groups of processes that each shard all weights: more than one is HSDP.

    Raises:
        UsageError: The sizes of the parallelism config are not those of this many processes.
    """
    if not _set(environment, _PARALLELISM):
        return 1
    replicas, shards = (
        int(environment.get(f"{_SIZE}DP_{name}_SIZE", "1")) for name in ("REPLICATE", "SHARD")
    )
    if replicas * shards != processes or shards == 1:
        raise UsageError(
            f"{replicas} times {shards} processes cannot share the work of {processes}",
            hint="--parallelism_config_dp_replicate_size times --parallelism_config_dp_shard_size is "
            "--num_processes, and the second is at least 2.",
        )
    return replicas


def refuse_unsupported_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse launch options that this training does not support, or would ignore.

    Raises:
        UsageError: An option is refused; the message names it, and the hint says what to do instead.
    """
    for what, name in _UNSUPPORTED.items():
        if _set(environment, name):
            raise UsageError(f"training with {what} is not supported", hint=FSDP2_INSTEAD)
    if _set(environment, _PARALLELISM):
        _refuse_unsupported_parallelism(environment)
    for option, (name, off, key) in _DECIDED_BY_THE_RECIPE.items():
        if _set(environment, name, off):
            raise UsageError(
                f"accelerate's {option} is not used: the recipe decides",
                hint=f"Leave {option} out (or switch it off), and set the pretrain stage's `{key}`.",
            )
    if _set(environment, "ACCELERATE_USE_FSDP"):
        _refuse_unsupported_sharding(environment)


_UNSUPPORTED = {
    "DeepSpeed": "ACCELERATE_USE_DEEPSPEED",
    "Megatron-LM": "ACCELERATE_USE_MEGATRON_LM",
}
_PARALLELISM, _SIZE = "ACCELERATE_USE_PARALLELISM_CONFIG", "PARALLELISM_CONFIG_"
_DECIDED_BY_THE_RECIPE = {
    "--mixed_precision": ("ACCELERATE_MIXED_PRECISION", "no", "precision"),
    "--dynamo_backend": ("ACCELERATE_DYNAMO_BACKEND", "no", "compile"),
    "--gradient_accumulation_steps": (
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        "1",
        "micro_batch_sequences",
    ),
    "--fsdp_activation_checkpointing": ("FSDP_ACTIVATION_CHECKPOINTING", "no", "gradient_checkpointing"),
}
"""Option -> environment variable, value that switches it off, and the recipe's setting for it."""


def _refuse_unsupported_parallelism(environment: Mapping[str, str]) -> None:
    for what, name in {"tensor": "TP", "context": "CP", "sequence": "SP"}.items():
        if int(environment.get(f"{_SIZE}{name}_SIZE", "1")) > 1:
            raise UsageError(f"{what} parallelism is not supported", hint=FSDP2_INSTEAD)
    if not _set(environment, "ACCELERATE_USE_FSDP"):
        raise UsageError("a parallelism config without FSDP2 is not supported", hint=FSDP2_INSTEAD)


def _refuse_unsupported_sharding(environment: Mapping[str, str]) -> None:
    if environment.get("FSDP_VERSION") != "2":
        raise UsageError("FSDP version 1 is not supported", hint="Add --fsdp_version 2.")
    by_size = environment.get("FSDP_AUTO_WRAP_POLICY", "") == "SIZE_BASED_WRAP"
    refused = {
        "--fsdp_offload_params": _set(environment, "FSDP_OFFLOAD_PARAMS"),
        "--fsdp_auto_wrap_policy SIZE_BASED_WRAP": by_size,
        "--fsdp_ignored_modules": _set(environment, "FSDP_IGNORED_MODULES"),
    }
    for option, asked in refused.items():
        if asked:
            raise UsageError(f"accelerate's {option} is not supported", hint="Leave it out.")


def _set(environment: Mapping[str, str], name: str, off: str = "no") -> bool:
    return environment.get(name, "").lower() not in {"", "false", "no", "0", off}
