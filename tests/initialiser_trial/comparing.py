"""A corpus on which the tiny model can be probed."""

from pathlib import Path

from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.initialiser_trial.methods import build_corpus
from cpt.progress import NullProgress


def tiny_corpus(model: Path, folder: Path) -> Path:
    """Clinical documents, a tenth held out, and general text, in sequences of 64 tokens."""
    return build_corpus(
        model,
        [{"path": str(write_jsonl(folder / "domain.jsonl", clinical_texts()))}],
        [{"path": str(write_jsonl(folder / "general.jsonl", varied_texts(20, "general ")))}],
        folder / "corpus",
        sequence_length=64,
        heldout=0.1,
        seed=17,
        progress=NullProgress(),
    )
