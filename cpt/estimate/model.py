"""The model that a stage will train, without weights, also before the stages that make it have run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpt import references
from cpt.errors import ModelError, ReferenceUnavailable
from cpt.models.token_ids import read_new_tokens
from cpt.recipe.schema import Recipe
from cpt.references import hub, wheel
from cpt.references.resolve import is_gguf
from cpt.references.syntax import HubFile, HubModel, LocalPath, Reference, WheelFile
from cpt.stages.base import BASE, Artifact
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.vocabulary.config import VocabularyConfig
from cpt.training.trainable import Expansion
from tokenizer_tools.settings import VocabularyChange


def architecture(reference: str, *, fetch: bool) -> Any | None:
    """Return the configuration (transformers) of a model reference, without its weights.

    Args:
        reference: Model reference.
        fetch: True to download missing files: of a hub model only config.json, of a GGUF file all of it.

    Returns:
        None if it is not local and may not be downloaded.

    Raises:
        ReferenceUnavailable: The model is not available.
        ModelError: Its config.json is damaged, or of an architecture that transformers does not know.
    """
    parsed = references.parse(reference)
    file = _fetched(reference, parsed) if fetch else _local_file(parsed)
    return None if file is None else read_architecture(file, parsed.text)


def read_architecture(file: Path, text: str) -> Any:
    """Return the configuration in a config.json or in the header of a GGUF file.

    Args:
        file: config.json or GGUF file.
        text: Name of the model for messages.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    from cpt.models.folder_files import CONFIG
    from cpt.models.loading import settings, without_weights

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if file.suffix == ".gguf":
            return AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        if file.name == CONFIG:
            without_weights(file.parent)
            return settings(file.parent)
        return AutoConfig.from_pretrained(file, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as error:  # transformers raises errors of any class for a damaged file
        raise ReferenceUnavailable(
            f"the architecture of {text} cannot be read: {error}",
            hint="A model is a folder with config.json, org/name on the hub, or a .gguf file.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _fetched(reference: str, parsed: Reference) -> Path:
    if isinstance(parsed.location, HubModel):
        return hub.file(HubFile("model", parsed.location.repo, "config.json", parsed.location.revision))
    path = references.resolve_file(reference)
    return path / "config.json" if path.is_dir() else path


def _local_file(parsed: Reference) -> Path | None:
    """Return the local file with the architecture, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    match parsed.location:
        case HubModel(repo, revision):
            path: Any = try_to_load_from_cache(repo, "config.json", revision=revision)
        case HubFile(repo_type, repo, inside, revision):
            path = try_to_load_from_cache(repo, inside, revision=revision, repo_type=repo_type)
        case WheelFile() as place:
            path = wheel.cached_path(place)
        case LocalPath(path=local):
            path = local if is_gguf(parsed) else local / "config.json"
        case _:
            path = None
    return Path(path) if isinstance(path, str | Path) and Path(path).is_file() else None


@dataclass(frozen=True)
class Model:
    """A model without weights.

    Attributes:
        architecture: Configuration (transformers).
        new_tokens: Ids of the tokens that its base did not have; only their number is right before it is
            made.
    """

    architecture: Any
    new_tokens: tuple[int, ...] = ()


def planned_model(
    recipe: Recipe, source: str, artifacts: Mapping[str, Artifact], fetch: bool, assumptions: list[str]
) -> Model | None:
    """Return the model of a stage, or the base; None if it is not local and may not be downloaded.

    Args:
        recipe: Recipe of the run.
        source: Name of the stage, or of the base.
        artifacts: Finished results, by name of the stage.
        fetch: True to download missing files.
        assumptions: List to which assumptions are appended, in words.
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
    if isinstance(settings, HypernetworkStageConfig) and settings.change is not None:
        return _with_vocabulary(model, settings.change, fetch, assumptions)
    if isinstance(settings, PretrainConfig) and isinstance(settings.trainable, Expansion):
        return replace(model, architecture=_expanded(model.architecture, settings.trainable.every))
    return model


def _base(reference: str, fetch: bool) -> Model | None:
    config = architecture(reference, fetch=fetch)
    place = references.parse(reference).location
    new_tokens = read_new_tokens(place.path) if isinstance(place, LocalPath) and place.path.is_dir() else ()
    return None if config is None else Model(config, new_tokens)


def _expanded(config: Any, every: int) -> Any:
    """Return the configuration of a model after block expansion."""
    import torch

    from cpt.estimate.simulated_model import build
    from cpt.training.trainable.block_expansion import expand

    with torch.device("meta"):
        model = build(config)
    expand(model, every)
    return model.config


def _with_vocabulary(model: Model, config: VocabularyChange, fetch: bool, assumptions: list[str]) -> Model:
    """Return the model with its future vocabulary."""
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
        known = tokens_of(config.replace.tokenizer) if fetch else None
        tokens = new = known or tokens
        if known is None:
            assumptions.append(f"the vocabulary keeps its size: {config.replace.tokenizer} is not read")
    text.vocab_size = math.ceil(tokens / config.pad_to_multiple_of) * config.pad_to_multiple_of
    return replace(model, new_tokens=tuple(range(min(new, tokens))))


def tokens_of(reference: str) -> int:
    """Return the number of tokens of a tokenizer, which is fetched.

    Raises:
        ReferenceUnavailable: The tokenizer cannot be had.
    """
    from tokenizers import Tokenizer

    from cpt.references import resolve_tokenizer

    tokenizer: Any = Tokenizer.from_file(str(resolve_tokenizer(reference) / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())
