"""Raise the final verdict on the limits of a stage, with a remedy and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cpt.errors import GateFailed, GateNotShown

_ITEMS = {"accuracy": "questions", "p_gold": "questions", "nats per token": "samples"}
"""Items of a probe, by its unit; other probes read documents."""


def require_held(
    metrics: Mapping[str, Any], setting: Callable[[str], str], *, remedy: str, kept: str, lead: str = ""
) -> None:
    """Raise if a limit is not held, unless its gate only warns.

    Args:
        metrics: Figures of the stage, with `gates` in the form of `Judgement.as_json`.
        setting: Function that returns the setting for the sample size of a probe.
        remedy: Advice on keeping a limit.
        kept: Sentence on results that are kept nevertheless.
        lead: Words before the first limit.

    Raises:
        GateFailed: A limit is broken; names all limits that are not held.
        GateNotShown: No limit is broken, but not all are shown to be held.
    """
    failing = [gate for gate in metrics["gates"] if gate["verdict"] != "held" and gate["action"] != "warn"]
    if not failing:
        return
    said = "; ".join(f"{g['key']}: {g['limit']} is {g['verdict']}: {g['why']}" for g in failing)
    broken = any(gate["verdict"] == "broken" for gate in failing)
    unshown = dict.fromkeys(_more(gate, setting) for gate in failing if gate["verdict"] != "broken")
    hints = [*([f"{remedy}; or widen the limit."] if broken else []), *unshown]
    failed = GateFailed if broken else GateNotShown
    raise failed(f"{lead}{said}", hint=" ".join([kept, *hints]), metrics=metrics)


def _more(gate: Mapping[str, Any], setting: Callable[[str], str]) -> str:
    """Return the change of settings that would decide a limit."""
    items, needed, probe = gate["items"], gate["needed_items"], gate["probe"]
    word = _ITEMS.get(gate["unit"], "documents")
    raised = f"raise {setting(probe)}"
    if gate["value"] is None and items is None:
        return f"{probe}: it was not read in time; read it more often (`every`)."
    if needed is None and gate["value"] is not None and (items or 0) > 1:
        return f"{probe}: no sample shows a rise of nothing; widen the limit."
    if needed is None:
        return f"{probe}: its noise is known only from several {word}: {raised}, or hold out more text."
    if needed > items:
        return (
            f"{probe}: about {needed:,} {word} would show it, in place of {items:,}: {raised} about "
            f"{needed / items:.2g}-fold (the text must have as many), or widen the limit."
        )
    return f"{probe}: the rise is too near the limit for {items:,} {word}: lower it, or widen the limit."
