"""Read the documents of a corpus stage's sources, and sample text from the base model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

from cpt.corpus.documents import Document
from cpt.progress import Progress
from cpt.references import parse, require_read, resolve_files
from cpt.references.syntax import HubDataSet
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.config import DomainSource, SelfGenerated, Source

if TYPE_CHECKING:
    from cpt.corpus.documents import Item
    from cpt.corpus.index import ListedSource
    from cpt.corpus.readers import Options
    from cpt.corpus.readers.conversations import TemplateRenderer

_SAMPLING_VERSION = 1
"""A version that grows when the same settings sample other text."""


def read_sources(
    sources: Sequence[Source],
    progress: Progress,
    contents: Mapping[str, str],
    renderer: TemplateRenderer | None = None,
) -> Iterator[Item]:
    """Yield every entry of every source, transliterated if configured, with the name of its source.

    Args:
        contents: Reference -> fingerprint of its content (`Context.contents`).
        renderer: Chat template of the base; needed by sources of conversations.

    Raises:
        DataError: A source cannot be read, or its content has another fingerprint than planned.
    """
    for source, name in zip(sources, source_names(sources), strict=True):
        items = _read(source, progress, contents, renderer)
        if not source.complete:
            items = map(_excerpt, items)
        if isinstance(source, DomainSource) and source.part:
            items = map(partial(_in_part, source.part), items)
        items = _transliterated(items, source, progress) if source.transliterate else items
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
    source: Source, progress: Progress, contents: Mapping[str, str], renderer: TemplateRenderer | None
) -> Iterator[Item]:
    """Yield the entries of a source as they are, then compare what was read with what was planned."""
    from cpt.corpus.readers import ReadFiles, read
    from cpt.corpus.readers.hub_data_set import read_hub_data_set

    options, location = _options(source, renderer), parse(source.path).location
    if isinstance(location, HubDataSet):
        progress.message(f"reading {source.path} from the hub as a stream")
        planned = contents.get(source.path)
        location = replace(location, revision=planned or location.revision)
        rows = read_hub_data_set(location, source.subset, source.split or "train", options.fields)
        yield from islice(rows, source.limit)
        return
    found, files = resolve_files(source.path, progress), ReadFiles()
    items = read(found.root, source.format, files=files, options=options, chosen=found.chosen)
    yield from islice(items, source.limit)
    items.close()
    require_read(source.path, files.of(found.root, found.chosen), contents.get(source.path))


def _options(source: Source, renderer: TemplateRenderer | None) -> Options:
    from cpt.corpus.readers import Fields, Options
    from cpt.corpus.readers.conversations import Conversations

    chat = None
    if source.chat is not None:
        assert renderer is not None, "the checks refuse conversations where there is no template"
        chat = Conversations(source.chat.fields, renderer)
    return Options(Fields(source.text_field, source.metadata, chat), source.delimiter, source.split)


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


def sample(
    wanted: SelfGenerated, model: Artifact, start_token: str | None, end_token: str | None, context: Context
) -> Iterator[Item]:
    """Sample replay text from the base model.

    Finished batches stay in the run's folder, under a name made of everything that they depend on. So a
    corpus with other settings, such as another held-out share, finds them there.
    """
    from cpt.corpus.self_generated import generate

    depends = {
        "version": _SAMPLING_VERSION,
        "model": model.fingerprint,
        "seed": context.seed,
        "start_token": start_token,
        "end_token": end_token,
        **wanted.model_dump(mode="json"),
    }
    name = sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]
    work = (context.shared or context.work) / f"samples-{name}"
    again = "; finished batches are reused" if work.exists() else ""
    context.progress.message(f"sampling {wanted.tokens:,} tokens of replay text from the base model{again}")
    return generate(
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
    )
