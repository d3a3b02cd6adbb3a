"""Read scores of documents that another tool computed, and the losses of several models on them.

Predictive strength (PreSelect, Shum et al. 2025, arXiv 2503.00808): the share of pairs of models
in which the one that does better at a benchmark also has the lower loss on the document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from cpt.corpus.documents import data_error
from cpt.corpus.extras import ExtraSettings
from cpt.corpus.readers.files import ReadFiles, decode, open_bytes, quoted, read_lines
from cpt.errors import DataError, Problem, SourceError

Missing = Literal["error", "drop"]


class _FromFile(ExtraSettings):
    file: str = Field(
        min_length=1,
        description="JSONL, one object for each document: its id in the corpus (`id` in "
        "documents/*.parquet, such as text.jsonl:17), and its figures.",
    )
    id_field: str = Field(default="id", min_length=1, description="Field of the file that holds the id.")
    missing: Missing = Field(
        default="error",
        description="What is done about a document that the file lacks: the stage fails, or the document is "
        "dropped and counted as `no_score`.",
    )


class ScoreSettings(_FromFile):
    """A file of scores."""

    kind: Literal["score"] = "score"
    field: str = Field(default="score", min_length=1, description="Field of the file that holds the score.")
    higher_is_better: bool = Field(default=True, description="Whether the highest scores are selected.")


class PredictiveStrengthSettings(_FromFile):
    """A file of several models' losses, and what these models score at a benchmark."""

    kind: Literal["predictive-strength"] = "predictive-strength"
    models: dict[str, float] = Field(
        description="Field of the file with a model's loss (bits per byte) -> the model's benchmark score."
    )

    @field_validator("models")
    @classmethod
    def _differ(cls, models: dict[str, float]) -> dict[str, float]:
        if len(set(models.values())) < 2:
            raise ValueError("give at least two models with different benchmark scores")
        return models


def read_figures(
    path: Path, id_field: str, fields: Sequence[str], wanted: set[str], files: ReadFiles | None = None
) -> dict[str, tuple[float, ...]]:
    """Return the figures of each wanted document that the file has, by id.

    Args:
        fields: Names of the fields with figures.
        wanted: Ids of the documents; other rows are skipped, so that memory is bounded by the documents.
        files: Receiver of the file's hash.

    Raises:
        SourceError: The file cannot be read, is no JSONL, lacks a field, holds something other than a finite
            number, or has an id twice; names the line.
    """
    found: dict[str, tuple[float, ...]] = {}
    try:
        with open_bytes(path, files) as stream:
            for number, line in enumerate(read_lines(stream, path), start=1):
                decoded = decode(line.strip(), path, number)
                row = decoded if isinstance(decoded, Problem) else _row(decoded, id_field, fields)
                if isinstance(row, str):
                    row = Problem(row, file=str(path), line=number)
                if isinstance(row, Problem):
                    raise data_error([row])
                if row is None or row[0] not in wanted:
                    continue
                if row[0] in found:
                    raise data_error(
                        [Problem(f"id {quoted(row[0])} occurs twice", file=str(path), line=number)]
                    )
                found[row[0]] = row[1]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found


def _row(line: str, id_field: str, fields: Sequence[str]) -> tuple[str, tuple[float, ...]] | str | None:
    """Return the id and the figures of a line, its problem in words, or None for a blank line."""
    if not line:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return "a JSON object is needed"
    for name in (id_field, *fields):
        if name not in row:
            return f"no field {quoted(name)}"
    figures = [row[name] for name in fields]
    if not isinstance(row[id_field], str):
        return f"field {quoted(id_field)} holds no text"
    for name, figure in zip(fields, figures, strict=True):
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not _is_finite(figure):
            return f"field {quoted(name)} holds no finite number"
    return row[id_field], tuple(map(float, figures))


def _is_finite(figure: int | float) -> bool:
    try:
        return math.isfinite(figure)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def in_order(
    figures: Mapping[str, tuple[float, ...]], ids: Sequence[str], able: np.ndarray, width: int
) -> np.ndarray:
    """Return the figures of each document, float64 (documents, width), NaN where there are none.

    Args:
        ids: Id of each document.
        able: bool (documents,), documents whose figures are needed.

    Raises:
        DataError: An id with figures names two documents that need them.
    """
    result = np.full((len(ids), width), np.nan)
    seen: set[str] = set()
    for at in map(int, np.flatnonzero(able)):
        if (row := figures.get(ids[at])) is None:
            continue
        if ids[at] in seen:
            raise DataError(
                f"the id {ids[at]} names two documents, so their scores cannot be told apart",
                hint="Ids begin with the file's name: give the sources' files different names.",
            )
        seen.add(ids[at])
        result[at] = row
    return result


def predictive_strength(losses: np.ndarray, scores: Sequence[float]) -> np.ndarray:
    """Return the predictive strength of documents, 0 to 1: float64 (documents,).

    Args:
        losses: float64 (documents, models), losses per byte.
        scores: Benchmark score of each model; pairs of equal scores say nothing and are left out.
    """
    pairs = [(a, b) for a, b in combinations(range(len(scores)), 2) if scores[a] != scores[b]]
    agree = np.zeros(len(losses))
    for a, b in pairs:
        better, worse = (a, b) if scores[a] > scores[b] else (b, a)
        agree += losses[:, better] < losses[:, worse]
    return np.where(np.isnan(losses).any(axis=1), np.nan, agree / len(pairs))
