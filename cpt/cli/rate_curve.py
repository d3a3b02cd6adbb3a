"""Draw a learning-rate curve in plain characters."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.training.schedules import ScheduleConfig

HEIGHT = 11
WIDEST, NARROWEST = 100, 44
_LABEL = 8


def draw(schedule: ScheduleConfig, total: int, width: int, unit: str) -> list[str]:
    """Return lines of text: the rate over the run, peak and zero at the left, names of phases below.

    Args:
        schedule: Learning-rate schedule.
        total: Length of the run, in `unit`.
        width: Maximum number of characters in a line; at least 44 are used.
        unit: Unit of the length, such as "tokens".
    """
    columns = max(NARROWEST, min(width, WIDEST)) - _LABEL - 2
    at = [column * (total - 1) // (columns - 1) for column in range(columns)]
    rates = [schedule.rate(done, total) for done in at]
    phases = schedule.phases(total)
    top = max(rates + [schedule.rate(done, total) for phase in phases for done in (phase.first, phase.last)])
    grid = _grid([round(rate / top * (HEIGHT - 1)) for rate in rates])
    labels = {HEIGHT - 1: f"{top:.3g}", 0: "0"}
    lines = [f"{labels.get(row, ''):>{_LABEL}} |{grid[row]}" for row in reversed(range(HEIGHT))]
    starts = {
        phase.name: next((column for column, done in enumerate(at) if done >= phase.first), columns - 1)
        for phase in phases
    }
    margin = " " * (_LABEL + 2)
    end = f"{total:,} {unit}"
    return [
        *(line.rstrip() for line in lines),
        " " * (_LABEL + 1)
        + "+"
        + "".join("+" if column in starts.values() else "-" for column in range(columns)),
        margin + _names(starts, columns),
        margin + "0" + f"{end:>{columns - 1}}",
    ]


def _grid(heights: list[int]) -> list[str]:
    """Return rows of characters from the bottom up; distant neighbours are joined by a vertical stroke."""
    cells = [[" "] * len(heights) for _ in range(HEIGHT)]
    before = heights[0]
    for column, height in enumerate(heights):
        step = 1 if height > before else -1
        for row in range(before + step, height, step):
            cells[row][column] = "|"
        cells[height][column] = "*"
        before = height
    return ["".join(row) for row in cells]


def _names(starts: Mapping[str, int], columns: int) -> str:
    """Return a line with each name at the start of its phase, moved left if it does not fit."""
    room, latest = columns, {}
    for name, start in reversed(list(starts.items())):
        latest[name] = min(start, room - len(name))
        room = latest[name] - 1
    line = ""
    for name in starts:
        line = line.ljust(max(latest[name], len(line) + 1 if line else 0)) + name
    return line
