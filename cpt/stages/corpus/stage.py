"""Run the corpus stage: from sources of text to held-out documents and packed training sequences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.extras import missing
from cpt.corpus.minhash import MinHash
from cpt.errors import Problem
from cpt.progress import Progress
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
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.study_writing import fetch_writer, forecast_writing, writing_problems

if TYPE_CHECKING:
    from cpt.corpus.index import CorpusIndex


class CorpusStage(Stage[CorpusConfig]):
    """The stage that reads, deduplicates, holds out, tokenises and packs text."""

    kind = "corpus"
    contract = 9  # 9: study items that state a probed fact are left out, and passages show no fact twice
    Config = CorpusConfig
    consumes = ("model",)
    produces = ("corpus",)

    def references(self, config: CorpusConfig) -> list[str]:
        benchmarks = [] if config.decontaminate is None else benchmark_references(config.decontaminate)
        ratings = [reference for _, reference in config.rating_files()]
        return [
            *(source.path for _, source in config.sources()),
            *ratings,
            *(reference for _, reference in config.study_files()),
            *(config.study.models if config.study else ()),
            *config.block_files(),
            *benchmarks,
        ]

    def fetch(self, config: CorpusConfig, progress: Progress) -> list[Problem]:
        return fetch_writer(config, progress)

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
        if (lacking := config.executor.problem()) is not None:
            problems.append(Problem(lacking, key="executor"))
        problems += [
            Problem(f"{lacking}, on a machine with a GPU", key=f"{key}.engine")
            for key, wanted in config.self_generated()
            if wanted.engine == "vllm" and (lacking := missing("engine vllm", {"vllm": "vllm"})) is not None
        ]
        problems += writing_problems(config)
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
        if config.study:
            parts.append(f"study documents by {', '.join(config.study.miners)}")
        if config.study and config.study.write:
            parts.append(forecast_writing(config, config.study.write))
        if config.replay and config.replay.mixture:
            total = sum(part.weight for part in config.replay.mixture)
            shares = ", ".join(f"{part.name} {part.weight / total:.0%}" for part in config.replay.mixture)
            parts.append(f"replay of {shares}")
        return "; ".join(parts)

    def run(self, config: CorpusConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        from cpt.corpus.blocks import describe_unknown
        from cpt.corpus.tasks import Tasks
        from cpt.corpus.tokenise import tokenise
        from cpt.corpus.workers import process_count
        from cpt.stages.corpus.writing import versions, write_documents

        model = inputs["model"].path("model")
        corpus = context.output / "corpus"
        index = _index(config, model)
        kept = context.work / f"with-{versions()}"
        tasks = Tasks(process_count(config.workers), kept / "tasks", config.executor, context.progress)
        chosen = write_documents(config, inputs["model"], index, tasks, kept, context)
        for line in describe_unknown(config.clean, index.sources):
            context.progress.message(line)
        context.progress.message("tokenising and packing")
        return {
            **_metrics(tokenise(corpus, index, model, context.progress, tasks)),
            **chosen,
            "transliterated": {
                key: source.transliterate for key, source in config.sources() if source.transliterate
            },
        }


def _named_files(config: CorpusConfig) -> list[tuple[str, str]]:
    """Return the key and the reference of every setting that names one file and no source of text."""
    blocks = [(f"clean.{at}", name) for at, block in enumerate(config.clean) for name in block.files()]
    items = config.decontaminate.files if config.decontaminate else []
    listed = [(f"decontaminate.files.{at}", name) for at, name in enumerate(items)]
    return [*config.rating_files(), *config.study_files(), *blocks, *listed]


def _index(config: CorpusConfig, model: Path) -> CorpusIndex:
    """Return a corpus's index before anything is counted."""
    from cpt.corpus.document_tokenizer import special_token
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.tokenise import tokenizer_sha256

    return CorpusIndex(
        sequence_length=config.sequence_length,
        tokenizer=tokenizer_sha256(model),
        start_token=special_token(model, config.start_token, "bos"),
        end_token=special_token(model, config.end_token, "eos"),
    )


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
