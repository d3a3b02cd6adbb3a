"""Plant duplicates, benchmark items and personal data into real text: they are removed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np
import pytest
from corpus_runs import byte_model, run, write

from cpt.corpus import read_documents
from cpt.stages.base import Artifact

ITEMS = [
    f"which of the {number} following findings is most likely after a fall in a patient aged {number}"
    for number in range(40, 50)
]
PERSONAL = "Contact john.doe{0}@example.org or +1 650 253 00{0}, server 93.184.216.{0}."
BLOCKS = ["unicode", "whitespace", {"kind": "boilerplate", "share": 0.3}, {"kind": "pii", "regions": ["US"]}]


def documents() -> list[str]:
    """Pieces of 150 words of Python's own documentation."""
    words = [word for _, text in sorted(topics.items()) for word in text.split()]
    return [" ".join(words[at : at + 150]) for at in range(0, len(words) - 150, 150)][:400]


def near_copy(text: str, changed: int) -> str:
    """The text with its last words replaced: of 146 5-grams, as many less are shared."""
    return " ".join([*text.split()[:-changed], *(f"new{number}" for number in range(changed))])


class Built(NamedTuple):
    removed: dict[str, int]
    texts: set[str]


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


def build(base: Artifact, folder: Path, name: str, texts: list[str]) -> Built:
    (folder / "items.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in ITEMS))
    settings: dict[str, Any] = {
        "domain": [write(folder / f"{name}.jsonl", *texts)],
        "clean": BLOCKS,
        "deduplicate": "minhash",
        "decontaminate": {"files": [str(folder / "items.jsonl")]},
        "heldout": 0.02,
        "workers": 1,
    }
    corpus, metrics, _ = run(base, folder, name, **settings)
    removed = metrics["sources"]["domain"]["removed"]
    kept = {
        document.text for side in ("train", "heldout") for document in read_documents(corpus, "domain", side)
    }
    return Built({reason: amount["documents"] for reason, amount in removed.items()}, kept)


def test_planted_text_is_found_and_nothing_else(base: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("phonenumbers")
    clean = documents()
    chance = np.random.default_rng(3)
    chosen = chance.permutation(len(clean))
    exact = [clean[at].replace(" ", "  ", 9) for at in chosen[:30]]
    near = [near_copy(clean[at], 7) for at in chosen[30:80]]  # 0.91 alike
    leaked = [
        f"{clean[at][:300]} {item} {clean[at][-300:]}" for item, at in zip(ITEMS, chosen[80:], strict=False)
    ]
    personal = [
        f"{PERSONAL.format(10 + number)} {clean[at][::-1]}" for number, at in enumerate(chosen[90:110])
    ]
    before = build(base, tmp_path, "clean", clean)
    after = build(base, tmp_path, "planted", [*clean, *exact, *near, *leaked, *personal])

    more = {reason: count - before.removed.get(reason, 0) for reason, count in after.removed.items()}
    near_found = more.pop("near_duplicate") + more.pop("near_duplicate_of_heldout")
    assert more.pop("duplicate") + more.pop("duplicate_of_heldout") == len(exact)
    assert near_found >= 0.98 * len(near)
    assert more.pop("contaminated") == len(leaked)
    assert not any(more.values()), more
    assert before.texts <= set(clean)  # what is kept was not rewritten
    assert not any(f"john.doe{number}" in text for text in after.texts for number in range(10, 30))
    assert not any("93.184.216." in text for text in after.texts)
    masked = [text for text in after.texts if text not in {*clean, *near, *leaked}]
    assert len(masked) == len(personal)
    endings = {text[-400:] for text in personal}
    assert {text[-400:] for text in masked} == endings
    # a document whose copy is held out goes; nothing else does
    assert len(before.texts - after.texts) <= near_found - sum(text not in after.texts for text in near)
