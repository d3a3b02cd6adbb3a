"""The documents of a corpus stage's sources, and the text that the base model samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.references import resolve_file
from cpt.stages.base import Context, Progress
from cpt.stages.corpus_config import SelfGenerated, Source

if TYPE_CHECKING:
    from cpt.corpus.documents import Item


def read_sources(sources: Sequence[Source], progress: Progress) -> Iterator[Item]:
    """Every entry of every source, transliterated where that is asked for."""
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


def sample(
    wanted: SelfGenerated, model: Path, start_token: str | None, work: Path, context: Context
) -> Iterator[Item]:
    """Replay text that the base model writes itself.

    Args:
        work: folder in which finished batches are kept.
    """
    from cpt.corpus.self_generated import generate

    context.progress.message(f"sampling {wanted.tokens:,} tokens of replay text from the base model")
    return generate(
        model_folder=model,
        tokens=wanted.tokens,
        length=wanted.length,
        batch=wanted.batch,
        temperature=wanted.temperature,
        seed=context.seed,
        start_token=start_token,
        work=work,
        progress=context.progress,
    )
