"""Check the settings of a pretrain stage against the hardware and the processes that run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cpt.errors import Problem
from cpt.stages.pretrain.config import PretrainConfig

if TYPE_CHECKING:
    from cpt.training.distributed.environment import Environment


def hardware_problems(config: PretrainConfig, place: Environment) -> list[Problem]:
    """Return settings that the hardware cannot do, or that change nothing with it or its processes."""
    problems = []
    if config.gradient_sync == "last" and not place.sharded:
        problems.append(
            Problem(
                "gradient_sync: last is for sharded weights: processes that have all weights sum their "
                "gradients once per step in any case",
                key="gradient_sync",
                hint="Launch with --use_fsdp --fsdp_version 2 (cpt estimate: --fsdp), or set "
                "gradient_sync: every.",
            )
        )
    if config.precision == "fp8":
        from cpt.training.float8 import float8_obstacle

        if reason := float8_obstacle(place.hardware):
            problems.append(Problem(reason, key="precision", hint="Set precision: bf16, or auto."))
    if config.compile is True and place.hardware.is_here:
        from cpt.training.compilation import compiler_obstacle

        if reason := compiler_obstacle(on_gpu=place.hardware.is_gpu):
            problems.append(Problem(reason, key="compile", hint="Set compile: false, or auto."))
    if config.master_weights == "stochastic-rounding":
        import torch

        from cpt.models.packed_model import resolve_precision

        if resolve_precision(config.precision, place.hardware.bfloat16) == torch.float32:
            where = f"on {place.assumed_hardware.name}" if place.assumed_hardware else "here"
            problems.append(
                Problem(
                    f"precision {config.precision} is float32 {where}: nothing is left to round",
                    key="master_weights",
                    hint="Set precision: bf16, or master_weights: fp32.",
                )
            )
    return problems
