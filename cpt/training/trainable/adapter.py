"""Adapters by peft: put around a model's matrices, saved, and merged into them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpt.errors import Problem, RecipeError
from cpt.training.groups import TOKEN_ROWS
from cpt.training.trainable.base import Rows, Setup, rows_that_train
from cpt.training.trainable.choice import Choice, new_token_problems, unused_rates
from cpt.training.trainable.ranks import RankAllocation

if TYPE_CHECKING:
    from cpt.training.trainable.lora import Lora


class Adapter:
    """An adapter around a model's matrices."""

    def __init__(self, wrapped: Any, settings: Lora) -> None:
        """Take a `PeftModel`."""
        self._wrapped, self._settings = wrapped, settings

    def allocation(self, weights: Mapping[str, nn.Parameter]) -> RankAllocation | None:
        """AdaLoRA's allocation of ranks, on these float32 weights; None for other adapters."""
        if self._settings.variant != "adalora":
            return None
        tuner = self._wrapped.base_model
        return RankAllocation(tuner.rankallocator, self._config, weights)

    def save(self, folder: Path, ranks: RankAllocation | None) -> None:
        """Write the adapter as peft reads it: adapter_config.json and adapter_model.safetensors."""
        shutil.rmtree(folder, ignore_errors=True)
        if ranks is not None:
            self._config.rank_pattern = ranks.pattern()
        self._wrapped.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # an empty form

    def merge(self) -> None:
        """Add the adapter to the matrices and take it off: the model is a plain one again."""
        self._wrapped.merge_and_unload()

    @property
    def _config(self) -> Any:
        return self._wrapped.peft_config[self._wrapped.active_adapter]


def add_adapter(model: Any, settings: Lora, setup: Setup) -> Choice:
    """Put an adapter around a model's matrices. It changes nothing yet: one of its factors is zero.

    Raises:
        RecipeError: the settings do not go with the model.
    """
    problems, embeddings = _target_problems(model, settings), rows_that_train(settings.embeddings, setup)
    if embeddings == "new-tokens":
        problems += new_token_problems(model, setup, "embeddings")
    if settings.rates.new_tokens is not None and embeddings == "all":
        problems.append(
            Problem(
                "with embeddings: all, rows of new tokens train at the embeddings' rate",
                key="trainable.rates.new_tokens",
                hint="Train the rows of new tokens alone (embeddings: new-tokens).",
            )
        )
    if problems:
        raise RecipeError(problems)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    wrapped = _wrapped(model, _peft_config(model, settings, setup, tied), setup.seed)
    if tied:
        _require_tied(model, embeddings)
    if unused := unused_rates(model, settings.rates, {}):
        raise RecipeError(unused)
    inside = f"{_names(model)[id(model.get_input_embeddings())]}."
    rows = {name for name, _ in model.named_parameters() if name.startswith(inside) and TOKEN_ROWS in name}
    return Choice(
        settings.rates.multiples(),
        settling=2,  # behind a zero factor there is no gradient in the first step
        occasional=frozenset() if tied else frozenset(rows),
        adapter=Adapter(wrapped, settings),
    )


def _wrapped(model: Any, config: Any, seed: int) -> Any:
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        return get_peft_model(model, config).eval()


def _peft_config(model: Any, settings: Lora, setup: Setup, tied: bool) -> Any:
    from peft import AdaLoraConfig, LoraConfig

    scale_one = settings.initial_rank if settings.variant == "adalora" else settings.rank
    if settings.variant == "rslora":
        scale_one = settings.rank**0.5
    common: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "lora_alpha": settings.alpha or scale_one,
        "target_modules": list(settings.targets) if settings.targets else "all-linear",
        **_embeddings(model, rows_that_train(settings.embeddings, setup), setup, tied),
    }
    if settings.variant == "adalora":
        return AdaLoraConfig(**common, **_allocation(settings, setup.steps))
    return LoraConfig(
        **common,
        r=settings.rank,
        use_rslora=settings.variant == "rslora",
        use_dora=settings.variant == "dora",
    )


def _embeddings(model: Any, rows: Rows, setup: Setup, tied: bool) -> dict[str, Any]:
    if rows == "frozen":
        return {}
    modules = _names(model)
    names = [modules[id(model.get_input_embeddings())]]
    if not tied:
        names.append(modules[id(model.get_output_embeddings())])
    if rows == "new-tokens":
        return {"trainable_token_indices": {name: list(setup.new_tokens) for name in names}}
    return {"modules_to_save": names, "ensure_weight_tying": tied}


def _names(model: Any) -> dict[int, str]:
    """Names of a model's modules by identity."""
    return {id(module): name for name, module in model.named_modules()}


def _allocation(settings: Lora, steps: int) -> dict[str, Any]:
    from cpt.training.trainable.lora import Allocation

    allocation = settings.allocation or Allocation()
    initial, final = max(2, round(allocation.initial * steps)), round(allocation.final * steps)
    if initial >= steps - final:
        message = f"{initial} steps before and {final} after the allocation of ranks leave none of {steps}"
        raise RecipeError(
            [
                Problem(
                    message, key="trainable.allocation", hint="Lower `initial` or `final`, or train longer."
                )
            ]
        )
    return {
        "init_r": settings.initial_rank,
        "target_r": settings.rank,
        "tinit": initial,
        "tfinal": final,
        "deltaT": allocation.every,
        "orth_reg_weight": allocation.orthogonality,
        "total_step": steps,
    }


def _target_problems(model: Any, settings: Lora) -> list[Problem]:
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    known = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))
    return [
        Problem(
            f"no matrix of the layers is called {target}", key="trainable.targets", hint=f"There are {known}."
        )
        for target in settings.targets or ()
        if not any(f".{name}".endswith(f".{target}") for name in names)
    ]


def _require_tied(model: Any, rows: Rows) -> None:
    """Raise if peft took apart the input and the output embedding."""
    inside, outside = model.get_input_embeddings(), model.get_output_embeddings()
    if rows == "new-tokens":
        tied = getattr(getattr(outside, "token_adapter", None), "tied_adapter", None) is inside.token_adapter
    else:
        tied = inside.weight is outside.weight
    if not tied:
        raise RecipeError(
            [
                Problem(
                    f"the input and the output embedding of {type(model).__name__} are one matrix, "
                    f"which peft would take apart",
                    key="trainable.embeddings",
                    hint="Leave the embeddings frozen, or train layers without adapters (kind: layers).",
                )
            ]
        )
