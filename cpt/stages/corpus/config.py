"""Define the settings of the corpus stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.corpus.blocks import Cleaning
from cpt.stages.base import StageConfig


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Chat(_Settings):
    """Conversations rendered by the base model's chat template: messages, or prompt and completion."""

    messages: str | None = Field(
        default=None,
        min_length=1,
        description="Field with the list of messages: role and content, or from and value (ShareGPT).",
    )
    prompt: str | None = Field(default=None, min_length=1, description="Field with the user's prompt.")
    completion: str | None = Field(default=None, min_length=1, description="Field with the answer to it.")

    @model_validator(mode="after")
    def _one_form(self) -> Chat:
        given = tuple(value is not None for value in (self.messages, self.prompt, self.completion))
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("give either messages, or prompt and completion")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the names of the fields that hold a conversation."""
        return tuple(name for name in (self.messages, self.prompt, self.completion) if name is not None)


class Source(_Settings):
    """A source of documents."""

    path: str = Field(
        min_length=1,
        description="A file, folder or pattern (data/**/*.md), an address (s3://bucket/folder), "
        "hub:datasets/..., wheel:NAME==VERSION/path or python:MODULE.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="Name in the counts of sources; by default its path.",
    )
    licence: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Licence of the text, best an SPDX identifier; kept in corpus.json and in the report.",
    )
    language: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{1,8})*$",
        description="Language of the text, a BCP 47 tag (en, pt-BR); kept in corpus.json and in the report.",
    )
    format: Literal[
        "auto", "jsonl", "parquet", "arrow", "csv", "text", "markdown", "html", "pdf", "docx", "obo", "python"
    ] = Field(
        default="auto",
        description="Format of the file; auto goes by its name (.gz and .zst are looked through).",
    )
    text_field: str = Field(
        default="text",
        min_length=1,
        description="Field (JSONL) or column (Parquet, Arrow, CSV) that holds the text.",
    )
    chat: Chat | None = Field(
        default=None,
        description="Fields with conversations, rendered by the base's chat template, instead of a text; a "
        "name alone is that of the messages. Conversations are trained on, never held out.",
    )
    metadata: tuple[str, ...] = Field(
        default=(), description="Fields of records that the documents keep, in their column metadata."
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="Delimiter of CSV files; by default the one that parts the first row into names.",
    )
    subset: str | None = Field(
        default=None, min_length=1, description="Subset (configuration) of a data set of the hub."
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        description="Split of a data set of the hub (by default train) or of one that was saved to disk.",
    )
    limit: int | None = Field(
        default=None, gt=0, description="Most entries to read, from the beginning; by default all."
    )
    transliterate: bool | Annotated[str, Field(pattern="^[a-z]{3}$")] = Field(
        default=False,
        union_mode="left_to_right",
        description="Write the text in Latin letters; an ISO 639-3 code (ukr) names its language.",
    )
    complete: bool = Field(
        default=True,
        description="Whether each document is a whole text. false: excerpts, such as definitions or "
        "paragraphs; they are trained on without an end token, so the model does not learn to stop early.",
    )

    @field_validator("chat", mode="before")
    @classmethod
    def _messages_alone(cls, value: Any) -> Any:
        return {"messages": value} if isinstance(value, str) else value

    @field_validator("metadata")
    @classmethod
    def _fields_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names) or not all(names):
            raise ValueError("give every field once")
        return names


class SelfGenerated(_Settings):
    """Replay text sampled from the base model, for when its own data is not available."""

    tokens: int = Field(gt=0, description="Number of tokens to sample.")
    length: int = Field(default=256, ge=16, description="Largest number of tokens of a sampled document.")
    batch: int = Field(default=64, gt=0, description="Number of documents sampled at once.")
    temperature: float = Field(
        default=1.0, gt=0, description="Sampling temperature; 1 samples the model as it is."
    )


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

    @model_validator(mode="after")
    def _one_kind(self) -> ReplayPart:
        if (self.self_generated is None) == (self.sources is None):
            raise ValueError("give either self_generated or a list of sources")
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


class ByBase(_Settings):
    """Bits per byte under the base model: documents that it finds most likely come first.

    Needs no reference, but takes a forward pass over all text, and prefers what the base already knows.
    """

    kind: Literal["base"] = "base"


class ByNGrams(_Settings):
    """Bits per byte under an n-gram model of reference text: documents most like that text come first."""

    kind: Literal["n-gram"] = "n-gram"
    reference: list[Source] = Field(min_length=1, description="Well-written, typical text of the domain.")
    order: int = Field(default=3, ge=1, le=5, description="Number of tokens of the longest n-grams.")


class AtRandom(_Settings):
    """A seeded hash of the text: the control for the other methods."""

    kind: Literal["random"] = "random"


class Selection(_Settings):
    """A selection of the best documents of the domain for training."""

    tokens: int = Field(
        gt=0,
        description="Number of tokens to select, by the base's tokenizer, with start and end tokens; rounded "
        "up to whole documents.",
    )
    by: Annotated[ByBase | ByNGrams | AtRandom, Field(discriminator="kind")] = Field(
        default=ByBase(), description="Rating of documents: base, n-gram or random."
    )
    min_tokens: int = Field(
        default=32,
        ge=8,
        description="Fewest tokens of a document; shorter ones are left out, since they would rate best.",
    )
    max_repetition: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Largest share of a document that repeats earlier text (8 tokens at a time); more "
        "repetitive ones are left out, since they would rate best. Clean prose stays below 0.25.",
    )

    @field_validator("by", mode="before")
    @classmethod
    def _plain_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class HeldoutMin(_Settings):
    """The minimum of held-out text: with less, a figure has no interval, and gates and tasks cannot work."""

    documents: int = Field(default=8, ge=1, description="Number of documents; below 8, no gate can act.")
    bytes: int = Field(default=2_000, ge=1, description="Number of bytes of UTF-8 text.")
    most: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Largest share of the domain's documents that is held out to reach the minimum; if that "
        "is not enough, the stage fails.",
    )


class CorpusConfig(StageConfig):
    """The text to train on, the text to hold out, and how text is cut into sequences."""

    domain: list[Source] = Field(min_length=1, description="The text of the new domain.")
    select: Selection | None = Field(
        default=None,
        description="Train only on the best of the domain's documents; by default on all.",
    )
    replay: Replay | None = Field(default=None, description="Text that preserves old knowledge.")
    general: list[Source] = Field(
        default=[], description="General text: never trained on, only for the probe of forgetting."
    )
    clean: list[Cleaning] = Field(
        default=[],
        description="Blocks that rewrite or remove documents of all sources, in this order, before anything "
        "else; text that the base model samples is left as it is.",
    )
    heldout: float = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="Share of the domain's documents to hold out; more if it gives less than `heldout_min`.",
    )
    heldout_min: HeldoutMin = Field(
        default=HeldoutMin(),
        description="Minimum of held-out text, each for the domain and for general text.",
    )
    sequence_length: int = Field(default=1024, ge=16, description="Tokens of a packed training sequence.")
    start_token: str | None = Field(
        default="auto",
        description="Token before every document; auto: the tokenizer's bos or else eos, null: none.",
    )
    end_token: str | None = Field(
        default="auto", description="Token after every document; auto: the tokenizer's eos, null: none."
    )

    @field_validator("clean")
    @classmethod
    def _blocks_once(cls, blocks: list[Cleaning]) -> list[Cleaning]:
        kinds = [block.kind for block in blocks]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"given twice: {', '.join(twice)}")
        return blocks

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Yield every source with its key in the configuration."""
        replay = self.replay.sources or [] if self.replay else []
        mixture = self.replay.mixture or [] if self.replay else []
        by = self.select.by if self.select else None
        lists = {
            "domain": self.domain,
            "select.by.reference": by.reference if isinstance(by, ByNGrams) else [],
            "replay": replay,
            **{f"replay.mixture.{at}.sources": part.sources or [] for at, part in enumerate(mixture)},
            "general": self.general,
        }
        for key, sources in lists.items():
            for number, source in enumerate(sources):
                yield f"{key}.{number}", source

    def self_generated(self) -> Iterator[tuple[str, SelfGenerated]]:
        """Yield every text that the base model samples, with its key in the configuration."""
        if self.replay and self.replay.self_generated:
            yield "replay.self_generated", self.replay.self_generated
        for at, part in enumerate(self.replay.mixture or [] if self.replay else []):
            if part.self_generated:
                yield f"replay.mixture.{at}.self_generated", part.self_generated
