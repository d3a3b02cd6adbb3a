"""A table of the weights that train and of the frozen rest."""

from __future__ import annotations

from typing import Any

from cpt.training.trainable.parameters import TrainableParameters

_HEADER = ("what trains", "tensors", "parameters", "share", "rate")


def table(trained: TrainableParameters, model: Any) -> str:
    """Return one line per group: tensors, parameters, share of the model, and multiple of the rate."""
    groups = trained.groups(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    rows: list[tuple[str, ...]] = [_HEADER]
    sizes = [sum(trained.size(name) for name in group.weights) for group in groups]
    for group, size in zip(groups, sizes, strict=True):
        rows.append((group.name, str(len(group.weights)), *_size_and_share(size, total), f"{group.rate:g}"))
    frozen = sum(1 for parameter in model.parameters() if not parameter.requires_grad)
    rows.append(("frozen", str(frozen), *_size_and_share(total - sum(sizes), total), "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(_aligned(row, widths)) for row in rows]
    if trained.first_steps:
        lines.append(f"in the first {trained.first_steps} steps only the rows of new tokens train")
    return "\n".join(lines)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Return the cells of a row padded to the column widths; the first is aligned to the left."""
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _size_and_share(size: int, total: int) -> tuple[str, str]:
    return f"{size:,}", f"{size / total:.2%}"
