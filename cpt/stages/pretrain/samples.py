"""Sample texts from a model: to measure drift, and for a reader to compare before and after.

The texts of the starting model are kept in the work folder, for a run that continues.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from cpt.atomic import write_text
from cpt.corpus.texts import has_texts, heldout_texts, shuffled
from cpt.errors import StageFailed
from cpt.json_file import read_plain
from cpt.progress import Progress
from cpt.stages.pretrain.config import Drift, Samples

if TYPE_CHECKING:
    from cpt.stages.pretrain.probe_texts import ProbeContext

PROMPT = 24
"""Number of tokens of a document that a sample continues."""

_SHORTEST = 8
"""Smallest number of tokens of a document that is continued."""

_SPARE = 1.15
"""Factor by which more samples are taken than needed, because some end early."""

_ROUNDS = 20


_AGAIN = "Remove the file: the same command makes it again."


class _KeptWork(BaseModel):
    """Samples that are made once for a training and kept, and the seconds that they took."""

    seconds: float


class _KeptDrift(_KeptWork):
    start: int
    samples: list[list[int]]


class _KeptSamples(_KeptWork):
    prompts: list[list[int]]
    samples: list[dict[str, str]]


def drift_samples(
    drift: Drift, probe_context: ProbeContext, progress: Progress
) -> tuple[int, list[list[int]]]:
    """Return the token before every sample, and the ids of the samples.

    Raises:
        StageFailed: the tokenizer has no token to start from.
    """

    def make(model: Any) -> dict[str, Any]:
        progress.message(f"sampling {drift.tokens:,} tokens to measure drift on")
        return {"start": _start(probe_context), "samples": _sampled(drift, model, probe_context)}

    kept = _kept(probe_context, "drift.json", _KeptDrift, make)
    return kept["start"], kept["samples"]


def sample_before(samples: Samples, probe_context: ProbeContext) -> list[dict[str, str]]:
    """Return beginnings of held-out documents and their continuations: source, prompt, before.

    All processes call this.
    """

    def make(model: Any) -> dict[str, Any]:
        prompts = _prompts(samples.texts, probe_context)
        written = _continued([ids for _, ids in prompts], samples.tokens, model, probe_context)
        tokenizer = _tokenizer(probe_context)
        return {
            "prompts": [ids for _, ids in prompts],
            "samples": [
                {"source": source, "prompt": tokenizer.decode(ids), "before": text}
                for (source, ids), text in zip(prompts, written, strict=True)
            ],
        }

    return list(_kept(probe_context, "samples.json", _KeptSamples, make)["samples"])


@dataclass(frozen=True)
class Continued:
    """The samples of `sample_before` with the trained model's continuations, and the seconds they took."""

    samples: list[dict[str, str]]
    seconds: float


def sample_after(samples: Samples, probe_context: ProbeContext, trained: Path | None) -> Continued | None:
    """Return the samples of `sample_before` with the continuations of the trained model, in the main process.

    All processes call this.

    Args:
        trained: folder of the trained model, if its weights were sharded; else the model itself has them.
    """
    from cpt.training.distributed.context import distributed_context
    from cpt.training.distributed.reading import read_sharded

    kept = read_plain(probe_context.work / "samples.json", _KeptSamples, _AGAIN)

    def write(model: Any) -> Continued:
        began = time.perf_counter()
        written = _continued(kept["prompts"], samples.tokens, model, probe_context)
        both = [{**each, "after": text} for each, text in zip(kept["samples"], written, strict=True)]
        return Continued(both, time.perf_counter() - began)

    if trained is not None:
        return read_sharded(trained, True, write)
    return write(probe_context.model) if distributed_context().is_main else None


def to_gpu(model: Any) -> None:
    """Move the model of a single process to its GPU before sampling, as training will."""
    import torch
    from accelerate.utils import parse_flag_from_env

    from cpt.training.distributed.context import distributed_context

    if (
        distributed_context().count == 1
        and torch.cuda.is_available()
        and not parse_flag_from_env("ACCELERATE_USE_CPU")
    ):
        model.to("cuda")


def seconds_spent(work: Path, *names: str) -> float:
    """Return the seconds that making the kept samples took."""
    files = (work / name for name in names)
    return sum(read_plain(file, _KeptWork, _AGAIN)["seconds"] for file in files if file.exists())


def _kept(
    probe_context: ProbeContext,
    name: str,
    shape: type[_KeptWork],
    make: Callable[[Any], Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the content of a file in the work folder; if need be, it is made with the starting model.

    All processes call this; the main one writes the file, and the others wait for it.
    """
    from cpt.models.unloaded_model import is_unloaded
    from cpt.training.distributed.context import distributed_context
    from cpt.training.distributed.reading import read_sharded

    file = probe_context.work / name

    def write(model: Any) -> None:
        began = time.perf_counter()
        made = dict(make(model))
        write_text(file, json.dumps(made | {"seconds": time.perf_counter() - began}))

    needed = distributed_context().is_main and not file.exists()
    if is_unloaded(probe_context.model):
        read_sharded(probe_context.folder, needed, write)
    elif needed:
        write(probe_context.model)
    while not file.exists():  # the launcher ends this process if the main one fails
        time.sleep(0.05)
    found: dict[str, Any] = read_plain(file, shape, _AGAIN)
    return found


def _sampled(drift: Drift, model: Any, probe_context: ProbeContext) -> list[list[int]]:
    """Return samples of the starting model with at least the number of tokens that the settings ask for."""
    from cpt.models.sampling import sample

    start, ends = _start(probe_context), ends_of(probe_context)
    made: list[list[int]] = []
    for turn in range(_ROUNDS):
        missing = drift.tokens - sum(map(len, made))
        if missing <= 0:
            break
        rows = math.ceil(missing / drift.length * _SPARE)
        made += sample(model, start, ends, rows, drift.length, probe_context.seed + turn)
    return made


def _prompts(count: int, probe_context: ProbeContext) -> list[tuple[str, list[int]]]:
    """Return source and beginning of some held-out documents of each source."""
    from cpt.stages.pretrain.probe_texts import HELD_OUT

    tokenizer = _tokenizer(probe_context)
    found: list[tuple[str, list[int]]] = []
    for source in HELD_OUT:
        if not has_texts(probe_context.corpus, source, "heldout"):
            continue
        texts = shuffled(heldout_texts(probe_context.corpus, source), probe_context.seed)
        encoded = (tokenizer.encode(text, add_special_tokens=False).ids for text in texts)
        long_enough = (ids for ids in encoded if len(ids) >= _SHORTEST)
        found += [(source, ids[: min(PROMPT, len(ids) // 2)]) for ids in islice(long_enough, count)]
    return found


def _continued(prompts: list[list[int]], tokens: int, model: Any, probe_context: ProbeContext) -> list[str]:
    """Return the model's continuations, always with the likeliest token."""
    from evals.models.generation import GenerationRequest, generate

    if not prompts:
        return []
    start = _start(probe_context)
    wanted = [GenerationRequest([start, *ids], (), tokens, 0) for ids in prompts]
    texts = dict(generate(model, _tokenizer(probe_context), wanted))
    return [texts[number] for number in range(len(prompts))]


def _tokenizer(probe_context: ProbeContext) -> Any:
    from cpt.models.tokenizer import load_tokenizer

    return load_tokenizer(probe_context.folder)


def _start(probe_context: ProbeContext) -> int:
    """Return the token that precedes documents; if there is none, a start or end token of the model."""
    from cpt.corpus import read_index

    token = read_index(probe_context.corpus).start_token
    config = probe_context.model.config.get_text_config()
    found = config.bos_token_id if token is None else _tokenizer(probe_context).token_to_id(token)
    for candidate in (found, *sorted(ends_of(probe_context))):
        if candidate is not None:
            return int(candidate)
    raise StageFailed("the model has neither a start nor an end token to sample from")


def ends_of(probe_context: ProbeContext) -> frozenset[int]:
    """Return the tokens that end a document, by the corpus and by the model."""
    from cpt.corpus import read_index
    from cpt.models.sampling import end_tokens

    token = read_index(probe_context.corpus).end_token
    named = None if token is None else _tokenizer(probe_context).token_to_id(token)
    return end_tokens(probe_context.model) | (frozenset() if named is None else {named})
