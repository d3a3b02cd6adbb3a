"""A made-up analysis of task vectors, as the merge stage records it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

LAYERS = 30
INSIDE = {
    "attention q": 331_776,
    "attention k": 110_592,
    "attention v": 110_592,
    "attention o": 331_776,
    "feed-forward gate": 884_736,
    "feed-forward up": 884_736,
    "feed-forward down": 884_736,
    "norms": 1_152,
}
"""Weights of each kind in a layer."""

EMBEDDINGS = 28_311_552


def relative(vector: int, kind: int, layer: int) -> float:
    """Norm over the base's."""
    return 0.01 * (1 + 0.3 * vector) * (1 + layer / LAYERS) * (1 + 0.25 * math.sin(3 * kind + 0.4 * layer))


def parts(names: list[str], weights: list[int], vectors: int, pairs: int) -> dict[str, Any]:
    """Figures by part, which vary from part to part."""
    places = range(len(names))
    cosines = [[0.05 * pair + 0.02 + 0.03 * math.sin(place) for place in places] for pair in range(pairs)]
    return {
        "names": names,
        "weights": weights,
        "norm": [[100 * relative(v, 0, place) for place in places] for v in range(vectors)],
        "relative": [[relative(v, 0, place) for place in places] for v in range(vectors)],
        "share": [[1 / len(names) for _ in places] for _ in range(vectors)],
        "cosine": cosines,
        "random": [[count**-0.5 for count in weights] for _ in range(pairs)],
        "conflicts": [[0.5 - cosine / 3 for cosine in row] for row in cosines],
    }


def analysis(*names: str) -> dict[str, Any]:
    """An analysis of these task vectors; the second has tokens that the base lacks."""
    layer, count = sum(INSIDE.values()), len(names)
    weights, pairs = EMBEDDINGS + LAYERS * layer, list(combinations(names, 2))
    return {
        "base": "base",
        "carried": 0.9,
        "vectors": [
            {
                "name": name,
                "norm": 11.5 + place,
                "base_norm": 790.2,
                "relative": (11.5 + place) / 790.2,
                "weights": weights,
                "changed": weights - 4_210_333,
                "carriers": 52_103_220,
                "carriers_share": 52_103_220 / weights,
                "embeddings_share": 0.081 + 0.2 * place,
                "new_rows_share": 0.0 if place != 1 else 0.17,
                "rows": {"shared": 49_152, "new": 1_024, "missing": 0, "padding": 0} if place == 1 else None,
            }
            for place, name in enumerate(names)
        ],
        "pairs": [
            {
                "a": a,
                "b": b,
                "cosine": 0.0214 - 0.3 * place,
                "random": weights**-0.5,
                "weights": weights,
                "both_changed": weights - 9_000_000,
                "conflicts": 0.4873,
                "conflicting_a": 0.481,
                "conflicting_b": 0.476,
            }
            for place, (a, b) in enumerate(pairs)
        ],
        "layers": parts(
            [*map(str, range(LAYERS)), "outside"], [layer] * LAYERS + [EMBEDDINGS], count, len(pairs)
        ),
        "kinds": parts(
            ["embeddings", *INSIDE],
            [EMBEDDINGS, *(LAYERS * each for each in INSIDE.values())],
            count,
            len(pairs),
        ),
        "grid": {
            "layers": list(range(LAYERS)),
            "kinds": list(INSIDE),
            "relative": [
                [[relative(v, kind, layer) for layer in range(LAYERS)] for kind in range(len(INSIDE))]
                for v in range(count)
            ],
        },
    }
