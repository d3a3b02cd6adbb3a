"""Attention by flash attention's kernel for documents of different lengths (Dao 2023, arXiv 2307.08691).

It comes with PyTorch, for GPUs of compute capability 8.0 (Ampere) and up and 16-bit numbers. The kernel takes
the packed row as it is: nothing is gathered or padded. Its backward pass adds up in no fixed order unless
`torch.use_deterministic_algorithms` is on.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib.util import find_spec
from typing import cast

import torch

from cpt.models.attention.layout import DocumentLayout

_WIDEST_HEAD = 256
_HEAD_MULTIPLE = 8
"""The kernel refuses heads of other widths (OpenLLaMA-3B has 100), which the caller would have to pad."""


def supports(query: torch.Tensor) -> bool:
    """Return True if the kernel takes such queries [1, H, T, E], and this PyTorch and this GPU have it."""
    return query.device.type == "cuda" and takes(query, _capability(query.device.index))


def takes(query: torch.Tensor, capability: tuple[int, int]) -> bool:
    """Return True if the kernel takes such queries [1, H, T, E] on a GPU of this capability."""
    return obstacle(query.dtype, query.shape[-1], capability) is None


def obstacle(dtype: torch.dtype, width: int, capability: tuple[int, int]) -> str | None:
    """Return why the kernel does not take heads of a width on a GPU of a capability; None if it does."""
    if dtype not in (torch.bfloat16, torch.float16):
        return "it takes 16-bit numbers only"
    if width > _WIDEST_HEAD:
        return f"it takes heads up to a width of {_WIDEST_HEAD}, and these have {width}"
    if width % _HEAD_MULTIPLE:
        return f"it takes heads whose width is a multiple of {_HEAD_MULTIPLE}, and these have {width}"
    if capability < (8, 0):
        return "the GPU has a compute capability below 8.0"
    return None if _has_kernel() else f"PyTorch {torch.__version__} is too old for it"


def activate_flash_attention_3(capability: tuple[int, int]) -> str:
    """Use flash attention 3 (Shah et al. 2024, arXiv 2407.08608) from now on, if it is installed.

    It is for Hopper, where it is 1.5 to 2 times as fast as the version that comes with PyTorch (section 4).
    Deterministic backward passes are left to the latter.

    Returns:
        Message about it; empty if it is not for this GPU, or not installed.
    """
    if capability[0] != 9 or find_spec("flash_attn_interface") is None:
        return ""
    if torch.are_deterministic_algorithms_enabled():
        return ""
    try:
        from torch.nn.attention import activate_flash_attention_impl

        activate_flash_attention_impl("FA3")
    except (ImportError, RuntimeError, OSError) as error:  # an older PyTorch, or a package for another one
        return f"flash attention 3 is installed, and cannot be used: {error}"
    return "attention uses flash attention 3"


@torch.compiler.assume_constant_result
def _capability(index: int | None) -> tuple[int, int]:
    """Return the compute capability of a GPU."""
    return torch.cuda.get_device_capability(index)


@torch.compiler.assume_constant_result
def _has_kernel() -> bool:
    """Return True if this PyTorch has the kernel's interface, with grouped queries."""
    return "enable_gqa" in _parameters()


@cache
def _parameters() -> frozenset[str]:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: DocumentLayout,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """See `cpt.models.attention.attend_within_documents`."""
    from torch.nn.attention.varlen import varlen_attn

    query_THE, key_TKE, value_TKE = (x[0].transpose(0, 1) for x in (query, key, value))
    attended = varlen_attn(
        query_THE,
        key_TKE,
        value_TKE,
        layout.boundaries,
        layout.boundaries,
        layout.longest,
        layout.longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return cast(torch.Tensor, attended)[None]
