"""Models without content: their tensors have shapes and places, and no numbers."""

from __future__ import annotations

import torch
from torch import nn


def make_fake(*models: nn.Module) -> None:
    """Put models from the meta device onto the CPU, on fake tensors; what is shared stays shared."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in (module for model in models for module in model.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter not in made:
                empty = torch.empty_like(parameter, device="cpu")
                made[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module._parameters[name] = None if parameter is None else made[parameter]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else torch.empty_like(buffer, device="cpu")
