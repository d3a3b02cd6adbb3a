"""Define the look of charts, and convert matplotlib figures to inline SVG in the page's colours."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unicodedata import category

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import compact


class Shade(NamedTuple):
    """A colour on the light page and on the dark page."""

    light: str
    dark: str


PALETTE = {
    "page": Shade("#f5f6f4", "#10141a"),
    "card": Shade("#fffffe", "#181e26"),
    "ink": Shade("#1a222d", "#e9edf2"),
    "muted": Shade("#5a6572", "#a2adba"),
    "rule": Shade("#dfe3e6", "#2f3945"),
    "domain": Shade("#0072b2", "#5cb8ee"),
    "general": Shade("#bf4b00", "#f2a24a"),
    "replay": Shade("#00785a", "#34c79d"),
    "other": Shade("#84518f", "#d6a0dc"),
    "limit": Shade("#b3213a", "#ff8a94"),
    "run-1": Shade("#1d5fc4", "#7db3ff"),
    "run-2": Shade("#b0410a", "#ff9f66"),
    "run-3": Shade("#0a7a55", "#45d3a2"),
    "run-4": Shade("#7a35c9", "#c9a4ff"),
    "run-5": Shade("#b01657", "#ff8db8"),
    "run-6": Shade("#6f5f00", "#dcc64d"),
    "run-7": Shade("#00727f", "#56d0e0"),
    "run-8": Shade("#8a4b2f", "#e0ac8c"),
}
"""Colours after Okabe and Ito, darkened (brightened) until text has a contrast of 4.5 on the card."""

UNIT = 72
"""Points per inch: one point is one unit of the SVG's viewBox."""

WIDTH = 400
"""Width of every chart in units: close to the width of a phone, so that text stays legible there."""

ROUND_STEPS = [1, 2, 5, 10]
"""Multiples of tick steps that are easy to read."""

RIGHT = 8
"""Space at the right of the axes, in units."""

STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.edgecolor": PALETTE["rule"].light,
    "axes.labelcolor": PALETTE["muted"].light,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": PALETTE["rule"].light,
    "grid.linewidth": 1.0,
    "text.color": PALETTE["ink"].light,
    "xtick.color": PALETTE["rule"].light,
    "xtick.labelcolor": PALETTE["muted"].light,
    "ytick.color": PALETTE["rule"].light,
    "ytick.labelcolor": PALETTE["muted"].light,
    "ytick.major.size": 0,
    "xtick.major.size": 4,
    "lines.linewidth": 2.25,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


def colour(role: str) -> str:
    """Return the light colour of a role; sources and probes without their own colour share `other`."""
    return PALETTE.get(role, PALETTE["other"]).light


@contextmanager
def canvas(
    height: float, *, left: float = 46, bottom: float = 46, top: float = 26
) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of `WIDTH` x `height` units with one pair of axes, in the page's style.

    Args:
        height: Height of the figure, in units.
        left, bottom, top: Space for labels around the axes, in units.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / UNIT, height / UNIT), dpi=UNIT)
        wide, high = WIDTH - left - RIGHT, height - bottom - top
        axes = figure.add_axes((left / WIDTH, bottom / height, wide / WIDTH, high / height))
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        yield figure, axes


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Write the axis names horizontally: y above its axis, x below the right end of its axis."""
    for text, corner, offset, side in ((y, (0, 1), (-45, 13), "left"), (x, (1, 0), (0, -37), "right")):
        axes.annotate(
            text,
            corner,
            xytext=offset,
            xycoords="axes fraction",
            textcoords="offset points",
            horizontalalignment=side,
            color=colour("muted"),
        )


def token_axis(axes: Axes, last: int) -> None:
    """Set ticks in tokens, from 0 to the last step."""
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.001 * last])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: compact(tokens)))


def mark_actions(axes: Axes, tokens: Sequence[int]) -> None:
    """Draw triangles on the time axis where the controller acted."""
    bottom = [axes.get_ylim()[0]] * len(tokens)
    axes.plot(tokens, bottom, "^", color=colour("limit"), clip_on=False, zorder=5, markersize=7)


def to_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Return the figure as an inline `<svg>` element; the same figure gives the same bytes.

    Args:
        figure: Figure to convert.
        key: Prefix of every id, unique on the page.
        title, description: Texts for screen readers.
    """
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        _tidy(element)
    _prefix_ids(root, key)
    _drop_styles(root)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": printable(title), "aria-describedby": f"{key}-desc"}
    desc = ET.Element("desc", {"id": f"{key}-desc"})
    desc.text = printable(description)
    name = ET.Element("title")
    name.text = printable(title)
    root[0:0] = [name, desc]
    return ET.tostring(root, encoding="unicode")


def standalone(svg: str) -> str:
    """Return an inline `<svg>` as a file of its own, with the page's colours, light and dark."""

    def variables(shades: Iterable[tuple[str, str]]) -> str:
        return ":root{" + "".join(f"--{role}:{shade};" for role, shade in shades) + "}"

    light = variables((role, shade.light) for role, shade in PALETTE.items())
    dark = variables((role, shade.dark) for role, shade in PALETTE.items())
    style = f"{light}@media (prefers-color-scheme:dark){{{dark}}}svg{{background:var(--card)}}"
    style += "text{font-family:system-ui,sans-serif}"
    head, end, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"{end}<style>{style}</style>{rest}\n'


def printable(text: str) -> str:
    """Return text from data with characters that XML forbids replaced."""
    forbidden = ("Cc", "Cn", "Cs")
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if category(char) in forbidden and char not in "\n\t" else char
        for char in text
    )


def safe_key(name: str) -> str:
    """Return a name from data as part of an id; different names give different ids."""
    return "".join(char if char.isascii() and char.isalnum() else f"-{ord(char):x}-" for char in name)


def short(text: str, limit: int) -> str:
    """Return a name from data for a chart: printable, at most `limit` characters."""
    clean = printable(text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


_VARIABLES = {shade.light: f"var(--{role})" for role, shade in PALETTE.items()}
_COLOUR = re.compile("|".join(_VARIABLES))
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")


def _tidy(element: ET.Element) -> None:
    """Remove namespaces, fonts and surplus digits; replace colours by variables of the page."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.text and not element.text.strip():
        element.text = None
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        value = " ".join(value.split())
        if name == "style":
            value = _COLOUR.sub(lambda match: _VARIABLES[match[0]], _FONT_FAMILY.sub("", value))
        else:
            value = _LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value)
        element.attrib[name.rpartition("}")[2]] = value


def _prefix_ids(root: ET.Element, key: str) -> None:
    """Remove ids without references, and make the others unique on the page."""
    reference = re.compile(r"(?<=#)[\w.-]+")
    used = {
        match
        for element in root.iter()
        for name in ("href", "clip-path")
        for match in reference.findall(element.get(name, ""))
    }
    for element in root.iter():
        if (identifier := element.attrib.pop("id", None)) in used:
            element.set("id", f"{key}-{identifier}")
        for name in ("href", "clip-path"):
            if name in element.attrib:
                element.set(name, reference.sub(lambda match: f"{key}-{match[0]}", element.attrib[name]))


def _drop_styles(root: ET.Element) -> None:
    """Remove matplotlib's `<style>`, which would apply to the whole page."""
    for parent in root.iter():
        for style in parent.findall("style"):
            parent.remove(style)
