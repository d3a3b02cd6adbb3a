"""Settings that every kind of `trainable` has, and the selection of weights that they make on a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem, RecipeError
from cpt.training.optimizers.groups import NEW_ROWS, Part, sort_weights

if TYPE_CHECKING:
    from torch import nn

    from cpt.training.trainable.adalora import RankAllocation

Rows = Literal["frozen", "new-tokens", "all"]
"""Rows of an embedding that train."""

NEW_OR_NONE = "default: those of new tokens, where the model has any."
"""Ends the description of settings of rows: see `resolved_rows`."""

NONE = "none"
"""Value of `layers` for no layer."""

_LATE_WARMUP = 20
"""Steps that AdamW's second moment looks back (β2 0.95)."""


@dataclass(frozen=True)
class Setup:
    """Facts about a run that decide what trains.

    Attributes:
        steps: Number of optimizer steps of the run.
        new_tokens: Ids of the tokens that the model's base did not have.
        seed: Seed of new random weights.
    """

    steps: int
    new_tokens: Sequence[int] = ()
    seed: int = 0


class Adapter(Protocol):
    """An adapter around a model's matrices."""

    def allocation(self, weights: Mapping[str, nn.Parameter]) -> RankAllocation | None:
        """Return AdaLoRA's rank allocation over these float32 weights; None for other adapters."""

    def save(self, folder: Path, ranks: RankAllocation | None) -> None:
        """Write the adapter to a folder."""

    def merge(self) -> None:
        """Add the adapter to the matrices and remove it from the model."""

    def wraps(self, module: nn.Module) -> bool:
        """Return True if a module stands in the place of one of the model's, which is inside it."""

    def around(self, wrapper: nn.Module) -> nn.Module:
        """Return the module of the model that a wrapper stands in the place of, with its frozen weights."""

    def plain(self, wrapper: nn.Module) -> nn.Module:
        """Return the module that replaces a wrapper in the end, with names and shapes of its parameters."""

    def merged(self, wrapper: nn.Module) -> nn.Module:
        """Return that module with the adapter merged into it; its weights are whole."""


@dataclass(frozen=True)
class TrainableSpec:
    """The weights of a model that train. Their parameters have `requires_grad`, all others do not.

    Attributes:
        rates: Multiples of the schedule's rate by part.
        new_tokens: Ids of the tokens whose rows are weights of their own, if any are.
        new_rows: Names of the matrices that these rows belong to; True if the other rows train too.
        first_steps: Number of steps, from the first, in which only these rows train.
        late_warmup: Number of steps after those in which the rate of the other weights rises: their optimizer
            state is fresh.
        settling_steps: Number of steps after which every weight that trains has had a gradient other than
            zero.
        occasional: Names of weights that have a gradient only in steps in which a new token occurs: rows of
            an input embedding that is not tied to the output embedding.
        adapter: Adapter around the model's weights.
        added_layers: Names of layers that were added to the model and add nothing to its states at first.
    """

    rates: Mapping[Part, float]
    new_tokens: tuple[int, ...] = ()
    new_rows: Mapping[str, bool] = field(default_factory=dict)
    first_steps: int = 0
    late_warmup: int = 1
    settling_steps: int = 1
    occasional: frozenset[str] = frozenset()
    adapter: Adapter | None = None
    added_layers: tuple[str, ...] = ()

    @property
    def is_model(self) -> bool:
        """Return True if every step has a model, False if only a merged adapter at the end is one."""
        return self.adapter is None


class Strict(BaseModel):
    """Settings that do not change and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rates(Strict):
    """Multiples of the schedule's rate."""

    embeddings: float = Field(default=1.0, gt=0, description="For the input and output embeddings.")
    new_tokens: float | None = Field(
        default=None, gt=0, description="For the rows of new tokens; default: as the other embeddings."
    )

    def multiples(self) -> dict[Part, float]:
        """Return the multiple of every part."""
        given: Any = self.model_dump(exclude_none=True)
        return {"new_tokens": self.embeddings, **given}


class WeightRates(Rates):
    """Multiples of the schedule's rate, for weights of the model itself."""

    matrices: float = Field(default=1.0, gt=0, description="For the matrices inside the layers.")
    norms: float = Field(default=1.0, gt=0, description="For norms and biases.")


class AdapterRates(Rates):
    """Multiples of the schedule's rate, where adapters train."""

    adapters: float = Field(default=1.0, gt=0, description="For the adapters.")


class TrainableConfig(Strict):
    """Base of the settings of what trains.

    Attributes:
        moves_own_weights: True if weights of the starting model train; False if only what is put beside them.
    """

    moves_own_weights: ClassVar[bool] = True

    def apply(self, model: Any, setup: Setup) -> TrainableSpec:
        """Mark the weights that train on a float32 model, after adding layers or adapters to it.

        Args:
            model: Causal language model; a model on the meta device is enough to find errors in the settings.
            setup: Facts about the run.

        Raises:
            RecipeError: The settings do not fit the model; keys are relative to the settings.
        """
        raise NotImplementedError


def resolved_rows(given: Rows | None, setup: Setup) -> Rows:
    """Return the rows that train; by default those of new tokens, which nothing has trained yet."""
    return given or ("new-tokens" if setup.new_tokens else "frozen")


def needs_separate_rows(rows: Iterable[Rows], first: float, rates: Rates) -> bool:
    """Return True if rows of new tokens are weights of their own.

    Args:
        rows: Rows of the embeddings that train.
        first: Share of the steps in which only the rows of new tokens train.
        rates: Multiples of the schedule's rate.
    """
    separate = {"new-tokens", "all"} if first or rates.new_tokens is not None else {"new-tokens"}
    return not separate.isdisjoint(rows)


def vocabulary_names(model: Any) -> tuple[str, str]:
    """Return the parameter names of the input and the output embedding: twice the same if they are tied."""
    matrices = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return names[id(matrices[0])], names[id(matrices[1])]


def select_weights(
    model: Any,
    setup: Setup,
    rates: Rates,
    names: Collection[str],
    embeddings: Rows,
    head: Rows | None = None,
    *,
    first: float = 0.0,
    settling_steps: int = 1,
) -> TrainableSpec:
    """Mark weights of a model as trainable, and all others as frozen.

    Args:
        model: Causal language model.
        setup: Facts about the run.
        rates: Multiples of the schedule's rate.
        names: Names of the parameters that train, apart from the embeddings.
        embeddings, head: Rows of the input and the output embedding that train; `head` None: as the input's.
        first: Share of the steps in which only the rows of new tokens train.
        settling_steps: See `TrainableSpec`.

    Raises:
        RecipeError: The settings do not fit the model or each other.
    """
    input_name, output_name = vocabulary_names(model)
    rows: dict[str, Rows] = {output_name: head or embeddings, input_name: embeddings}
    problems = _first_problems(model, setup, rates, embeddings, head, first)
    if input_name == output_name and head not in (None, embeddings):
        problems.append(
            Problem(
                f"the input and the output embedding are one matrix in this model, {input_name}",
                key="head",
                hint="Leave `head` out: it trains as `embeddings` does.",
            )
        )
    new_rows = {
        name: which == "all" for name, which in rows.items() if needs_separate_rows([which], first, rates)
    }
    trained = set(names).difference(rows) | {name for name, which in rows.items() if which != "frozen"}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    problems += unused_rates(model, rates, new_rows)
    if problems:
        raise RecipeError(problems)
    first_steps = round(first * setup.steps)
    return TrainableSpec(
        rates.multiples(),
        tuple(setup.new_tokens) if new_rows else (),
        new_rows,
        first_steps=first_steps,
        late_warmup=max(1, min(_LATE_WARMUP, (setup.steps - first_steps) // 10)),
        settling_steps=settling_steps,
        occasional=frozenset() if input_name == output_name else frozenset({input_name + NEW_ROWS}),
    )


def _first_problems(
    model: Any, setup: Setup, rates: Rates, embeddings: Rows, head: Rows | None, first: float
) -> list[Problem]:
    """Return the problems of settings that need new tokens."""
    wanted = {
        "embeddings_first": bool(first),
        "rates.new_tokens": rates.new_tokens is not None,
        "embeddings": embeddings == "new-tokens",
        "head": head == "new-tokens",
    }
    problems = [problem for key in wanted if wanted[key] for problem in new_token_problems(model, setup, key)]
    reason = None
    if first and not round(first * setup.steps):
        reason = f"{first:g} of {setup.steps} steps is less than one step"
    elif first and {embeddings, head or embeddings} == {"frozen"}:
        reason = "the embeddings are frozen: there is nothing to train first"
    return [*problems, *([Problem(reason, key="embeddings_first")] if reason else [])]


def new_token_problems(model: Any, setup: Setup, key: str) -> list[Problem]:
    """Return the problems of a setting that needs new tokens.

    Args:
        model: Causal language model.
        setup: Facts about the run.
        key: Key of the setting.
    """
    if not setup.new_tokens:
        return [
            Problem(
                "the model has no new tokens: no vocabulary stage has brought any",
                key=key,
                hint="Put a vocabulary stage before this one, or leave the setting out.",
            )
        ]
    count = len(model.get_input_embeddings().weight)
    if max(setup.new_tokens) >= count:
        message = f"new token {max(setup.new_tokens)} has no row: the embedding has {count}"
        return [Problem(message, key=key)]
    return []


def unused_rates(model: Any, rates: Rates, new_rows: Mapping[str, bool]) -> list[Problem]:
    """Return a problem for every given rate of a part that does not train.

    Args:
        model: Causal language model whose trainable weights are marked.
        rates: Multiples of the schedule's rate.
        new_rows: See `TrainableSpec`.
    """
    weights: dict[str, nn.Parameter] = {
        name: p for name, p in model.named_parameters() if p.requires_grad and new_rows.get(name, True)
    }
    weights |= {name + NEW_ROWS: model.get_parameter(name) for name in new_rows}
    parts = {part for part, _ in sort_weights(model, weights)}
    return [
        Problem(
            f"nothing trains that is part of the {part.replace('_', ' ')}: their rate has no effect",
            key=f"rates.{part}",
        )
        for part in rates.model_fields_set
        if getattr(rates, part) is not None and part not in parts
    ]
