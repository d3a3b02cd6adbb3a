"""Texts that a model writes beside its training: what drift is measured on, and what a reader compares.

What the starting model has written is kept in the work folder: a run that continues has the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from cpt.atomic import write_text
from cpt.corpus.texts import has_texts, iterate_texts
from cpt.errors import StageFailed
from cpt.json_file import read_plain
from cpt.progress import Progress
from cpt.stages.pretrain.monitor_config import Drift, Samples

if TYPE_CHECKING:
    from cpt.stages.pretrain.probe_texts import ProbeContext

PROMPT = 24
"""Tokens of a document that a sample continues."""

_SHORTEST = 8
"""Tokens that a document must have to be continued."""

_SPARE = 1.15
"""Samples that end early make this many more of them necessary."""

_ROUNDS = 20


_AGAIN = "Remove the file: the same command makes it again."


class _KeptWork(BaseModel):
    """What is made once for a training and kept, and the seconds that it took."""

    seconds: float


class _KeptDrift(_KeptWork):
    start: int
    samples: list[list[int]]


class _KeptSamples(_KeptWork):
    prompts: list[list[int]]
    samples: list[dict[str, str]]


def drift_samples(drift: Drift, probed: ProbeContext, progress: Progress) -> tuple[int, list[list[int]]]:
    """The token before every sample, and the samples' ids.

    Raises:
        StageFailed: the tokenizer has no token to start from.
    """

    def make() -> dict[str, Any]:
        progress.message(f"sampling {drift.tokens:,} tokens to measure drift on")
        return {"start": _start(probed), "samples": _sampled(drift, probed)}

    kept = _kept(probed.work / "drift.json", _KeptDrift, make)
    return kept["start"], kept["samples"]


def sample_before(samples: Samples, probed: ProbeContext) -> list[dict[str, str]]:
    """Beginnings of held-out documents, and how the starting model goes on: source, prompt, before.

    Only the main process asks.
    """

    def make() -> dict[str, Any]:
        prompts = _prompts(samples.texts, probed)
        written = _continued([ids for _, ids in prompts], samples.tokens, probed)
        tokenizer = _tokenizer(probed)
        return {
            "prompts": [ids for _, ids in prompts],
            "samples": [
                {"source": source, "prompt": tokenizer.decode(ids), "before": text}
                for (source, ids), text in zip(prompts, written, strict=True)
            ],
        }

    return list(_kept(probed.work / "samples.json", _KeptSamples, make)["samples"])


def sample_after(samples: Samples, probed: ProbeContext) -> list[dict[str, str]]:
    """What `sample_before` gave, with how the trained model goes on: after."""
    kept = read_plain(probed.work / "samples.json", _KeptSamples, _AGAIN)
    written = _continued(kept["prompts"], samples.tokens, probed)
    return [{**each, "after": text} for each, text in zip(kept["samples"], written, strict=True)]


def to_gpu(model: Any) -> None:
    """Have one process's model write on its GPU, where training will put it anyway."""
    import torch
    from accelerate.utils import parse_flag_from_env

    from cpt.training.world import world

    if world().count == 1 and torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        model.to("cuda")


def seconds_spent(work: Path, *names: str) -> float:
    """How long making what is kept has taken."""
    files = (work / name for name in names)
    return sum(read_plain(file, _KeptWork, _AGAIN)["seconds"] for file in files if file.exists())


def _kept(file: Path, shape: type[_KeptWork], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What a file holds; the main process makes it if need be, and the others wait for it."""
    from cpt.training.world import world

    if world().is_main and not file.exists():
        began = time.perf_counter()
        made = dict(make())
        write_text(file, json.dumps(made | {"seconds": time.perf_counter() - began}))
    while not file.exists():  # the launcher ends this process if the main one fails
        time.sleep(0.05)
    found: dict[str, Any] = read_plain(file, shape, _AGAIN)
    return found


def _sampled(drift: Drift, probed: ProbeContext) -> list[list[int]]:
    """Samples of the starting model until they hold the tokens that are wanted."""
    from cpt.models.sampling import sample

    start, ends = _start(probed), ends_of(probed)
    made: list[list[int]] = []
    for turn in range(_ROUNDS):
        missing = drift.tokens - sum(map(len, made))
        if missing <= 0:
            break
        rows = math.ceil(missing / drift.length * _SPARE)
        made += sample(probed.model, start, ends, rows, drift.length, probed.seed + turn)
    return made


def _prompts(count: int, probed: ProbeContext) -> list[tuple[str, list[int]]]:
    """Source and beginning of some held-out documents of each source."""
    import numpy as np

    from cpt.stages.pretrain.probe_texts import HELD_OUT

    tokenizer = _tokenizer(probed)
    found: list[tuple[str, list[int]]] = []
    for source in HELD_OUT:
        if not has_texts(probed.corpus, source, "heldout"):
            continue
        texts = list(iterate_texts(probed.corpus, source, "heldout"))
        taken = 0
        for index in np.random.default_rng(probed.seed).permutation(len(texts)):
            ids = tokenizer.encode(texts[index], add_special_tokens=False).ids
            if len(ids) >= _SHORTEST and taken < count:
                found.append((source, ids[: min(PROMPT, len(ids) // 2)]))
                taken += 1
    return found


def _continued(prompts: list[list[int]], tokens: int, probed: ProbeContext) -> list[str]:
    """How the model goes on, always with the likeliest token."""
    from evals.models.generation import GenerationRequest, generate

    if not prompts:
        return []
    start = _start(probed)
    wanted = [GenerationRequest([start, *ids], (), tokens, 0) for ids in prompts]
    texts = dict(generate(probed.model, _tokenizer(probed), wanted))
    return [texts[number] for number in range(len(prompts))]


def _tokenizer(probed: ProbeContext) -> Any:
    from cpt.models.tokenizer import load_tokenizer

    return load_tokenizer(probed.folder)


def _start(probed: ProbeContext) -> int:
    """The token that precedes documents; where none does, one that the model itself knows."""
    from cpt.corpus import read_index

    token = read_index(probed.corpus).start_token
    config = probed.model.config.get_text_config()
    found = config.bos_token_id if token is None else _tokenizer(probed).token_to_id(token)
    for candidate in (found, *sorted(ends_of(probed))):
        if candidate is not None:
            return int(candidate)
    raise StageFailed("the model has neither a start nor an end token to sample from")


def ends_of(probed: ProbeContext) -> frozenset[int]:
    """Return the tokens that end a document, by the corpus and by the model."""
    from cpt.corpus import read_index
    from cpt.models.sampling import end_tokens

    token = read_index(probed.corpus).end_token
    named = None if token is None else _tokenizer(probed).token_to_id(token)
    return end_tokens(probed.model) | (frozenset() if named is None else {named})
