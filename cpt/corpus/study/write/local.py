"""Run a local model that answers requests: by its chat template, or as the continuation of a text.

Prompts hold text of documents. One that spells a special token of the model is not sent: it would end the
turn or pose as another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cpt.corpus.study.write.requests import SPECIAL, TOO_LONG, Answer, Request
from cpt.corpus.study.write.settings import Engine

STOP = "\n###"
"""Text that ends an answer of a model without a chat template: the next heading of the prompt's form."""

_LEAST_ROOM = 32
"""Fewest tokens that an answer must have room for."""

_LAST_TOKENS = 8
"""Number of last tokens that are looked at for the end of an answer."""


class _Prompts:
    """A folder's tokenizer and chat template, and the special tokens at which answers end."""

    def __init__(self, folder: Path) -> None:
        from cpt.models.loading import settings
        from cpt.models.tokenizer import chat_template
        from evals.models.prompting import Prompting

        self.chat = chat_template(folder) is not None
        self._prompting = Prompting(folder, chat=self.chat)
        self.tokenizer = self._prompting.tokenizer
        added = self.tokenizer.get_added_tokens_decoder()
        self._spellings = [token.content for token in added.values() if token.special]
        end = self._prompting.end
        self.special = frozenset(id for id, token in added.items() if token.special) | (
            frozenset() if end is None else {end}
        )
        positions = getattr(settings(folder).get_text_config(), "max_position_embeddings", None)
        self._positions: int | None = positions

    def ids(self, request: Request) -> list[int] | Answer:
        """Return the tokens of a prompt, or why it is not sent."""
        if self.chat:
            if any(spelling in request.prompt for spelling in self._spellings):
                return Answer(failed=SPECIAL)
            message = {"role": "user", "content": request.prompt}
            text = self._prompting.render([message], to_be_continued=True)
        else:
            text = request.plain
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        start = list(self._prompting.start.tokens)
        ids = ids if ids[: len(start)] == start else [*start, *ids]
        return ids if self.room(len(ids)) >= _LEAST_ROOM else Answer(failed=TOO_LONG)

    def room(self, length: int) -> int:
        """Return the number of tokens that an answer to a prompt of a length may have."""
        return 2**31 if self._positions is None else self._positions - length

    def answer(self, prompt: Sequence[int], made: Sequence[int], most: int) -> Answer:
        """Return the answer in the tokens that follow a prompt; it ends at its first special token."""
        last = next((at for at, token in enumerate(made) if token in self.special), len(made))
        text = self.tokenizer.decode(list(made[:last]), skip_special_tokens=True)
        stopped = not self.chat and STOP in text
        text = text.split(STOP)[0] if stopped else text
        cut = last >= most and not stopped
        # The cut may fall between the bytes of a character, which then reads as a replacement character.
        text = text.removesuffix("\ufffd") if cut else text
        failed = "" if text.strip() else "empty"
        return Answer(text, len(prompt), min(last + 1, most), cut, failed)


class TransformersWriter:
    """A model run by transformers, with prompts of like length in a batch."""

    def __init__(self, folder: Path, temperature: float, at_once: int) -> None:
        from transformers import GenerationConfig

        from cpt.models.packed_model import best_device, load_model, resolve_precision
        from cpt.models.sampling import end_tokens

        self._prompts = _Prompts(folder)
        self._temperature, self._at_once = temperature, at_once
        self._model: Any = load_model(folder, resolve_precision("auto"), "sdpa")
        self._model.to(best_device())
        self._ends = self._prompts.special | end_tokens(self._model)
        self._never = getattr(self._model.generation_config, "suppress_tokens", None)  # rows without a token
        self._model.generation_config = GenerationConfig()  # no penalties

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each request, batch by batch."""
        able: list[tuple[int, list[int], int]] = []
        for number, request in enumerate(requests):
            ids = self._prompts.ids(request)
            if isinstance(ids, Answer):
                yield number, ids
            else:
                able.append((number, ids, min(request.most, self._prompts.room(len(ids)))))
        able.sort(key=lambda each: (each[2], len(each[1])), reverse=True)  # the largest batch first
        for begin in range(0, len(able), self._at_once):
            batch = able[begin : begin + self._at_once]
            rows = self._continued(
                [ids for _, ids, _ in batch],
                max(most for _, _, most in batch),
                [requests[number].seed for number, _, _ in batch],
            )
            for (number, ids, most), made in zip(batch, rows, strict=True):
                yield number, self._prompts.answer(ids, made[:most], most)

    def _continued(self, prompts: Sequence[list[int]], most: int, seeds: Sequence[int]) -> list[list[int]]:
        """Return the tokens that follow each prompt, with those behind the end.

        Each row is drawn by a seed of its own, so that its text does not depend on the others in the batch.
        """
        import numpy as np
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        from cpt.models.sampling import drawn_at

        longest, pad = max(map(len, prompts)), min(self._ends, default=0)
        device = self._model.device
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
        points = torch.tensor(
            np.stack([np.random.default_rng(seed).random(most, dtype=np.float32) for seed in seeds]),
            device=device,
        )

        def draw(made: Any, logits: Any) -> Any:
            return drawn_at(points[:, made.shape[1] - longest, None], self._temperature, logits)

        drawn = [draw] if self._temperature else []
        stops = [] if self._prompts.chat else [partial(self._stopped, longest)]
        with torch.no_grad():
            output = self._model.generate(
                ids,
                attention_mask=mask,
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=most,
                    eos_token_id=sorted(self._ends) or None,
                    pad_token_id=pad,
                    suppress_tokens=self._never,
                ),
                logits_processor=LogitsProcessorList(drawn),
                stopping_criteria=StoppingCriteriaList(stops),
            )
        made: list[list[int]] = output[:, longest:].tolist()
        return made

    def _stopped(self, begin: int, ids: Any, _: Any, **__: Any) -> Any:
        """Return which rows end with the heading that ends an answer, bool [rows]."""
        import torch

        rows = ids[:, begin:][:, -_LAST_TOKENS:].tolist()
        texts = (self._prompts.tokenizer.decode(row) for row in rows)
        return torch.tensor([STOP in text for text in texts], device=ids.device)


class VLLMWriter:
    """A model run by vLLM, on all GPUs of the machine together where there are several."""

    def __init__(self, folder: Path, temperature: float, at_once: int) -> None:
        import torch
        from vllm import LLM

        from cpt.models.loading import settings

        self._prompts = _Prompts(folder)
        self._temperature = temperature
        heads = settings(folder).get_text_config().num_attention_heads
        most = max(1, torch.cuda.device_count())
        self._model: Any = LLM(
            model=str(folder),
            tensor_parallel_size=max(n for n in range(1, most + 1) if heads % n == 0),
            max_num_seqs=max(at_once, 64),  # a batch of vLLM's is cheap, and its own default is 256
            generation_config="vllm",  # no penalties
            disable_log_stats=True,
        )

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each request."""
        from vllm import SamplingParams

        able: list[tuple[int, list[int], int]] = []
        wanted: list[Any] = []
        for number, request in enumerate(requests):
            ids = self._prompts.ids(request)
            if isinstance(ids, Answer):
                yield number, ids
                continue
            most = min(request.most, self._prompts.room(len(ids)))
            able.append((number, ids, most))
            wanted.append(
                SamplingParams(
                    temperature=self._temperature,
                    max_tokens=most,
                    seed=request.seed,
                    stop_token_ids=sorted(self._prompts.special),
                    stop=None if self._prompts.chat else [STOP],
                    include_stop_str_in_output=True,
                )
            )
        prompts = [{"prompt_token_ids": ids} for _, ids, _ in able]
        made = self._model.generate(prompts, wanted, use_tqdm=False) if prompts else []
        for (number, ids, most), output in zip(able, made, strict=True):
            yield number, self._prompts.answer(ids, output.outputs[0].token_ids, most)


WRITERS: dict[Engine, type[TransformersWriter | VLLMWriter]] = {
    "transformers": TransformersWriter,
    "vllm": VLLMWriter,
}
