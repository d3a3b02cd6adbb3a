"""Configure Jinja for all report pages: escaping, formatters as filters, scripts and their policy."""

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
    """Return the Jinja environment of this folder's templates. Every string from data is escaped."""
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
    """Make control characters visible, in texts and in markup that contains texts from data."""
    if isinstance(value, Markup):
        return Markup(escape_controls(value))
    return escape_controls(value) if isinstance(value, str) else value


def script(name: str) -> Markup:
    """Return a script of this folder, unescaped, for a `<script>` element."""
    return Markup(files("cpt.report.templates").joinpath(name).read_text(encoding="utf-8"))


def policy(scripts: Sequence[str], connect: str = "'none'") -> str:
    """Return a Content-Security-Policy that allows only these scripts and no requests.

    Args:
        scripts: Names of scripts of this folder.
        connect: Addresses to which scripts may send requests.
    """
    hashes = (hashlib.sha256(script(name).encode()).digest() for name in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; connect-src {connect}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def day(moment: str) -> str:
    """Format an ISO 8601 time as a date: "1 March 2026"; return other text unchanged."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{parsed.day} {parsed:%B %Y}"


def clock(moment: str) -> str:
    """Format an ISO 8601 time in UTC to the minute: "2026-03-01 09:22"; return other text unchanged."""
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{parsed.astimezone(UTC) if parsed.tzinfo else parsed:%Y-%m-%d %H:%M}"
