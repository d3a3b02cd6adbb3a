"""Define the settings of the corpus stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from cpt.corpus.blocks import Cleaning
from cpt.corpus.clusters import Executor, Local
from cpt.corpus.decontamination import Cut, Drop
from cpt.corpus.minhash import MinHash
from cpt.corpus.ratings import (
    Band,
    ClassifierSettings,
    ConceptSettings,
    DSIRSettings,
    PredictiveStrengthSettings,
    ScoreSettings,
)
from cpt.corpus.study.write.settings import OF_TRANSPORT
from cpt.sources import DOCUMENTS, STUDY
from cpt.stages.base import StageConfig
from cpt.stages.corpus.replay_config import Replay, SelfGenerated
from cpt.stages.corpus.source_config import DomainSource, Source
from cpt.stages.corpus.study_config import Study


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_BAND = (
    "Bounds between which documents are selected, at random; by default the lowest are. [0.1, 0.6] are "
    "quantiles, {bits_per_byte: [0.7, 1.2]} are values."
)


class ByBase(_Settings):
    """Bits per byte under the base model: documents that it finds most likely come first.

    Needs no reference, but takes a forward pass over all text, and prefers what the base already knows.
    """

    kind: Literal["base"] = "base"
    band: Band | None = Field(default=None, description=_BAND)


class ByNGrams(_Settings):
    """Bits per byte under an n-gram model of reference text: documents most like that text come first."""

    kind: Literal["n-gram"] = "n-gram"
    reference: list[Source] = Field(min_length=1, description="Well-written, typical text of the domain.")
    order: int = Field(default=3, ge=1, le=5, description="Number of tokens of the longest n-grams.")
    band: Band | None = Field(default=None, description=_BAND)


class ByDSIR(DSIRSettings):
    """Importance weights of hashed word n-grams (DSIR): documents are resampled to read like target text.

    The choice for large corpora: fast, and keeps the target's variety, which the n-gram model does not.
    """

    target: list[Source] = Field(min_length=1, description="Text that the selected documents should be like.")


class ByClassifier(ClassifierSettings):
    """A linear classifier, for when there are examples of unwanted text too."""

    positive: list[Source] = Field(min_length=1, description="Examples of what is wanted.")
    negative: list[Source] = Field(min_length=1, description="Examples of what is not.")


class ByScore(ScoreSettings):
    """Scores of another tool, from a file."""


class ByPredictiveStrength(PredictiveStrengthSettings):
    """Several models' losses on each document: those on which better models do better (PreSelect)."""


class TermList(_Settings):
    """A file of terms."""

    path: str = Field(
        min_length=1, description="A file, hub:datasets/..., wheel:NAME==VERSION/path or python:MODULE."
    )
    format: Literal["auto", "text", "obo", "python"] = Field(
        default="auto",
        description="text: a term on each line; obo: the names of an ontology; python: strings in lists, "
        "tuples and sets, and keys of dictionaries, read without running the code; auto goes by the name.",
    )
    synonyms: bool = Field(default=True, description="Count an ontology's synonyms as their term.")


class ByConcepts(ConceptSettings):
    """Terms in the documents, frequent ones capped (MetaCLIP): breadth of the domain before quality."""

    terms: list[TermList] = Field(min_length=1, description="Files of the domain's terms.")


class AtRandom(_Settings):
    """A seeded hash of the text: the control for the other methods."""

    kind: Literal["random"] = "random"


class Selection(_Settings):
    """A selection of the best documents of the domain for training."""

    tokens: int | None = Field(
        default=None,
        gt=0,
        description="Number of tokens to select, by the base's tokenizer, with start and end tokens; rounded "
        "up to whole documents. May be left out with a band or a cap: all documents that it lets through.",
    )
    by: Annotated[
        ByBase | ByNGrams | ByDSIR | ByClassifier | ByScore | ByPredictiveStrength | ByConcepts | AtRandom,
        Field(discriminator="kind"),
    ] = Field(default=ByBase(), description="Rating of documents.")
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

    @model_validator(mode="after")
    def _bounded(self) -> Selection:
        bounded = getattr(self.by, "band", None) or getattr(self.by, "cap", None)
        if self.tokens is None and bounded is None:
            raise ValueError("give tokens, the number of tokens to select")
        return self


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


class Exact(_Settings):
    """Only documents of the same text, but for Unicode form and white space, are left out."""

    kind: Literal["exact"] = "exact"


class Decontamination(_Settings):
    """Benchmark items that may not occur in training text."""

    suites: tuple[str, ...] = Field(
        default=(),
        description="Suites, as the evaluate stage names them; all items of the tasks of the level.",
    )
    tasks: tuple[str, ...] = Field(
        default=(), description="Single tasks: of any suite, or any other of lm-eval, by name."
    )
    files: tuple[str, ...] = Field(
        default=(),
        description="JSONL files of one item per line; every text in a line is searched for, whatever its "
        "field (question, context, choices).",
    )
    data: str | None = Field(
        default=None,
        description="Folder with the data sets of suites and tasks, as for the evaluate stage; what it lacks "
        "comes from the hub.",
    )
    ngram: int = Field(
        default=13,
        ge=5,
        le=100,
        description="Number of words in a row that make a match; shorter items are found as questions of "
        "`study` alone.",
    )
    action: Annotated[Drop | Cut, Field(discriminator="kind")] = Field(
        default=Drop(), description="Treatment of a document with a match: drop or cut."
    )

    @field_validator("action", mode="before")
    @classmethod
    def _plain_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some_items(self) -> Decontamination:
        if not (self.suites or self.tasks or self.files):
            raise ValueError("name the benchmarks: suites, tasks or files")
        if self.data is not None and not (self.suites or self.tasks):
            raise ValueError("there are no suites or tasks to take `data` for")
        return self


class CorpusConfig(StageConfig):
    """The text to train on, the text to hold out, and how text is cut into sequences."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {"workers", "executor", *(f"study.write.{name}" for name in OF_TRANSPORT)}
    )

    domain: list[DomainSource] = Field(min_length=1, description="The text of the new domain.")
    select: Selection | None = Field(
        default=None,
        description="Train only on the best of the domain's documents; by default on all.",
    )
    study: Study | None = Field(
        default=None,
        description="Questions and reading tasks mined from the domain's training documents; they become its "
        "parts `reading` and `questions`, beside `documents`.",
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
    deduplicate: Annotated[Exact | MinHash, Field(discriminator="kind")] = Field(
        default=Exact(),
        description="Duplicates to leave out: exact; or minhash, near-duplicates within and across all "
        "sources. Of these the first stays, in the order domain, replay; none of held-out text stays.",
    )
    decontaminate: Decontamination | None = Field(
        default=None, description="Benchmarks to keep out of training text; by default none."
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
    heldout_max: PositiveInt | None = Field(
        default=100_000_000,
        description="Most bytes of the domain's held-out text, some 25 million tokens; null: any number. Of "
        "more, the rest trains. It holds for corpora of 5 GB and more at the default share.",
    )
    sequence_length: int = Field(default=1024, ge=16, description="Tokens of a packed training sequence.")
    start_token: str | None = Field(
        default="auto",
        description="Token before every document; auto: the tokenizer's bos or else eos, null: none.",
    )
    end_token: str | None = Field(
        default="auto", description="Token after every document; auto: the tokenizer's eos, null: none."
    )

    workers: PositiveInt | Literal["auto"] = Field(
        default="auto",
        description="Number of processes that clean and tokenise; auto: one for each processor. The result "
        "is the same with any number.",
    )
    executor: Executor = Field(
        default=Local(),
        description="Where documents are cleaned and tokenised: local, this machine; slurm or ray, a "
        "cluster. The result is the same.",
    )

    @field_validator("domain")
    @classmethod
    def _parts_of_all_or_none(cls, domain: list[DomainSource]) -> list[DomainSource]:
        without = [source.path for source in domain if source.part is None]
        if 0 < len(without) < len(domain):
            raise ValueError(f"{without[0]} has no part, and others have: give every source a part, or none")
        return domain

    @model_validator(mode="before")
    @classmethod
    def _documents_are_a_part(cls, data: Any) -> Any:
        """Give domain sources without a part that of documents, where study makes other parts."""
        domain = data.get("domain") if isinstance(data, dict) else None
        if not domain or not isinstance(domain, list) or data.get("study") is None:
            return data
        sources = [{"part": DOCUMENTS, **each} if isinstance(each, dict) else each for each in domain]
        return {**data, "domain": sources}

    @model_validator(mode="after")
    def _held_out_text_fits(self) -> CorpusConfig:
        if self.heldout_max is not None and self.heldout_max < self.heldout_min.bytes:
            raise ValueError(
                f"heldout_max: {self.heldout_max:,} bytes are fewer than the {self.heldout_min.bytes:,} of "
                "heldout_min: raise it, or lower heldout_min"
            )
        return self

    @model_validator(mode="after")
    def _parts_of_study_are_free(self) -> CorpusConfig:
        taken = sorted(set(self.source_parts) & set(STUDY)) if self.study else []
        if taken:
            raise ValueError(f"the part {taken[0]} is made by `study`: give the source another part")
        return self

    @property
    def source_parts(self) -> list[str]:
        """Names of the parts that sources are listed for."""
        return list(dict.fromkeys(source.part for source in self.domain if source.part is not None))

    @property
    def parts(self) -> list[str]:
        """Names of the domain's parts; none if the domain is one text."""
        return [*self.source_parts, *(self.study.parts if self.study else ())]

    @property
    def parts_not_made(self) -> dict[str, str]:
        """Parts that `study` could make but does not, each with the reason."""
        return self.study.parts_not_made if self.study else {}

    @field_validator("deduplicate", "executor", mode="before")
    @classmethod
    def _plain_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

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
        references = ("reference", "target", "positive", "negative")
        lists: dict[str, Sequence[Source]] = {
            "domain": self.domain,
            **{f"select.by.{name}": getattr(by, name, []) for name in references},
            "replay": replay,
            **{f"replay.mixture.{at}.sources": part.sources or [] for at, part in enumerate(mixture)},
            "general": self.general,
        }
        for key, sources in lists.items():
            for number, source in enumerate(sources):
                yield f"{key}.{number}", source

    def rating_files(self) -> Iterator[tuple[str, str]]:
        """Yield the key and the reference of every file that rates documents and is no source of text."""
        by = self.select.by if self.select else None
        if isinstance(by, ByScore | ByPredictiveStrength):
            yield "select.by.file", by.file
        for number, terms in enumerate(by.terms if isinstance(by, ByConcepts) else []):
            yield f"select.by.terms.{number}.path", terms.path

    def study_files(self) -> Iterator[tuple[str, str]]:
        """Yield the key and the reference of every ontology that questions are made of."""
        for number, reference in enumerate(self.study.ontologies if self.study else ()):
            yield f"study.ontologies.{number}", reference

    def block_files(self) -> list[str]:
        """Return the data references that cleaning blocks name."""
        return [reference for block in self.clean for reference in block.files()]

    def self_generated(self) -> Iterator[tuple[str, SelfGenerated]]:
        """Yield every text that the base model samples, with its key in the configuration."""
        if self.replay and self.replay.self_generated:
            yield "replay.self_generated", self.replay.self_generated
        for at, part in enumerate(self.replay.mixture or [] if self.replay else []):
            if part.self_generated:
                yield f"replay.mixture.{at}.self_generated", part.self_generated
