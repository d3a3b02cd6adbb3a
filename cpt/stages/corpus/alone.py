"""Deduplicate, decontaminate or select text without a recipe: steps of the corpus stage, each alone.

The result is a corpus folder without tokens: its documents, their counts and examples of what was removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from cpt.corpus.build import describe, write_source
from cpt.corpus.documents import documents_path, read_documents
from cpt.corpus.examples import Examples, write_examples
from cpt.corpus.heldout import Always
from cpt.corpus.index import CorpusIndex, write_index
from cpt.corpus.minhash import MinHash
from cpt.corpus.readers import Extracting
from cpt.corpus.steps import BuildState
from cpt.corpus.workers import process_count
from cpt.progress import Progress
from cpt.sources import DOMAIN, GENERAL, QUESTIONS, READING, SHUFFLED
from cpt.stages.base import Context
from cpt.stages.corpus.config import CorpusConfig, Decontamination, Exact, Selection
from cpt.stages.corpus.source_config import Source
from cpt.stages.corpus.sources import listed_sources, ontology_items, read_sources
from cpt.stages.corpus.study_config import Study

if TYPE_CHECKING:
    from cpt.corpus.study.mining import Mined

Workers = int | Literal["auto"]
"""Number of processes that extract text from files; auto: one for each processor."""


def deduplicate(
    sources: Sequence[Source],
    how: Exact | MinHash,
    output: Path,
    progress: Progress,
    heldout: Sequence[Source] = (),
    workers: Workers = "auto",
) -> CorpusIndex:
    """Write the documents of sources without duplicates.

    Args:
        output: Empty folder for the result.
        heldout: Text of which no duplicate may stay; it is not part of the result.
        workers: Number of processes that extract text from files.

    Raises:
        DataError: A source cannot be read, or nothing is left.
    """

    def step(found: BuildState, context: Context) -> None:
        from cpt.corpus.near_duplicates import remove_near_duplicates

        if isinstance(how, MinHash):
            progress.message("comparing documents with each other")
            found.examples += remove_near_duplicates(output, found.sources, how, context.work, progress)

    return _written(sources, heldout, output, progress, step, workers=workers)


def decontaminate(
    sources: Sequence[Source],
    how: Decontamination,
    output: Path,
    progress: Progress,
    workers: Workers = "auto",
) -> CorpusIndex:
    """Write the documents of sources without the items of benchmarks; `contamination.jsonl` lists them.

    Args:
        output: Empty folder for the result.
        workers: Number of processes that extract text from files.

    Raises:
        DataError: A source cannot be read, or nothing is left.
        StageFailed: No item of any benchmark can be read.
    """

    def step(found: BuildState, context: Context) -> None:
        from cpt.stages.corpus.benchmarks import read_benchmarks, remove_benchmarks

        found.metrics, examples = remove_benchmarks(
            read_benchmarks(how, context), how, output, found.sources, progress
        )
        found.examples += examples

    return _written(sources, (), output, progress, step, workers=workers)


def select(
    sources: Sequence[Source],
    how: Selection,
    model: Path,
    output: Path,
    progress: Progress,
    seed: int = 17,
    workers: Workers = "auto",
) -> CorpusIndex:
    """Write the best documents of sources; `selection.parquet` has every document's score.

    Args:
        model: Model folder whose tokenizer counts the tokens; `by: base` rates with its weights.
        output: Empty folder for the result.
        seed: Seed of random choices.
        workers: Number of processes that extract text from the sources' files.

    Raises:
        DataError: A source cannot be read, or has fewer tokens than are to be selected.
    """

    def step(found: BuildState, context: Context) -> None:
        from cpt.corpus.document_tokenizer import AUTO, special_token
        from cpt.stages.corpus import selection
        from cpt.stages.corpus.checks import window_for

        marks = {
            "sequence_length": window_for(model, CorpusConfig.model_fields["sequence_length"].default),
            "start_token": special_token(model, AUTO, "bos"),
            "end_token": special_token(model, AUTO, "eos"),
        }
        index = _index(found).model_copy(update=marks)
        found.metrics = selection.select(how, [], model, output, index, found.heldout, context)

    return _written(sources, (), output, progress, step, seed, workers)


def study(
    sources: Sequence[Source],
    how: Study,
    output: Path,
    progress: Progress,
    seed: int = 17,
    workers: Workers = "auto",
) -> dict[str, Any]:
    """Write what can be learnt and asked about sources, as JSON lines that any trainer reads.

    The files: `reading.jsonl` and, with `shuffle`, `shuffled.jsonl` (text), `questions.jsonl` (prompt and
    completion) and `recall.jsonl` (question, choices, answer), which an evaluate stage takes as a task.

    Args:
        output: Empty folder for the result.
        workers: Number of processes that extract text from files.

    Returns:
        Numbers of facts, of items by miner, and of items of the probe.

    Raises:
        DataError: A source cannot be read, or nothing was found.
    """
    from cpt.corpus.recall import RECALL
    from cpt.corpus.study.questions import prompts_and_answers
    from cpt.corpus.study.writing import write_study

    with TemporaryDirectory(dir=output.parent) as folder:
        corpus, scratch = Path(folder) / "corpus", Path(folder) / "study"
        corpus.mkdir()
        _written(sources, (), corpus, progress, _nothing, workers=workers)
        context = Context(corpus, scratch, seed, progress, recipe={})
        _, facts = write_study(corpus, scratch, how, seed, progress, ontology_items(how, context))
        made = list(read_documents(scratch, DOMAIN, "train"))
        reading = ({"text": each.text} for each in made if each.part == READING)
        again = ({"text": each.text} for each in made if each.part == SHUFFLED)
        asked = (pair for each in made if each.part == QUESTIONS for pair in prompts_and_answers(each))
        _write_lines(output / "reading.jsonl", reading)
        _write_lines(output / "questions.jsonl", ({"prompt": ask, "completion": say} for ask, say in asked))
        if how.shuffle:
            _write_lines(output / "shuffled.jsonl", again)
        if (corpus / RECALL).exists():
            shutil.move(corpus / RECALL, output / RECALL)
    return facts


def mined_of(
    sources: Sequence[Source], how: Study, progress: Progress, seed: int = 17, workers: Workers = "auto"
) -> list[Mined]:
    """Return the items that are found in sources, in the order of the text, and in ontologies.

    Args:
        workers: Number of processes that extract text from files.

    Raises:
        DataError: A source cannot be read.
    """
    from cpt.corpus.study.facts import Facts
    from cpt.corpus.study.language import load_language
    from cpt.corpus.study.mining import Mining

    with TemporaryDirectory() as folder:
        corpus = Path(folder)
        _written(sources, (), corpus, progress, _nothing, workers=workers)
        documents = partial(read_documents, corpus, DOMAIN, "train")
        mining = Mining(documents, how.miners, load_language(how.language), Facts(how.trained, seed), seed)
        found = [each for document in documents() for each in mining.items(document)]
    return found + ontology_items(how, Context(Path(), Path(), seed, progress, recipe={}))


def _written(
    sources: Sequence[Source],
    heldout: Sequence[Source],
    output: Path,
    progress: Progress,
    step: Callable[[BuildState, Context], None],
    seed: int = 0,
    workers: Workers = "auto",
) -> CorpusIndex:
    """Write the documents of sources, do a step on them, and write counts and examples."""
    found, extracting = BuildState(), Extracting(process_count(workers))
    for name, side, listed in ((GENERAL, Always("heldout"), heldout), (DOMAIN, Always("train"), sources)):
        if listed:
            examples, items = Examples(name), read_sources(listed, progress, {}, extracting=extracting)
            found.sources[name] = write_source(
                output, name, items, side, found.heldout, examples=examples, listed=listed_sources(listed)
            )
            found.examples.extend(examples)
            progress.message(f"{name}: {describe(found.sources[name])}")
    with TemporaryDirectory(dir=output.parent) as work:
        step(found, Context(output, Path(work), seed, progress, recipe={}))
    if found.sources.pop(GENERAL, None) is not None:  # it was there to be compared with
        documents_path(output, GENERAL, "heldout").unlink()
    index = _index(found)
    write_index(output, index)
    write_examples(output, found.examples)
    return index


def _nothing(found: BuildState, context: Context) -> None:
    """Leave the documents as they are."""


def _write_lines(path: Path, records: Iterable[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _index(found: BuildState) -> CorpusIndex:
    nothing: dict[str, Any] = {"sequence_length": 0, "start_token": None, "end_token": None, "tokenizer": ""}
    return CorpusIndex(**nothing, sources=found.sources)
