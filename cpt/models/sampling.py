"""Text that a model samples itself, as token ids."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch

from cpt.models import decoding


def draw(generator: torch.Generator, temperature: float, _: Any, logits: torch.Tensor) -> torch.Tensor:
    """Logits [rows, V] of a drawn token alone, by the inverse of the cumulative distribution.

    transformers' own sampling draws V exponentials per row, which on a CPU takes longer than the model.
    """
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    point = torch.rand(len(logits), 1, generator=generator, device=logits.device) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, point, right=True).clamp_(max=logits.shape[1] - 1)
    return torch.full_like(logits, -torch.inf).scatter_(1, drawn, 0.0)


@torch.no_grad()
def sample(
    model: Any, start: int, ends: Collection[int], rows: int, length: int, seed: int
) -> list[list[int]]:
    """Samples of the model as it is (temperature 1), each after the start token, which is left out.

    Args:
        ends: tokens after which a sample ends; the first one stands at its end.
        length: most tokens of a sample.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    decoding.register()
    attention, generation = model.config._attn_implementation, model.generation_config
    model.set_attn_implementation(decoding.NAME)
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
    """The tokens up to the first end, which is kept: what follows is padding."""
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
