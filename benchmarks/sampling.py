"""Sampling replay text from a model, beside a plain batched `generate` of transformers.

    python benchmarks/sampling.py --rows 64 --length 128 --turns 2

Every run is a process of its own, in turns, both in bfloat16 at temperature 1 from the start token on. Tokens
per second from loading the model to the last text.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from forgetting import MODEL
from processes import medians, options_or_step, resolve, step

START = "<|endoftext|>"


def cpt(model: str, rows: int, length: int) -> dict[str, Any]:
    """Sample as the corpus stage does; batches are written to a folder."""
    from cpt.corpus.self_generated import SPARE, Sample, generate, kept
    from cpt.progress import NullProgress

    wanted = int(rows * length / SPARE)  # so that one batch of so many rows is drawn
    with tempfile.TemporaryDirectory() as work:
        marks = {"start_token": START, "end_token": START, "work": Path(work), "progress": NullProgress()}
        began = time.perf_counter()
        list(generate(Path(model), wanted, length, rows, 1.0, 17, **marks))
        seconds = time.perf_counter() - began
        samples = [each for file in Path(work).glob("*.json") for each in kept(file, Sample) or []]
    return {"tokens_per_second": sum(each.tokens for each in samples) / seconds}


def plain(model: str, rows: int, length: int) -> dict[str, Any]:
    """Sample with `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    end = tokenizer.convert_tokens_to_ids(START)
    prompts = torch.full((rows, 1), end)
    torch.manual_seed(17)
    output = loaded.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=length,
        eos_token_id=end,
        pad_token_id=end,
    )
    seconds = time.perf_counter() - began
    return {"tokens_per_second": int((output[:, 1:] != end).sum()) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--turns", type=int, default=2)
    options = options_or_step(parser, cpt, plain, resolve)
    model = step("resolve", model=MODEL)["folder"]
    turns: dict[str, list[dict[str, Any]]] = {"cpt": [], "plain": []}
    for _ in range(options.turns):
        for name, found in turns.items():
            found.append(step(name, model=model, rows=options.rows, length=options.length))
            print(name, found[-1], flush=True)
    setting = {"rows": options.rows, "length": options.length, "turns": options.turns}
    print(
        record.write("sampling", {"setting": setting} | {name: medians(each) for name, each in turns.items()})
    )


if __name__ == "__main__":
    main()
