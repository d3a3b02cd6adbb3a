"""Continue prompts greedily until a stop string, in batches that finished texts leave.

The texts are those of transformers' `generate` with `do_sample=False` and of lm-eval's HFLM: the end tokens
of the model and of its tokenizer end a text, the model's repetition penalty holds, the stop string is cut
off. Sampling and beams are refused: their scores would depend on more than the model and the item.

Shapes: B rows of a batch, L tokens of the longest so far, V rows of the head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.models.utils import normalize_gen_kwargs
from tokenizers import Tokenizer

from cpt.errors import DataError
from evals.models.request_cache import NEW_TOKENS

BATCH_TOKENS = 16_384
"""Most tokens in a batch's cache, new ones included; a single prompt may exceed it."""

_SAMPLING = {"temperature", "top_p", "top_k", "do_sample"}
_SUPPORTED = {"until", "max_gen_toks", *_SAMPLING}


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt to continue.

    Attributes:
        prompt: Token ids.
        stops: Strings at which the text ends.
        new: Most tokens to generate.
        truncated: Number of tokens that the prompt lost at its beginning, so that it and the new ones fit.
    """

    prompt: list[int]
    stops: tuple[str, ...]
    new: int
    truncated: int

    @classmethod
    def of(cls, prompt: list[int], options: Mapping[str, Any], reads: int) -> GenerationRequest:
        """Make a request from lm-eval's options.

        Args:
            prompt: Token ids.
            options: lm-eval's settings of the generation.
            reads: Number of tokens that the model reads at once.

        Raises:
            DataError: The options ask for something else than greedy generation, or for more new tokens than
                the model reads.
        """
        settings = normalize_gen_kwargs(dict(options), NEW_TOKENS)
        unknown = sorted(set(settings) - _SUPPORTED)
        if unknown or settings["do_sample"]:
            asked = ", ".join(unknown) or f"samples (temperature {settings.get('temperature')})"
            raise DataError(f"only greedy generation is supported; the task asks for {asked}")
        room = reads - settings["max_gen_toks"]
        if room < 1:
            raise DataError(
                f"the task generates up to {settings['max_gen_toks']} tokens, the model reads {reads} at once"
            )
        stops = tuple(stop for stop in settings["until"] if stop)
        return cls(prompt[-room:], stops, settings["max_gen_toks"], max(0, len(prompt) - room))


def generate(
    model: Any, tokenizer: Tokenizer, wanted: Sequence[GenerationRequest], end_token: int | None = None
) -> Iterator[tuple[int, str]]:
    """Yield the index and the text of every prompt's continuation, as they finish.

    Args:
        model: Hugging Face causal language model; its attention is padded meanwhile.
        tokenizer: Tokenizer of the model.
        wanted: Prompts.
        end_token: The tokenizer's end token, which ends a text as the model's own end tokens do.
    """
    ends = _end_tokens(model) | ({end_token} if end_token is not None else set())
    with _padded_attention(model):
        for numbers in _batches(wanted):
            batch = [wanted[number] for number in numbers]
            yield from _generate_batch(model, tokenizer, numbers, batch, ends)


@contextlib.contextmanager
def _padded_attention(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _batches(wanted: Sequence[GenerationRequest]) -> Iterator[list[int]]:
    """Yield the indices of prompts of about the same length, the longest first."""
    batch: list[int] = []
    longest = 0
    for number in sorted(range(len(wanted)), key=lambda index: -len(wanted[index].prompt)):
        length = len(wanted[number].prompt) + wanted[number].new
        if batch and max(longest, length) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch, longest = [], 0
        batch.append(number)
        longest = max(longest, length)
    if batch:
        yield batch


@dataclass
class _Row:
    number: int
    wanted: GenerationRequest
    tokens: list[int] = field(default_factory=list)
    text: str = ""


@torch.no_grad()
def _generate_batch(
    model: Any,
    tokenizer: Tokenizer,
    numbers: Sequence[int],
    wanted: Sequence[GenerationRequest],
    ends: frozenset[int],
) -> Iterator[tuple[int, str]]:
    from transformers import DynamicCache

    rows = [_Row(number, each) for number, each in zip(numbers, wanted, strict=True)]
    ids_BL, real_BL = _padded([each.prompt for each in wanted], model.device)
    penalty = _repetition_penalty(model)
    cache = DynamicCache(config=model.config)
    step_BN = ids_BL
    while rows:
        output = model(
            input_ids=step_BN,
            attention_mask=real_BL,
            position_ids=(real_BL.cumsum(-1) - 1).clamp(min=0)[:, -step_BN.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        next_B1 = penalty(ids_BL, output.logits[:, -1].float()).argmax(-1, keepdim=True)
        stays: list[int] = []
        for index, (row, token) in enumerate(zip(rows, next_B1[:, 0].tolist(), strict=True)):
            if _finished(row, token, ends, tokenizer):
                yield row.number, row.text
            else:
                stays.append(index)
        ids_BL = torch.cat([ids_BL, next_B1], 1)
        real_BL = torch.cat([real_BL, torch.ones_like(next_B1)], 1)
        if len(stays) < len(rows):
            kept = torch.tensor(stays, dtype=torch.long, device=ids_BL.device)
            rows = [rows[index] for index in stays]
            ids_BL, real_BL, next_B1 = ids_BL[kept], real_BL[kept], next_B1[kept]
            cache.batch_select_indices(kept)
        step_BN = next_B1


def _padded(prompts: Sequence[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad prompts at the left; return the ids and the mask of real positions: [B, L] each.

    A row is padded with its own first token, which a repetition penalty counts as repeated anyway.
    """
    longest = max(map(len, prompts))
    ids = [[prompt[0]] * (longest - len(prompt)) + prompt for prompt in prompts]
    real = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(real, device=device)


def _finished(row: _Row, token: int, ends: frozenset[int], tokenizer: Tokenizer) -> bool:
    """Add a row's next token; return True if the text is complete (and cut at the stop string)."""
    if token in ends:
        return True
    row.tokens.append(token)
    row.text = tokenizer.decode(row.tokens, skip_special_tokens=True)
    stopped = any(stop in row.text for stop in row.wanted.stops)
    for stop in row.wanted.stops:
        row.text = row.text.split(stop)[0]
    return stopped or len(row.tokens) >= row.wanted.new


def _end_tokens(model: Any) -> frozenset[int]:
    named = (model.generation_config.eos_token_id, model.config.eos_token_id)
    found: int | list[int] = next((end for end in named if end is not None), [])
    return frozenset([found] if isinstance(found, int) else found)


def _repetition_penalty(model: Any) -> Any:
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    factor = model.generation_config.repetition_penalty
    wanted = [] if factor in (None, 1.0) else [RepetitionPenaltyLogitsProcessor(float(factor))]
    return LogitsProcessorList(wanted)
