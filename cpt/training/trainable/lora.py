"""Low-rank adapters, by peft: put around a model's matrices, trained, saved, and merged into the matrices.

Hu et al. 2021, LoRA (arXiv 2106.09685); Kalajdzievski 2023, rsLoRA (2312.03732); Liu et al. 2024, DoRA
(2402.09353); Zhang et al. 2023, AdaLoRA (2303.10512).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cpt.errors import Problem, RecipeError
from cpt.training.optimizers.groups import TOKEN_ROWS
from cpt.training.trainable.spec import (
    NEW_OR_NONE,
    AdapterRates,
    Rows,
    Setup,
    Strict,
    TrainableConfig,
    TrainableSpec,
    new_token_problems,
    resolved_rows,
    unused_rates,
)

if TYPE_CHECKING:
    from torch import nn

    from cpt.training.trainable.adalora import RankAllocation


class Allocation(Strict):
    """Settings of AdaLoRA's rank allocation (section 3.3 of the paper)."""

    initial_rank: int | None = Field(
        default=None,
        gt=1,
        description="Rank of every adapter at first; default: 1.5 times `rank`. Above 256 only numbers that "
        "bfloat16 has: every second one, above 512 every fourth.",
    )
    initial: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps before ranks shrink; at least two steps.",
    )
    final: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the steps, at the end, in which the ranks stay."
    )
    every: int = Field(default=10, gt=0, description="Steps between two allocations in between.")
    orthogonality: float = Field(
        default=0.5, ge=0, description="Weight of the penalty on factors that are not orthogonal."
    )


class Lora(TrainableConfig):
    """Settings of low-rank adapters: adapters around the layers' matrices train, the matrices do not.

    In continual pretraining updates are of high rank: Biderman et al. 2024 (arXiv 2405.09673) find that LoRA
    learns less there and forgets less, and advise large ranks on all matrices.
    """

    moves_own_weights: ClassVar[bool] = False

    kind: Literal["lora"] = Field(description="Low-rank adapters train.")
    variant: Literal["lora", "rslora", "dora", "adalora"] = Field(
        default="rslora",
        description="lora: scale alpha/rank; rslora: alpha/√rank; dora: magnitudes train apart; "
        "adalora: the rank moves to where it matters.",
    )
    rank: int = Field(default=256, gt=0, description="Rank of the adapters; of adalora the mean at the end.")
    alpha: float | None = Field(
        default=None,
        gt=0,
        description="Numerator of the adapters' scale; by default the scale is 1.",
    )
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of matrices that get adapters (q_proj); default: all but the output embedding.",
    )
    embeddings: Rows | None = Field(
        default=None,
        description=f"Which rows of the embeddings train, whole: none, new tokens', or all; {NEW_OR_NONE}",
    )
    allocation: Allocation | None = Field(
        default=None, description="How AdaLoRA allocates ranks; only with variant: adalora."
    )
    rates: AdapterRates = Field(default=AdapterRates(), description="Multiples of the schedule's rate.")

    @model_validator(mode="before")
    @classmethod
    def _no_dropout(cls, given: Any) -> Any:
        if isinstance(given, dict) and "dropout" in given:
            raise ValueError("adapters have no dropout: continual pretraining goes without it")
        return given

    @model_validator(mode="after")
    def _allocation_of_adalora(self) -> Lora:
        if self.variant != "adalora":
            if self.allocation is not None:
                raise ValueError(f"allocation goes with variant: adalora, not with {self.variant}")
        elif self.initial_rank <= self.rank:
            raise ValueError(f"initial_rank {self.initial_rank} is not above rank {self.rank}")
        elif (exact := _exact(self.initial_rank)) != self.initial_rank:
            raise ValueError(
                f"initial_rank {self.initial_rank} is no number of bfloat16, in which models divide by it; "
                f"{exact} is one"
            )
        return self

    @property
    def initial_rank(self) -> int:
        """Return the rank of every adapter before AdaLoRA shrinks any."""
        given = self.allocation.initial_rank if self.allocation else None
        return given or _exact(-(-3 * self.rank // 2))

    def apply(self, model: Any, setup: Setup) -> TrainableSpec:
        """See `TrainableConfig`. Puts the adapters around the model's matrices."""
        return add_adapter(model, self, setup)


def _exact(rank: int) -> int:
    """Return the smallest rank, from this one on, that bfloat16 has: it has at most 8 binary digits."""
    step = 1 << max(rank.bit_length() - 8, 0)
    return -(-rank // step) * step


class PeftAdapter:
    """A peft adapter around a model's matrices."""

    def __init__(self, wrapped: Any, settings: Lora) -> None:
        """Take a `PeftModel`."""
        self._wrapped, self._settings = wrapped, settings

    def allocation(self, weights: Mapping[str, nn.Parameter]) -> RankAllocation | None:
        """Return AdaLoRA's rank allocation over these float32 weights; None for other adapters."""
        from cpt.training.trainable.adalora import RankAllocation

        if self._settings.variant != "adalora":
            return None
        tuner = self._wrapped.base_model
        return RankAllocation(tuner.rankallocator, self._config, weights)

    def save(self, folder: Path, ranks: RankAllocation | None) -> None:
        """Write adapter_config.json and adapter_model.safetensors, which peft reads."""
        shutil.rmtree(folder, ignore_errors=True)
        if ranks is not None:
            self._config.rank_pattern = ranks.pattern()
        self._wrapped.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a template without content

    def merge(self) -> None:
        """Add the adapter to the matrices and remove it: the model is a plain one again."""
        self._wrapped.merge_and_unload()

    def wraps(self, module: Any) -> bool:
        """See `Adapter`."""
        return hasattr(module, "unload_and_optionally_merge_module") or hasattr(module, "base_layer")

    def around(self, wrapper: Any) -> Any:
        """See `Adapter`."""
        return wrapper.original_module if hasattr(wrapper, "modules_to_save") else self.plain(wrapper)

    def plain(self, wrapper: Any) -> Any:
        """See `Adapter`."""
        return _unloaded(wrapper, merge=False)

    def merged(self, wrapper: Any) -> Any:
        """See `Adapter`."""
        return _unloaded(wrapper, merge=True)

    @property
    def _config(self) -> Any:
        return self._wrapped.peft_config[self._wrapped.active_adapter]


def _unloaded(wrapper: Any, merge: bool) -> Any:
    """Return the module that stays where peft removes a wrapper, as its own `merge_and_unload` does."""
    if hasattr(wrapper, "unload_and_optionally_merge_module"):
        return wrapper.unload_and_optionally_merge_module(merge=merge, safe_merge=False, adapter_names=None)
    if merge:
        wrapper.merge()
    return wrapper.get_base_layer()


def add_adapter(model: Any, settings: Lora, setup: Setup) -> TrainableSpec:
    """Put an adapter around a model's matrices. It changes no output yet: one of its factors is zero.

    Raises:
        RecipeError: The settings do not fit the model.
    """
    from cpt.models.unloaded_model import initial_rows
    from cpt.training.trainable.adapter_values import drawn_values_kept, set_copied_values

    problems, embeddings = _target_problems(model, settings), resolved_rows(settings.embeddings, setup)
    if embeddings == "new-tokens":
        problems += new_token_problems(model, setup, "embeddings")
    if settings.rates.new_tokens is not None and embeddings == "all":
        problems.append(
            Problem(
                "with embeddings: all, rows of new tokens train at the embeddings' rate",
                key="rates.new_tokens",
                hint="Train the rows of new tokens alone (embeddings: new-tokens).",
            )
        )
    if problems:
        raise RecipeError(problems)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    known = initial_rows(model.get_input_embeddings().weight) is not None
    with drawn_values_kept() if known else nullcontext():
        wrapped = _wrapped(model, _peft_config(model, settings, setup, tied), setup.seed)
    if known:
        set_copied_values(model)
    if tied:
        _require_tied(model, embeddings)
    if unused := unused_rates(model, settings.rates, {}):
        raise RecipeError(unused)
    inside = f"{_names(model)[id(model.get_input_embeddings())]}."
    rows = {name for name, _ in model.named_parameters() if name.startswith(inside) and TOKEN_ROWS in name}
    return TrainableSpec(
        settings.rates.multiples(),
        settling_steps=2,  # behind a zero factor there is no gradient in the first step
        occasional=frozenset() if tied else frozenset(rows),
        adapter=PeftAdapter(wrapped, settings),
    )


def _wrapped(model: Any, config: Any, seed: int) -> Any:
    import torch
    from peft import get_peft_model
    from peft.tuners.adalora import AdaLoraLayer

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        wrapped = get_peft_model(model, config).eval()
    for module in wrapped.modules():
        if isinstance(module, AdaLoraLayer):  # on the meta device peft forgets that it is a constant
            module.ranknum.requires_grad_(False)
    return wrapped


def _peft_config(model: Any, settings: Lora, setup: Setup, tied: bool) -> Any:
    from peft import AdaLoraConfig, LoraConfig

    scale_one = settings.initial_rank if settings.variant == "adalora" else settings.rank
    if settings.variant == "rslora":
        scale_one = settings.rank**0.5
    common: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "lora_alpha": settings.alpha or scale_one,
        "target_modules": list(settings.targets) if settings.targets else "all-linear",
        **_embeddings(model, resolved_rows(settings.embeddings, setup), setup, tied),
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
    """Return the names of a model's modules by identity."""
    return {id(module): name for name, module in model.named_modules()}


def _allocation(settings: Lora, steps: int) -> dict[str, Any]:

    allocation = settings.allocation or Allocation()
    initial, final = max(2, round(allocation.initial * steps)), round(allocation.final * steps)
    if initial >= steps - final:
        message = f"{initial} steps before and {final} after the allocation of ranks leave none of {steps}"
        raise RecipeError(
            [Problem(message, key="allocation", hint="Lower `initial` or `final`, or train longer.")]
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
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    known = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))
    return [
        Problem(f"no matrix of the layers is called {target}", key="targets", hint=f"There are {known}.")
        for target in settings.targets or ()
        if not any(f".{name}".endswith(f".{target}") for name in names)
    ]


def _require_tied(model: Any, rows: Rows) -> None:
    """Raise if peft untied the input and the output embedding."""
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
                    key="embeddings",
                    hint="Leave the embeddings frozen, or train layers without adapters (kind: layers).",
                )
            ]
        )
