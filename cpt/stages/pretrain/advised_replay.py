"""Take a pretrain stage's share of replay from a mixture law: `replay: {advised: law.json, limit: …}`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpt.errors import CptError, Problem, RecipeError, UsageError
from cpt.monitor.gates.gate import LimitText

if TYPE_CHECKING:
    from cpt.laws import Advice, Estimate, Law, Prediction
    from cpt.monitor.reading import Reading
    from cpt.stages.pretrain.config import PretrainConfig


class AdvisedReplay(BaseModel):
    """A share of replay that a fitted law advises for the stage's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    advised: str = Field(
        min_length=1,
        description="File of a law (`cpt law fit`). Replay is the share with the lowest predicted "
        "domain loss within `limit`, rounded up to whole sequences of a batch.",
    )
    limit: LimitText = Field(
        description="Largest predicted rise of general text since before training: `general <= +0.01`."
    )
    parameters: int | None = Field(
        default=None,
        gt=0,
        description="Parameters of the model; needed if the law was fitted on several sizes.",
    )
    domain: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] | None = Field(
        default=None, description="Domain of the corpus; needed if the law was fitted on several."
    )

    @model_validator(mode="after")
    def _bounds_general_text(self) -> Self:
        from cpt.laws.advise import limit_problem

        if (problem := limit_problem(self.limit)) is not None:
            raise ValueError(problem)
        return self

    @cached_property
    def law(self) -> Law:
        """The law, read once.

        Raises:
            RecipeError: The reference is no local file, or no law.
        """
        from cpt import laws

        try:
            return laws.read_law(_local(self.advised))
        except RecipeError:
            raise
        except CptError as error:
            raise RecipeError([Problem(error.message, key="replay.advised", hint=error.hint)]) from None

    def advice(self, tokens: int) -> Advice:
        """Return the law's advice for a training on so many tokens.

        Raises:
            RecipeError: The law cannot be read, does not fit these settings, or no share keeps the limit.
        """
        from cpt import laws

        try:
            return laws.advise(
                self.law, tokens=tokens, limit=self.limit, parameters=self.parameters, domain=self.domain
            )
        except UsageError as error:
            hint = (error.hint or "").replace("--parameters N", "`replay.parameters`")
            raise RecipeError([Problem(error.message, key="replay.advised", hint=hint or None)]) from None

    def share(self, tokens: int, batch_sequences: int) -> float:
        """Return the share of replay: the advised one, rounded up to whole sequences of a batch.

        Raises:
            RecipeError: As of `advice`, or no sequence is left for the domain.
        """
        advised = self.advice(tokens).replay.value
        rows = math.ceil(advised * batch_sequences - 1e-6)
        if rows >= batch_sequences:
            message = (
                f"a replay share of {advised:.3g} is advised, which leaves none of {batch_sequences} "
                "sequences for the domain"
            )
            hint = "Use larger batches, or widen the limit."
            raise RecipeError([Problem(message, key="replay.advised", hint=hint)])
        return rows / batch_sequences

    def prediction(self, tokens: int, batch_sequences: int) -> Prediction:
        """Return the predicted losses at the rounded share.

        Raises:
            RecipeError: As of `share`.
        """
        from cpt import laws

        return laws.predict(
            self.law,
            tokens=tokens,
            replay=self.share(tokens, batch_sequences),
            parameters=self.parameters,
            domain=self.domain,
        )


def _local(reference: str) -> Path:
    """Return the path of the law's file, whose pin is verified if it has one."""
    from cpt.references.resolve import resolve_file
    from cpt.references.syntax import LocalPath, parse

    if not isinstance(parse(reference).location, LocalPath):
        problem = Problem("a law is a local file", key="replay.advised", hint="Fetch it, and name its path.")
        raise RecipeError([problem])
    return resolve_file(reference)


def law_references(config: PretrainConfig) -> list[str]:
    """Return the file of the law, if replay is advised: its content belongs to the fingerprint."""
    return [config.replay.advised] if isinstance(config.replay, AdvisedReplay) else []


def read_again(config: PretrainConfig, contents: Mapping[str, str]) -> PretrainConfig:
    """Return the settings with the law as it is now, which must be the one that the plan was made with.

    Args:
        contents: Data reference -> fingerprint of its content.

    Raises:
        DataError: The file has changed since.
    """
    from cpt.references import unchanged

    if not isinstance(config.replay, AdvisedReplay):
        return config
    fresh = AdvisedReplay.model_validate(config.replay.model_dump())
    with unchanged([fresh.advised], contents):
        assert fresh.law
    return config.model_copy(update={"replay": fresh})


def advice_problems(config: PretrainConfig, model: Path | None) -> list[Problem]:
    """Return why the law has no advice for a stage, or was fitted on another size of model.

    Args:
        model: Folder of the model that will be trained; None while it is not made.
    """
    from cpt.laws.fit import SEVERAL_SIZES
    from cpt.models.weights import count_parameters

    if not isinstance(config.replay, AdvisedReplay):
        return []
    assert config.tokens is not None  # the settings' own check
    if config.start is not None:
        message = (
            "a law advises replay for a training that starts from the base, and this one continues another"
        )
        return [Problem(message, key="replay.advised", hint="Set a share of replay.")]
    try:
        taken = config.replay.prediction(config.tokens, config.batch_sequences).parameters
    except RecipeError as error:
        return error.problems
    if model is None:
        return []
    size = count_parameters(model)
    if max(size, taken) < SEVERAL_SIZES * min(size, taken):
        return []
    key = "replay.parameters" if config.replay.parameters else "replay.advised"
    message = f"the advice is for a model of {taken:,.0f} parameters, but this one has {size:,}"
    return [Problem(message, key=key, hint="Fit a law on runs of this model, or set a share of replay.")]


def described(config: PretrainConfig) -> list[str]:
    """Describe the advised share, and what it leads to, for `cpt plan`; nothing if replay is a number."""
    if not isinstance(config.replay, AdvisedReplay) or config.tokens is None:
        return []
    advice = config.replay.advice(config.tokens)
    found = config.replay.prediction(config.tokens, config.batch_sequences)
    rises = [f"{text} {estimate.value:+.4f}{_interval(estimate)}" for text, estimate in found.rises.items()]
    predicted = ", ".join(rises) or ", ".join(f"{t} {e.value:.4f}" for t, e in found.losses.items())
    words = (
        f"replay {config.replay_share:.4g}, advised {advice.replay.value:.4g} for {config.replay.limit}: "
        f"predicted change in bits per byte: {predicted}"
    )
    return [words, *(each.message for each in advice.warnings)]


def _interval(found: Estimate) -> str:
    return "" if found.low is None else f" ({found.low:+.4f} to {found.high:+.4f})"


def other_start(config: PretrainConfig, readings: Sequence[Reading]) -> list[str]:
    """Return warnings that losses before training are not those of the law's runs: another base or corpus."""
    from cpt.laws.predict import Setting
    from cpt.laws.rows import SAME_START, TEXTS

    if not isinstance(config.replay, AdvisedReplay):
        return []
    setting, found = Setting.of(config.replay.law, config.replay.domain), []
    size = setting.size(config.replay.parameters)
    spread = max((each.spread for each in setting.law.start), default=0.0)  # of other seeds' documents
    for text in TEXTS:
        first = next((reading.value for reading in readings if reading.probe == text), None)
        start = setting.start(text, size)
        if first is not None and start is not None and abs(first - start) > SAME_START * start + 2 * spread:
            found.append(
                f"before training {text} is at {first:.4f} bits per byte, and at {start:.4f} in the runs of "
                "the law of `replay`: its advice is for another base or other held-out text"
            )
    return found
