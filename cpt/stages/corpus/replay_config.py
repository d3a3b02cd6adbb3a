"""Define the settings of replay text: given sources, text that the base model samples, or a mixture."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.corpus.study.settings import MiningSettings
from cpt.stages.corpus.source_config import Source


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SelfGenerated(_Settings):
    """Replay text sampled from the base model, for when its own data is not available."""

    tokens: int = Field(gt=0, description="Number of tokens to sample.")
    form: Literal["text", "chat"] = Field(
        default="text",
        description="text: documents from the start token on. chat: the model writes the user's turn of its "
        "own chat template, then answers it; for models that were tuned on conversations.",
    )
    length: int = Field(
        default=256,
        ge=16,
        description="Largest number of tokens of a sampled document; with form: chat, of both turns. The "
        "user's turn has at most half of them.",
    )
    batch: int = Field(default=64, gt=0, description="Number of documents sampled at once.")
    temperature: float = Field(
        default=1.0, gt=0, description="Sampling temperature; 1 samples the model as it is."
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="Library that samples. vllm samples faster on GPUs, with a larger batch, and other text.",
    )
    prompt_weight: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="With form: chat, the weight of the loss on all but the answer. 0: only answers are "
        "learnt.",
    )

    @model_validator(mode="after")
    def _weight_of_chats(self) -> SelfGenerated:
        if self.form == "text" and self.prompt_weight != 1:
            raise ValueError("prompt_weight needs form: chat")
        return self


class ReplayPart(_Settings):
    """One named part of a mixture of replay text."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$", description="Name of the part in the corpus's and the ledger's counts."
    )
    weight: float = Field(gt=0, description="Tokens of this part, relative to the other parts' weights.")
    sources: list[Source] | None = Field(default=None, min_length=1, description="Sources of replay text.")
    self_generated: SelfGenerated | None = Field(
        default=None, description="Text that the base model samples."
    )

    study: MiningSettings | None = Field(
        default=None,
        description="Questions and reading tasks mined from the part's sources, which take their place: "
        "replay in instruction form ({} for all miners).",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> ReplayPart:
        if (self.self_generated is None) == (self.sources is None):
            raise ValueError("give either self_generated or a list of sources")
        if self.study is not None and self.sources is None:
            raise ValueError("study needs sources: sampled text states no facts")
        return self


class Replay(_Settings):
    """Old-domain text that is mixed into training: given sources, self-generated text, or a mixture."""

    self_generated: SelfGenerated | None = Field(
        default=None, description="Text that the base model samples."
    )
    sources: list[Source] | None = Field(default=None, min_length=1, description="Sources of replay text.")
    mixture: list[ReplayPart] | None = Field(
        default=None,
        min_length=2,
        description="Named parts with weights; as much text is used as the weights allow without using any "
        "document twice.",
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_list(cls, value: Any) -> Any:
        return {"sources": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_kind(self) -> Replay:
        if sum(kind is not None for kind in (self.self_generated, self.sources, self.mixture)) != 1:
            raise ValueError("give one of self_generated, a list of sources, or a mixture")
        return self

    @field_validator("mixture")
    @classmethod
    def _names_once(cls, mixture: list[ReplayPart] | None) -> list[ReplayPart] | None:
        names = [part.name for part in mixture or []]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two parts are named {', '.join(twice)}")
        return mixture
