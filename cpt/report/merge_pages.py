"""Render the pages of `cpt merge`: a search for merge weights, and an analysis of task vectors.

Both are self-contained HTML: no requests, light and dark.
"""

from __future__ import annotations

from markupsafe import Markup

from cpt.report.charts import vectors as vector_charts
from cpt.report.charts.scatter import tried_merges
from cpt.report.schema import Vectors
from cpt.report.schema.artifacts import WeightSearch
from cpt.report.summary_text import search_finding, vectors_finding
from cpt.report.templates import environment
from cpt.report.theme import short


def render_search(found: WeightSearch, created: str) -> str:
    """Render the page of a search. Strings from data are escaped; only our own chart is inlined unescaped.

    Args:
        found: Finished search.
        created: Time at which the search ended, ISO 8601.
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


def render_vectors(found: Vectors, created: str) -> str:
    """Render the page of an analysis. Strings from data are escaped; only our own charts are not.

    Args:
        found: Analysis of task vectors.
        created: Time of the analysis, ISO 8601.
    """
    return (
        environment()
        .get_template("task_vectors.html")
        .render(
            vectors=found,
            created=created,
            charts={"vectors": draw_vectors(found)},
            vectors_finding=vectors_finding(found),
        )
    )


def draw_vectors(found: Vectors) -> dict[str, Markup]:
    """Draw charts of task vectors by title; charts without content are left out."""
    maps = {
        f"Change of {short(vector.name, 40)} by layer": vector_charts.norms_by_layer(found, place)
        for place, vector in enumerate(found.vectors)
    }
    drawn = {
        "Cosines between task vectors": vector_charts.cosine_matrix(found),
        "Cosine by layer": vector_charts.cosines_by_layer(found),
        "Sign conflicts by layer": vector_charts.conflicts_by_layer(found),
        **maps,
    }
    return {title: Markup(svg) for title, svg in drawn.items() if svg}
