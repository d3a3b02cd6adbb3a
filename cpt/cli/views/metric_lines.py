"""Format readings, actions and verdicts of a training: `key=value` for programs, lines for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cpt.formatting import Z_95, number

_PLAIN = re.compile(r"[\w.+-]+")

_STYLES = {"held": "green", "not shown": "yellow", "at risk": "yellow", "broken": "bold red"}

_UNITS = {
    "bits per byte": "bits/byte",
    "accuracy": "accuracy",
    "p_gold": "p_gold",
    "nats per token": "nats/token",
    "probability": "probability",
    "relative update": "moved",
    "norm ratio": "norm ratio",
}


def key_values(facts: Mapping[str, Any]) -> str:
    """Format scalars in order: `step=40 probe=general unit="bits per byte" value=0.912`.

    Numbers have nine digits, texts with special characters are quoted as in JSON, None is null. Lists and
    mappings are left out.
    """
    flat = {key: value for key, value in facts.items() if not isinstance(value, list | dict)}
    return " ".join(f"{key}={_field(value)}" for key, value in flat.items())


def _field(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def reading_lines(readings: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Return a line for each reading: level, change since the start, and verdicts on limits.

    Args:
        readings: Last reading of each probe, as in `probes.jsonl`.
        gates: Verdicts on limits, as in `summary.json`.
    """
    width = max((len(reading["probe"]) for reading in readings), default=0)
    return [
        _reading_line(reading, [gate for gate in gates if gate["probe"] == reading["probe"]], width)
        for reading in readings
    ]


def _reading_line(reading: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], width: int) -> Text:
    level = "?" if reading["value"] is None else number(reading["value"])
    line = Text(f"{reading['probe']:<{width}}  {level} {_UNITS[reading['unit']]}")
    if reading["kind"] in ("text", "task"):
        line.append(f"  {_change(reading)}")
    if reading["kind"] == "early-end" and (factor := _factor(reading)) is not None:
        line.append(f"  x{factor:.2g}")
    for gate in gates:
        line.append(
            f"  {gate['limit'].removeprefix(gate['probe']).strip()} {gate['verdict']}", verdict_style([gate])
        )
    return line


def _change(reading: Mapping[str, Any]) -> str:
    """Format a change since the start with its 95% interval; those of tasks in points."""
    rise, error = reading["rise"], reading["rise_error"]
    scale, digits, unit = (100, 1, " points") if reading["kind"] == "task" else (1, 4, "")
    if rise is None:
        return "?"
    interval = "" if error is None else f" ± {Z_95 * error * scale:.{digits}f}"
    return f"{rise * scale:+.{digits}f}{interval}{unit}"


def outcome_in_words(outcome: str) -> str:
    """Return the outcome of a stage in words: the verdict on its limits, or the outcome itself."""
    words = {"broken": "a limit is broken", "not shown": "a limit is not shown to be held"}
    return words.get(outcome, outcome)


def _factor(reading: Mapping[str, Any]) -> float | None:
    """Return the factor of a value since the start."""
    value, rise = reading["value"], reading["rise"]
    return None if value is None or rise is None or value == rise else float(value / (value - rise))


def verdict_style(gates: Sequence[Mapping[str, Any]]) -> str:
    """Return the colour of the worst verdict."""
    found = {gate["verdict"] for gate in gates}
    return next(
        (_STYLES[word] for word in ("broken", "at risk", "not shown", "held") if word in found), "dim"
    )
