"""Tiny teachers with other tokenizers, rows of text for them, and the loss document by document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from test_objectives import logits_of
from tiny import SENTENCES, varied_texts, write_tiny_model
from tiny_runs import Batches, Row
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from cpt.models.packed_model import load_model
from cpt.training.data import pieces, target_weight, token_weights
from cpt.training.objectives import Alm
from cpt.training.objectives.reference_model import AlignedTeacher
from tokenizer_tools.alignment import Aligner, Alignment
from tokenizer_tools.vocabulary import read_vocabulary

TEXTS = [*SENTENCES, *varied_texts(8, "No "), "naïve — 心臓 🫀", "a", "  two\n\n\tspaces  "]


def write_marked_model(folder: Path, seed: int = 5) -> Path:
    """A tiny model with a Unigram tokenizer that marks words and falls back to bytes."""
    from transformers import AutoConfig, LlamaForCausalLM

    write_tiny_model(folder, seed)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    data = json.loads(tokenizer.to_str())
    fallback = [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    data["model"] |= {"byte_fallback": True, "vocab": [*data["model"]["vocab"], *fallback]}
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace()])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size = tokenizer.get_vocab_size()
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def aligner(student: Path, teacher: Path) -> Aligner:
    """Alignment of documents that begin with <s> and end with </s>."""
    mine, its = read_vocabulary(student), read_vocabulary(teacher)
    start, end = ((mine.special[token], its.special[token]) for token in ("<s>", "</s>"))
    return Aligner(mine, its, start=start, end=end)


def aligned(student: Path, teacher: Path, load: Callable[[Path], Any] = load_model) -> AlignedTeacher:
    return AlignedTeacher(load(teacher), aligner(student, teacher))


class Documents(Batches):
    """Rows of text: documents with start and end tokens, and parts of documents."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def batch(self, step: int) -> list[Row]:
        draw = np.random.default_rng(step)
        rows = []
        for source in ("domain", "replay", "domain", "domain"):
            documents = [self.document(draw) for _ in range(3)]
            tokens = np.concatenate(documents).astype(np.uint32)
            lengths = np.array([len(document) for document in documents])
            rows.append(Row(source=source, tokens=tokens, piece_lengths=lengths, weights=None, plain=None))
        return rows

    def document(self, draw: np.random.Generator) -> list[int]:
        ids = self._tokenizer.encode(TEXTS[draw.integers(len(TEXTS))], add_special_tokens=False).ids
        begin = int(draw.integers(3)) if draw.integers(2) else 0  # a part, maybe within a character
        return [0, *ids[min(begin, len(ids) - 1) :][:24], *([1] if draw.integers(2) else [])]


class WeightedDocuments(Documents):
    """The same rows, in which some tokens count a half or nothing."""

    def batch(self, step: int) -> list[Row]:
        rows = super().batch(step)
        for row in rows[1:]:
            drawn = np.random.default_rng(step).integers(0, 3, len(row.tokens))
            row.weights = np.array([0, 0.5, 1], dtype=np.float16)[drawn]
        return rows

    def ledger(self, steps: int) -> dict[str, dict[str, float]]:
        result = super().ledger(steps)
        for source in result:
            rows = [row for step in range(steps) for row in self.batch(step) if row.source == source]
            zeros = [int((row.weights == 0).sum()) for row in rows if row.weights is not None]
            result[source]["tokens_without_loss"] = sum(zeros)
        return result


def formula(log_teacher: torch.Tensor, log_student: torch.Tensor, temperature: float) -> torch.Tensor:
    """The paper's binary cross entropy, as it stands."""
    a, b = (each.double() / temperature - 1e-6 for each in (log_teacher, log_student))
    return -(a.exp() * b + (1 - a.exp()) * torch.log(1 - b.exp()))


def brute_force(
    settings: Alm, student: Any, teacher: Any, alignment: Aligner, batch: list[Any]
) -> tuple[torch.Tensor, float]:
    """The mean loss of a global batch, chunk by chunk, each document alone; and the share left out."""
    total, covered = torch.zeros(()), 0.0
    for row in batch:
        losses, weights = [], []
        parts = np.split(token_weights(row), np.cumsum(row.piece_lengths)[:-1])
        for piece, token_weight in zip(pieces(row), parts, strict=True):
            found = alignment.align([piece])[0]
            for loss, weight, counted in chunks(
                settings, student, teacher, alignment, piece, found, token_weight
            ):
                losses.append(loss)
                weights.append(weight)
                covered += counted
        if sum(weights):
            mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
            total = total + target_weight([row]) * mean
        if settings.cross_entropy:
            for piece, token_weight in zip(pieces(row), parts, strict=True):
                log_p = logits_of(student, piece)[0].log_softmax(-1)
                labels = torch.from_numpy(piece[1:].astype(np.int64))[:, None]
                counts = torch.from_numpy(token_weight[1:].astype(np.float32))
                total = total - settings.cross_entropy * (counts * log_p.gather(1, labels)[:, 0]).sum()
    return total / target_weight(batch), 1 - covered / target_weight(batch)


def chunks(
    settings: Alm,
    student: Any,
    teacher: Any,
    alignment: Aligner,
    piece: np.ndarray,
    found: Alignment,
    token_weight: np.ndarray,
) -> list[tuple[torch.Tensor, float, float]]:
    """Loss, mean weight and summed weight of the joined chunks of one document."""
    sides = []
    for model, ids, boundaries in (
        (student, piece, alignment.student_boundaries),
        (teacher, found.ids, alignment.teacher_boundaries),
    ):
        whole = (
            model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].log_softmax(-1)
            if len(ids)
            else None
        )
        sides.append((whole, ids.tolist(), torch.from_numpy(boundaries)))
    result, open_chunk = [], None
    before = (0, 0)
    for mine, its, usable, special in zip(
        found.student_ends.tolist(), found.teacher_ends.tolist(), found.usable, found.special, strict=True
    ):
        begin, before = before, (mine, its)
        ends = (mine, its)
        if not usable or 0 in begin or not token_weight[begin[0] : mine].any():
            open_chunk = None
            continue
        sums = [
            sum(log_p[at - 1, ids[at]] for at in range(first, last))
            for (log_p, ids, _), first, last in zip(sides, begin, ends, strict=True)
        ]
        if open_chunk is not None:
            sums = [old + new for old, new in zip(open_chunk[0], sums, strict=True)]
            begin = open_chunk[1]
        masses = [
            log_p[end - 1, boundaries].logsumexp(0)
            for (log_p, _, boundaries), end in zip(sides, ends, strict=True)
        ]
        if settings.boundary is not None and not special:
            if masses[1].exp() <= settings.boundary:
                open_chunk = (sums, begin)
                continue
            sums = [one + other for one, other in zip(sums, masses, strict=True)]
        open_chunk = None
        loss = formula(sums[1].detach(), sums[0], settings.temperature)
        counted = float(token_weight[begin[0] : mine].sum())
        result.append((loss, counted / (mine - begin[0]), counted))
    return result


def entropy(log_p: torch.Tensor, temperature: float) -> torch.Tensor:
    """Entropy of a coin that falls with probability p^(1 / temperature)."""
    p = (log_p.double() / temperature - 1e-6).exp()
    return -(p * p.log() + (1 - p) * (1 - p).log())
