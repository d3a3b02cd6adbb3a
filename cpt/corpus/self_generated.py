"""Replay text that the base model writes itself, because a released model's own data seldom is.

Unconditional samples at temperature 1 are the model's own estimate of its training distribution
(self-synthesised rehearsal: Huang et al. 2024, arXiv 2403.01244).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cpt.corpus.documents import Document
from cpt.errors import StageFailed

if TYPE_CHECKING:
    pass


_SPARE = 1.15
"""Samples that end early make this many more of them necessary; a second, small batch would cost as much."""


class Progress(Protocol):
    """Where the generator says how far it is."""

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...


def generate(
    model_folder: Path,
    tokens: int,
    length: int,
    batch: int,
    temperature: float,
    seed: int,
    start_token: str | None,
    work: Path,
    progress: Progress,
) -> Iterator[Document]:
    """Sample documents from a model until they hold at least `tokens` tokens.

    Args:
        length: most tokens of a document.
        batch: documents sampled at once.
        start_token: token that every sample starts from.
        work: folder in which finished batches are kept, so that a killed run samples only the rest.
    """
    work.mkdir(parents=True, exist_ok=True)
    sampler: _Sampler | None = None
    made = index = 0
    while made < tokens:
        kept = work / f"batch-{index:05d}.json"
        if kept.exists():
            texts, count = json.loads(kept.read_text(encoding="utf-8"))
        else:
            sampler = sampler or _Sampler(model_folder, start_token)
            rows = min(batch, math.ceil((tokens - made) / length * _SPARE))
            texts, count = sampler.sample(rows, length, temperature, seed + index)
            aside = kept.with_suffix(".tmp")
            aside.write_text(json.dumps([texts, count]), encoding="utf-8")
            aside.rename(kept)
        for row, text in enumerate(texts):
            yield Document(f"sample-{index:05d}-{row:03d}", text)
        made += count
        if not made:
            raise StageFailed(
                f"the model in {model_folder} ends every sample at once: it writes no replay text"
            )
        index += 1
        progress.update(min(made, tokens), tokens, "token")


class _Sampler:
    """A loaded model that samples batches of texts."""

    def __init__(self, model_folder: Path, start_token: str | None) -> None:
        from transformers import AutoTokenizer, GenerationConfig

        from cpt.packed import decoding
        from cpt.packed.model import best_device, load_model, resolve_precision

        self._tokenizer: Any = AutoTokenizer.from_pretrained(model_folder, trust_remote_code=False)
        token = start_token or self._tokenizer.eos_token
        start: int | None = self._tokenizer.get_vocab().get(token)
        if start is None:
            raise StageFailed(
                "the tokenizer has neither start nor end token to sample from", hint="Set start_token."
            )
        self._start = start
        decoding.register()
        self._model: Any = load_model(model_folder, resolve_precision("auto"), decoding.NAME)
        self._model.to(best_device())
        self._model.generation_config = GenerationConfig()  # no penalties: samples of the model as it is

    def sample(self, batch: int, length: int, temperature: float, seed: int) -> tuple[list[str], int]:
        """Texts and the number of tokens in them."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        from cpt.packed.sampling import draw

        prompts = torch.full((batch, 1), self._start, device=self._model.device)
        special = sorted(set(self._tokenizer.all_special_ids))
        generator = torch.Generator(self._model.device).manual_seed(seed)
        with torch.no_grad():
            output = self._model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                generation_config=GenerationConfig(
                    do_sample=False, max_new_tokens=length, eos_token_id=special, pad_token_id=special[0]
                ),
                logits_processor=LogitsProcessorList([partial(draw, generator, temperature)]),
            )
        rows = [[token for token in row if token not in set(special)] for row in output[:, 1:].tolist()]
        return [self._tokenizer.decode(row) for row in rows], sum(len(row) for row in rows)
