"""A tiny model that knows general text, and one that was trained on: it gained domain text and forgot."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import clinical_texts, varied_texts, write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def train_on(folder: Path, texts: list[str], output: Path, steps: int, rate: float) -> Path:
    """A copy of a model after some steps of Adam, one text each."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        ids = torch.tensor([tokenizer.encode("<s>" + texts[step % len(texts)], add_special_tokens=False)])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return output


def write_base_and_adapted(folder: Path) -> tuple[Path, Path]:
    """Both models, of one vocabulary."""
    blank = write_tiny_model(folder / "blank")
    base = train_on(blank, varied_texts(20, "general "), folder / "base", 150, 0.01)
    return base, train_on(base, clinical_texts()[:60], folder / "adapted", 60, 0.005)
