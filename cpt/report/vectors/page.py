"""An analysis of task vectors as one self-contained HTML page: no requests, light and dark."""

from __future__ import annotations

from markupsafe import Markup

from cpt.formatting import fixed, percent
from cpt.report.charts import vectors as vector_charts
from cpt.report.environment import environment
from cpt.report.schema import VectorPair, Vectors
from cpt.report.theme import short

INDEPENDENT = 0.1
"""A cosine below this: the vectors share less than a hundredth of their squared length."""


def render_vectors(found: Vectors, created: str) -> str:
    """The page. Every string from data is escaped; only our own charts are inlined as they are.

    Args:
        created: when the analysis was made, ISO 8601.
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
    """Charts by title; a chart that has nothing to show is left out."""
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


def vectors_finding(found: Vectors) -> str:
    """What the analysis says, in a sentence or two."""
    lengths = ", ".join(
        f"{vector.name} changes the weights by {percent(vector.relative, 2)} of their norm"
        for vector in found.vectors
    )
    return " ".join([f"{lengths}.", *(_pair_words(pair) for pair in found.pairs)])


def _pair_words(pair: VectorPair) -> str:
    names = f"{pair.a} and {pair.b}"
    if pair.cosine is None or pair.random is None:
        return f"Between {names} there is no angle: one of them changes nothing."
    size = abs(pair.cosine)
    if size <= 2 * pair.random:
        how = "as independent as random vectors"
    elif size < INDEPENDENT:
        how = "nearly independent"
    else:
        how = "pull the same way" if pair.cosine > 0 else "pull against each other"
        return f"{names} {how}: cosine {fixed(pair.cosine)}."
    return f"{names} are {how}: cosine {fixed(pair.cosine, 4)}, random vectors ± {fixed(pair.random, 5)}."
