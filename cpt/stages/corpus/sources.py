"""Read the documents of a corpus stage's sources, and sample text from the base model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from cpt.corpus.documents import Document
from cpt.progress import Progress
from cpt.references import require_read, resolve_file
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.config import DomainSource, SelfGenerated, Source

if TYPE_CHECKING:
    from cpt.corpus.documents import Item

_SAMPLING_VERSION = 1
"""A version that grows when the same settings sample other text."""


def read_sources(
    sources: Sequence[Source], progress: Progress, contents: Mapping[str, str]
) -> Iterator[Item]:
    """Yield every entry of every source, transliterated if configured.

    Args:
        contents: Reference -> fingerprint of its content (`Context.contents`).

    Raises:
        DataError: A source cannot be read, or its content has another fingerprint than planned.
    """
    from cpt.corpus.readers import ReadFiles, read

    for source in sources:
        path, files = resolve_file(source.path, progress), ReadFiles()
        items = read(path, source.format, source.text_field, files)
        if not source.complete:
            items = map(_excerpt, items)
        if isinstance(source, DomainSource) and source.part:
            items = map(partial(_in_part, source.part), items)
        yield from _transliterated(items, source, progress) if source.transliterate else items
        require_read(source.path, files.of(path), contents.get(source.path))


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
