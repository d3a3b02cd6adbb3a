"""Read a data set of the Hugging Face hub as a stream, with `datasets`, at one commit, without its code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cpt.corpus.documents import Item, data_error
from cpt.corpus.readers.records import Fields
from cpt.errors import CptError, Problem, ReferenceUnavailable
from cpt.references import hub
from cpt.references.syntax import HubDataSet


def read_hub_data_set(location: HubDataSet, subset: str | None, split: str, fields: Fields) -> Iterator[Item]:
    """Yield one document per row of a split, fetched while it is read.

    Args:
        location: Repository and revision; its commit is looked up.
        subset: Subset (configuration); None for the only one.
        split: Split, as `datasets` names it.
        fields: Columns that are read; others are not fetched where the format allows it.

    Raises:
        ReferenceUnavailable: The data set, its subset or its split is missing, or the hub cannot be reached.
        SourceError: A column is missing, or a row holds no text.
    """
    number = 0
    try:
        for number, record in enumerate(_rows(location, subset, split, fields), start=1):
            found = fields.item(f"{location.repo}/{split}:{number}", record)
            if isinstance(found, Problem):
                place = f"hub:datasets/{location.repo}: {split}, row {number}"
                raise data_error([Problem(found.message, place, hint=found.hint)])
            yield found
    except CptError:
        raise
    except Exception as error:  # `datasets` raises what its readers and its HTTP library raise
        raise _explained(location, error) from error


def _rows(location: HubDataSet, subset: str | None, split: str, fields: Fields) -> Any:
    import datasets

    rows = datasets.load_dataset(
        location.repo, name=subset, split=split, revision=hub.commit(location), streaming=True
    )
    if rows.column_names is not None:
        fields.require(rows.column_names, [], f"hub:datasets/{location.repo}")
        rows = rows.select_columns(fields.all)
    return rows


def _explained(location: HubDataSet, error: Exception) -> ReferenceUnavailable:
    """Return the error, with what the data set has instead if the subset or the split is missing."""
    said = str(error)
    for key, mark in (("subset", "config"), ("split", "split")):
        if isinstance(error, ValueError) and mark in said.lower():
            lines = " ".join(line.strip() for line in said.splitlines() if line.strip())
            return ReferenceUnavailable(
                f"hub:datasets/{location.repo}: {lines[:500]}", hint=f"Set `{key}` of the source."
            )
    return hub.unavailable(location, error)
