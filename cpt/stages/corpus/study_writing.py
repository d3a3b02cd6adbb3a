"""Write study texts with a model in the corpus stage: check it, estimate its cost, and keep its answers."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.corpus.extras import missing
from cpt.corpus.study.write.cost import CHARACTERS, estimate
from cpt.corpus.study.write.settings import WriteSettings
from cpt.errors import CptError, DataError, Problem
from cpt.progress import NullProgress, Progress
from cpt.references import parse, resolve_files, resolve_model, unchanged
from cpt.references.cache import visible_files
from cpt.references.syntax import LocalPath, LocalPattern
from cpt.sources import DOMAIN
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.source_config import Source

if TYPE_CHECKING:
    from cpt.corpus.study.write.requests import Asker, Writer
    from cpt.corpus.study.write.writer import Written
    from cpt.stages.corpus.config import CorpusConfig
    from cpt.stages.corpus.study_config import Study

_KEY = "study.write"
_SILENT = NullProgress()
_SAMPLE = 4_000_000
"""Bytes of a source that are read to estimate its documents; `cpt plan` is to answer at once."""


def writing_problems(config: CorpusConfig) -> list[Problem]:
    """Return what the model that writes lacks: a library, or files of its folder."""
    from cpt.corpus.study.language import load_language
    from cpt.corpus.study.write.endpoint import CLIENTS, client_name

    how = config.study.write if config.study else None
    if config.study is None or how is None:
        return []
    try:
        load_language(config.study.language).of("write", "prompts")
    except DataError as error:
        return [Problem(error.message, key="study.language", hint=error.hint)]
    if how.is_address and client_name() is None:
        return [Problem("no HTTP client is installed", key=f"{_KEY}.model", hint=f"pip install {CLIENTS[0]}")]
    if how.engine == "vllm" and (lacking := missing("engine vllm", {"vllm": "vllm"})) is not None:
        return [Problem(f"{lacking}, on a machine with a GPU", key=f"{_KEY}.engine")]
    return fetch_writer(config) if how.reference and Path(how.reference).is_dir() else []


def fetch_writer(config: CorpusConfig, progress: Progress = _SILENT) -> list[Problem]:
    """Fetch the model that writes, if it is a reference, and report why it cannot be had."""
    how = config.study.write if config.study else None
    if how is None or how.reference is None:
        return []
    try:
        resolve_model(how.reference, progress)
    except CptError as error:
        return [Problem(error.message, key=f"{_KEY}.model", hint=error.hint)]
    return []


def write_texts(
    study: Study,
    how: WriteSettings,
    corpus: Path,
    base: Artifact,
    context: Context,
    probed: Collection[str] = (),
) -> Written:
    """Write about the domain's training documents.

    Finished answers stay in the run's folder, in a file for each model and its settings. So neither a stage
    that is killed nor one with other settings of the corpus asks for them again.

    Args:
        corpus: Corpus with the domain's documents.
        base: The stage's own model.
        probed: Terms of the facts that are only probed.
    """
    from cpt.corpus.documents import read_documents
    from cpt.corpus.study.language import load_language
    from cpt.corpus.study.write.writer import write

    progress, seed = context.progress, context.seed
    progress.message(f"study.write: up to {how.tokens:,} tokens by {how.label}")
    with unchanged([how.reference] if how.reference else [], context.contents):
        asker = _asker(how, base, context)
        documents = partial(read_documents, corpus, DOMAIN, "train")
        return write(documents, how, load_language(study.language), asker, seed, progress, probed)


def _asker(how: WriteSettings, base: Artifact, context: Context) -> Asker:
    """Return the model that writes with the answers that are kept of it."""
    from cpt.corpus.study.write.requests import Asker

    if how.is_address:
        model = json.dumps([how.model, how.name, how.fields], sort_keys=True)
    else:
        content = (
            base.fingerprint if how.reference is None else context.contents.get(how.reference, how.model)
        )
        model = json.dumps([content, how.engine])
    folder = (context.shared or context.work) / "written"
    file = folder / f"{sha256(model.encode()).hexdigest()[:12]}.jsonl"

    def load() -> Writer:
        if how.is_address:
            from cpt.corpus.study.write.endpoint import Endpoint

            return Endpoint(how)
        from cpt.corpus.study.write.local import WRITERS

        path = base.path("model") if how.reference is None else resolve_model(how.reference, context.progress)
        return WRITERS[how.engine](path, how.temperature, how.at_once)

    return Asker(file, model, how.temperature, load)


def forecast_writing(config: CorpusConfig, how: WriteSettings) -> str:
    """Describe the requests, the tokens and the price of writing about the local files of the domain."""
    sizes = [_size(source) for source in config.domain]
    known = [size for size in sizes if size is not None]
    if not known:
        return f"up to {how.tokens:,} tokens written by {how.label}"
    documents, characters = (sum(each) for each in zip(*known, strict=True))
    if config.select and config.select.tokens:
        share = min(1.0, config.select.tokens * CHARACTERS / max(characters, 1.0))
        documents, characters = documents * share, characters * share
    text = estimate(how, documents, characters).describe(how)
    rest = len(sizes) - len(known)
    return f"{text}{f' (without {rest} sources whose size is not known here)' if rest else ''}"


def _size(source: Source) -> tuple[float, float] | None:
    """Estimate documents and characters of local text files; None for others and for unreadable ones."""
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import LIBRARIES, Fields, Options, ReadFiles, format_of, read

    try:
        location = parse(source.path).location
        if source.chat is not None or not isinstance(location, LocalPath | LocalPattern):
            return None
        found, read_files = resolve_files(source.path), ReadFiles()
        files = _files(found.root) if found.chosen is None else found.chosen
        if any((format_of(file) or source.format) in LIBRARIES for file in files):
            return None
        total = sum(file.stat().st_size for file in files)
        options = Options(Fields(source.text_field), source.delimiter, source.split)
        entries = documents = characters = 0
        whole = True
        items = read(found.root, source.format, files=read_files, options=options, chosen=found.chosen)
        for item in islice(items, source.limit):
            if isinstance(item, Document):
                entries += 1
                documents += max(1, math.ceil(len(item.text) / source.chunk)) if source.chunk else 1
                characters += len(item.text)
            if read_files.bytes_read >= _SAMPLE:
                whole = False
                break
        items.close()
    except (CptError, OSError):
        return None
    more = 1.0 if whole else max(1.0, total / read_files.bytes_read)
    if source.limit is not None and entries:
        more = min(more, source.limit / entries)
    return documents * more, characters * more


def _files(root: Path) -> Sequence[Path]:
    return visible_files(root) if root.is_dir() else [root]
