"""Small hypernetworks for small models, with weights that change every row, and their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.folder import TrainingFacts, save_hypernetwork
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.source import read_source

HUB_COMMIT = "0123456789abcdef0123456789abcdef01234567"

SHAPES: dict[str, dict[Role, int]] = {
    "tied": {"tied": 16},
    "untied": {"input": 16, "output": 16},
    "bias": {"input": 16, "output": 16, "bias": 1},
    "tied bias": {"tied": 16, "bias": 1},
}


def made_rows_of(widths: Mapping[Role, int], size: int = 50, seed: int = 0) -> dict[Role, Tensor]:
    """Source rows with another mean and scale in every dimension."""
    generator = torch.Generator().manual_seed(seed)
    return {
        role: torch.randn(size, width, generator=generator) * torch.linspace(0.1, 2, width)
        + torch.linspace(-1, 1, width)
        for role, width in widths.items()
    }


def made_network(
    widths: Mapping[Role, int] = SHAPES["tied"], *, changed: bool = True, seed: int = 0, **settings: object
) -> Hypernetwork:
    """A hypernetwork of `made_rows_of`; with `changed`, as if it had been trained."""
    torch.manual_seed(seed)
    config = HypernetworkConfig.model_validate({"layers": 2, "heads": 2, **settings})
    network = Hypernetwork(config, made_rows_of(widths))
    return change(network) if changed else network


def change(network: Hypernetwork) -> Hypernetwork:
    """Move every weight, so that nothing is zero and every position counts."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def random_forms(count: int, length: int = 7, size: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask of tokens of all lengths, bytes of fallback rows among their pieces."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (count,), generator=generator)
    mask = torch.arange(length) < lengths[:, None]
    return torch.randint(size + 256, (count, length), generator=generator) * mask, mask


def hub_snapshot(cache: Path, patch: pytest.MonkeyPatch) -> Path:
    """The place of org/zett in a cache of the hub, which is the only thing that can be asked for it."""
    repository = cache / "models--org--zett"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(HUB_COMMIT)
    (repository / "snapshots").mkdir()
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    patch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    return repository / "snapshots" / HUB_COMMIT


def write_hypernetwork(
    folder: Path, model: Path, *, changed: bool = True, seed: int = 0, **settings: object
) -> Hypernetwork:
    """Write the folder of a hypernetwork for a model; with `changed`, as if it had been trained."""
    torch.manual_seed(seed)
    source = read_source(model)
    config = HypernetworkConfig.model_validate({"layers": 1, "heads": 2, **settings})
    network = Hypernetwork(config, source.rows)
    network = change(network) if changed else network
    training = TrainingFacts(data=("a.jsonl",), steps=3, settings={"rate": 1e-4}, figures={"bpb": 1.25})
    save_hypernetwork(network, folder, source, str(model), training)
    return network
