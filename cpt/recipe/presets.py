"""Describe packaged recipes: what each needs, read from its settings, and what it gave where it was run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

from cpt.recipe.authoring import about, templates

TRAINED_PER_SECOND, SAMPLED_PER_SECOND, OTHER_SECONDS = 350, 240, 244
"""Tokens a second of a model of 135M parameters on two cores, trained and sampled; seconds of other stages.

As in the quickstart (benchmarks/results/quickstart.json): together 624 of its 627 seconds. Benchmarks of
`evaluate.suites` are not counted.
"""

_OWN_FILE = re.compile(r"data/\S+")
_MEASURED_SIZE = "135M"


@dataclass(frozen=True)
class Gave:
    """Gains of a recipe when it was run: changes in bits per byte of held-out text, with intervals.

    Attributes:
        seconds: Duration of the run.
        machine: Machine of the run.
        domain, general: Change as `value`, `low` and `high`; less is better.
        source: File with all figures.
        seeds: Number of runs; `seconds` and changes are their means.
        tiny: Whether it is the variant of minutes in the recipe's header.
    """

    seconds: float
    machine: str
    domain: Mapping[str, float]
    general: Mapping[str, float]
    source: str
    seeds: int = 1
    tiny: bool = False


@dataclass(frozen=True)
class Needs:
    """Needs of a recipe's trainings on a GPU, by the estimator, as the recipe stands.

    Attributes:
        gpu: Name of the GPU.
        tokens: Tokens of all trainings, whole steps.
        memory_bytes: Largest memory of its trainings.
        training_seconds: Seconds of all of them; sampling, merging and evaluation are not counted.
        price: Assumed price of an hour, in dollars.
        cost: Dollars for the trainings.
    """

    gpu: str
    tokens: int
    memory_bytes: int
    training_seconds: float
    price: float
    cost: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", self.price * self.training_seconds / 3_600)


@dataclass(frozen=True)
class Preset:
    """A packaged recipe.

    Attributes:
        name: Name for `cpt init --template`.
        about: What it is for.
        base: Reference of its model.
        data: Files of the user that it names.
        tokens: Training tokens of all stages; None without a training on text.
        sampled: Tokens that the base samples as replay text.
        cpu_seconds: Estimated duration on two cores; None for sizes and trainings that were not measured.
        needs: Memory and time of a GPU; None without a training.
        bound: Limit on general text that the chosen merge weight keeps; None without a merge.
        gave: Figures of its run; None if it was not run.
    """

    name: str
    about: str
    base: str
    data: tuple[str, ...]
    tokens: int | None
    sampled: int
    cpu_seconds: float | None
    needs: Needs | None
    bound: str | None
    gave: Gave | None


def presets() -> list[Preset]:
    """Return all packaged recipes by name. No model is loaded and nothing is fetched."""
    return [preset_of(name, text) for name, text in templates().items()]


def preset_of(name: str, text: str) -> Preset:
    """Return the description of a recipe.

    Args:
        name: Name of the recipe.
        text: Its YAML.
    """
    recipe: dict[str, Any] = YAML(typ="safe").load(text)
    stages = [(kind, settings or {}) for stage in recipe["stages"] for kind, settings in stage.items()]
    corpora = [settings for kind, settings in stages if kind == "corpus"]
    trained = [_tokens(settings, corpora) for kind, settings in stages if kind == "pretrain"]
    merges = [settings for kind, settings in stages if kind == "merge"]
    bounds = [gate["limit"] for settings in merges for gate in settings.get("gates", ())]
    sampled = sum(tokens for corpus in corpora for tokens in _values(corpus.get("replay"), "tokens"))
    tokens = sum(trained) if trained else None
    known = tokens is not None and _MEASURED_SIZE in recipe["base"]
    seconds = (tokens or 0) / TRAINED_PER_SECOND + sampled / SAMPLED_PER_SECOND + OTHER_SECONDS
    return Preset(
        name=name,
        about=about(text),
        base=recipe["base"],
        data=tuple(dict.fromkeys(path for path in _values(corpora, "path") if _OWN_FILE.match(str(path)))),
        tokens=tokens,
        sampled=sampled,
        cpu_seconds=seconds if known else None,
        needs=_needs().get(name),
        bound=bounds[-1] if bounds else None,
        gave=_figures().get(name),
    )


def _tokens(settings: Mapping[str, Any], corpora: Sequence[Mapping[str, Any]]) -> int:
    """Return the tokens of a training; without `tokens` those of the selected text, its epochs and replay."""
    if "tokens" in settings:
        return int(settings["tokens"])
    (corpus,) = corpora
    selected = corpus["select"]["tokens"] * settings.get("epochs", 1)
    return math.ceil(selected / (1 - settings.get("replay", 0)))


def _values(value: Any, key: str) -> Iterator[Any]:
    """Yield the values of a key, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key:
                yield inner
            else:
                yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)


@cache
def _needs() -> Mapping[str, Needs]:
    """Return the committed estimates by recipe."""
    text = (files("recipes") / "needs.json").read_text(encoding="utf-8")
    return {name: Needs(**estimate) for name, estimate in json.loads(text).items()}


@cache
def _figures() -> Mapping[str, Gave]:
    """Return the committed figures of runs by recipe."""
    text = (files("recipes") / "figures.json").read_text(encoding="utf-8")
    return {name: Gave(**figures) for name, figures in json.loads(text).items()}
