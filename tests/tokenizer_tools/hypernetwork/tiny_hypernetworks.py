"""Training hypernetworks for the tiny model."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from tiny import clinical_texts, varied_texts

from cpt.progress import NullProgress, Progress
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.distributed.context import DistributedContext
from tokenizer_tools.hypernetwork.source import SourceModel, read_source
from tokenizer_tools.hypernetwork.training.backbone import load_backbone
from tokenizer_tools.hypernetwork.training.loop import HypernetworkTraining
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig
from tokenizer_tools.hypernetwork.training.zero_shot import build_probes
from tokenizer_tools.vocabulary import read_vocabulary

T = TypeVar("T")
TEXTS = clinical_texts()
SMALL: dict[str, Any] = {
    "network": {"layers": 1, "heads": 2},
    "sampling": {"vocabulary": 450, "queue": 16, "noise_spread": 1.0},
    "steps": 6,
    "texts": 3,
    "sequence_length": 24,
    "schedule": {"kind": "constant", "peak": 1e-3},
    "precision": "fp32",
}


def small(**settings: Any) -> HypernetworkTrainingConfig:
    """Settings of a training of a second."""
    return HypernetworkTrainingConfig.model_validate({**SMALL, **settings})


def alone() -> ProcessGroup:
    """A single process."""
    return ProcessGroup(DistributedContext())


def training(
    source: SourceModel,
    work: Path,
    config: HypernetworkTrainingConfig | None = None,
    *,
    tokenizers: dict[str, Path] | None = None,
    progress: Progress | None = None,
    seed: int = 17,
    texts: Sequence[str] = TEXTS,
    target: Path | None = None,
    initial: Mapping[str, torch.Tensor] | None = None,
) -> HypernetworkTraining:
    """A run that is ready to start."""
    work.mkdir(parents=True, exist_ok=True)
    config = config or small()
    heldout = {"domain": varied_texts(6)}
    probes = build_probes(source, tokenizers or {}, heldout, config.probes.window, config.network.pieces)
    backbone = load_backbone(source, torch.float32)
    return HypernetworkTraining(
        source,
        backbone,
        texts,
        probes,
        config,
        seed,
        work,
        progress or NullProgress(),
        alone(),
        target=None if target is None else read_vocabulary(target),
        initial=initial,
    )


def weights(run: HypernetworkTraining) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two networks are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def untied(model: Path, folder: Path) -> SourceModel:
    """The tiny model with an output embedding of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model)
    loaded.config.tie_word_embeddings = False
    torch.manual_seed(3)
    loaded.lm_head.weight = torch.nn.Parameter(torch.randn_like(loaded.lm_head.weight) * 0.05)
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return read_source(folder)


@dataclass
class Meeting:
    """The place where the threads of `SharedWork` sum their tensors."""

    count: int
    barrier: threading.Barrier = field(init=False)
    brought: dict[int, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.count, timeout=60)


class SharedWork:
    """One of several processes that train together, played by a thread."""

    device = torch.device("cpu")
    sharding = None

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting, self.rank, self.count = meeting, rank, meeting.count

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        return rows[self.rank * len(rows) // self.count : (self.rank + 1) * len(rows) // self.count]

    def micro_batches(self, rows: Sequence[T], size: int) -> list[Sequence[T]]:
        mine = self.share(rows)
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        self._meeting.brought[self.rank] = tensor.clone()
        self._meeting.barrier.wait()
        total = sum(self._meeting.brought[rank] for rank in range(self.count))
        self._meeting.barrier.wait()
        return tensor.copy_(total)

    def sum_all(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            self.sum(tensor)
