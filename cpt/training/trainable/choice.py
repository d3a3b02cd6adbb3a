"""What was chosen to train, and how it is marked on a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.errors import Problem, RecipeError
from cpt.training.groups import NEW_ROWS, Part, sort_weights
from cpt.training.trainable.base import Rates, Rows, Setup, rows_apart

if TYPE_CHECKING:
    from cpt.training.trainable.adapter import Adapter


_LATE_WARMUP = 20
"""Steps: how far back AdamW's second moment reaches (β2 0.95)."""


@dataclass(frozen=True)
class Choice:
    """What of a model trains. Parameters that do have `requires_grad`, others not.

    Attributes:
        rates: multiples of the schedule's rate.
        new_tokens: [N] ids of the tokens whose rows are weights of their own, if any are.
        new_rows: names of the matrices of which those rows are apart, and whether their other rows train.
        alone: steps, from the first, in which nothing but those rows trains.
        late_warmup: steps after those in which the rate of the others rises to its own: their state is fresh.
        settling: steps after which every weight that trains has had a gradient that is not zero.
        occasional: names of weights that have one only in steps in which a new token occurs: rows of an input
            embedding that is not the output embedding, too.
        adapter: what was put around the model's weights.
    """

    rates: Mapping[Part, float]
    new_tokens: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    new_rows: Mapping[str, bool] = field(default_factory=dict)
    alone: int = 0
    late_warmup: int = 1
    settling: int = 1
    occasional: frozenset[str] = frozenset()
    adapter: Adapter | None = None

    @property
    def is_model(self) -> bool:
        """Whether there is a model at any step, and not only when an adapter is merged at the end."""
        return self.adapter is None


def vocabulary_names(model: Any) -> tuple[str, str]:
    """Parameter names of the input and the output embedding: twice the same where they are tied."""
    matrices = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return names[id(matrices[0])], names[id(matrices[1])]


def choose_weights(
    model: Any,
    setup: Setup,
    rates: Rates,
    names: Collection[str],
    embeddings: Rows,
    head: Rows | None = None,
    *,
    first: float = 0.0,
    settling: int = 1,
) -> Choice:
    """Choose among the weights that the model has.

    Args:
        names: parameters that train; the vocabulary's are chosen by the next two.
        embeddings, head: rows of the input and the output embedding that train; `head` None: as the input's.
        first: share of the steps in which only the rows of new tokens train.
        settling: see `Choice`.

    Raises:
        RecipeError: the settings do not go with the model or with each other.
    """
    input_name, output_name = vocabulary_names(model)
    rows: dict[str, Rows] = {output_name: head or embeddings, input_name: embeddings}
    problems = _new_token_problems(model, setup, rates, embeddings, head, first)
    if input_name == output_name and head not in (None, embeddings):
        problems.append(
            Problem(
                f"the input and the output embedding are one matrix in this model, {input_name}",
                key="trainable.head",
                hint="Leave `head` out: it trains as `embeddings` does.",
            )
        )
    new_rows = {name: which == "all" for name, which in rows.items() if rows_apart([which], first, rates)}
    trained = set(names).difference(rows) | {name for name, which in rows.items() if which != "frozen"}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    problems += unused_rates(model, rates, new_rows)
    if problems:
        raise RecipeError(problems)
    tokens = torch.tensor(setup.new_tokens if new_rows else [], dtype=torch.long)
    alone = round(first * setup.steps)
    return Choice(
        rates.multiples(),
        tokens,
        new_rows,
        alone=alone,
        late_warmup=max(1, min(_LATE_WARMUP, (setup.steps - alone) // 10)),
        settling=settling,
        occasional=frozenset() if input_name == output_name else frozenset({input_name + NEW_ROWS}),
    )


def _new_token_problems(
    model: Any, setup: Setup, rates: Rates, embeddings: Rows, head: Rows | None, first: float
) -> list[Problem]:
    """What stands against the settings that are about new tokens."""
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
    return [*problems, *([Problem(reason, key="trainable.embeddings_first")] if reason else [])]


def new_token_problems(model: Any, setup: Setup, key: str) -> list[Problem]:
    """What stands against a setting that is about new tokens.

    Args:
        key: of the setting, under `trainable`.
    """
    if not setup.new_tokens:
        return [
            Problem(
                "the model has no new tokens: no vocabulary stage has brought any",
                key=f"trainable.{key}",
                hint="Put a vocabulary stage before this one, or leave the setting out.",
            )
        ]
    count = len(model.get_input_embeddings().weight)
    if max(setup.new_tokens) >= count:
        message = f"new token {max(setup.new_tokens)} has no row: the embedding has {count}"
        return [Problem(message, key=f"trainable.{key}")]
    return []


def unused_rates(model: Any, rates: Rates, new_rows: Mapping[str, bool]) -> list[Problem]:
    """Rates that were given for what does not train."""
    weights: dict[str, nn.Parameter] = {
        name: p for name, p in model.named_parameters() if p.requires_grad and new_rows.get(name, True)
    }
    weights |= {name + NEW_ROWS: model.get_parameter(name) for name in new_rows}
    parts = {part for part, _ in sort_weights(model, weights)}
    return [
        Problem(
            f"nothing trains that is part of the {part.replace('_', ' ')}: their rate has no effect",
            key=f"trainable.rates.{part}",
        )
        for part in rates.model_fields_set
        if getattr(rates, part) is not None and part not in parts
    ]
