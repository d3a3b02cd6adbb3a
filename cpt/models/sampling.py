"""Sampling of text from a model, as token ids, and attention of one new token per row to a cache.

With grouped queries the stock kernel first repeats keys and values for every query head. A product per
key-value head needs no copy; on a CPU that copy is most of the time of a long generation.

Shapes: B rows, L cached tokens, H query heads, K key-value heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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


def sample(
    model: Any, start: int, ends: Collection[int], rows: int, length: int, seed: int
) -> list[list[int]]:
    """Sample from the model at temperature 1, each text after the start token, which is left out.

    Args:
        ends: tokens after which a sample ends; the first one stands at its end.
        length: most tokens of a sample.
    """
    register_one_token_attention()
    attention = model.config._attn_implementation
    model.set_attn_implementation(ONE_TOKEN)
    try:
        return follow(model, [[start]] * rows, [length] * rows, 1.0, seed, ends)
    finally:
        model.set_attn_implementation(attention)


@torch.no_grad()
def follow(
    model: Any,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    temperature: float,
    seed: int,
    stops: Collection[int],
    advance: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Sample what follows prompts, each up to and with its first stop token.

    Rows that have ended leave the batch every few tokens, for a batch takes as long as its longest row:
    a chat model ends most turns of a user after 30 tokens, and some never. What is drawn for a row does not
    depend on when others leave.

    Args:
        lengths: Most new tokens of each row.
        advance: Function that receives the number of new tokens of all rows, every few tokens of a row.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    if not prompts:
        return []
    device, longest, pad = model.device, max(map(len, prompts)), min(stops, default=0)
    # padded at the left, so that new tokens follow every prompt; `generate` takes positions from the mask
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
    generator = torch.Generator(device).manual_seed(seed)
    rows, found = list(range(len(prompts))), [list[int]() for _ in prompts]
    settings, model.generation_config = model.generation_config, GenerationConfig()  # no penalties
    cache: dict[str, Any] = {}
    try:
        while rows:

            def draw(_: Any, logits: torch.Tensor, rows: list[int] = rows) -> torch.Tensor:
                points = torch.rand(len(prompts), 1, generator=generator, device=device)
                return drawn_at(points[rows], temperature, logits)

            output = model.generate(
                ids,
                attention_mask=mask,
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=min(_BETWEEN, max(lengths[row] - len(found[row]) for row in rows)),
                    eos_token_id=sorted(stops) or None,
                    pad_token_id=pad,
                    return_dict_in_generate=True,
                ),
                logits_processor=LogitsProcessorList([draw]),
                synced_gpus=False,  # of several processes that share weights one decides how long it goes on
                **cache,
            )
            new = output.sequences[:, ids.shape[1] :]
            going = []
            for at, (row, tokens) in enumerate(zip(rows, new.tolist(), strict=True)):
                found[row] = _until_stop([*found[row], *tokens][: lengths[row]], stops)
                if len(found[row]) < lengths[row] and found[row][-1] not in stops:
                    going.append(at)
            if advance is not None:
                advance(sum(map(len, found)))
            rows, ids = [rows[at] for at in going], output.sequences[going]
            mask = torch.cat([mask, torch.ones_like(new)], 1)[going]
            if output.past_key_values is not None:  # without a cache that it returns, it reads all again
                # every kind of cache can be ordered anew, as for beams, also with fewer rows
                output.past_key_values.reorder_cache(torch.tensor(going, dtype=torch.long, device=device))
                cache = {"past_key_values": output.past_key_values}
    finally:
        model.generation_config = settings
    return found


_BETWEEN = 16
"""Number of tokens between two times that rows which have ended leave a batch."""


def _until_stop(tokens: list[int], stops: Collection[int]) -> list[int]:
    """Return the tokens up to and with the first stop; the rest is padding."""
    last = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return tokens[: last + 1]


def end_tokens(model: Any) -> frozenset[int]:
    """Return the tokens that end a text by the model's configuration and its generation settings."""
    configs = (model.config.get_text_config(), getattr(model, "generation_config", None))
    found: set[int] = set()
    for config in configs:
        ids = getattr(config, "eos_token_id", None)
        found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
    return frozenset(found)
