"""Data sets of the general suite as their authors give them away, with a few invented items."""

from __future__ import annotations

import bz2
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ARC = [
    {
        "query": "Question: What do bees make?",
        "choices": ["milk", "honey", "silk", "wool"],
        "gold": 1,
    },
    {  # of three choices: one is repeated
        "query": "Question: Which is {{ hot }}?",
        "choices": ["ice", "ice", "fire", "snow"],
        "gold": 2,
    },
]
OPENBOOKQA = [
    {"query": "A magnet attracts", "choices": ["wood", "glass", "iron", "wool"], "gold": 2},
    {"query": "Frogs begin as", "choices": ["tadpoles", "eggshells", "pupae", "kits"], "gold": 0},
]
WINOGRANDE = [
    {
        "context_options": ["Ann thanked Eve because Ann", "Ann thanked Eve because Eve"],
        "continuation": "had helped.",
        "gold": 1,
    },
    {
        "context_options": ["The pot beat the pan since the pot", "The pot beat the pan since the pan"],
        "continuation": "'s handle broke.",
        "gold": 0,
    },
]
LAMBADA = [
    {"context": "He called the dog, and in came the", "continuation": "dog"},
    {"context": "The bell rang.\n\nShe heard the", "continuation": "bell"},
]
PIQA = [
    {"goal": "open a jar", "sol1": "twist the lid", "sol2": "twist the glass"},
    {"goal": "dry a shirt", "sol1": "put it in water", "sol2": "hang it up"},
]
PIQA_LABELS = ["0", "1"]
HELLASWAG = """\
Baking: A woman opens an oven. she
1
sings to the moon.
takes out a cake.
is a cake.
closes Paris.
Health: How to rest. Lie down. Close your eyes.
0
Breathe slowly.
Run fast.
Eat rocks.
Stand on the roof.
"""
BLIMP = [
    {"sentence_good": "Dogs bark.", "sentence_bad": "Dogs barks."},
    {"sentence_good": "He runs.", "sentence_bad": "He run."},
]
MMLU_TEST = [
    ["What is 1+1?", "1", "2", "3", "4", "B"],
    ['Say "no",\nplease', "no", "2009-01-01", "x", "y", "A"],
]
MMLU_DEV = [[f"Example {number}?", "w", "x", "y", "z", "D"] for number in range(5)]


def write_original_files(root: Path, paradigms: Iterable[str], subjects: Iterable[str]) -> Path:
    """A folder of all data sets of the general suite.

    Args:
        paradigms: of BLiMP.
        subjects: of MMLU.
    """
    for name, items in {
        "arc_easy": ARC,
        "arc_challenge": ARC,
        "openbook_qa": OPENBOOKQA,
        "winogrande": WINOGRANDE,
        "lambada_openai": LAMBADA,
    }.items():
        write_lines(root / "foundry" / f"{name}.jsonl", items)
    write_lines(root / "piqa" / "valid.jsonl", PIQA)
    (root / "piqa" / "valid-labels.lst").write_text("".join(f"{label}\n" for label in PIQA_LABELS))
    (root / "hellaswag_val_full.txt.bz2").write_bytes(bz2.compress(HELLASWAG.encode()))
    with ZipFile(root / "BLiMP.zip", "w") as archive:
        for paradigm in paradigms:
            facts = {"field": "syntax", "linguistics_term": "agreement", "UID": paradigm, "pairID": "0"}
            archive.writestr(f"data/{paradigm}.jsonl", lines([{**pair, **facts} for pair in BLIMP]))
    for subject in subjects:
        write_records(root / "mmlu" / "dev" / f"{subject}_dev.csv", MMLU_DEV)
        write_records(root / "mmlu" / "test" / f"{subject}_test.csv", MMLU_TEST)
    return root


def lines(items: Iterable[Mapping[str, Any]]) -> str:
    """JSON, one item a line."""
    return "".join(f"{json.dumps(item)}\n" for item in items)


def write_lines(file: Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(lines(items), encoding="utf-8")


def write_records(file: Path, records: Iterable[Sequence[str]]) -> None:
    """Write CSV without a header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(records)
