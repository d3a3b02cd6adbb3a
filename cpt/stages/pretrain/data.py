"""What a pretrain stage trains on: a corpus's stream, from where an earlier training left it, and steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.corpus.texts import has_texts
from cpt.errors import Problem
from cpt.stages.base import Artifact, StageConfig
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import Checkpoint, begin_of_data, find_start
from cpt.stages.pretrain.gates import may_replay

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream


def start_of(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> Checkpoint | Problem | None:
    """What the stage starts from, if it continues another one that is made already."""
    if config.start is None or "model" not in inputs:
        return None
    return find_start(config.start, inputs["model"])


def steps_of(config: PretrainConfig, corpus: Path, stream: TrainingStream) -> int:
    """The fewest steps that hold the tokens asked for, as sequences are not always full; or all there are."""
    from cpt.corpus import read_index

    if config.tokens is None:
        return stream.available_steps(config.epochs)
    most = config.batch_sequences * read_index(corpus).sequence_length
    steps = 0
    while (missing := config.tokens - tokens_of(stream, steps)) > 0:
        steps += math.ceil(missing / most)
    return steps


def tokens_of(stream: TrainingStream, steps: int) -> int:
    """Tokens of so many steps."""
    return sum(int(entry["tokens"]) for entry in stream.ledger(steps).values())


def expected_tokens(config: PretrainConfig, upstream: Sequence[StageConfig]) -> int | None:
    """Tokens of a stage whose corpus is not made yet; None where nothing says how much text there is.

    Args:
        upstream: configurations of the stages that the corpus comes through.
    """
    from cpt.corpus.stream import replay_rows

    if config.tokens is not None or config.start is not None:  # of which some text may be gone through
        return config.tokens
    selected = [maker.select.tokens for maker in upstream if isinstance(maker, CorpusConfig) and maker.select]
    domain_rows = config.batch_sequences - replay_rows(config.replay, config.batch_sequences)
    share = domain_rows / config.batch_sequences
    return round(selected[-1] * config.epochs / share) if selected else None


def planned(config: PretrainConfig, inputs: Mapping[str, Artifact], seed: int) -> tuple[TrainingStream, int]:
    """What a corpus would be trained on: the stream and the steps that are taken of it.

    Args:
        inputs: the corpus at least; without a model that is made already no text counts as gone through.
    """
    found, corpus = start_of(config, inputs), inputs["corpus"].path("corpus")
    begin = begin_of_data(config.start, None if isinstance(found, Problem) else found, inputs)
    stream = stream_of(config, corpus, seed, begin)
    return stream, steps_of(config, corpus, stream)


def stream_of(
    config: PretrainConfig, corpus: Path, seed: int, begin: Mapping[str, int] | None = None
) -> TrainingStream:
    """Domain and replay text in the order of training.

    Args:
        begin: sequences of each source that an earlier training has seen.
    """
    from cpt.corpus import TrainingStream, open_source
    from cpt.sources import DOMAIN, REPLAY

    names = (DOMAIN, REPLAY) if config.replay or may_replay(config.gates) else (DOMAIN,)
    sources = {name: open_source(corpus, name) for name in names if has_texts(corpus, name, "train")}
    return TrainingStream(sources, config.replay, config.batch_sequences, seed, begin)
