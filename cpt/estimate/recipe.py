"""From a recipe to jobs: what is made already is read, what is not made yet is reckoned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpt.estimate.architecture import architecture, read_architecture
from cpt.estimate.job import Job, Lengths, heaviness
from cpt.recipe.schema import Recipe, Step
from cpt.stages.base import BASE, Artifact
from cpt.stages.corpus import CorpusConfig
from cpt.stages.pretrain import PretrainConfig, planned
from cpt.stages.vocabulary_config import VocabularyConfig

if TYPE_CHECKING:
    import torch

_BATCHES = 256
"""Global batches that are looked at for the heaviest."""


@dataclass(frozen=True)
class Planned:
    """A pretrain stage's run, and in words what had to be assumed."""

    step: Step
    job: Job
    assumptions: tuple[str, ...]


def pretrain_steps(recipe: Recipe) -> list[Step]:
    """The stages of a recipe that train."""
    return [step for step in recipe.steps if isinstance(step.located, PretrainConfig)]


def plan_job(
    recipe: Recipe,
    step: Step,
    artifacts: Mapping[str, Artifact],
    *,
    fetch: bool,
    on_gpu: bool = False,
    processes: int = 1,
) -> Planned | None:
    """The job of a pretrain stage.

    Args:
        artifacts: finished results, by name of the stage.
        fetch: download what tells the architecture, if need be.

    Returns:
        None when the architecture is not at hand and may not be fetched.

    Raises:
        ReferenceUnavailable: the architecture cannot be had.
    """
    assumptions: list[str] = []
    config: Any = step.located
    model = _architecture(recipe, step.inputs["model"], artifacts, fetch, assumptions)
    if model is None:
        return None
    corpus = artifacts.get(step.inputs["corpus"])
    if corpus is not None:
        sequences, steps, tokens = _sequences(config, corpus, recipe.seed, model)
    else:
        sequences, steps, tokens = _full_sequences(config, _sequence_length(recipe, step), assumptions)
    size = config.micro_batch_sequences or config.batch_sequences
    share = math.ceil(config.batch_sequences / processes)
    job = Job(
        architecture=model,
        dtype=_dtype(config, on_gpu),
        optimizer=config.optimizer,
        sequences=sequences,
        micro_batch=min(size, share),
        steps=steps,
        tokens=tokens,
        probe=_probe(config),
        processes=processes,
    )
    if processes > 1:
        assumptions.append("every process holds a whole copy of the model (no sharding)")
    if config.compile:
        assumptions.append("compiled blocks keep less than is counted here")
    return Planned(step, job, tuple(assumptions))


def _architecture(
    recipe: Recipe, source: str, artifacts: Mapping[str, Artifact], fetch: bool, assumptions: list[str]
) -> Any | None:
    """The configuration of the model that a stage makes, or of the base."""
    if source == BASE:
        return architecture(recipe.base, fetch=fetch)
    if source in artifacts:
        return read_architecture(artifacts[source].path("model") / "config.json", source)
    maker = recipe.step(source)
    earlier = maker.inputs.get("model") or next(iter(maker.inputs.values()))
    model = _architecture(recipe, earlier, artifacts, fetch, assumptions)
    if model is not None and isinstance(maker.located, VocabularyConfig):
        _change_vocabulary(model.get_text_config(), maker.located, fetch, assumptions)
    return model


def _change_vocabulary(model: Any, config: VocabularyConfig, fetch: bool, assumptions: list[str]) -> None:
    """Set the size that a vocabulary will have."""
    tokens: int = model.vocab_size
    if config.prune is not None:
        tokens -= config.prune.tokens
    if config.extend is not None:
        tokens += config.extend.tokens
    if config.train is not None:
        tokens = config.train.tokens
    if config.transliterate is not None:
        tokens += config.transliterate.tokens or 0
        if config.transliterate.tokens is None:
            assumptions.append("the vocabulary keeps its size: how many Latin spellings are new is not known")
    if config.replace is not None:
        known = _tokens_of(config.replace.tokenizer) if fetch else None
        tokens = known or tokens
        if known is None:
            assumptions.append(f"the vocabulary keeps its size: {config.replace.tokenizer} is not read")
    model.vocab_size = math.ceil(tokens / config.pad_to_multiple_of) * config.pad_to_multiple_of


def _tokens_of(reference: str) -> int:
    from tokenizers import Tokenizer

    from cpt.references import resolve_tokenizer

    tokenizer: Any = Tokenizer.from_file(str(resolve_tokenizer(reference) / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def _sequences(
    config: PretrainConfig, corpus: Artifact, seed: int, model: Any
) -> tuple[tuple[Lengths, ...], int, int]:
    """Document lengths of the heaviest of some global batches, steps and tokens of a corpus that is there."""
    stream, steps = planned(config, corpus.path("corpus"), seed)
    looked_at = range(0, steps, math.ceil(steps / _BATCHES))
    batches = (
        [tuple(int(length) for length in row.piece_lengths) for row in stream.batch(at)] for at in looked_at
    )

    def weight(lengths: Lengths) -> int:
        return heaviness(lengths, model)

    heaviest = max(batches, key=lambda batch: sum(map(weight, batch)))
    tokens = sum(int(entry["tokens"]) for entry in stream.ledger(steps).values())
    return tuple(sorted(heaviest, key=weight, reverse=True)), steps, tokens


def _full_sequences(
    config: PretrainConfig, length: int, assumptions: list[str]
) -> tuple[tuple[Lengths, ...], int, int]:
    """As `_sequences`, for a corpus that is not made yet."""
    assumptions.append(f"every sequence is one document of {length:,} tokens: the corpus is not made yet")
    batch = config.batch_sequences * length
    steps = math.ceil(config.tokens / batch)
    return ((length,),) * config.batch_sequences, steps, steps * batch


def _sequence_length(recipe: Recipe, step: Step) -> int:
    """The sequence length of the corpus stage that a stage's corpus comes from."""
    maker = recipe.step(step.inputs["corpus"])
    while not isinstance(maker.located, CorpusConfig):
        maker = recipe.step(maker.inputs["corpus"])
    return maker.located.sequence_length


def _dtype(config: PretrainConfig, on_gpu: bool) -> torch.dtype:
    from cpt.packed.model import resolve_precision

    return resolve_precision("bf16" if on_gpu and config.precision == "auto" else config.precision)


def _probe(config: PretrainConfig) -> Lengths:
    """Windows that a probe reads at once."""
    from cpt.monitor.bits_per_byte import BATCH_TOKENS

    window = min(config.monitor.window, config.monitor.tokens)
    most = min(BATCH_TOKENS, config.monitor.tokens)
    return (window,) * max(1, most // window)
