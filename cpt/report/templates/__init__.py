"""The Jinja environment that every page of reports is written with: escaping on, figures as filters."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import cpt
from cpt import formatting
from cpt.escaping import escape_controls
from cpt.report.theme import PALETTE, printable


@cache
def environment() -> Environment:
    """Templates of `cpt/report/`, paths relative to it. Every string from data is escaped."""
    made = Environment(
        loader=PackageLoader("cpt.report", "templates"),
        autoescape=True,
        finalize=without_controls,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: tuple[Callable[..., str], ...] = (
        formatting.fixed,
        formatting.signed,
        formatting.margin,
        formatting.typeset,
        formatting.count,
        formatting.compact,
        formatting.percent,
        formatting.points,
        formatting.duration_in_words,
        printable,
        day,
        clock,
    )
    made.filters |= {words.__name__: words for words in filters}
    made.globals |= {"palette": PALETTE, "version": cpt.__version__, "script": script, "policy": policy}
    return made


def without_controls(value: object) -> object:
    """Make control characters in a text, or in markup that holds texts from data, visible."""
    if isinstance(value, Markup):
        return Markup(escape_controls(value))
    return escape_controls(value) if isinstance(value, str) else value


def script(name: str) -> Markup:
    """A script of `cpt/report/`, to stand between `<script>` tags as it is."""
    return Markup(files("cpt.report.templates").joinpath(name).read_text(encoding="utf-8"))


def policy(scripts: Sequence[str], connect: str = "'none'") -> str:
    """A Content-Security-Policy that runs these scripts of `cpt/report/` and no other, and loads nothing.

    Args:
        connect: where scripts may send requests to.
    """
    hashes = (hashlib.sha256(script(name).encode()).digest() for name in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; connect-src {connect}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def day(moment: str) -> str:
    """An ISO 8601 time as a date: "1 March 2026"; anything else as it is."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{parsed.day} {parsed:%B %Y}"


def clock(moment: str) -> str:
    """An ISO 8601 time in UTC to the minute: "2026-03-01 09:22"; anything else as it is."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{parsed.astimezone(UTC) if parsed.tzinfo else parsed:%Y-%m-%d %H:%M}"
