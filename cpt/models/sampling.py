"""Sampling of text from a model, as token ids, and attention of one new token per row to a cache.

With grouped queries the stock kernel first repeats keys and values for every query head. A product per
key-value head needs no copy; on a CPU that copy is most of the time of a long generation.

Shapes: B rows, L cached tokens, H query heads, K key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch

from cpt.models.attention import refuse_unsupported

ONE_TOKEN = "one-token"
"""Name under which the attention is registered with transformers."""


def attend_to_cache(
    query_BH1E: torch.Tensor, key_BKLE: torch.Tensor, value_BKLE: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Return the attention of the newest token to all cached ones, itself included: [B, 1, H, E]."""
    B, H, _, E = query_BH1E.shape
    K, L = key_BKLE.shape[1:3]
    query = (query_BH1E * scaling).reshape(B * K, H // K, E)
    weights = torch.bmm(query, key_BKLE.reshape(B * K, L, E).transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, value_BKLE.reshape(B * K, L, E)).view(B, 1, H, E)


def _attention_interface(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    refuse_unsupported(module, kwargs)
    if query.shape[2] != 1:
        raise ValueError(f"{ONE_TOKEN} attention takes one token at a time, not {query.shape[2]}")
    if sliding_window:
        key, value = key[:, :, -sliding_window:], value[:, :, -sliding_window:]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend_to_cache(query, key, value, scale), None


def register_one_token_attention() -> None:
    """Register the attention with transformers as `ONE_TOKEN`; without a mask function it builds none."""
    from transformers import AttentionInterface

    AttentionInterface.register(ONE_TOKEN, _attention_interface)


def draw(generator: torch.Generator, temperature: float, _: Any, logits: torch.Tensor) -> torch.Tensor:
    """Return the logits [rows, V] of a drawn token alone."""
    points = torch.rand(len(logits), 1, generator=generator, device=logits.device)
    return drawn_at(points, temperature, logits)


def drawn_at(points: torch.Tensor, temperature: float, logits: torch.Tensor) -> torch.Tensor:
    """Return the logits [rows, V] of a drawn token alone, by the inverse of the cumulative distribution.

    transformers' own sampling draws V exponentials per row, which on a CPU takes longer than the model.

    Args:
        points: Random numbers from 0 to 1, [rows, 1].
    """
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True)
    drawn = drawn.clamp_(max=logits.shape[1] - 1)
    return torch.full_like(logits, -torch.inf).scatter_(1, drawn, 0.0)


@torch.no_grad()
def sample(
    model: Any, start: int, ends: Collection[int], rows: int, length: int, seed: int
) -> list[list[int]]:
    """Sample from the model at temperature 1, each text after the start token, which is left out.

    Args:
        ends: tokens after which a sample ends; the first one stands at its end.
        length: most tokens of a sample.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    register_one_token_attention()
    attention, generation = model.config._attn_implementation, model.generation_config
    model.set_attn_implementation(ONE_TOKEN)
    model.generation_config = GenerationConfig()  # no penalties
    prompts = torch.full((rows, 1), start, device=model.device)
    generator = torch.Generator(model.device).manual_seed(seed)
    pad = min(ends, default=start)
    try:
        output = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=length, eos_token_id=sorted(ends) or None, pad_token_id=pad
            ),
            logits_processor=LogitsProcessorList([partial(draw, generator, 1.0)]),
        )
    finally:
        model.set_attn_implementation(attention)
        model.generation_config = generation
    return [_until_end(row, ends) for row in output[:, 1:].tolist()]


def _until_end(row: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens up to and with the first end; the rest is padding."""
    last = next((place for place, token in enumerate(row) if token in ends), len(row))
    return row[: last + 1]


def end_tokens(model: Any) -> frozenset[int]:
    """Return the tokens that end a text by the model's configuration and its generation settings."""
    configs = (model.config.get_text_config(), getattr(model, "generation_config", None))
    found: set[int] = set()
    for config in configs:
        ids = getattr(config, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return frozenset(found)
