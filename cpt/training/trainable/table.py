"""What trains and what does not, in numbers."""

from __future__ import annotations

from typing import Any

from cpt.training.trainable.trained import Trained

_HEADER = ("what trains", "tensors", "parameters", "share", "rate")


def table(trained: Trained, model: Any) -> str:
    """By group: tensors, parameters, their share of the model's, and the multiple of the schedule's rate."""
    groups = trained.groups(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    rows: list[tuple[str, ...]] = [_HEADER]
    sizes = [sum(trained.size(name) for name in group.weights) for group in groups]
    for group, size in zip(groups, sizes, strict=True):
        rows.append((group.name, str(len(group.weights)), *_of(size, total), f"{group.rate:g}"))
    still = sum(1 for parameter in model.parameters() if not parameter.requires_grad)
    rows.append(("frozen", str(still), *_of(total - sum(sizes), total), "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(_aligned(row, widths)) for row in rows]
    if trained.alone:
        lines.append(f"in the first {trained.alone} steps the rows of new tokens train alone")
    return "\n".join(lines)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Cells of one width by column: the first begins, the others end alike."""
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _of(size: int, total: int) -> tuple[str, str]:
    return f"{size:,}", f"{size / total:.2%}"
