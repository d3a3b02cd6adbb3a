"""`cpt eval text` computes bits per byte of texts, by source and by document."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cpt.atomic import atomic_file
from cpt.cli.evaluating.comparing import difference_of_texts, difference_with_interval
from cpt.cli.evaluating.dynamic import DynamicReading, check_dynamic, print_dynamic
from cpt.cli.evaluating.exact_bytes import ExactBytes, check_ensemble, print_exact
from cpt.cli.evaluating.inputs import Confidence, Models, Precision, check_precision, documents_of, file_of
from cpt.cli.options import Json, named_texts
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import ProgressBar, show_progress
from cpt.cli.tokenizer.report import short
from cpt.errors import DataError
from cpt.references import resolve_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from cpt.models.shared_windows import Reader, WindowBytes
    from evals.text_scores import TextScores, WindowedSource


def text(
    models: Models,
    texts: Annotated[
        list[str],
        typer.Option(
            "--text",
            metavar="[NAME=]FILE",
            help="A source: JSONL, Parquet, text, or a folder. May be repeated.",
        ),
    ],
    window: Annotated[
        int, typer.Option("--window", metavar="N", min=2, help="Most tokens that a model reads at once.")
    ] = 1024,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            metavar="N",
            min=0,
            help="Most tokens of the previous window repeated as context; a quarter if left out.",
        ),
    ] = None,
    start_token: Annotated[
        str,
        typer.Option(
            "--start-token",
            metavar="TOKEN",
            help="Token before every document; auto for the tokenizer's bos or else eos, none for nothing.",
        ),
    ] = "auto",
    precision: Precision = "auto",
    batch_tokens: Annotated[
        int, typer.Option("--batch-tokens", metavar="N", min=1, help="Tokens in one pass through a model.")
    ] = 4096,
    confidence: Confidence = 0.95,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the bootstrap.")] = 0,
    documents: Annotated[
        Path | None,
        typer.Option(
            "--documents", metavar="FILE", help="Write every document's figures to this file, as JSONL."
        ),
    ] = None,
    exact_bytes: Annotated[
        int | None,
        typer.Option(
            "--exact-bytes",
            metavar="N",
            min=1,
            help="Also score the first N bytes of each text byte by byte (exact, for BPE).",
        ),
    ] = None,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            metavar="",
            help="With --exact-bytes: also score the mean of all models' distributions of bytes.",
        ),
    ] = False,
    dynamic: Annotated[
        float | None,
        typer.Option(
            "--dynamic",
            metavar="SHARE",
            help="Also read the text in dynamically merged tokens, which removes this share of its tokens.",
        ),
    ] = None,
    hypernet: Annotated[
        str | None,
        typer.Option(
            "--hypernet",
            metavar="REF",
            help="With --dynamic: hypernetwork that predicts the rows of merged tokens: folder, or hub id.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure bits per byte of texts under models; further models are compared with the first.

    All models read the same windows of a text, in bytes, and only bytes whose tokens were scored are counted,
    so that models with different tokenizers are comparable. A difference is resampled document by document.

    Example: cpt eval text BASE ADAPTED --text medical.jsonl --text general.jsonl
    """
    check_precision(precision)
    check_ensemble(ensemble, exact_bytes, models)
    check_dynamic(dynamic, hypernet)
    settings = TextSettings(
        window,
        overlap,
        None if start_token == "none" else start_token,
        precision,
        batch_tokens,
        exact_bytes,
        dynamic,
        hypernet,
    )
    with show_progress(resumable=False) as view:
        folders = {model: resolve_model(model, view) for model in models}
        sources = named_texts(texts)
        for reference in sources.values():
            file_of(reference, view)  # a wrong name is reported before hours of work
        scores, exact, merged = _scores(folders, sources, settings, view)
    found = [
        {"model": model, **_facts(name, scores[model], scores[models[0]], confidence, seed)}
        for name in sources
        for model in folders
    ]
    if documents is not None:
        _write_documents(documents, scores)
    by_bytes = exact.facts(ensemble=ensemble, confidence=confidence, seed=seed) if exact else []
    in_merged = merged.facts(confidence=confidence, seed=seed) if merged else []
    if as_json:
        further = {"exact_bytes": by_bytes, "dynamic": in_merged}
        return print_json(
            {
                "settings": asdict(settings),
                "texts": found,
                **{name: facts for name, facts in further.items() if facts},
            }
        )
    _print(out(), found, confidence)
    if exact:
        print_exact(out(), by_bytes, confidence)
    if merged:
        print_dynamic(out(), in_merged, confidence)
    return None


@dataclass(frozen=True)
class TextSettings:
    """Settings of the reading of texts."""

    window: int
    overlap: int | None
    start_token: str | None
    precision: str
    batch_tokens: int
    exact_bytes: int | None
    dynamic: float | None
    hypernet: str | None


@dataclass(frozen=True)
class _SourceScores:
    """Scores of a source under a model, and the number of its entries that are no documents, by reason."""

    scores: TextScores
    removed: Mapping[str, int]
    windows: WindowBytes
    precision: str
    window: int
    overlap: int


def _scores(
    folders: Mapping[str, Path], sources: Mapping[str, str], settings: TextSettings, view: ProgressBar
) -> tuple[dict[str, dict[str, _SourceScores]], ExactBytes | None, DynamicReading | None]:
    """Score all sources under all models: each source is cut once for all models, each model loaded once."""
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from evals.text_scores import score_source, tokenise_source

    readers, reader_of = _readers(folders, settings, view)
    exact = None
    if settings.exact_bytes is not None:
        sizes = {model: readers[which].windows.size for model, which in reader_of.items()}
        exact = ExactBytes(folders, sizes, sources, settings.start_token, settings.exact_bytes, view)
    merged = None
    if settings.dynamic is not None and settings.hypernet is not None:
        merged = DynamicReading(folders, readers, sources, settings.dynamic, settings.hypernet, view)
    removed: dict[str, dict[str, int]] = {name: {} for name in sources}
    dtype = resolve_precision(settings.precision)  # type: ignore[arg-type]
    found: dict[str, dict[str, _SourceScores]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        cut: dict[str, WindowedSource] = {}
        for number, (name, reference) in enumerate(sources.items()):
            documents = documents_of(reference, removed[name], view)
            try:
                cut[name] = tokenise_source(
                    readers,
                    documents,
                    Path(scratch) / str(number),
                    on_progress=lambda done: view.update(done, None, "bytes cut into tokens"),
                )
            except DataError as error:
                raise DataError(f"{name}: {error.message}", hint=error.hint) from error
        total = sum(source.work[reader] for source in cut.values() for reader in reader_of.values())
        read = 0

        def progress(tokens: int) -> None:
            nonlocal read
            read += tokens
            view.update(read, total, "tokens")

        view.update(0, total, "tokens")
        for model, folder in folders.items():
            which = reader_of[model]
            packed = PackedLanguageModel(load_model(folder, dtype).to(best_device()))
            windows = readers[which].windows
            found[model] = {
                name: _SourceScores(
                    score_source(packed, source, which, settings.batch_tokens, progress),
                    removed[name],
                    source.windows,
                    str(dtype).removeprefix("torch."),
                    windows.size,
                    windows.overlap,
                )
                for name, source in cut.items()
            }
            if exact is not None:
                exact.score(model, packed, view)
            if merged is not None:
                merged.score(model, packed, view)
            del packed
    return found, exact, merged


def _readers(
    folders: Mapping[str, Path], settings: TextSettings, view: ProgressBar
) -> tuple[list[Reader], dict[str, int]]:
    """Return the different readers, and each model's index among them: most models share a tokenizer."""
    from cpt.corpus.document_tokenizer import special_token
    from cpt.models.shared_windows import Reader
    from cpt.models.tokenizer import load_tokenizer
    from cpt.stages.corpus.checks import window_for

    tokenizers: dict[str, Tokenizer] = {}
    readers: list[Reader] = []
    reader_of: dict[str, int] = {}
    for model, folder in folders.items():
        tokenizer, start = load_tokenizer(folder), special_token(folder, settings.start_token, "bos")
        tokenizer = tokenizers.setdefault(tokenizer.to_str(), tokenizer)
        window = window_for(folder, settings.window)
        if window < settings.window:
            view.message(
                f"{folder}: reads {window:,} tokens at once, fewer than --window {settings.window:,}"
            )
        overlap = window // 4 if settings.overlap is None else settings.overlap
        reader = Reader.of(tokenizer, window, start, overlap)
        if reader not in readers:
            readers.append(reader)
        reader_of[model] = readers.index(reader)
    return readers, reader_of


def _facts(
    name: str,
    scores: Mapping[str, _SourceScores],
    first: Mapping[str, _SourceScores],
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    scored = scores[name].scores
    total = scored.total
    facts = {
        "text": name,
        "bits_per_byte": total.bits_per_byte,
        "stderr": total.standard_error if len(total.nats) > 1 else None,
        "documents": len(scored.ids),
        "documents_scored": len(total.nats),
        "bytes": int(scored.bytes.sum()),
        "bytes_not_scored": int((scored.all_bytes - scored.bytes).sum()),
        "tokens": int(scored.tokens.sum()),
        "unknown_tokens": int(scored.unknown.sum()),
        "removed": dict(scores[name].removed),
        "window": scores[name].window,
        "overlap": scores[name].overlap,
        "windows": scores[name].windows.as_json(),
        "precision": scores[name].precision,
    }
    if scores is first:
        return facts
    return {**facts, **difference_of_texts(first[name].scores, scored, confidence, seed)}


def _write_documents(file: Path, scores: Mapping[str, Mapping[str, _SourceScores]]) -> None:
    lines = (
        {
            "model": model,
            "text": name,
            "document": id,
            "nats": nats,
            "bytes": size,
            "tokens": tokens,
            "bits_per_byte": bits if size else None,
        }
        for model, by_text in scores.items()
        for name, each in by_text.items()
        for id, nats, size, tokens, bits in zip(
            each.scores.ids,
            each.scores.nats.tolist(),
            each.scores.bytes.tolist(),
            each.scores.tokens.tolist(),
            each.scores.bits_per_byte.tolist(),
            strict=True,
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as scratch, scratch.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _print(console: Console, found: Sequence[Mapping[str, Any]], confidence: float) -> None:
    table = rows(
        "text", "model", "bits/byte#", "±#", f"difference ({confidence:.0%})", "documents#", "bytes#"
    )
    for each in found:
        error = "" if each["stderr"] is None else f"{each['stderr']:.4f}"
        figures = f"{each['documents_scored']:,}", f"{each['bytes']:,}"
        table.add_row(
            "",
            short(each["text"]),
            short(each["model"]),
            f"{each['bits_per_byte']:.4f}",
            error,
            difference_with_interval(each),
            *figures,
        )
    console.print(table)
    for each in found:
        for remark in _remarks(each):
            where = f"{short(each['text'])}, {short(each['model'])}"
            console.print(Text(f"  {where}: {remark}", style="dim"), soft_wrap=True)


def _remarks(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield remarks that a reader of the figure needs."""
    unscored = each["documents"] - each["documents_scored"]
    if unscored:
        yield f"{unscored:,} documents are too short to score"
    if each["bytes_not_scored"]:
        yield f"{each['bytes_not_scored']:,} bytes are not scored (first tokens, or dropped by the tokenizer)"
    if each["unknown_tokens"]:
        yield f"{each['unknown_tokens']:,} tokens stand for text that it cannot spell: too low to compare"
    for reason, count in each["removed"].items():
        yield f"{count:,} entries left out: {reason}"
