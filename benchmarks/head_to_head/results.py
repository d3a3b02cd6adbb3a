"""Compare contenders over seeds: means with intervals, differences from the peer's best, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from head_to_head.contenders import OURS

MARGIN = 0.1
"""Share by which the domain's change must be lower than that of the peer's best."""

TEXTS = ("domain", "general")
Changes = dict[int, dict[str, float]]
"""By seed: the change of each text, in bits per byte."""


def compared(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of one domain.

    Every seed has held-out documents of its own: intervals hold what trainings and what texts scatter.

    Returns:
        `arms` by label, the peer's best (`best_peer`: that of the lowest domain change), and the labels of
        ours that dominate it (`dominating`). Of an arm: `changes`; `against`, the difference from the peer's
        best; of ours `margins`, of which none may be positive, and the `verdict`; and times.

    Raises:
        SystemExit: Models of a seed were not read on the same text.
    """
    from cpt.seeds import mean_over_seeds

    points = _points(rows)
    _require_same_text(points)
    changes = {
        label: {seed: point["changes"] for seed, point in seeds.items()} for label, seeds in points.items()
    }
    peers = _candidates({label: len(seeds) for label, seeds in points.items() if not _ours(label)})
    best = min(peers, key=lambda label: _mean(changes[label], "domain")) if peers else None
    arms: dict[str, Any] = {}
    for label, seeds in points.items():
        own = changes[label]
        arms[label] = {
            "side": "ours" if _ours(label) else "peer",
            "changes": {
                text: mean_over_seeds([each[text] for each in own.values()])._asdict() for text in TEXTS
            },
            "suites": _suites(seeds),
            "seconds": [point["seconds"] for point in seeds.values()],
            "attempts": [point["attempts"] for point in seeds.values()],
            "seeds": list(seeds),
        }
        if best is not None and label != best and own.keys() & changes[best].keys():
            arms[label]["against"] = differences(own, changes[best], 0.0)
            if _ours(label):
                margins = differences(own, changes[best], MARGIN)
                arms[label] |= {"margins": margins, "verdict": verdict(margins)}
    return {
        "arms": arms,
        "best_peer": best,
        "dominating": [label for label, arm in arms.items() if arm.get("verdict") == "dominates"],
    }


def _candidates(seeds: Mapping[str, int]) -> list[str]:
    """Return the peers' arms that may be the best: of each kind those with most seeds, not a rate tried once.

    Args:
        seeds: Number of seeds by label. A run that failed leaves an arm with fewer.
    """
    kinds = {label: label.rpartition(" ")[0] for label in seeds}
    most: dict[str, int] = {}
    for label, kind in kinds.items():
        most[kind] = max(most.get(kind, 0), seeds[label])
    return [label for label in seeds if seeds[label] == most[kinds[label]]]


def differences(own: Changes, other: Changes, margin: float) -> dict[str, dict[str, Any]]:
    """Return the mean differences on the same seeds, by text; negative where the own loss is lower.

    Args:
        margin: Share of the other's domain change by which the own one must be lower to be counted as equal.
    """
    from cpt.seeds import mean_over_seeds

    asked = {"domain": margin, "general": 0.0}
    return {
        text: mean_over_seeds(
            [
                own[seed][text] - (other[seed][text] - asked[text] * abs(other[seed][text]))
                for seed in own
                if seed in other
            ]
        )._asdict()
        for text in TEXTS
    }


def verdict(margins: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the verdict on the margins of both texts: shown with 95% confidence, by means, or neither."""
    if any(mean["value"] > 0 for mean in margins.values()):
        return "does not dominate"
    shown = all(mean["high"] is not None and mean["high"] <= 0 for mean in margins.values())
    return "dominates" if shown else "dominates in the mean, not shown"


def table(name: str, found: Mapping[str, Any]) -> str:
    """Return the figures of a domain as text."""
    lines = [f"{name:<34}{'seeds':>6}{'domain':>28}{'general':>28}{'seconds':>9}  verdict"]
    for label, arm in found["arms"].items():
        shown = "".join(f"{_shown(arm['changes'][text]):>28}" for text in TEXTS)
        seconds = sum(arm["seconds"]) / len(arm["seconds"])
        said = "the peer's best" if label == found["best_peer"] else arm.get("verdict", "")
        lines.append(f"{label:<34}{len(arm['seeds']):>6}{shown}{seconds:>9.0f}  {said}")
    return "\n".join(lines)


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return label -> seed -> what was measured; a training of ours is several points."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        for name, point in row["points"].items():
            label = f"{row['arm']}, {name}" if name else row["arm"]
            found.setdefault(label, {})[row["seed"]] = {**point, "attempts": row["attempts"]}
    return found


def _require_same_text(points: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    read: dict[int, set[str]] = {}
    for seeds in points.values():
        for seed, point in seeds.items():
            read.setdefault(seed, set()).add(point["windows"])
    if differing := [seed for seed, windows in read.items() if len(windows) > 1]:
        raise SystemExit(
            f"seed {differing[0]}: the models did not read the same text at once; their tokenizers cut it "
            "differently: use a larger --window"
        )


def _suites(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    from cpt.seeds import mean_over_seeds

    first, *others = seeds.values()
    names = [name for name in first["suites"] if all(name in point["suites"] for point in others)]
    return {
        name: mean_over_seeds([point["suites"][name] for point in seeds.values()])._asdict() for name in names
    }


def _ours(label: str) -> bool:
    return label.startswith(f"{OURS} ")


def _mean(changes: Changes, text: str) -> float:
    return sum(each[text] for each in changes.values()) / len(changes)


def _shown(mean: Mapping[str, Any]) -> str:
    if mean["low"] is None:
        return f"{mean['value']:+.4f}"
    return f"{mean['value']:+.4f} ({mean['low']:+.3f} {mean['high']:+.3f})"
