"""Find the documents and the tokens that the input noise of a pretrain stage is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpt.errors import Problem
from cpt.sources import DOMAIN, STUDY
from cpt.stages.pretrain.config import PretrainConfig
from cpt.training.features.input_noise import InputNoise


def ordinary_tokens(model: Path, corpus: Path, rows: int) -> tuple[int, ...]:
    """Return the ids of the tokens that noise replaces and draws, ascending.

    They are all but special ones and those that start and end the corpus's documents.

    Args:
        model: model folder, with its tokenizer.
        rows: number of rows of its embeddings; some tokenizers have more tokens.
    """
    from cpt.corpus import read_index
    from cpt.models.tokenizer import ordinary_ids

    index = read_index(corpus)
    ids = ordinary_ids(model, index.start_token, index.end_token)
    return tuple(token_id for token_id in ids if token_id < rows)


def has_documents(config: PretrainConfig, corpus: Path) -> bool:
    """Return True if domain rows hold documents that are neither study documents nor conversations."""
    from cpt.corpus import read_index

    domain = read_index(corpus).sources[DOMAIN]
    parts = domain.parts or {"": domain.splits["train"]}
    return any(parts[name].documents > parts[name].marked for name in _document_parts(config, list(parts)))


def noise_problems(config: PretrainConfig, parts: Sequence[str]) -> list[Problem]:
    """Return a problem if the mixture leaves out all documents.

    Args:
        parts: names of the domain's parts; none if it is one text.
    """
    if not config.input_noise or _document_parts(config, parts or [""]):
        return []
    return InputNoise(config.input_noise).without_documents()


def _document_parts(config: PretrainConfig, parts: Sequence[str]) -> list[str]:
    """Return the parts that are read, but for those of study documents."""
    phases = config.mixture or []
    read = [
        part
        for part in parts
        if not phases or any(phase.weights is None or phase.weights.get(part) for phase in phases)
    ]
    return [part for part in read if part not in STUDY]
