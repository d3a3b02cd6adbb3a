"""Read the documents of a corpus stage's sources, and sample text from the base model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.chunks import in_chunks
from cpt.corpus.documents import Document
from cpt.progress import Progress
from cpt.references import parse, require_read, resolve_file, resolve_files, unchanged
from cpt.references.cache import visible_files
from cpt.references.resolve import SourceFiles
from cpt.references.syntax import HubDataSet
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.replay_config import SelfGenerated
from cpt.stages.corpus.source_config import DomainSource, Source
from cpt.stages.corpus.study_config import Study

if TYPE_CHECKING:
    from cpt.corpus.documents import Item
    from cpt.corpus.index import ListedSource
    from cpt.corpus.readers import Extracting, Options
    from cpt.corpus.readers.conversations import TemplateRenderer
    from cpt.corpus.study.mining import Mined

_MEGA = 10**6
_ITEMS_BETWEEN = 64
"""Number of entries between two reports of progress."""

_SAMPLING_VERSION = 2
"""A version that grows when the same settings sample other text."""


def read_sources(
    sources: Sequence[Source],
    progress: Progress,
    contents: Mapping[str, str],
    renderer: TemplateRenderer | None = None,
    extracting: Extracting | None = None,
) -> Iterator[Item]:
    """Yield every entry of every source, transliterated if configured, with the name of its source.

    Args:
        contents: Reference -> fingerprint of its content (`Context.contents`).
        renderer: Chat template of the base; needed by sources of conversations.
        extracting: How text of HTML, PDF and DOCX is extracted; by default one file at once.

    Raises:
        DataError: A source cannot be read, or its content has another fingerprint than planned.
    """
    for source, name in zip(sources, source_names(sources), strict=True):
        items = _read(source, _options(source, renderer, extracting), progress, contents)
        items = _transliterated(items, source, progress) if source.transliterate else items
        items = items if source.chunk is None else in_chunks(items, source.chunk)
        if not source.complete:
            items = map(_excerpt, items)
        if isinstance(source, DomainSource) and source.part:
            items = map(partial(_in_part, source.part), items)
        for item in items:
            yield replace(item, source=name)


def source_names(sources: Sequence[Source]) -> list[str]:
    """Return the name of each source in the counts: its own or its path, numbered from the second on."""
    names: list[str] = []
    for source in sources:
        plain = name = source.name or source.path
        number = 1
        while name in names:
            number += 1
            name = f"{plain} ({number})"
        names.append(name)
    return names


def listed_sources(sources: Sequence[Source]) -> dict[str, ListedSource]:
    """Return the facts of sources by their names in the counts."""
    from cpt.corpus.index import ListedSource

    return {
        name: ListedSource(path=source.path, licence=source.licence, language=source.language)
        for source, name in zip(sources, source_names(sources), strict=True)
    }


def _read(
    source: Source, options: Options, progress: Progress, contents: Mapping[str, str]
) -> Iterator[Item]:
    """Yield the entries of a source as they are, then compare what was read with what was planned."""
    from cpt.corpus.readers import ReadFiles, read
    from cpt.corpus.readers.hub_data_set import read_hub_data_set

    location = parse(source.path).location
    if isinstance(location, HubDataSet):
        progress.message(f"reading {source.path} from the hub as a stream")
        planned = contents.get(source.path)
        location = replace(location, revision=planned or location.revision)
        rows = read_hub_data_set(location, source.subset, source.split or "train", options.fields)
        yield from islice(rows, source.limit)
        return
    found, files = resolve_files(source.path, progress), ReadFiles()
    items = read(found.root, source.format, files=files, options=options, chosen=found.chosen)
    total = sum(file.stat().st_size for file in _files(found))
    for number, item in enumerate(islice(items, source.limit)):
        if number % _ITEMS_BETWEEN == 0 and total >= _MEGA:
            progress.update(files.bytes_read // _MEGA, max(total, files.bytes_read) // _MEGA, "MB")
        yield item
    items.close()
    require_read(source.path, files.of(found.root, found.chosen), contents.get(source.path))


def _files(found: SourceFiles) -> Sequence[Path]:
    """Return the files that a source may read."""
    if found.chosen is not None:
        return found.chosen
    return visible_files(found.root) if found.root.is_dir() else [found.root]


def _options(source: Source, renderer: TemplateRenderer | None, extracting: Extracting | None) -> Options:
    from cpt.corpus.readers import Extracting, Fields, Options
    from cpt.corpus.readers.conversations import Conversations

    chat = None
    if source.chat is not None:
        assert renderer is not None, "the checks refuse conversations where there is no template"
        chat = Conversations(source.chat.fields, renderer, source.chat.prompt_weight)
    fields = Fields(source.text_field, source.metadata, chat)
    return Options(fields, source.delimiter, source.split, extracting or Extracting())


def _excerpt(item: Item) -> Item:
    return replace(item, ended=False) if isinstance(item, Document) else item


def _in_part(part: str, item: Item) -> Item:
    return replace(item, part=part) if isinstance(item, Document) else item


def _transliterated(items: Iterator[Item], source: Source, progress: Progress) -> Iterator[Item]:
    from cpt.corpus.build import rewritten
    from tokenizer_tools.transliteration import Romaniser

    progress.message(f"transliterating {source.path}")
    language = source.transliterate if isinstance(source.transliterate, str) else None
    return rewritten(items, Romaniser(language).romanise)


def ontology_items(study: Study, context: Context) -> list[Mined]:
    """Return the questions that are made of a study's ontologies.

    Terms are drawn, and divided into trained and only probed ones, before questions with labels are made:
    these are balanced within each of the two. Other names of a term, which the first pass finds, decide too.

    Raises:
        DataError: A file is no ontology, or changed since the stage was planned.
    """
    from cpt.corpus.study.facts import Facts
    from cpt.corpus.study.items import chance, fact_key
    from cpt.corpus.study.language import load_language
    from cpt.corpus.study.miners.ontology import Ontology, read_ontology
    from cpt.corpus.study.mining import Mined

    miner = Ontology(load_language(study.language), context.seed)
    facts = Facts(study.trained, context.seed)
    asked = []
    with unchanged(study.ontologies, context.contents):
        for reference in study.ontologies:
            context.progress.message(f"reading {reference}")
            terms = read_ontology(resolve_file(reference, context.progress))
            keys = sorted({fact_key(term.name) for term in terms if term.name})
            most = min(study.ontology_terms or len(keys), len(keys))
            asked.append((terms, chance("terms", context.seed, reference).sample(keys, most)))

    for terms, drawn in asked:
        for item in miner.items(terms, dict.fromkeys(drawn)):
            facts.add(Mined(item, item.fact, miner.name, miner.closed))
    return [
        Mined(item, item.fact, miner.name, miner.closed)
        for terms, drawn in asked
        for item in miner.items(terms, {key: facts.is_trained(key) for key in drawn})
    ]


def _versions(*names: str) -> dict[str, str]:
    """Return the versions of packages that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def sample(
    wanted: SelfGenerated, model: Artifact, start_token: str | None, end_token: str | None, context: Context
) -> Iterator[Item]:
    """Sample replay text from the base model.

    Finished batches stay in the run's folder, under a name made of everything that they depend on. So a
    corpus with other settings, such as another held-out share, finds them there.
    """
    from cpt.corpus.self_generated import generate

    is_chat = wanted.form == "chat"
    depends = {
        "version": _SAMPLING_VERSION,
        "libraries": _versions("torch", wanted.engine),
        "model": model.fingerprint,
        "seed": context.seed,
        "start_token": start_token,
        "end_token": end_token,
        # plain text keeps the name that it had before there were conversations
        **wanted.model_dump(mode="json", exclude=None if is_chat else {"form", "prompt_weight"}),
    }
    if is_chat:
        # samples are kept as they were written: the weight of the loss is given to them when they are read
        depends["prompt_weight"] = 1.0
    name = sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]
    work = (context.shared or context.work) / f"samples-{name}"
    again = "; finished batches are reused" if work.exists() else ""
    kind = "conversations" if is_chat else "replay text"
    context.progress.message(f"sampling {wanted.tokens:,} tokens of {kind} from the base model{again}")
    chosen: Any = generate
    if is_chat:
        from cpt.corpus.self_generated_chats import generate_chats

        chosen = partial(generate_chats, prompt_weight=wanted.prompt_weight)
    made: Iterator[Item] = chosen(
        model_folder=model.path("model"),
        tokens=wanted.tokens,
        length=wanted.length,
        batch=wanted.batch,
        temperature=wanted.temperature,
        seed=context.seed,
        start_token=start_token,
        end_token=end_token,
        work=work,
        progress=context.progress,
        engine=wanted.engine,
    )
    return made
