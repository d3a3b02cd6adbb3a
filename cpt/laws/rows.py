"""Define the rows that a law is fitted on, and read them from a file of JSON lines or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cpt.errors import Problem, RecipeError
from cpt.sources import DOMAIN

Text = Literal["domain", "general"]
"""A text whose loss a law predicts."""

TEXTS: tuple[Text, Text] = ("domain", "general")
"""The texts, as `cpt.sources` calls them."""

Loss = Annotated[float, Field(gt=0, allow_inf_nan=False)]
DOMAIN_NAME = r"^[a-z][a-z0-9_-]*$"
DomainName = Annotated[str, Field(pattern=DOMAIN_NAME)]

SAME_START = 2e-3
"""Largest relative difference of losses before training that the same model on the same text may have."""

_SHOWN = 20
"""Largest number of problems of one file that are listed."""


class Row(BaseModel):
    """One reading of the held-out texts in one run.

    A row of 0 tokens has the losses before training; its share has no meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(min_length=1, description="Name of the run: its readings belong together.")
    parameters: int = Field(gt=0, description="Parameters of the model.")
    tokens: int = Field(ge=0, description="Tokens trained by then, replay included.")
    share: float = Field(ge=0, le=1, description="Share of domain text in what was trained on.")
    domain_loss: Loss | None = Field(default=None, description="Bits per byte of held-out domain text.")
    general_loss: Loss | None = Field(default=None, description="Bits per byte of held-out general text.")
    domain: DomainName = Field(default=DOMAIN, description="Name of the domain, where there are several.")
    heldout: str = Field(
        default="",
        description="Name of the held-out documents, where runs hold out others of the same text (seeds): "
        "losses are then moved by the difference of those before training.",
    )

    @model_validator(mode="after")
    def _has_a_loss(self) -> Self:
        if self.domain_loss is None and self.general_loss is None:
            raise ValueError("has neither domain_loss nor general_loss")
        return self

    def loss(self, text: Text) -> float | None:
        """Return the loss of a text in bits per byte."""
        return self.domain_loss if text == DOMAIN else self.general_loss

    def share_of(self, text: Text) -> float:
        """Return the share r of a text in the mixture."""
        return share_of(text, self.share)


def share_of(text: Text, domain_share: float) -> float:
    """Return the share r of a text, which for general text is one minus the domain's."""
    return domain_share if text == DOMAIN else 1.0 - domain_share


def read_rows(path: Path) -> list[Row]:
    """Read rows from a file, one JSON object a line, or CSV with a heading if its name ends in `.csv`.

    Raises:
        RecipeError: The file cannot be read, is empty, or has wrong lines; all of them are named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError([_problem(path, f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError:
        raise RecipeError([_problem(path, "is not UTF-8 text", hint="Save the file as UTF-8.")]) from None
    rows, problems = [], []
    for line, data in _csv(text) if path.suffix.lower() == ".csv" else _json_lines(text):
        if isinstance(data, str):
            problems.append(_problem(path, data, line))
            continue
        try:
            rows.append(Row.model_validate(data))
        except ValidationError as error:
            problems += [_problem(path, *found) for found in _mistakes(error, line)]
    if not rows and not problems:
        columns = ", ".join(Row.model_fields)
        problems.append(_problem(path, "has no rows", hint=f"Each row has {columns}."))
    if len(problems) > _SHOWN:
        more = _problem(path, f"{len(problems) - _SHOWN:,} more problems like these")
        problems = [*problems[:_SHOWN], more]
    if problems:
        raise RecipeError(problems)
    return rows


def _problem(
    path: Path, message: str, line: int | None = None, key: str | None = None, hint: str | None = None
) -> Problem:
    return Problem(message, file=str(path), line=line, key=key, hint=hint)


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line with its data, or with what is wrong as a string."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "this line is not JSON"
            continue
        yield number, data if isinstance(data, dict) else "this line is no JSON object"


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line with its data; empty cells are left out."""
    reader = csv.DictReader(text.splitlines(), restkey="", strict=True)
    try:
        for cells in reader:
            if "" in cells:
                yield reader.line_num, "this line has more cells than the heading"
            else:
                filled = {(key or "").strip(): (value or "").strip() for key, value in cells.items()}
                yield reader.line_num, {key: value for key, value in filled.items() if value}
    except csv.Error as error:
        yield reader.line_num, f"this line is not CSV: {error}"


def _mistakes(error: ValidationError, line: int) -> Iterator[tuple[str, int, str | None, str | None]]:
    """Yield the message, the line, the column and a hint for each mistake of a row."""
    for details in error.errors(include_url=False):
        key = ".".join(map(str, details["loc"])) or None
        if details["type"] == "extra_forbidden":
            yield "unknown column", line, key, f"The columns are {', '.join(Row.model_fields)}."
        elif details["type"] == "missing":
            yield "is missing", line, key, None
        elif details["type"] == "value_error":
            yield str(details["ctx"]["error"]), line, key, None
        else:
            message = details["msg"].replace("Input should be", "must be")
            yield f"{message[:1].lower()}{message[1:]}, not `{details['input']}`", line, key, None


class StartLoss(BaseModel):
    """The losses of one model before training, on the texts of one domain.

    Attributes:
        spread: Largest distance of the loss on one choice of held-out documents from the mean over them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: DomainName
    parameters: int = Field(gt=0)
    domain_loss: Loss | None = None
    general_loss: Loss | None = None
    spread: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def loss(self, text: Text) -> float | None:
        """Return the loss of a text in bits per byte."""
        return self.domain_loss if text == DOMAIN else self.general_loss


def starts_of(rows: Iterable[Row]) -> list[StartLoss]:
    """Return the losses before training, by domain and model size: means over the held-out documents.

    Raises:
        RecipeError: Runs of one model, domain and held-out text start at different losses: they cannot be
            compared.
    """
    problems, found = [], []
    for (domain, parameters), group in _by_model(row for row in rows if row.tokens == 0).items():
        means, spread = {}, 0.0
        for text in TEXTS:
            firsts = _firsts(group, text)
            for known in firsts.values():
                low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
                if known[high] - known[low] > SAME_START * known[low]:
                    problems.append(_different_starts(text, low, known[low], high, known[high]))
            if firsts:
                levels = [fmean(known.values()) for known in firsts.values()]
                means[f"{text}_loss"] = fmean(levels)
                spread = max(spread, *(abs(level - fmean(levels)) for level in levels))
        found.append(StartLoss(domain=domain, parameters=parameters, spread=spread, **means))
    if problems:
        raise RecipeError(problems)
    return found


def level(rows: Sequence[Row]) -> list[Row]:
    """Move the losses on each choice of held-out documents so that all begin at the mean over the choices.

    Documents differ in how hard they are to predict, by more than a setting changes. What a run changes
    stays as it was measured.

    Raises:
        RecipeError: There are several choices, and the loss before training is not known for each.
    """
    moves: dict[tuple[str, int, str, Text], float] = {}
    problems = []
    for (domain, parameters), group in _by_model(rows).items():
        for text in TEXTS:
            choices = {row.heldout for row in group if row.loss(text) is not None}
            firsts = _firsts((row for row in group if row.tokens == 0), text)
            if len(choices) > 1 and (missing := sorted(choices - firsts.keys())):
                message = f"{text} on held-out `{', '.join(missing)}` has no loss before training"
                problems.append(Problem(message, hint="Add rows of 0 tokens."))
            levels = {name: fmean(known.values()) for name, known in firsts.items()}
            for name, own in levels.items():
                moves[domain, parameters, name, text] = fmean(levels.values()) - own
    if problems:
        raise RecipeError(problems)
    found = []
    for row in rows:
        losses = {
            f"{text}_loss": value + moves.get((row.domain, row.parameters, row.heldout, text), 0.0)
            for text in TEXTS
            if (value := row.loss(text)) is not None
        }
        found.append(row.model_copy(update=losses))
    return found


def _by_model(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Return rows by domain and model size."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.domain, row.parameters), []).append(row)
    return groups


def _firsts(rows: Iterable[Row], text: Text) -> dict[str, dict[str, float]]:
    """Return the losses of rows of 0 tokens: by held-out documents, then by run."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if (value := row.loss(text)) is not None:
            found.setdefault(row.heldout, {})[row.run] = value
    return found


def _different_starts(text: Text, low: str, least: float, high: str, most: float) -> Problem:
    return Problem(
        f"before training {text} is at {least:.4f} bits per byte in {low} and at {most:.4f} in {high}: the "
        "runs have other models or other held-out text, and their losses cannot be compared",
        hint="Fit runs of one base and one corpus; name several domains: medical=RUN law=RUN.",
    )


def trained(rows: Sequence[Row], text: Text) -> list[Row]:
    """Return the rows after the start that have a loss of a text."""
    return [row for row in rows if row.tokens > 0 and row.loss(text) is not None]
