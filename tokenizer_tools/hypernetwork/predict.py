"""Predict the rows of a vocabulary, some tokens at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from cpt.models.packed_model import has_fast_bfloat16
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms

_TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def predict_rows(
    network: Hypernetwork,
    forms: SurfaceForms,
    *,
    tokens_at_once: int = _TOKENS_AT_ONCE,
    products: torch.dtype | None = None,
) -> dict[Role, Tensor]:
    """Predict the rows of N tokens on the network's device.

    For a source model in bfloat16 the products are in bfloat16 too where that is fast: the rows are rounded
    to it in any case.

    Args:
        network: Hypernetwork.
        forms: Spellings of the tokens.
        tokens_at_once: Number of tokens whose states are in memory at the same time.
        products: Data type of matrix products, if it is not to follow from the source rows.

    Returns:
        Rows [N, H] by role, a bias [N, 1], in the data type of the source rows, on the CPU.
    """
    device = network.positions.device
    sources = {role: network.source.get_buffer(role) for role in network.source.roles}
    rows = {
        role: torch.empty(len(forms.ids_NL), source_VH.shape[1], dtype=source_VH.dtype)
        for role, source_VH in sources.items()
    }
    if products is None:
        in_bfloat16 = all(source_VH.dtype == torch.bfloat16 for source_VH in sources.values())
        fast = device.type != "cpu" or has_fast_bfloat16()
        products = torch.bfloat16 if in_bfloat16 and fast else torch.float32
    with torch.autocast(device.type, products, enabled=products != torch.float32):
        for start in range(0, len(forms.ids_NL), tokens_at_once):
            part = slice(start, start + tokens_at_once)
            made = network(forms.ids_NL[part].to(device), forms.mask_NL[part].to(device))
            for role, made_CH in made.items():
                rows[role][part] = made_CH.to(rows[role].dtype)
    return rows
