"""Scores of other tools: files, what is wrong in them, predictive strength by its definition; bands."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cpt.corpus.ratings import Band, PredictiveStrengthSettings
from cpt.corpus.ratings.scores import in_order, predictive_strength, read_figures
from cpt.errors import DataError, SourceError


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_wanted_rows_are_read(tmp_path: Path) -> None:
    rows = [
        {"id": "a:1", "x": 1, "y": -0.5},
        "",
        {"id": "b:2", "x": 2.5, "y": 0},
        {"id": "c", "x": 9, "y": 9},
    ]
    path = write_rows(tmp_path / "scores.jsonl", *rows)
    assert read_figures(path, "id", ["y", "x"], {"a:1", "b:2", "d"}) == {
        "a:1": (-0.5, 1.0),
        "b:2": (0.0, 2.5),
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nothing", "not JSON"),
        ("[1]", "a JSON object is needed"),
        ({"id": "a"}, "no field score"),
        ({"score": 1}, "no field id"),
        ({"id": 7, "score": 1}, "field id holds no text"),
        ({"id": "a", "score": "1"}, "field score holds no finite number"),
        ({"id": "a", "score": True}, "field score holds no finite number"),
        ({"id": "a", "score": None}, "field score holds no finite number"),
        ('{"id": "a", "score": NaN}', "field score holds no finite number"),
        (f'{{"id": "a", "score": {"9" * 400}}}', "field score holds no finite number"),
        ({"id": "first", "score": 2}, "id first occurs twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, row: object, message: str) -> None:
    path = write_rows(tmp_path / "scores.jsonl", {"id": "first", "score": 1}, row)
    with pytest.raises(SourceError) as caught:
        read_figures(path, "id", ["score"], {"first", "a"})
    assert f"scores.jsonl:2: {message}" in str(caught.value).replace("'", "")


def test_figures_come_in_the_order_of_the_documents() -> None:
    ids, able = ["a", "b", "c", "a"], np.array([True, True, True, False])
    assert in_order({"a": (1.0,), "c": (3.0,)}, ids, able, 1)[:, 0].tolist()[::2] == [1.0, 3.0]
    assert np.isnan(in_order({"a": (1.0,)}, ids, able, 1)[[1, 2, 3], 0]).all()
    with pytest.raises(DataError, match="the id a names two documents"):
        in_order({"a": (1.0,)}, ids, np.ones(4, dtype=bool), 1)


def test_predictive_strength_is_the_share_of_pairs_in_the_same_order() -> None:
    random = np.random.default_rng(0)
    losses, scores = random.normal(size=(50, 5)).round(1), [0.3, 0.5, 0.4, 0.5, 0.9]
    expected = []
    for row in losses:
        pairs = [(a, b) for a, b in combinations(range(5), 2) if scores[a] != scores[b]]
        right = [(row[a] < row[b]) if scores[a] > scores[b] else (row[b] < row[a]) for a, b in pairs]
        expected.append(sum(right) / len(pairs))
    assert predictive_strength(losses, scores) == pytest.approx(expected)
    assert predictive_strength(np.array([[3.0, 2, 1], [1, 2, 3]]), [1, 2, 3]).tolist() == [1, 0]
    assert np.isnan(predictive_strength(np.array([[1.0, np.nan]]), [1, 2])).all()


@pytest.mark.parametrize("models", [{}, {"a": 1.0}, {"a": 1.0, "b": 1.0}])
def test_models_of_equal_scores_order_nothing(models: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="at least two models"):
        PredictiveStrengthSettings(file="x", models=models)


def test_bands_are_quantiles_or_values() -> None:
    ratings = np.arange(101) / 100
    assert Band.model_validate([0.1, 0.6]).limits(ratings) == pytest.approx((0.1, 0.6))
    assert Band.model_validate({"quantiles": [0.25, 1]}).limits(2 * ratings) == pytest.approx((0.5, 2))
    assert Band.model_validate({"bits_per_byte": [0.7, 1.2]}).limits(ratings) == (0.7, 1.2)


@pytest.mark.parametrize(
    ("band", "message"),
    [
        ([0.6, 0.1], "not below"),
        ([0.7, 1.2], "quantiles are from 0 to 1"),
        ([-0.1, 0.5], "quantiles are from 0 to 1"),
        ({}, "either"),
        ({"quantiles": [0, 1], "bits_per_byte": [0, 1]}, "either"),
        ([0.1], "Field required"),
    ],
)
def test_bands_that_are_none(band: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Band.model_validate(band)
