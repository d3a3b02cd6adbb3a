"""Write and read a hypernetwork's folder: weights, configuration, model card, source tokenizer.

hypernetwork.safetensors    weights; the source model's rows are not among them
config.json                 architecture, source model with fingerprints, training
README.md                   model card: the same in words
tokenizer/                  tokenizer of the source model, which spells new tokens
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cpt.errors import DataError, MissingInput, ModelError
from cpt.models.folder_files import read_object
from cpt.models.tokenizer import FILE as TOKENIZER_FILE
from cpt.models.tokenizer import copy_settings
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.reference import CARD, CONFIG, TOKENIZER, WEIGHTS
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.vocabulary import Vocabulary, read_vocabulary


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFacts(_Facts):
    """The model that a hypernetwork was trained for."""

    model: str = Field(description="Reference of the model.")
    resolvable: bool = Field(default=True, description="False if `model` only describes the model.")
    size: int = Field(gt=0, description="Number of ids of its tokenizer.")
    widths: dict[str, int] = Field(description="Width of its embedding rows by role.")
    rows_sha256: str = Field(description="SHA-256 of the rows as float32.")
    tokens_sha256: str = Field(description="SHA-256 of the tokens in the order of their ids.")


class TrainingFacts(_Facts):
    """The training of a hypernetwork."""

    data: tuple[str, ...] = Field(default=(), description="References of the training text.")
    steps: int = Field(default=0, ge=0, description="Number of optimizer steps.")
    settings: dict[str, Any] = Field(default={}, description="Settings of the training.")
    figures: dict[str, float] = Field(default={}, description="Measured figures by name.")
    before: TrainingFacts | None = Field(
        default=None, description="Training of the hypernetwork that this one began with."
    )

    @property
    def trained_with_model(self) -> bool:
        """Return True if the model was trained too: its rows are for that model, not for the source."""
        return self.settings.get("backbone") is not None


class HypernetworkFacts(_Facts):
    """The content of `config.json`."""

    hypernetwork: HypernetworkConfig
    source: SourceFacts
    training: TrainingFacts = TrainingFacts()


def save_hypernetwork(
    network: Hypernetwork,
    folder: Path,
    source: SourceModel,
    reference: str,
    training: TrainingFacts | None = None,
    *,
    resolvable: bool = True,
) -> None:
    """Write a hypernetwork into a folder.

    Args:
        network: Hypernetwork.
        folder: Folder that receives the files.
        source: Source model.
        reference: Reference of the source model, as a user writes it.
        training: Facts on the training, for the model card.
        resolvable: False if the reference only describes the model.
    """
    facts = HypernetworkFacts(
        hypernetwork=network.config,
        source=SourceFacts(
            model=reference,
            resolvable=resolvable,
            size=source.size,
            widths={str(role): width for role, width in source.widths.items()},
            rows_sha256=source.rows_sha256,
            tokens_sha256=source.tokens_sha256,
        ),
        training=training or TrainingFacts(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    copy_settings(source.vocabulary.folder, folder / TOKENIZER)
    shutil.copyfile(source.vocabulary.folder / TOKENIZER_FILE, folder / TOKENIZER / TOKENIZER_FILE)
    (folder / CONFIG).write_text(json.dumps(facts.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(
        _card(facts, sum(each.numel() for each in network.parameters())), encoding="utf-8"
    )


def read_facts(folder: Path) -> HypernetworkFacts:
    """Read the configuration of a hypernetwork's folder.

    Raises:
        MissingInput: The folder holds no hypernetwork.
        ModelError: The configuration is damaged.
    """
    file = folder / CONFIG
    if not (file.is_file() and (folder / WEIGHTS).is_file()):
        raise MissingInput(
            f"{folder} is no hypernetwork: it lacks {CONFIG} or {WEIGHTS}",
            hint="Give the folder that the training of a hypernetwork wrote.",
        )
    try:
        return HypernetworkFacts.model_validate(read_object(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"{file}: {key}: {first['msg']}", hint="Write the hypernetwork again.") from error


def source_vocabulary(folder: Path) -> Vocabulary:
    """Return the vocabulary of the source tokenizer that a hypernetwork's folder holds.

    Raises:
        DataError: The folder holds no tokenizer.
    """
    return read_vocabulary(folder / TOKENIZER)


def source_reference(folder: Path) -> str:
    """Return the reference of the model that a hypernetwork was trained for.

    Raises:
        MissingInput, ModelError: The hypernetwork cannot be read.
        DataError: The folder only describes the model, which a stage of a recipe made.
    """
    source = read_facts(folder).source
    if not source.resolvable:
        raise DataError(
            f"the hypernetwork in {folder} was trained for {source.model}, which has no address",
            hint="Name the folder of that model: --model DIR.",
        )
    return source.model


def require_untrained_model(folder: Path) -> None:
    """Raise if a hypernetwork's rows are for a model that was trained with it, not for its source model.

    Raises:
        MissingInput, ModelError: The hypernetwork cannot be read.
        DataError: The model was trained too.
    """
    if read_facts(folder).training.trained_with_model:
        raise DataError(
            f"the hypernetwork in {folder} was trained together with the model: its rows are for the model "
            "that this training wrote, not for the one that it began with",
            hint="Use that model, or a hypernetwork that was trained alone (without `backbone`).",
        )


def fits(folder: Path, model: Path) -> bool:
    """Return True if a model has the embedding rows and tokens that a hypernetwork was trained for.

    More tokens behind them are allowed.

    Raises:
        MissingInput, DataError: The hypernetwork or the model cannot be read.
    """
    return _mismatch(read_facts(folder).source, read_source(model)) is None


def require_fit(folder: Path, model: Path) -> SourceModel:
    """Return the source model with the rows that the hypernetwork reads.

    Raises:
        MissingInput, ModelError: The hypernetwork or the model cannot be read.
        DataError: The model is not the one that the hypernetwork was trained for.
    """
    facts, source = read_facts(folder).source, read_source(model)
    if (mismatch := _mismatch(facts, source)) is not None:
        raise DataError(
            f"the hypernetwork in {folder} was trained for {facts.model}, not for {model}: {mismatch}",
            hint=f"A variant of {facts.model} takes its rows: `cpt tokenizer transfer --model`, or the "
            "setting `base` of the method hypernetwork.",
        )
    return source.first(facts.size)


def load_hypernetwork(folder: Path, model: Path) -> Hypernetwork:
    """Load a hypernetwork with the rows of its source model, ready to predict.

    Args:
        folder: Folder of the hypernetwork.
        model: Folder of the source model; it may have more tokens behind those of the source model.

    Raises:
        MissingInput: The folder holds no hypernetwork.
        DataError: The model is not the one that the hypernetwork was trained for.
        ModelError: The folder is damaged.
    """
    source = require_fit(folder, model)
    with torch.random.fork_rng(devices=[]):  # the first weights are replaced
        network = Hypernetwork(read_facts(folder).hypernetwork, source.rows)
    file = folder / WEIGHTS
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:  # RuntimeError: names or shapes differ
        raise ModelError(
            f"{file} does not hold the weights that {folder / CONFIG} describes: {error}",
            hint="Write the hypernetwork again.",
        ) from error
    return network.eval()


def _mismatch(facts: SourceFacts, source: SourceModel) -> str | None:
    """Return the difference between a model and a hypernetwork's source model; None if there is none."""
    if source.widths != facts.widths:
        return f"its embeddings have the widths {_listed(source.widths)}, not {_listed(facts.widths)}"
    known = source.first(facts.size)
    if (known.size, known.tokens_sha256) != (facts.size, facts.tokens_sha256):
        return "its tokenizer has other tokens"
    return "its embeddings have other values" if known.rows_sha256 != facts.rows_sha256 else None


def _listed(widths: Mapping[Any, int]) -> str:
    return ", ".join(f"{role} {width}" for role, width in sorted(widths.items()))


def _card(facts: HypernetworkFacts, parameters: int) -> str:
    """Return the model card."""
    source, training, network = facts.source, facts.training, facts.hypernetwork
    shared = training.settings.get("shared", "predicted")
    lines = [
        f"# Hypernetwork for {source.model}",
        "",
        f"It predicts the embedding rows of any token for `{source.model}` from the rows of the token's "
        "pieces (zero-shot tokenizer transfer, arXiv 2405.07883). To give that model another tokenizer:",
        "",
        "```sh",
        f"cpt tokenizer transfer --hypernet FOLDER --tokenizer TOKENIZER shared={shared} --out DIR",
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| source model | `{source.model}`, {source.size:,} tokens, widths {_listed(source.widths)} |",
        f"| SHA-256 of its embeddings (as float32) | `{source.rows_sha256}` |",
        f"| SHA-256 of its tokens | `{source.tokens_sha256}` |",
        f"| variant | {network.variant}, {network.layers} layers, {parameters:,} weights |",
        f"| data | {', '.join(training.data) or 'none'} |",
        f"| steps | {training.steps:,} |",
        *(f"| {name} | {value:.6g} |" for name, value in training.figures.items()),
    ]
    earlier = training.before
    while earlier is not None:
        data = ", ".join(earlier.data) or "no data named"
        lines.append(f"| before | {earlier.steps:,} steps on {data} |")
        earlier = earlier.before
    if training.trained_with_model:
        lines += [
            "",
            f"It was trained together with the model, for the tokenizer `{training.settings['tokenizer']}`. "
            "Its rows are for the model that this training wrote beside it.",
        ]
    if training.settings:
        lines += [
            "",
            "Settings of the training:",
            "",
            "```json",
            json.dumps(training.settings, indent=2),
            "```",
        ]
    return "\n".join(lines) + "\n"
