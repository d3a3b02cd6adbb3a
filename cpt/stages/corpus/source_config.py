"""Define the settings of a source of documents, which trainings and monitors read too.

Nothing of the corpus library is imported, so that the command starts without numpy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


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
    prompt_weight: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Weight of the loss on all but the assistant's messages. 0: only answers are learnt.",
    )

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
        default=None,
        gt=0,
        description="Most entries to read, from the beginning, before any is cut into "
        "chunks; by default all.",
    )
    chunk: int | None = Field(
        default=None,
        ge=200,
        description="Most characters of a document: longer ones (books, PDF files) are cut into chunks at "
        "the ends of paragraphs, each a document that may be held out. By default none is cut.",
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


class DomainSource(Source):
    """A source of the domain."""

    part: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="Named part of the domain that its documents belong to. A training reads parts by weight "
        "(pretrain.mixture) and counts them apart. Several sources may be one part; a document that occurs "
        "in two parts stays in the one that is listed first.",
    )
