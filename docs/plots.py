"""Draw the pictures of the decision pages from the recorded figures in benchmarks/results.

    python docs/plots.py

Each picture is an SVG file in docs/pictures, the same bytes for the same figures.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
RESULTS = ROOT / "benchmarks" / "results"

BLUE, ORANGE, GREEN, GREY = "#2563eb", "#c2570c", "#047857", "#6b7280"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cpt",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"],  # every text names all: the default's nine are 13 of 60 kB
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "lines.linewidth": 1.8,
}

READABLE = 2.0
"""Most bits per byte of a line of the initialisers: CLP by its paper's rule is above 1,000."""

LABEL_HEIGHT = 0.013
"""Least distance of two labels of that picture, in bits per byte."""

POINT_LABEL_HEIGHT = 0.05
"""Least distance of two labels of the comparison with other tools, as a share of the points' range."""

TWO_ERRORS = 2
"""Number of standard errors of a bar where a file has no 95% interval."""


def figures(name: str) -> Any:
    """Return the figures of a result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())["figures"]


def _axes(figure: Figure, x: str, y: str) -> Axes:
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return axes


def replay() -> Figure:
    """Draw what each arm learns of a second domain against what it forgets of the first."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    axes = _axes(
        figure, "US Code learnt (bits per byte, higher is better)", "medical text forgotten (bits per byte)"
    )
    names = {
        "self-constraint": "own samples 25%, KL to the base on them",
        "no warm-up": "no re-warming, no replay",
    }
    for row in figures("forgetting")["rows"]:
        second = row["legal"]["probes"]
        gain, rise = second["domain"], second["medical"]
        axes.errorbar(
            -gain["permanent"],
            rise["permanent"],
            xerr=TWO_ERRORS * gain["permanent_error"],
            yerr=TWO_ERRORS * rise["permanent_error"],
            fmt="o",
            color=ORANGE if row["configuration"] == "no replay" else BLUE,
            elinewidth=1,
        )
        label = names.get(row["configuration"], row["configuration"])
        place = (7, -14) if row["configuration"] == "no warm-up" else (7, 6)
        axes.annotate(label, (-gain["permanent"], rise["permanent"]), place, textcoords="offset points")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.margins(x=0.28, y=0.15)
    return figure


def replay_shares() -> Figure:
    """Draw what each share of replay costs of what is learnt, against what it keeps of general text."""
    figure = Figure(figsize=(6.8, 3.8), layout="constrained")
    axes = _axes(
        figure,
        "less learnt than without replay (% of what is learnt)",
        "general text against without (bits per byte)",
    )
    texts = (
        ("decision_replay", "US Code", BLUE, (5, 5)),
        ("decision_replay_portuguese", "Portuguese", ORANGE, (5, -13)),
    )
    for file, label, colour, beside in texts:
        (found,) = figures(file).values()
        (effect,) = found["effects"]
        without = next(each for each in found["configurations"] if each["values"][effect["key"]] == 0)
        learnt = -without["changes"]["domain"]["value"] / 100
        points = [(0.0, 0.0)]
        for level in effect["levels"]:
            domain, general = level["changes"]["domain"], level["changes"]["general"]
            points.append((domain["value"] / learnt, general["value"]))
            across = [
                [(domain["value"] - domain["low"]) / learnt],
                [(domain["high"] - domain["value"]) / learnt],
            ]
            up = [[general["value"] - general["low"]], [general["high"] - general["value"]]]
            axes.errorbar(*points[-1], xerr=across, yerr=up, fmt="o", color=colour, elinewidth=0.8)
            axes.annotate(
                f"{level['level']:.0%}", points[-1], beside, textcoords="offset points", color=colour
            )
        axes.plot(*zip(*points, strict=True), "-", color=colour, linewidth=1, label=label)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.legend(frameon=False, loc="upper right")
    return figure


def rate() -> Figure:
    """Draw the change of domain and general text by the peak of the learning rate."""
    figure = Figure(figsize=(6.8, 3.4), layout="constrained")
    axes = _axes(figure, "change of held-out text (bits per byte, lower is better)", "")
    rows = figures("peak_rate")["rows"]
    names = {"nursing": "nursing", "us_code": "US Code"}
    places = sorted({(row["corpus"], row["peak"]) for row in rows}, reverse=True)
    for row in rows:
        at = places.index((row["corpus"], row["peak"]))
        for text, colour, shift in (("domain", BLUE, 0.1), ("general", ORANGE, -0.1)):
            change = row[text]
            error = TWO_ERRORS * change["error"]
            axes.errorbar(change["change"], at + shift, xerr=error, fmt="o", color=colour, elinewidth=1.5)
    axes.set_yticks(
        range(len(places)),
        [f"{names[corpus]}, peak {peak:.0e}".replace("e-0", "e-") for corpus, peak in places],
    )
    axes.axvline(0, color=GREY, linewidth=1)
    axes.plot([], [], "o", color=BLUE, label="the domain")
    axes.plot([], [], "o", color=ORANGE, label="general text")
    axes.legend(frameon=False, loc="upper left")
    axes.margins(y=0.25)
    return figure


def vocabulary() -> Figure:
    """Draw bytes per token against the number of new tokens."""
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    axes = _axes(figure, "new tokens", "bytes per token")
    rows = figures("extension")["rows"]
    for text, colour in (("medical", BLUE), ("legal", ORANGE)):
        points = [(row["new_tokens"], row["bytes_per_token"]) for row in rows if row["text"] == text]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=text)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, loc="lower right")
    return figure


def initialiser() -> Figure:
    """Draw bits per byte of the domain against steps, by the initialisation of the new rows."""
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = _axes(figure, "training steps (embeddings only)", "bits per byte of medical text")
    rows = [row for row in figures("initialisers_medical")["rows"] if max(row["domain"].values()) < READABLE]
    below = 0.0
    for row in sorted(rows, key=lambda row: row["domain"]["200"]):
        steps, values = [int(step) for step in row["domain"]], list(row["domain"].values())
        unchanged = row["method"] == "unchanged"
        (line,) = axes.plot(steps, values, "--" if unchanged else "o-", color="black" if unchanged else None)
        below = max(below + LABEL_HEIGHT, values[-1])
        label = "the model as it was" if unchanged else row["method"]
        axes.annotate(label, (steps[-1] + 6, below), va="center", fontsize=9, color=line.get_color())
    axes.set_xlim(0, 290)
    axes.set_xticks([0, 50, 100, 150, 200])
    return figure


def merge_weight() -> Figure:
    """Draw both parents and the tries of a search over their weights."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    axes = _axes(figure, "change of medical text (bits per byte)", "change of legal text (bits per byte)")
    found = figures("merging_domains")
    names = {"base": "base", "medical": "medical model", "legal": "legal model"}
    for model in found["parents"]:
        at = (model["medical"]["change_from_base"], model["legal"]["change_from_base"])
        axes.plot(*at, "s", color=GREY)
        axes.annotate(names[model["model"]], at, (7, 5), textcoords="offset points")
    for merge, colour in zip(found["merges"], (BLUE, ORANGE), strict=True):
        at = (merge["medical"]["change_from_base"], merge["legal"]["change_from_base"])
        error = {
            f"{axis}err": TWO_ERRORS * merge[text]["error_from_base"]
            for axis, text in (("x", "medical"), ("y", "legal"))
        }
        axes.errorbar(*at, **error, fmt="o", color=colour, elinewidth=1, label=merge["model"])
    axes.legend(frameon=False, loc="center right")
    axes.margins(0.18)
    return figure


def study() -> Figure:
    """Draw the change of p_gold by group of facts, against the base, for each arm."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = _axes(figure, "change of p_gold against the base (95% interval over three trainings)", "")
    arms = {
        "replay": "documents and general text",
        "raw": "documents alone",
        "study": "study alone",
        "raw + study": "documents and study",
        "+ instructions": "… half of the replay questions",
        "+ phases": "… questions first",
    }
    groups = (("trained", BLUE, 0.22), ("untrained", ORANGE, 0.0), ("reversed", GREEN, -0.22))
    means: Mapping[str, Any] = figures("study")["means"]
    for at, arm in enumerate(reversed(arms)):
        for group, colour, shift in groups:
            found = means[arm][f"{group}: p_gold against the base"]
            spread = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
            axes.errorbar(
                found["mean"], at + shift, xerr=spread, fmt="o", color=colour, elinewidth=1.5, markersize=5
            )
    axes.set_yticks(range(len(arms)), list(reversed(arms.values())))
    axes.axvline(0, color=GREY, linewidth=1)
    for group, colour, _ in groups:
        axes.plot([], [], "o", color=colour, label=f"{group} facts")
    axes.legend(frameon=False, loc="lower right")
    return figure


def head_to_head() -> Figure:
    """Draw the change of general text against that of the domain, of peers and of ours, for each domain."""
    domains: Mapping[str, Any] = figures("head_to_head")["domains"]
    figure = Figure(figsize=(8.2, 4.2 * len(domains)), layout="constrained")
    panels = figure.subplots(len(domains), squeeze=False)[:, 0]
    sides = {"peer": (ORANGE, "s", "LLaMA-Factory and the Trainer"), "ours": (BLUE, "o", "cpt")}
    for axes, (name, found) in zip(panels, domains.items(), strict=True):
        axes.set_xlabel(f"change of {name} text (bits per byte, lower is better)")
        axes.set_ylabel("change of general text")
        below = dict.fromkeys(sides, -1.0)
        arms: Mapping[str, Any] = found["arms"]
        heights = [arm["changes"]["general"]["value"] for arm in arms.values()]
        apart = POINT_LABEL_HEIGHT * (max(heights) - min(heights))
        for label, arm in sorted(arms.items(), key=lambda each: each[1]["changes"]["general"]["value"]):
            colour, mark, _ = sides[arm["side"]]
            means = [arm["changes"][text] for text in ("domain", "general")]
            across, up = (_spread(mean) for mean in means)
            at = (means[0]["value"], means[1]["value"])
            once = len(arm["seeds"]) == 1
            filling = "white" if once else colour
            axes.errorbar(
                *at, xerr=across, yerr=up, fmt=mark, color=colour, mfc=filling, elinewidth=0.8, markersize=5
            )
            words = f"{label} (one seed)" if once else label
            below[arm["side"]] = height = max(below[arm["side"]] + apart, at[1])
            left = arm["side"] == "ours"  # ours learn more: so no label covers a point of the other side
            axes.annotate(
                words,
                (at[0], height),
                (-6 if left else 6, 3),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=7,
                color=colour,
            )
        for colour, mark, side in sides.values():
            axes.plot([], [], mark, color=colour, label=side)
        axes.margins(x=0.4, y=0.12)
        axes.locator_params(nbins=5)
    panels[0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _spread(mean: Mapping[str, Any]) -> list[list[float]] | None:
    """Return the distances of an interval's ends from a mean; None of a single seed."""
    if mean["low"] is None:
        return None
    return [[mean["value"] - mean["low"]], [mean["high"] - mean["value"]]]


PICTURES: dict[str, Callable[[], Figure]] = {
    "replay": replay,
    "replay-shares": replay_shares,
    "rate": rate,
    "vocabulary": vocabulary,
    "initialiser": initialiser,
    "merge-weight": merge_weight,
    "study": study,
}
if (RESULTS / "head_to_head.json").exists():
    PICTURES["head-to-head"] = head_to_head


def svg(name: str) -> str:
    """Return a picture as the text of an SVG file, without the time that it was made."""
    target = io.StringIO()
    with mpl.rc_context(STYLE):
        PICTURES[name]().savefig(
            target, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white"
        )
    turned_by_nothing = re.compile(r' transform="rotate\(-0 [^"]*\)"')
    return turned_by_nothing.sub("", "\n".join(map(str.strip, target.getvalue().splitlines()))) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for picture in PICTURES:
        (FOLDER / f"{picture}.svg").write_text(svg(picture), encoding="utf-8")
    print(f"{len(PICTURES)} pictures in {FOLDER} are up to date")
