"""Sample replay text from the base model, because a released model's own data is seldom available.

Unconditional samples at temperature 1 are the model's own estimate of its training distribution
(self-synthesised rehearsal: Huang et al. 2024, arXiv 2403.01244).
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

from cpt.atomic import write_text
from cpt.corpus.documents import Document
from cpt.errors import StageFailed
from cpt.models.tokenizer import load_as_transformers
from cpt.progress import Progress

Engine = Literal["transformers", "vllm"]

Row = TypeVar("Row")

Advance = Callable[[int], None]

SAMPLED_COST = 1.5
"""Trained tokens that take as long as a sampled one: 240 and 350 a second on two cores.

The quickstart (benchmarks/results/quickstart.json).
"""

SPARE = 1.15
"""Factor of samples to draw, since some end early. A second, small batch would cost as much as the first."""


def generate(
    model_folder: Path,
    tokens: int,
    length: int,
    batch: int,
    temperature: float,
    seed: int,
    start_token: str | None,
    end_token: str | None,
    work: Path,
    progress: Progress,
    engine: Engine = "transformers",
) -> Iterator[Document]:
    """Sample documents from a model until they hold at least `tokens` tokens.

    Args:
        length: Largest number of tokens of a document.
        batch: Number of documents sampled at once.
        start_token: Token that every sample starts from.
        end_token: Token that ends a document, besides those that the model itself names.
        work: Folder in which finished batches are kept, so that they are not sampled again.
        engine: Library that samples.
    """
    work.mkdir(parents=True, exist_ok=True)
    sampler: _BatchSampler | None = None
    made = index = 0

    def tell(new: int) -> None:
        progress.update(min(made + new, tokens - 1), tokens, "token")

    while made < tokens:
        file = work / f"batch-{index:05d}.json"
        found = kept(file, Sample)
        if found is None:
            sampler = sampler or _ENGINES[engine](model_folder, start_token, end_token)
            rows = min(batch, math.ceil((tokens - made) / length * SPARE))
            found = sampler.sample(
                rows,
                length,
                temperature,
                seed + index,
                tell,
            )
            keep(file, found)
        for row, sample in enumerate(found):
            yield Document(f"sample-{index:05d}-{row:03d}", sample.text, ended=sample.ended)
        made += sum(sample.tokens for sample in found)
        if not made:
            raise StageFailed(
                f"the model in {model_folder} ends every sample at once: it writes no replay text"
            )
        index += 1
        progress.update(min(made, tokens), tokens, "token")


@dataclass(frozen=True)
class Sample:
    """A sampled text.

    Attributes:
        tokens: Number of tokens, without the end token.
        ended: Whether the model ended it. Otherwise it was cut off at the largest number of tokens, or at a
            special token that ends no document.
    """

    text: str
    tokens: int
    ended: bool


def keep(file: Path, samples: Sequence[Any]) -> None:
    """Write a finished batch of data classes with its checksum."""
    rows = [asdict(sample) for sample in samples]
    write_text(file, json.dumps({"sha256": _checksum(rows), "samples": rows}))


def kept(file: Path, kind: type[Row]) -> list[Row] | None:
    """Return a finished batch; None if there is none, or its file is damaged."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        rows = data["samples"]
        return [kind(**row) for row in rows] if data["sha256"] == _checksum(rows) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(rows: Sequence[dict[str, Any]]) -> str:
    return sha256(json.dumps(rows).encode()).hexdigest()


class _Marks:
    """The special tokens that samples start from and end at.

    Attributes:
        start: Id of the token that samples start from.
        ends: Ids of the tokens that end a document.
        special: Ids of all special tokens; a sample is cut at the first.
    """

    def __init__(
        self, model_folder: Path, start_token: str | None, end_token: str | None, ends: Set[int] = frozenset()
    ) -> None:
        """Find them.

        Args:
            ends: Ids of further tokens that end a document.
        """
        self._tokenizer: Any = load_as_transformers(model_folder)
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        start = vocabulary.get(start_token or self._tokenizer.eos_token)
        if start is None:
            raise StageFailed(
                "the tokenizer has neither start nor end token to sample from", hint="Set start_token."
            )
        self.start = start
        own = {end_token, self._tokenizer.eos_token}
        self.ends = ends | {id for token, id in vocabulary.items() if token in own}
        self.special = self.ends | set(self._tokenizer.all_special_ids)

    def read(self, row: list[int], special: Set[int] = frozenset(), ends: Set[int] = frozenset()) -> Sample:
        """Cut a row of token ids at its first special token.

        Args:
            special: Ids of further special tokens.
            ends: Ids of further tokens that end a document.
        """
        special, ends = self.special | special, self.ends | ends
        last = next((place for place, token in enumerate(row) if token in special), len(row))
        ended = last < len(row) and row[last] in ends
        text: str = self._tokenizer.decode(row[:last])
        # the cut may fall between the bytes of a character, which then reads as a replacement character
        return Sample(text if ended else text.removesuffix("\ufffd"), last, ended)


class _BatchSampler(ABC):
    """A model that samples batches of texts."""

    marks: _Marks

    def sample(
        self, batch: int, length: int, temperature: float, seed: int, advance: Advance | None = None
    ) -> list[Sample]:
        """Sample texts, each up to its first special token."""
        prompts = [[self.marks.start]] * batch
        rows = self.follow(prompts, [length] * batch, temperature, seed, self.marks.special, advance)
        return [self.marks.read(row) for row in rows]

    @abstractmethod
    def follow(
        self,
        prompts: Sequence[list[int]],
        lengths: Sequence[int],
        temperature: float,
        seed: int,
        stops: Set[int],
        advance: Advance | None = None,
    ) -> list[list[int]]:
        """Sample what follows prompts, each up to its length or its first stop token.

        Args:
            advance: Function that receives the number of new tokens so far, where the engine tells it.
        """


class _Sampler(_BatchSampler):
    """A loaded model that samples batches of texts."""

    def __init__(
        self, model_folder: Path, start_token: str | None, end_token: str | None, attention: str | None = None
    ) -> None:
        """Load the model.

        Args:
            attention: Name of its attention; by default the one that takes one token at a time.
        """
        from cpt.models.packed_model import best_device, load_model, resolve_precision
        from cpt.models.sampling import ONE_TOKEN, end_tokens, register_one_token_attention

        register_one_token_attention()
        self._model: Any = load_model(model_folder, resolve_precision("auto"), attention or ONE_TOKEN)
        self._model.to(best_device())
        self.marks = _Marks(model_folder, start_token, end_token, end_tokens(self._model))

    def follow(
        self,
        prompts: Sequence[list[int]],
        lengths: Sequence[int],
        temperature: float,
        seed: int,
        stops: Set[int],
        advance: Advance | None = None,
    ) -> list[list[int]]:
        """Sample what follows prompts, each up to its length or its first stop token."""
        from cpt.models.sampling import follow

        return follow(self._model, prompts, lengths, temperature, seed, stops, advance)


class _VLLMSampler(_BatchSampler):
    """vLLM, which samples on GPUs, on all of the machine together where there are several."""

    def __init__(self, model_folder: Path, start_token: str | None, end_token: str | None) -> None:
        import torch
        from transformers import GenerationConfig
        from vllm import LLM

        from cpt.models.loading import settings
        from cpt.models.sampling import end_tokens

        generation = None
        if (model_folder / "generation_config.json").is_file():
            generation = GenerationConfig.from_pretrained(model_folder)
        facts = settings(model_folder)
        heads, most = facts.get_text_config().num_attention_heads, max(1, torch.cuda.device_count())
        ends = end_tokens(SimpleNamespace(config=facts, generation_config=generation))
        self.marks = _Marks(model_folder, start_token, end_token, ends)
        self._model: Any = LLM(
            model=str(model_folder),
            tensor_parallel_size=max(n for n in range(1, most + 1) if heads % n == 0),
            generation_config="vllm",  # no penalties: samples of the model as it is
            disable_log_stats=True,
        )

    def follow(
        self,
        prompts: Sequence[list[int]],
        lengths: Sequence[int],
        temperature: float,
        seed: int,
        stops: Set[int],
        advance: Advance | None = None,  # noqa: ARG002 - vLLM returns when all are finished
    ) -> list[list[int]]:
        """Sample what follows prompts, each up to its length or first stop token, by a seed of its own."""
        from vllm import SamplingParams

        wanted = [
            SamplingParams(
                temperature=temperature,
                max_tokens=length,
                seed=_seed(seed, row),
                stop_token_ids=sorted(stops),
                ignore_eos=True,  # it is among the stop tokens, whose number is then told
                detokenize=False,
            )
            for row, length in enumerate(lengths)
        ]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        made = [each.outputs[0] for each in self._model.generate(asked, wanted, use_tqdm=False)]
        # vLLM tells the token that ended a text; whether it is among the text's tokens depends on the version
        return [[*each.token_ids, *_stop_token(each.stop_reason)] for each in made]


def _seed(seed: int, row: int) -> int:
    """Return a seed of a text of its own, whatever the size of its batch."""
    return int.from_bytes(sha256(f"{seed} {row}".encode()).digest()[:4], "little")


def _stop_token(reason: object) -> list[int]:
    return [reason] if isinstance(reason, int) else []


_ENGINES: dict[Engine, type[_Sampler | _VLLMSampler]] = {"transformers": _Sampler, "vllm": _VLLMSampler}


def load_for_prompts(
    engine: Engine, model_folder: Path, start_token: str | None, end_token: str | None
) -> _BatchSampler:
    """Load a model that follows prompts of several tokens and of different lengths."""
    if engine == "vllm":
        return _VLLMSampler(model_folder, start_token, end_token)
    # attention of one token at a time takes neither several tokens at once nor the mask of padding
    return _Sampler(model_folder, start_token, end_token, attention="sdpa")
