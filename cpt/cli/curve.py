"""A learning-rate curve in plain characters, as wide as there is room."""

from __future__ import annotations

from collections.abc import Iterable

from cpt.training.schedules import ScheduleConfig

HEIGHT = 11
WIDEST, NARROWEST = 100, 32
_LABEL = 8


def draw(schedule: ScheduleConfig, total: int, width: int, unit: str) -> list[str]:
    """Lines of text: the rate over the run, the highest and zero at the left, the phases' names below.

    Args:
        total: length of the run.
        width: characters that a line may have; at least 32 are taken.
        unit: what the length is counted in.
    """
    columns = max(NARROWEST, min(width, WIDEST)) - _LABEL - 2
    at = [column * (total - 1) // (columns - 1) for column in range(columns)]
    rates = [schedule.rate(done, total) for done in at]
    top = max(rates) or 1.0
    grid = _grid([round(rate / top * (HEIGHT - 1)) for rate in rates])
    labels = {HEIGHT - 1: f"{top:.3g}", 0: "0"}
    lines = [f"{labels.get(row, ''):>{_LABEL}} |{grid[row]}" for row in reversed(range(HEIGHT))]
    starts = {
        phase.name: next((column for column, done in enumerate(at) if done >= phase.first), columns - 1)
        for phase in schedule.phases(total)
    }
    margin = " " * (_LABEL + 2)
    end = f"{total:,} {unit}"
    return [
        *(line.rstrip() for line in lines),
        " " * (_LABEL + 1) + "+" + "".join("+" if at in starts.values() else "-" for at in range(columns)),
        margin + _names(starts.items()),
        margin + "0" + f"{end:>{columns - 1}}",
    ]


def _grid(heights: list[int]) -> list[str]:
    """Rows of characters from the lowest up; neighbours far apart are joined by a vertical stroke."""
    cells = [[" "] * len(heights) for _ in range(HEIGHT)]
    before = heights[0]
    for column, height in enumerate(heights):
        step = 1 if height > before else -1
        for row in range(before + step, height, step):
            cells[row][column] = "|"
        cells[height][column] = "*"
        before = height
    return ["".join(row) for row in cells]


def _names(starts: Iterable[tuple[str, int]]) -> str:
    """Every name where its phase starts, or further right where another is in its way."""
    line = ""
    for name, start in starts:
        line = f"{line} " if len(line) >= start and line else line.ljust(start)
        line += name
    return line
