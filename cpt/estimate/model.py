"""What the model will be that a stage takes, though the stages that make it may not have run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cpt import references
from cpt.estimate.architecture import architecture, read_architecture
from cpt.models.new_tokens import read_new_tokens
from cpt.recipe.schema import Recipe
from cpt.references.syntax import LocalPath
from cpt.stages.base import BASE, Artifact
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.vocabulary.config import VocabularyConfig
from cpt.training.trainable import Expansion


@dataclass(frozen=True)
class Model:
    """A model without weights.

    Attributes:
        architecture: its configuration (transformers).
        new_tokens: ids of the tokens that its base did not have; right in number, where it is not made yet.
    """

    architecture: Any
    new_tokens: tuple[int, ...] = ()


def planned_model(
    recipe: Recipe, source: str, artifacts: Mapping[str, Artifact], fetch: bool, assumptions: list[str]
) -> Model | None:
    """The model that a stage makes, or the base; None when it is not at hand and may not be fetched.

    Args:
        source: the stage's name, or that of the base.
        artifacts: finished results, by name of the stage.
        fetch: download what tells the architecture, if need be.
        assumptions: where what is not known is added, in words.
    """
    if source == BASE:
        return _base(recipe.base, fetch)
    if source in artifacts:
        folder = artifacts[source].path("model")
        return Model(read_architecture(folder / "config.json", source), read_new_tokens(folder))
    maker = recipe.step(source)
    model = planned_model(recipe, maker.model_from, artifacts, fetch, assumptions)
    settings: Any = maker.located
    if model is None:
        return None
    if isinstance(settings, VocabularyConfig):
        return _with_vocabulary(model, settings, fetch, assumptions)
    if isinstance(settings, PretrainConfig) and isinstance(settings.trainable, Expansion):
        return replace(model, architecture=_expanded(model.architecture, settings.trainable.every))
    return model


def _base(reference: str, fetch: bool) -> Model | None:
    config = architecture(reference, fetch=fetch)
    place = references.parse(reference).place
    new_tokens = read_new_tokens(place.path) if isinstance(place, LocalPath) and place.path.is_dir() else ()
    return None if config is None else Model(config, new_tokens)


def _expanded(config: Any, every: int) -> Any:
    """The configuration of a model that was made deeper."""
    import torch

    from cpt.estimate.rehearsal import build
    from cpt.training.trainable.block_expansion import expand

    with torch.device("meta"):
        model = build(config)
    expand(model, every)
    return model.config


def _with_vocabulary(model: Model, config: VocabularyConfig, fetch: bool, assumptions: list[str]) -> Model:
    """The model with the vocabulary that it will have."""
    text = model.architecture.get_text_config()
    tokens: int = text.vocab_size
    new = len(model.new_tokens)
    if config.prune is not None:
        tokens -= config.prune.tokens
    if config.extend is not None:
        tokens += config.extend.tokens
        new += config.extend.tokens
    if config.train is not None:
        tokens = new = config.train.tokens
    if config.transliterate is not None:
        tokens += config.transliterate.tokens or 0
        new += config.transliterate.tokens or 0
        if config.transliterate.tokens is None:
            assumptions.append("the vocabulary keeps its size: how many Latin spellings are new is not known")
    if config.replace is not None:
        known = _tokens_of(config.replace.tokenizer) if fetch else None
        tokens = new = known or tokens
        if known is None:
            assumptions.append(f"the vocabulary keeps its size: {config.replace.tokenizer} is not read")
    text.vocab_size = math.ceil(tokens / config.pad_to_multiple_of) * config.pad_to_multiple_of
    return replace(model, new_tokens=tuple(range(min(new, tokens))))


def _tokens_of(reference: str) -> int:
    from tokenizers import Tokenizer

    from cpt.references import resolve_tokenizer

    tokenizer: Any = Tokenizer.from_file(str(resolve_tokenizer(reference) / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())
