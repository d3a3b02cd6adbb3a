"""A causal language model as lm-eval sees it, with requests packed instead of padded.

lm-eval's own `HFLM` pads every batch and computes the logits of all positions over the whole vocabulary.
Here requests lie end to end, each attending to itself, and only the scored positions' losses are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from tokenizers import Tokenizer

from cpt.packed.batch import pack
from cpt.packed.model import PackedLanguageModel

BATCH_TOKENS = 4096


class PackedLM(TemplateLM):
    """Log-likelihoods of continuations, all that multiple-choice tasks ask for."""

    backend = "causal"

    def __init__(
        self,
        model: PackedLanguageModel,
        tokenizer: Tokenizer,
        *,
        start_token: str | None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            start_token: token that precedes every question, as it preceded every training document.
            on_progress: called with the requests done and all requests.
        """
        super().__init__()
        self._packed = model
        self._tokenizer = tokenizer
        self._start = _ids(tokenizer, start_token)
        self._on_progress = on_progress
        self._max_length = context_length(model)
        self._model_device = next(model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        """Token that stands for an empty context."""
        return self._start[0] if self._start else int(self._packed.model.config.eos_token_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The start token and the text's tokens; without the start token if `add_special_tokens` is False."""
        ids: list[int] = self._tokenizer.encode(string, add_special_tokens=False).ids
        return ids if add_special_tokens is False else self._start + ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Log-likelihood in nats of each request's continuation (see `_loglikelihood_tokens`)."""
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scored

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """Log-likelihoods; whether a continuation is the greedy one is not found out and said to be False."""
        sequences = [np.asarray((context + rest)[-self._max_length :]) for _, context, rest in requests]
        scored = [
            min(len(rest), len(sequence) - 1)
            for (_, _, rest), sequence in zip(requests, sequences, strict=True)
        ]
        results = np.zeros(len(requests))
        done = 0
        for batch in _batches([len(sequence) for sequence in sequences]):
            packed = pack([sequences[index] for index in batch]).to(self._model_device)
            nats = self._packed.token_nats(packed).double().cpu().numpy()
            ends = np.cumsum([len(sequences[index]) for index in batch])
            for index, end in zip(batch, ends, strict=True):
                results[index] = -nats[end - 1 - scored[index] : end - 1].sum()
            done += len(batch)
            if self._on_progress is not None:
                self._on_progress(done, len(requests))
        return [(float(result), False) for result in results]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Not a multiple-choice request."""
        raise NotImplementedError("bits per byte of whole texts are measured by cpt.monitor")

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Not a multiple-choice request."""
        raise NotImplementedError("tasks that generate are not supported")


def context_length(model: PackedLanguageModel) -> int:
    """Tokens that the model can read at once."""
    return int(model.model.config.get_text_config().max_position_embeddings)


def _ids(tokenizer: Tokenizer, token: str | None) -> list[int]:
    token_id = None if token is None else tokenizer.token_to_id(token)
    return [] if token_id is None else [token_id]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of at most `BATCH_TOKENS`, the longest first: a batch's lengths are alike."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batch: list[int] = []
    total = 0
    for index in order:
        if batch and total + lengths[index] > BATCH_TOKENS:
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += lengths[index]
    if batch:
        yield batch
