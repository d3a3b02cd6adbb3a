"""Run the corpus stage: from sources of text to held-out documents and packed training sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import PART
from cpt.corpus.minhash import MinHash
from cpt.errors import DataError, Problem
from cpt.references import unchanged
from cpt.sources import DOMAIN, GENERAL, REPLAY
from cpt.stages.base import Artifact, Context, Stage, UpstreamConfigs
from cpt.stages.corpus.benchmarks import benchmark_problems, benchmark_references
from cpt.stages.corpus.checks import (
    metadata_problems,
    model_problems,
    selection_problems,
    single_file_problems,
    source_problem,
    transliteration_problems,
)
from cpt.stages.corpus.config import CorpusConfig, Replay, ReplayPart, SelfGenerated, Source
from cpt.stages.corpus.sources import listed_sources, read_sources, sample, source_names

if TYPE_CHECKING:
    from cpt.corpus.build import Split
    from cpt.corpus.examples import Example
    from cpt.corpus.index import CorpusIndex, SourceCounts


class CorpusStage(Stage[CorpusConfig]):
    """The stage that reads, deduplicates, holds out, tokenises and packs text."""

    kind = "corpus"
    contract = 4  # 4: counts by listed source; more formats in folders
    Config = CorpusConfig
    consumes = ("model",)
    produces = ("corpus",)

    def references(self, config: CorpusConfig) -> list[str]:
        benchmarks = [] if config.decontaminate is None else benchmark_references(config.decontaminate)
        ratings = [reference for _, reference in config.rating_files()]
        return [*(source.path for _, source in config.sources()), *ratings, *_files(config), *benchmarks]

    def check(self, config: CorpusConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        problems = [
            problem
            for key, source in config.sources()
            if (problem := source_problem(key, source)) is not None
        ]
        problems += selection_problems(config) + transliteration_problems(config)
        problems += metadata_problems(config) + single_file_problems(_named_files(config))
        problems += [
            Problem(missing, key=f"clean.{at}")
            for at, block in enumerate(config.clean)
            if (missing := block.problem()) is not None
        ]
        if isinstance(config.deduplicate, MinHash) and (missing := config.deduplicate.problem()) is not None:
            problems.append(Problem(missing, key="deduplicate"))
        if config.decontaminate is not None:
            problems += benchmark_problems(config.decontaminate)
        if "model" in inputs:
            problems += model_problems(config, inputs["model"].path("model"))
        return problems

    def forecast(
        self,
        config: CorpusConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        """Describe the cleaning, what else is removed, the selection and the mixture of replay text."""
        parts = [f"cleaned by {', '.join(block.kind for block in config.clean)}"] if config.clean else []
        if config.parts:
            parts.append(f"the domain in parts: {', '.join(config.parts)}")
        if isinstance(config.deduplicate, MinHash):
            parts.append(f"without near-duplicates ({config.deduplicate.similarity:.0%} alike)")
        if config.decontaminate:
            names = (*config.decontaminate.suites, *config.decontaminate.tasks, *config.decontaminate.files)
            parts.append(f"without items of {', '.join(names)}")
        if config.select:
            tokens = config.select.tokens
            chosen = f"the {tokens:,} best tokens" if tokens else "selected documents"
            parts.append(f"{chosen} of the domain, by {config.select.by.kind}")
        if config.replay and config.replay.mixture:
            total = sum(part.weight for part in config.replay.mixture)
            shares = ", ".join(f"{part.name} {part.weight / total:.0%}" for part in config.replay.mixture)
            parts.append(f"replay of {shares}")
        return "; ".join(parts)

    def run(self, config: CorpusConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from cpt.corpus.tokenise import tokenise
        from cpt.corpus.workers import process_count

        model = inputs["model"].path("model")
        corpus = context.output / "corpus"
        index = _index(config, model)
        with unchanged(_files(config), context.contents):
            chosen = _write_documents(config, inputs["model"], corpus, index, context)
        context.progress.message("tokenising and packing")
        return {
            **_metrics(tokenise(corpus, index, model, context.progress, process_count(config.workers))),
            **chosen,
            "transliterated": {
                key: source.transliterate for key, source in config.sources() if source.transliterate
            },
        }


def _files(config: CorpusConfig) -> list[str]:
    """Return the data references that cleaning blocks name."""
    return [reference for block in config.clean for reference in block.files()]


def _named_files(config: CorpusConfig) -> list[tuple[str, str]]:
    """Return the key and the reference of every setting that names one file and no source of text."""
    blocks = [(f"clean.{at}", name) for at, block in enumerate(config.clean) for name in block.files()]
    items = config.decontaminate.files if config.decontaminate else []
    listed = [(f"decontaminate.files.{at}", name) for at, name in enumerate(items)]
    return [*config.rating_files(), *blocks, *listed]


def _index(config: CorpusConfig, model: Path) -> CorpusIndex:
    """Return a corpus's index before anything is counted."""
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.tokenise import special_token, tokenizer_sha256

    return CorpusIndex(
        sequence_length=config.sequence_length,
        tokenizer=tokenizer_sha256(model),
        start_token=special_token(model, config.start_token, "bos"),
        end_token=special_token(model, config.end_token, "eos"),
    )


def _write_documents(
    config: CorpusConfig, base: Artifact, corpus: Path, index: CorpusIndex, context: Context
) -> dict[str, Any]:
    """Write all sources' documents, those with held-out text first, so that none of it stays in training.

    Returns:
        Metrics of the selection and of the mixture, if there are any.
    """
    from cpt.corpus.blocks import learn
    from cpt.corpus.build import (
        Minimum,
        always,
        by_hash,
        describe,
        hold_out_more,
        require_both_sides,
        require_heldout,
        write_source,
    )
    from cpt.corpus.examples import Examples, write_examples
    from cpt.corpus.readers.conversations import TemplateRenderer
    from cpt.corpus.workers import process_count

    model = base.path("model")
    heldout: set[bytes] = set()
    chosen: dict[str, Any] = {}
    examples: list[Example] = []
    workers = process_count(config.workers)
    renderer = TemplateRenderer(model, index.start_token, index.end_token)

    def write(
        name: str,
        sources: Sequence[Source],
        rule: Callable[[bytes], Split],
        sampled: SelfGenerated | None = None,
    ) -> None:
        found, listed = Examples(name), listed_sources(sources)
        if sampled is not None:
            made = sample(sampled, base, index.start_token, index.end_token, context)
            index.sources[name] = write_source(corpus, name, made, rule, heldout, [], found)
        else:
            read = partial(read_sources, sources, context.progress, context.contents, renderer)
            if any(block.learns for block in config.clean):
                context.progress.message(f"{name}: learning which lines repeat")
            blocks = learn(read, config.clean, workers)
            index.sources[name] = write_source(
                corpus, name, read(), rule, heldout, blocks, found, workers, listed
            )
        examples.extend(found)
        context.progress.message(f"{name}: {describe(index.sources[name])}")

    minimum = Minimum(**config.heldout_min.model_dump())
    if config.general:
        write(GENERAL, config.general, always("heldout"))
        require_heldout(GENERAL, index.sources[GENERAL], minimum)
    write(DOMAIN, config.domain, by_hash(config.heldout, context.seed))
    domain = index.sources[DOMAIN]
    if moved := hold_out_more(corpus, DOMAIN, domain, minimum, context.seed, heldout):
        context.progress.message(
            f"domain: heldout {config.heldout:g} gave less than heldout_min, so {moved:,} more are held out: "
            f"{describe(domain)}"
        )
    require_both_sides(domain, config.heldout)
    for name, part in _replay_parts(config.replay):
        write(name, part.sources or [], always("train"), part.self_generated)
    if config.decontaminate:
        from cpt.stages.corpus.benchmarks import remove_benchmarks

        chosen["decontamination"], found = remove_benchmarks(
            config.decontaminate, corpus, index.sources, context
        )
        examples += found
    if isinstance(config.deduplicate, MinHash):
        from cpt.corpus.near_duplicates import remove_near_duplicates

        context.progress.message("comparing documents with each other")
        work = context.work / "near-duplicates"
        examples += remove_near_duplicates(corpus, index.sources, config.deduplicate, work, context.progress)
    if config.select:
        from cpt.stages.corpus.selection import select

        chosen["selection"] = select(config.select, config.clean, model, corpus, index, heldout, context)
    if config.replay and config.replay.mixture:
        from cpt.stages.corpus.selection import mix

        chosen["mixture"] = mix(config.replay.mixture, model, corpus, index, context)
    _require_parts(config, index.sources[DOMAIN])
    index.sources = {name: index.sources[name] for name in sorted(index.sources, key=_rank)}
    write_examples(corpus, examples)
    return chosen


def _require_parts(config: CorpusConfig, domain: SourceCounts) -> None:
    """Raise DataError if a named part of the domain has no training documents left."""
    from cpt.corpus.build import describe

    listed = list(zip(config.domain, source_names(config.domain), strict=True))
    train, heldout = (domain.splits.get(side) for side in ("train", "heldout"))
    for part in config.parts:
        names = [name for source, name in listed if source.part == part]
        if train and any(name in train.listed for name in names):
            continue
        read = sum(domain.listed[name].documents_in for name in names)
        held = (
            sum(heldout.listed[name].documents for name in names if name in heldout.listed) if heldout else 0
        )
        raise DataError(
            f"part {part} of the domain has no training documents: of {read:,} that were read, {held:,} were "
            f"held out, and {read - held:,} were removed or are in another part as well (the whole domain: "
            f"{describe(domain)})",
            hint=f"Remove the part {part}, or give it more text.",
        )


def _rank(source: str) -> int:
    return (DOMAIN, REPLAY, GENERAL).index(source.partition(PART)[0])


def _replay_parts(replay: Replay | None) -> Iterator[tuple[str, ReplayPart | Replay]]:
    """Yield every source of replay text with its name: one, or one for each part of a mixture."""
    if replay is not None and not replay.mixture:
        yield REPLAY, replay
    for part in replay.mixture or [] if replay else []:
        yield f"{REPLAY}{PART}{part.name}", part


def _metrics(index: CorpusIndex) -> dict[str, Any]:
    """Return counts, bytes per token of each source's main split, and the fill of packed sequences."""
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
