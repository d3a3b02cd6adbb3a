"""A learning-rate curve in plain characters, as wide as there is room."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.training.schedules import ScheduleConfig

HEIGHT = 11
WIDEST, NARROWEST = 100, 44
_LABEL = 8


def draw(schedule: ScheduleConfig, total: int, width: int, unit: str) -> list[str]:
    """Lines of text: the rate over the run, the highest and zero at the left, the phases' names below.

    Args:
        total: length of the run.
        width: characters that a line may have; at least 44 are taken.
        unit: what the length is counted in.
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


def _names(starts: Mapping[str, int], columns: int) -> str:
    """Every name where its phase starts, or beside that place where another, or the end, is in its way."""
    room, latest = columns, {}
    for name, start in reversed(list(starts.items())):
        latest[name] = min(start, room - len(name))
        room = latest[name] - 1
    line = ""
    for name in starts:
        line = line.ljust(max(latest[name], len(line) + 1 if line else 0)) + name
    return line
