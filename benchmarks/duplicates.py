"""Near-duplicates and benchmark items in text of one's own: time, memory, hit rate; beside three libraries.

Libraries get the same word n-grams; `ours` is what the corpus stage does (`cpt/corpus/minhash.py`). Seconds
are of processor time, as other work on the machine counts little there; each task is a process of its own.

    python benchmarks/duplicates.py --text legal/*.jsonl --text medical/*.jsonl --data DIR --suites legal:full
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import record

BANDS, ROWS, NGRAM = 14, 8, 5
LIBRARIES = ("ours", "rensa", "datasketch", "datatrove")
SIMILARITIES = (0.7, 0.8, 0.9)
PAIRS = 1000
REPEATS = 5


def read(files: list[str]) -> list[str]:
    return [json.loads(line)["text"] for file in files for line in Path(file).open(encoding="utf-8")]


def ngrams(texts: list[str]) -> Iterator[list[str]]:
    """Yield the word n-grams of each text, as a user of a library makes them."""
    from evals.overlap import words

    for text in texts:
        found = words(text)
        yield [" ".join(found[at : at + NGRAM]) for at in range(max(1, len(found) - NGRAM + 1))]


def ours(texts: list[str], threshold: float | None = None) -> np.ndarray:
    from cpt.corpus.minhash import MinHash, sign
    from cpt.corpus.near_duplicates import find_near_duplicates

    settings = MinHash(bands=BANDS, rows=ROWS, ngram=NGRAM, threshold=threshold)
    signatures = np.concatenate(list(sign(texts, settings)))
    return find_near_duplicates(signatures, np.ones(len(texts), dtype=bool), settings).to >= 0


def by_rensa(texts: list[str]) -> np.ndarray:
    from rensa import RMinHash, RMinHashLSH

    matrix = RMinHash.digest_matrix_from_token_sets(ngrams(texts), BANDS * ROWS, 1)
    lsh = RMinHashLSH((1 / BANDS) ** (1 / ROWS), BANDS * ROWS, BANDS)
    return np.array(lsh.query_duplicate_flags_matrix_one_shot(matrix))


def by_datasketch(texts: list[str]) -> np.ndarray:
    from datasketch import MinHash, MinHashLSH

    lsh, found, empty = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS)), [], MinHash(BANDS * ROWS)
    for number, grams in enumerate(ngrams(texts)):
        sketch = empty.copy()
        sketch.update_batch([gram.encode() for gram in grams])
        found.append(bool(lsh.query(sketch)))
        lsh.insert(number, sketch)
    return np.array(found)


def by_datatrove(texts: list[str]) -> np.ndarray:
    """Return its signatures' duplicates; its files and their merging are left out."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import create_hash_func

    step = MinhashDedupSignature.__new__(MinhashDedupSignature)  # without its word tokenizer
    step.config, step.num_hashes, step._parameters = MinhashConfig(), BANDS * ROWS, None
    hashed = create_hash_func(step.config.hash_config)
    seen: set[tuple[int, ...]] = set()
    found = []
    for grams in ngrams(texts):
        shingles = np.array([hashed(gram.encode()) for gram in grams], dtype=np.uint64).reshape(-1, 1)
        keys = {(band, *numbers) for band, numbers in enumerate(step.get_signature(shingles))}
        found.append(not seen.isdisjoint(keys))
        seen |= keys
    return np.array(found)


RUNS: dict[str, Callable[[list[str]], np.ndarray]] = {
    "ours": ours,
    "ours, bands alone": partial(ours, threshold=0),
    "rensa": by_rensa,
    "datasketch": by_datasketch,
    "datatrove": by_datatrove,
}


def of_library(name: str, files: list[str]) -> dict[str, Any]:
    """Return the best time, memory beyond the texts, and the duplicates of one library."""
    from cpt.estimate.devices import peak_resident_bytes

    texts = read(files)
    RUNS[name](["a few words to load the libraries and to begin"] * 2)
    before, seconds = peak_resident_bytes(), []
    for _ in range(REPEATS):
        begun = time.process_time()
        found = RUNS[name](texts)
        seconds.append(time.process_time() - begun)
    size = sum(len(text.encode()) for text in texts)
    return {
        "documents": len(texts),
        "megabytes": size / 1e6,
        "seconds": min(seconds),
        "megabytes_per_second": size / 1e6 / min(seconds),
        "more_memory": peak_resident_bytes() - before,
        "duplicates": int(found.sum()),
    }


def of_hits(name: str) -> dict[str, Any]:
    """Return the share of pairs of a similarity that a library finds, beside the formula."""
    from cpt.corpus.minhash import found_by_bands

    generator = np.random.default_rng(17)
    rates = {}
    for similarity in SIMILARITIES:
        grams = 100
        other = round(grams * (1 - similarity) / (1 + similarity))
        true = (grams - other) / (grams + other)
        texts = []
        for pair in range(PAIRS):
            first = [f"w{number}" for number in generator.integers(0, 50_000, grams + NGRAM - 1)]
            texts += [" ".join(first), " ".join([*first[:-other], *(f"x{pair}y{n}" for n in range(other))])]
        found = [RUNS[name](texts[at : at + 2])[-1] for at in range(0, len(texts), 2)]
        formula = found_by_bands(true, BANDS, ROWS)
        rates[f"{true:.3f}"] = {"found": float(np.mean(found)), "formula": formula}
    return {"pairs": PAIRS, "error": (0.25 / PAIRS) ** 0.5, "rates": rates}


class Clock:
    """A `Progress` that notes when the items are read and the search begins."""

    searching = 0.0

    def message(self, text: str) -> None:
        if text.startswith("searching"):
            self.searching = time.process_time()

    def update(self, done: int, total: int, unit: str, **facts: float) -> None:
        pass


def of_stage(files: list[str], data: str | None, suites: list[str]) -> dict[str, Any]:
    """Return what the corpus stage's two steps remove of a text, their time and memory."""
    from cpt.corpus.build import write_source
    from cpt.corpus.heldout import ByHash
    from cpt.corpus.minhash import MinHash
    from cpt.corpus.near_duplicates import remove_near_duplicates
    from cpt.corpus.readers import read as read_files
    from cpt.estimate.devices import peak_resident_bytes
    from cpt.progress import NullProgress
    from cpt.stages.base import Context
    from cpt.stages.corpus.benchmarks import read_benchmarks, remove_benchmarks
    from cpt.stages.corpus.config import Decontamination

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        items = (item for file in files for item in read_files(Path(file), "auto", "text"))
        sources = {"domain": write_source(corpus, "domain", items, ByHash(0.02, 17), set())}
        counts = sources["domain"]
        size = sum(split.bytes for split in counts.splits.values())
        result: dict[str, Any] = {"documents": counts.documents_in, "megabytes": size / 1e6}
        before, begun = peak_resident_bytes(), time.process_time()
        remove_near_duplicates(corpus, sources, MinHash(), Path(folder) / "work", NullProgress())
        seconds = time.process_time() - begun
        result["near_duplicates"] = {
            "seconds": seconds,
            "megabytes_per_second": size / 1e6 / seconds,
            "more_memory": peak_resident_bytes() - before,
        }
        if suites:
            size = counts.splits["train"].bytes
            before, begun = peak_resident_bytes(), time.process_time()
            wanted = Decontamination(suites=tuple(suites), data=data)
            clock = Clock()
            context = Context(Path(folder), Path(folder), 17, clock, {})
            facts, _ = remove_benchmarks(read_benchmarks(wanted, context), wanted, corpus, sources, clock)
            seconds = time.process_time() - clock.searching
            result["decontamination"] = {
                "seconds_reading_items": clock.searching - begun,
                "seconds": seconds,
                "megabytes_per_second": size / 1e6 / seconds,
                "more_memory": peak_resident_bytes() - before,
                "matches": facts["matches"],
                "items": sum(task["items"] for task in facts["tasks"].values()),
                "too_short": sum(task["too_short"] for task in facts["tasks"].values()),
                "found": {name: task["found"] for name, task in facts["tasks"].items() if task["found"]},
                "not_searched": len(facts["not_searched"]),
            }
        result["removed"] = {
            reason: amount.model_dump() for reason, amount in counts.removed.items() if amount.documents
        }
    return result


def task(**what: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own, on one core."""
    command = [sys.executable, __file__, "--task", json.dumps(what)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(what, result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", nargs="+", action="append", default=[], help="JSONL files of one corpus")
    parser.add_argument("--names", nargs="+", default=[], help="name of each corpus")
    parser.add_argument("--suites", nargs="+", default=[], help="suite of each corpus")
    parser.add_argument("--data", help="folder of the suites' data sets")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run: Callable[..., dict[str, Any]] = globals()[options.task.pop("of")]
        print(json.dumps(run(**options.task)))
        return
    names = options.names or [str(number) for number in range(len(options.text))]
    suites = options.suites or [None] * len(names)
    figures = {
        "hits": {name: task(of="of_hits", name=name) for name in RUNS},
        "libraries": {
            corpus: {name: task(of="of_library", name=name, files=files) for name in LIBRARIES}
            for corpus, files in zip(names, options.text, strict=True)
        },
        "stage": {
            corpus: task(of="of_stage", files=files, data=options.data, suites=[suite] if suite else [])
            for corpus, files, suite in zip(names, options.text, suites, strict=True)
        },
    }
    print(record.write("duplicates", figures))


if __name__ == "__main__":
    main()
