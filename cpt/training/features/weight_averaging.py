"""Average the weights that a run passes through; the average is its result.

Probes read the average, too: they show what the run would give if it ended there. Training does not see it:
the optimizer moves the weights, and milestones (and the model before an anneal) are weights to continue
training from, not averages. The average is in every checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem
from cpt.training.feature import ExtraMemory, Run, RunFacts, StepOutcome, TrainingFeature, WeightBytes

if TYPE_CHECKING:
    import torch

    from cpt.training.checkpoint.stateful import StateDict
    from cpt.training.settings import TrainingConfig

    Weights = Mapping[str, torch.Tensor]
    """Float32 tensors by name; each may be sharded over the processes."""


class EmaConfig(BaseModel):
    """Exponential moving average: every step's weights, each counting `decay` times as much as the next.

    mean_t = Σ_{i<=t} decay^(t-i) w_i / Σ_{i<=t} decay^(t-i). The starting weights do not count: the usual
    recursion from w_0, with the bias towards it taken out as Adam does it (Kingma and Ba 2015, arXiv
    1412.6980, section 3). It takes 4 bytes of the device's memory per trained weight, twice that while probes
    read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["ema"] = Field(description="An exponential moving average of every step's weights.")
    decay: float = Field(
        default=0.999,
        gt=0,
        lt=1,
        description="How much a step's weights count against the next step's: about 1/(1 - decay) of the "
        "last steps count.",
    )

    @property
    def copies(self) -> int:
        """Number of float32 copies of the trained weights that the average holds at most."""
        return 1

    def build(self, weights: Weights, sync_to_model: Callable[[], None]) -> WeightAverage:
        """Return the average of some weights, before the first step.

        Args:
            weights: float32 weights that the optimizer moves, by name.
            sync_to_model: function that copies changed weights to the model.
        """
        return MovingAverage(weights, sync_to_model, self.decay)


class LawaConfig(BaseModel):
    """Latest weight averaging: the mean of the weights at a few of the last steps, far apart.

    Kaddour 2022 (arXiv 2209.14981); Sanyal et al. 2023 (arXiv 2306.03241), who find that it gains most where
    rates are high and checkpoints distant. Before `last` of them were passed it is the mean of those so far.
    Each takes 4 bytes of main memory per trained weight (of the device's where the weights are sharded).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["lawa"] = Field(description="The mean of the weights at a few of the last steps.")
    every: int = Field(default=10, gt=0, description="Steps between the weights that are averaged.")
    last: int = Field(default=6, gt=1, description="How many of them are averaged, the latest ones.")

    @property
    def copies(self) -> int:
        """See `EmaConfig.copies`."""
        return self.last

    def build(self, weights: Weights, sync_to_model: Callable[[], None]) -> WeightAverage:
        """See `EmaConfig.build`."""
        return LatestAverage(weights, sync_to_model, self.every, self.last)


AveragingConfig = Annotated[EmaConfig | LawaConfig, Field(discriminator="kind")]
"""Settings of any average, told apart by `kind`."""


class WeightAveraging(TrainingFeature):
    """The average of the weights that the optimizer moves, which is the run's result."""

    state_name: ClassVar[str] = "average"

    def __init__(self, config: EmaConfig | LawaConfig) -> None:
        self._config = config

    @classmethod
    def of(cls, config: TrainingConfig) -> Self | None:
        return None if config.average is None else cls(config.average)

    def problems(self, facts: RunFacts) -> list[Problem]:
        """Return problems with adapters, with bfloat16 weights, and with a run that is too short."""
        problems, config = [], self._config
        if facts.config.trainable.kind == "lora":
            problems.append(
                Problem(
                    "an average of an adapter's two factors is not an average of the weights that they make",
                    key="average",
                    hint="Leave it out, or train without an adapter.",
                )
            )
        if facts.config.master_weights == "stochastic-rounding":
            problems.append(
                Problem(
                    "an average is float32, and weights with stochastic rounding have no float32 to put it "
                    "in",
                    key="average.kind",
                    hint="Set master_weights: fp32, or leave `average` out.",
                )
            )
        steps = facts.steps
        if isinstance(config, LawaConfig) and steps is not None and config.every * config.last > steps:
            problems.append(
                Problem(
                    f"{config.last} times {config.every} steps are more than the run has: {steps}",
                    key="average.every",
                    hint=f"Set it to {steps // config.last} at most."
                    if steps >= config.last
                    else "Average fewer (`last`), or train for more steps.",
                )
            )
        return problems

    def describe(self) -> str:
        return f"the result is an average of weights ({self._config.kind})"

    def extra_bytes(self, weights: WeightBytes) -> ExtraMemory:
        """Return the memory of the copies; while probes read the average, the weights wait beside it."""
        copies = self._config.copies * weights.trained
        in_main_memory = isinstance(self._config, LawaConfig)
        host = copies if in_main_memory and weights.on_gpu else 0
        # the mean of several copies is made where they are: without a GPU, beside the weights
        probing = weights.trained * (2 if in_main_memory and not weights.on_gpu else 1)
        return ExtraMemory(held=copies - host, host=host, probing=probing, saved=copies)

    def on_start(self, run: Run) -> None:
        self._average = self._config.build(run.trained.weights, run.trained.sync_to_model)

    def after_step(self, run: Run, step: StepOutcome) -> None:
        if step.anomaly is None:
            self._average.add(run.state.step)

    def on_end(self, run: Run) -> None:  # noqa: ARG002
        self._average.write_to_weights()

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Inside, the model has the average as its weights; before there is one, its own."""
        with self._average.in_model():
            yield

    def state_dict(self) -> StateDict:
        return self._average.state_dict()

    def load_state_dict(self, saved: StateDict) -> None:
        self._average.load_state_dict(saved)


class WeightAverage(ABC):
    """An average of weights, updated step by step."""

    def __init__(self, weights: Weights, sync_to_model: Callable[[], None]) -> None:
        self._weights, self._sync_to_model = weights, sync_to_model

    @abstractmethod
    def add(self, step: int) -> None:
        """Add the weights after a step that moved them; 1 is the first step."""

    @abstractmethod
    def _mean(self) -> Weights | None:
        """Return the average; None before there is one."""

    @abstractmethod
    def state_dict(self) -> StateDict:
        """See `Stateful`."""

    @abstractmethod
    def load_state_dict(self, saved: StateDict) -> None:
        """See `Stateful`."""

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """See `WeightAveraging.in_model`."""
        mine = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.write_to_weights()
        try:
            yield
        finally:
            self._write(mine)

    def write_to_weights(self) -> None:
        """Make the average the model's weights."""
        mean = self._mean()
        if mean is not None:
            self._write(mean)

    def _write(self, values: Weights) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])
        self._sync_to_model()


class MovingAverage(WeightAverage):
    """See `EmaConfig`."""

    def __init__(self, weights: Weights, sync_to_model: Callable[[], None], decay: float) -> None:
        super().__init__(weights, sync_to_model)
        self._decay, self._count = decay, 0
        self._means = {name: weight.detach().clone() for name, weight in weights.items()}

    def add(self, step: int) -> None:  # noqa: ARG002
        self._count += 1
        share = (1 - self._decay) / (1 - self._decay**self._count)
        for name, weight in self._weights.items():
            self._means[name].lerp_(weight.detach(), share)

    def _mean(self) -> Weights | None:
        return self._means if self._count else None

    def state_dict(self) -> StateDict:
        return {"steps": self._count, **self._means}

    def load_state_dict(self, saved: StateDict) -> None:
        from cpt.training.checkpoint.stored import load_like

        self._count = saved["steps"]
        for name, mean in self._means.items():
            mean.copy_(load_like(saved[name], mean))


class LatestAverage(WeightAverage):
    """See `LawaConfig`."""

    def __init__(self, weights: Weights, sync_to_model: Callable[[], None], every: int, last: int) -> None:
        super().__init__(weights, sync_to_model)
        self._every, self._last = every, last
        self._taken: dict[int, Weights] = {}

    def add(self, step: int) -> None:
        if step % self._every == 0:
            taken = {name: _offloaded(weight.detach()) for name, weight in self._weights.items()}
            self._taken = dict([*self._taken.items(), (step, taken)][-self._last :])

    def _mean(self) -> Weights | None:
        if not self._taken:
            return None
        return {name: self._mean_of(name) for name in self._weights}

    def _mean_of(self, name: str) -> torch.Tensor:
        first, *others = (taken[name] for taken in self._taken.values())
        total = first.clone()
        for other in others:
            total += other
        return total / len(self._taken)

    def state_dict(self) -> StateDict:
        tensors = {
            f"{step}/{name}": weight for step, taken in self._taken.items() for name, weight in taken.items()
        }
        return {"steps": list(self._taken), **tensors}

    def load_state_dict(self, saved: StateDict) -> None:
        self._taken = {
            step: {
                name: _offloaded(_loaded(saved[f"{step}/{name}"], weight))
                for name, weight in self._weights.items()
            }
            for step in saved["steps"]
        }


def _offloaded(weight: torch.Tensor) -> torch.Tensor:
    """Return a copy in main memory; of a sharded weight, where it is."""
    from torch.distributed.tensor import DTensor

    return weight.clone() if isinstance(weight, DTensor) else weight.to("cpu", copy=True)


def _loaded(saved: Any, weight: torch.Tensor) -> torch.Tensor:
    """Return a saved tensor, sharded if `weight` is; else in main memory."""
    from torch.distributed.tensor import DTensor

    from cpt.training.checkpoint.stored import load_like

    loaded: torch.Tensor = load_like(saved, weight) if isinstance(weight, DTensor) else saved.clone()
    return loaded
