"""Draw bar charts: tokens by source and by part, time by stage and by probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cpt.formatting import compact, duration_in_words, percent
from cpt.report.theme import canvas, colour, safe_key, short, to_svg


class Bar(NamedTuple):
    """One row of a bar chart; the note stands at the end of the bar."""

    label: str
    role: str
    length: float
    note: str


def tokens_by_source(tokens: Mapping[str, int]) -> str | None:
    """Draw the trained tokens by source."""
    return bars("tokens", "Tokens trained, by source", _shares(tokens, {source: source for source in tokens}))


def tokens_by_part(source: str, tokens: Mapping[str, int]) -> str | None:
    """Draw the trained tokens of one source by its named parts."""
    rows = _shares(tokens, dict.fromkeys(tokens, source))
    return bars(f"tokens-{safe_key(source)}", f"Tokens trained, by part of {source}", rows)


def _shares(tokens: Mapping[str, int], roles: Mapping[str, str]) -> list[Bar]:
    total = sum(tokens.values()) or 1
    return [
        Bar(name, roles[name], n, f"{compact(n)} ({percent(n / total, 0)})") for name, n in tokens.items()
    ]


def time_by_stage(seconds: Mapping[str, float]) -> str | None:
    """Draw the time by stage."""
    rows = [Bar(stage, "muted", spent, duration_in_words(spent)) for stage, spent in seconds.items()]
    return bars("seconds", "Time, by stage", rows)


def time_by_probe(seconds: Mapping[str, float]) -> str | None:
    """Draw the time of all readings by probe."""
    rows = [Bar(probe, probe, spent, duration_in_words(spent)) for probe, spent in seconds.items()]
    return bars("probe-seconds", "Time, by probe", rows)


def bars(key: str, title: str, rows: Sequence[Bar]) -> str | None:
    """Draw horizontal bars with labels on the left and figures on the right."""
    if not rows:
        return None
    with canvas(8 + 32 * len(rows), left=92, bottom=4, top=4) as (figure, axes):
        longest = max(row.length for row in rows) or 1.0
        axes.set(xlim=(0, longest * 1.42), ylim=(len(rows) - 0.5, -0.5), xticks=[])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        lengths, shades = [row.length for row in rows], [colour(row.role) for row in rows]
        axes.barh(range(len(rows)), lengths, height=0.6, color=shades)
        axes.set_yticks([])
        for y, row in enumerate(rows):
            note: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(row.note, (row.length, y), xytext=(8, 0), color=colour("muted"), **note)
            axes.annotate(short(row.label, 14), (0, y), xytext=(-91, 0), **note)
        return to_svg(figure, key, title, "; ".join(f"{row.label}: {row.note}" for row in rows))
