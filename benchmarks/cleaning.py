"""Cleaning a text with one process and with two.

    python benchmarks/cleaning.py --text FILE.jsonl... --megabytes 60 --turns 3

Every run is a process of its own, in turns: seconds from the first document to the last, start of the worker
processes included, imports not. All documents are read as JSON lines by the main process in both cases.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from processes import medians, options_or_step, step
from tokenising import texts, write_text

BLOCKS = ["unicode", "whitespace", "gopher", "c4", "fineweb"]


def cleaning(file: str, workers: int) -> dict[str, Any]:
    """Clean all documents, in this process or in several."""
    from pydantic import TypeAdapter

    from cpt.corpus.blocks import Cleaning, clean
    from cpt.corpus.documents import Document
    from cpt.corpus.examples import Examples
    from cpt.corpus.index import SourceCounts
    from cpt.corpus.tasks import Tasks

    blocks = TypeAdapter(list[Cleaning]).validate_python(BLOCKS)
    documents = (Document(str(number), text) for number, text in enumerate(texts(file)))
    began = time.perf_counter()
    left = sum(1 for _ in clean(documents, blocks, SourceCounts(), Examples(""), Tasks(workers)))
    return {"cleaning_seconds": time.perf_counter() - began, "entries": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", help="JSONL files with a field text")
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", default="cleaning", help="of the results")
    options = options_or_step(parser, cleaning)
    turns: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "text.jsonl")
        write_text(options.text, options.megabytes, file)
        for _ in range(options.turns):
            for workers, found in turns.items():
                found.append(step("cleaning", file=str(file), workers=workers))
                print(workers, found[-1], flush=True)
    figures = {f"workers, {workers}": medians(found) for workers, found in turns.items()}
    one, two = (figures[f"workers, {workers}"]["cleaning_seconds"] for workers in turns)
    setting = {"megabytes": options.megabytes, "blocks": BLOCKS, "turns": options.turns}
    print(record.write(options.name, {"setting": setting, **figures, "times_faster": one / two}))


if __name__ == "__main__":
    main()
