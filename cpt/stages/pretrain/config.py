"""Define the settings of the pretrain stage, and of the probes that are read while a model trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cpt.monitor.gates.gate import acted_upon, percent
from cpt.monitor.reading import TaskMeasure
from cpt.monitor.schedule import Regular
from cpt.stages.base import StageConfig
from cpt.stages.corpus.source_config import Source
from cpt.stages.pretrain.advised_replay import AdvisedReplay
from cpt.stages.pretrain.continuation import Start
from cpt.stages.pretrain.mixture import Mixture, check_ends, keyed, one_or_more
from cpt.training.schedules import Schedule
from cpt.training.settings import TrainingConfig

EVERY = 10
"""Default number of steps between readings of a probe."""

DEFAULT_TOKENS = 8_000
"""Default number of tokens that are read of a text, if its limits do not need more."""

RESERVED_NAMES = frozenset(
    {"domain", "general", "drift", "early-end", "weights", "new-tokens", "loss", "tokens_per_second"}
)
"""Names that a user's text or task cannot have."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


Epochs = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _probe_share(value: Any) -> Any:
    """Return a share that may be written as "5%"; refuse numbers above 1, where the % was forgotten."""
    share = percent(value)
    if isinstance(share, int | float) and share > 1:
        hint = "" if isinstance(value, str) or value > 100 else f": write `{value:g}%`"
        raise ValueError(f"{value} is more than all of the training's work{hint}")
    return share


class _Scheduled(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int | None = Field(
        default=None, gt=0, description="Steps between readings, once past the dense start (1, 2, 4, 8, …)."
    )
    every_tokens: int | None = Field(
        default=None, gt=0, description="Tokens between readings, instead of steps."
    )

    @model_validator(mode="after")
    def _one_unit(self) -> _Scheduled:
        if self.every is not None and self.every_tokens is not None:
            raise ValueError("give either every (steps) or every_tokens")
        return self

    def when(self, default: Regular) -> Regular:
        """Return the schedule; the default if none is set."""
        if self.every_tokens is not None:
            return Regular(self.every_tokens, "tokens")
        return default if self.every is None else Regular(self.every)


class Text(_Scheduled):
    """Settings of a text whose bits per byte are measured."""

    sources: list[Source] = Field(min_length=1, description="Where its documents come from.")
    tokens: int | None = Field(
        default=None, gt=1, description="Tokens that are read; null: as the monitor's `tokens` say."
    )


class Task(_Scheduled):
    """Settings of a task of `cpt eval` that is measured."""

    items: int = Field(default=200, gt=1, description="Questions: a seeded sample of the task's.")
    measure: TaskMeasure = Field(
        default="accuracy",
        description="Measure that gates see. p_gold: likelihood of the right choice among the choices, which "
        "moves before answers change, on one half of the task's items; evaluate reports the other half where "
        "a gate acts on it.",
    )


class Drift(_Scheduled):
    """Settings of drift: the KL divergence from the starting model, on texts that it sampled itself."""

    tokens: int = Field(default=2_000, gt=1, description="Tokens that the starting model samples.")
    length: int = Field(default=128, gt=1, description="Most tokens of a sample.")


class EarlyEnd(_Scheduled):
    """Settings of early ends: the probability that a text ends in mid-sentence, on general held-out text.

    Mid-sentence is every place inside a document that follows neither a line break nor a Unicode sentence
    terminator (with the quotes and brackets that close after it).
    """

    tokens: int | None = Field(
        default=None, gt=1, description="Tokens that are read; default: half of the monitor's `tokens`."
    )


class Weights(_Scheduled):
    """Settings of the update of the weights, layer by layer."""

    every: int | None = Field(default=50, gt=0, description="Steps between readings.")

    @model_validator(mode="before")
    @classmethod
    def _tokens_instead(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("every_tokens") and "every" not in value:
            return {**value, "every": None}
        return value


class Samples(BaseModel):
    """Settings of texts that the model continues, before and after the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: int = Field(default=2, gt=0, description="Held-out documents of each source that are continued.")
    tokens: int = Field(default=24, gt=0, description="Tokens of a continuation, each the likeliest.")


class Monitor(_Scheduled):
    """Settings of the probes that are read during training: held-out text, and others."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"budget": "probe_share"}

    tokens: int | None = Field(
        default=None,
        gt=1,
        description="Tokens of held-out text that a probe reads: the first window of as many documents as "
        "there is room for, and their next windows only when all documents are used. A gate that acts needs "
        "8 documents. null: 8,000; of a text with a limit as many more as it takes to find a rise of the "
        "limit and a third with a chance of 95%, if the text has them and `probe_share` pays for them.",
    )
    window: int = Field(default=1024, gt=1, description="Longest stretch of text that a probe reads at once.")
    tolerance: float = Field(
        default=0.001,
        ge=0,
        description="Bits per byte above the first reading that still count as recovered.",
    )
    probe_share: Annotated[float | None, BeforeValidator(_probe_share)] = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Share of the training's work that all this may do (0.05 or 5%), where a token that is "
        "only read counts as a third of a token trained on, on every machine. Samples shrink and readings "
        "are left out to keep it, but for the first and the last (where a gate ends the run early: what was "
        "not read in full of its result); null: no bound.",
    )
    texts: dict[Name, Text] = Field(default={}, description="More texts, by name: bits per byte.")
    tasks: dict[Name, Task] = Field(
        default={}, description="Tasks of `cpt eval suites`, by name (piqa): accuracy, or p_gold."
    )
    parts: bool = Field(
        default=False,
        description="Read the held-out text of each part of the domain, too, as a probe `domain.PART`. "
        "Online mixing (`skill_it`) does so in any case, at its updates.",
    )
    data: str | None = Field(
        default=None, description="Folder with the tasks' data; what it lacks comes from the hub."
    )
    drift: Drift | None = Field(default=None, description="Drift of the model's own texts; null: not read.")
    early_end: EarlyEnd | None = Field(
        default=EarlyEnd(),
        description="Probability of an end in the middle of a sentence, on general text (where none is held "
        "out: on domain text); null: not read.",
    )
    weights: Weights | None = Field(default=Weights(), description="Update of the weights; null: not read.")
    samples: Samples | None = Field(default=Samples(), description="Continuations; null: none.")

    @model_validator(mode="after")
    def _distinct_names(self) -> Monitor:
        names = [*self.texts, *self.tasks]
        wrong = sorted({name for name in names if name in RESERVED_NAMES or names.count(name) > 1})
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: the name is taken; give the text another one")
        return self

    @property
    def regular(self) -> Regular:
        """Schedule of probes that have none of their own."""
        return self.when(Regular(EVERY))

    @property
    def early_end_tokens(self) -> int:
        """Number of tokens that the probe of early ends reads; 0 without that probe."""
        if self.early_end is None:
            return 0
        return self.early_end.tokens or (self.tokens or DEFAULT_TOKENS) // 2

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Yield every source with its key."""
        for name, text in self.texts.items():
            for number, source in enumerate(text.sources):
                yield f"texts.{name}.sources.{number}", source


_MORE_THAN_THERE_CAN_BE = 10**15


class PretrainConfig(TrainingConfig, StageConfig):
    """Settings of the pretrain stage."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"checkpoint", "trackers", "gradient_sync"})
    resumable_fields: ClassVar[frozenset[str]] = frozenset({"anomalies"})
    renamed_keys: ClassVar[Mapping[str, str]] = {
        "trains": "trainable",
        "pull": "l2_sp",
        "master": "master_weights",
        "faults": "anomalies",
        "repeatable": "deterministic",
    }

    start: Start | None = Field(
        default=None,
        description="Continue an earlier pretrain stage from a checkpoint of it.",
    )
    tokens: int | None = Field(
        default=None,
        gt=0,
        description="Tokens to train on, replay included; rounded up to whole steps. Left out: the domain "
        "text is gone through `epochs` times, with the replay that belongs to it.",
    )
    batch_sequences: int = Field(default=8, gt=0, le=1_000_000, description="Sequences of a global batch.")
    micro_batch_sequences: int | None = Field(
        default=None,
        gt=0,
        description="Sequences that go through the model at once; default: the whole batch.",
    )
    replay: Annotated[float, Field(ge=0, lt=1)] | AdvisedReplay = Field(
        default=0.0,
        description="Share of each global batch that is replay text, rounded to whole sequences; or the law "
        "that advises it, `{advised: law.json, limit: general <= +0.01}`.",
    )
    mixture: Annotated[list[Mixture] | None, BeforeValidator(one_or_more)] = Field(
        default=None,
        min_length=1,
        description="Weights of the domain's parts, which are then read apart: one mixture, or a list of "
        "phases. Left out: the whole domain is read as one text.",
    )
    epochs: Epochs | dict[Name, Epochs] = Field(
        default=1.0,
        description="How often the domain text may be gone through; with a `mixture` each of its parts, as "
        "one number or by part (1 for those that are not named).",
    )
    monitor: Monitor = Field(default=Monitor(), description="What is measured during training.")
    deterministic: bool = Field(
        default=False,
        description="On a GPU, use only algorithms that give the same bits every time, which are slower: a "
        "run that was killed then ends as one that was not, to the bit. On CPUs it does in any case.",
    )

    @field_validator("replay")
    @classmethod
    def _advice_is_for_tokens(cls, replay: Any, known: ValidationInfo) -> Any:
        if isinstance(replay, AdvisedReplay) and known.data.get("tokens", 0) is None:
            raise ValueError("a law advises replay for a number of tokens: set `tokens`")
        return replay

    @field_validator("mixture")
    @classmethod
    def _phases_in_order(cls, mixture: list[Mixture] | None, known: ValidationInfo) -> list[Mixture] | None:
        if mixture is not None and {"schedule", "batch_sequences", "tokens"} <= known.data.keys():
            given = known.data
            schedule, tokens = given["schedule"], given["tokens"]
            rates = [phase.until for phase in mixture if str(phase.until).startswith("rate/")]
            if rates and tokens is None and schedule.kind == "power":
                raise ValueError(f"where the power schedule reaches {rates[0]} depends on `tokens`: set them")
            check_ends(mixture, schedule.for_run(given["batch_sequences"], tokens or _MORE_THAN_THERE_CAN_BE))
        if mixture and known.data.get("replay") and all(phase.replay is not None for phase in mixture):
            raise ValueError(
                "every phase has its own `replay`, so the stage's changes nothing: leave it out, or that of "
                "the phases that are to have it"
            )
        return mixture

    @field_validator("epochs")
    @classmethod
    def _parts_are_read_apart(cls, epochs: Any, known: ValidationInfo) -> Any:
        if epochs == {}:
            raise ValueError("no part is named: give one number, or name parts")
        if "mixture" not in known.data:  # it has a problem of its own
            return epochs
        if isinstance(epochs, Mapping) and known.data["mixture"] is None:
            raise ValueError(
                "epochs by part need a `mixture` (temperature: 1 reads parts by their sizes), or give one "
                "number"
            )
        return epochs

    @property
    def probes_parts(self) -> bool:
        """True if the held-out text of each part of the domain is probed."""
        return self.monitor.parts or self.skill_it is not None

    @property
    def choosing_tasks(self) -> list[str]:
        """Names of the tasks by half of whose items gates act, or choose the result."""
        acted = acted_upon(self.gates)
        tasks = self.monitor.tasks.items()
        return [name for name, task in tasks if task.measure == "p_gold" and name in acted]

    @property
    def replay_share(self) -> float:
        """Share of replay of the stage.

        Raises:
            RecipeError: A law should advise it, but has no advice.
        """
        if isinstance(self.replay, AdvisedReplay):
            assert self.tokens is not None  # `_advice_is_for_tokens`
            return self.replay.share(self.tokens, self.batch_sequences)
        return self.replay

    @property
    def replay_shares(self) -> dict[str, float]:
        """Replay share of each phase, by its key; one without phases."""
        phases = keyed(self.mixture)
        shares = {f"{key}.replay": phase.replay for key, phase in phases if phase.replay is not None}
        return shares if 0 < len(phases) == len(shares) else {"replay": self.replay_share} | shares

    @property
    def first_replay(self) -> float:
        """Replay share that the run begins with."""
        first = self.mixture[0].replay if self.mixture else None
        return self.replay_share if first is None else first

    def for_tokens(self, tokens: int) -> Self:
        """Return the same settings with the schedule of a run of so many tokens."""
        return self.model_copy(update={"schedule": self.schedule.for_run(self.batch_sequences, tokens)})

    @property
    def planned_schedule(self) -> Schedule:
        """Schedule as far as it is known before the corpus is: by the number of tokens in the settings."""
        return self.for_tokens(self.most_tokens).schedule

    @property
    def most_tokens(self) -> int:
        """Number of tokens in the settings; if it follows from the corpus, a number above any corpus."""
        return self.tokens or _MORE_THAN_THERE_CAN_BE
