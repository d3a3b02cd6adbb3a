"""A search for merge weights as one self-contained HTML page: no requests, light and dark."""

from __future__ import annotations

from markupsafe import Markup

from cpt.report.charts.scatter import tried_merges
from cpt.report.environment import environment
from cpt.report.findings import search_finding
from cpt.report.schema.artifacts import WeightSearch


def render_search(found: WeightSearch, created: str) -> str:
    """The page. Every string from data is escaped; only our own chart is inlined as it is.

    Args:
        created: when the search ended, ISO 8601.
    """
    return (
        environment()
        .get_template("weight_search.html")
        .render(
            search=found,
            created=created,
            chart=Markup(tried_merges(found)),
            finding=search_finding(found),
            names=list(found.search_points[0].values),
            measured=list(found.search_points[0].changes),
        )
    )
