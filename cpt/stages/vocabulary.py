"""The vocabulary stage: new tokens for the domain, and the model and the corpus that speak them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cpt.errors import DataError, Problem
from cpt.stages.base import Artifact, Context, Stage, StageConfig
from cpt.stages.documents import has_texts, iterate_texts

if TYPE_CHECKING:
    from tokenizer_tools.extend import Extension

_GUARD_TEXTS = 500
_SHOWN_TOKENS = 20


class ExtendConfig(BaseModel):
    """Which tokens are added."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(
        gt=0, description="New tokens, learnt by continued BPE on the domain's training text."
    )
    min_frequency: int = Field(
        default=2, ge=1, description="A pair of tokens that occurs less often is not merged."
    )


class EmbeddingsConfig(BaseModel):
    """How new tokens get their embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(default="subtoken-mean", description="Initialisation method of new rows.")

    @field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        from tokenizer_tools.embeddings import NAMES

        if method not in NAMES:
            raise ValueError(f"no such method; choose one of: {', '.join(NAMES)}")
        return method


class VocabularyConfig(StageConfig):
    """Configuration of the vocabulary stage."""

    extend: ExtendConfig = Field(description="Which tokens are added.")
    embeddings: EmbeddingsConfig = Field(
        default=EmbeddingsConfig(), description="How new tokens get their embeddings."
    )
    pad_to_multiple_of: int = Field(
        default=64, ge=1, description="The embedding's rows are rounded up to a multiple of this."
    )


class VocabularyStage(Stage[VocabularyConfig]):
    """Extends the tokenizer on the domain's training text; held-out text only measures the gain."""

    kind: ClassVar[str] = "vocabulary"
    Config: ClassVar[type[StageConfig]] = VocabularyConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "corpus")

    def check(self, config: VocabularyConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:  # noqa: ARG002
        """The tokenizer must be one that continued BPE can extend."""
        from tokenizer_tools.bpe_file import read

        if "model" not in inputs:
            return []
        try:
            read(inputs["model"].path("model"))
        except DataError as error:
            return [Problem(error.message, key="extend", hint=error.hint)]
        return []

    def run(
        self, config: VocabularyConfig, inputs: Mapping[str, Artifact], context: Context
    ) -> dict[str, Any]:
        """Extend the tokenizer, then the model, then retokenise the corpus."""
        from cpt.corpus import retokenise
        from tokenizer_tools.embeddings import method
        from tokenizer_tools.extend import extend_tokenizer
        from tokenizer_tools.model_folder import extend_model

        model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        output = context.output / "model"
        context.progress.message(f"learning {config.extend.tokens:,} tokens on the domain's training text")
        extension = extend_tokenizer(
            model,
            iterate_texts(corpus, "domain", "train"),
            output,
            tokens=config.extend.tokens,
            min_frequency=config.extend.min_frequency,
            samples=list(islice(_heldout(corpus), _GUARD_TEXTS)),
        )
        context.progress.message("writing the embeddings of the new tokens")
        rows = extend_model(
            model,
            output,
            extension.pieces,
            method=method(config.embeddings.method),
            pad_to_multiple_of=config.pad_to_multiple_of,
        )
        context.progress.message("retokenising the corpus")
        retokenise(corpus, output, context.output / "corpus", context.progress)
        return {**_vocabulary_metrics(extension, rows, output), **_compression_metrics(model, output, corpus)}


def _heldout(corpus: Path) -> Iterator[str]:
    """Held-out text of the domain and general text by turns, as far as the corpus has them."""
    turns = zip_longest(*(iterate_texts(corpus, source, "heldout") for source in _measured(corpus)))
    return (text for text in chain.from_iterable(turns) if text is not None)


def _measured(corpus: Path) -> list[str]:
    return [name for name in ("domain", "general") if has_texts(corpus, name, "heldout")]


def _vocabulary_metrics(extension: Extension, rows: int, model: Path) -> dict[str, Any]:
    from tokenizer_tools.bpe_file import load_tokenizer

    tokenizer = load_tokenizer(model)
    new = extension.new_tokens
    longest = sorted(new, key=lambda merge: (-len(merge.token), merge.token_id))
    return {
        "before": len(extension.before.ids),
        "after": len(extension.before.ids) + len(new),
        "rows": rows,
        "added": len(new),
        "merges": len(extension.merges),
        "guards": asdict(extension.guards),
        "longest_tokens": [tokenizer.decode([merge.token_id]) for merge in longest[:_SHOWN_TOKENS]],
        "most_frequent_tokens": [tokenizer.decode([merge.token_id]) for merge in new[:_SHOWN_TOKENS]],
    }


def _compression_metrics(before: Path, after: Path, corpus: Path) -> dict[str, float]:
    """Bytes per token of held-out text; the domain's without prefix, others' with their source's name."""
    from tokenizer_tools.bpe_file import load_tokenizer
    from tokenizer_tools.measure import bytes_per_token

    metrics = {}
    for source in _measured(corpus):
        texts = list(iterate_texts(corpus, source, "heldout"))
        prefix = "" if source == "domain" else f"{source}_"
        for when, folder in (("before", before), ("after", after)):
            metrics[f"{prefix}bytes_per_token_{when}"] = bytes_per_token(load_tokenizer(folder), texts)
    return metrics


STAGE = VocabularyStage()
