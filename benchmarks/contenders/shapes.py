"""Llama models with random weights, in the shapes of well-known ones, and what a GPU can multiply."""

from __future__ import annotations

from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    name: dict(
        zip(("width", "inner", "layers", "heads", "key_heads", "head_width", "rows"), sizes, strict=True)
    )
    for name, sizes in {
        "tiny": (64, 128, 2, 4, 2, 16, 512),
        "135m": (576, 1536, 30, 9, 3, 64, 49_152),
        "360m": (960, 2560, 32, 15, 5, 64, 49_152),
        "1b": (2048, 8192, 16, 32, 8, 64, 128_256),
        "3b": (3072, 8192, 28, 24, 8, 128, 128_256),
    }.items()
}
"""SmolLM2 135M and 360M, Llama 3.2 1B and 3B, all with tied embeddings."""

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12}
"""Dense bfloat16 FLOP/s by a part of the GPU's name, as the maker states them."""


def parameters(shape: str) -> int:
    """Number of weights of a shape, with tied embeddings."""
    sizes = SHAPES[shape]
    width, head = sizes["width"], sizes["head_width"]
    attention = 2 * width * head * (sizes["heads"] + sizes["key_heads"])
    layer = attention + 3 * width * sizes["inner"] + 2 * width
    return sizes["rows"] * width + sizes["layers"] * layer + width


def random_model(shape: str, attends: str = "") -> Any:
    """A float32 Llama of a shape, attending within documents, or as transformers calls it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cpt.models import attention

    attention.register()
    sizes = SHAPES[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=sizes["width"],
        intermediate_size=sizes["inner"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["key_heads"],
        head_dim=sizes["head_width"],
        vocab_size=sizes["rows"],
        max_position_embeddings=131_072,
        tie_word_embeddings=True,
        attn_implementation=attends or attention.NAME,
    )
    return LlamaForCausalLM(config).eval()


def peak_flops(gpu: str) -> float | None:
    """Peak of a GPU, if it is known."""
    matching = (flops for part, flops in PEAKS.items() if part in gpu)
    return next(matching, None)
