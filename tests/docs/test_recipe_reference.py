"""The recipe reference has every key, with the type, bounds, default and meaning of its declaration."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from doc_pages import script
from pydantic import BaseModel, Field

reference = script("recipe_reference")


class Inner(BaseModel):
    kind: Literal["inner"] = "inner"
    share: float = 0.5


class Example(BaseModel):
    needed: int = Field(gt=0, le=1_000)
    share: float = Field(default=1e-5, ge=0, lt=1)
    choice: Literal["a", "b"] = "a"
    flag: bool = True
    optional: str | None = None
    many: tuple[Annotated[float, Field(gt=0)], ...] = (0.5, 1.0)
    pair: tuple[int, int] = (1, 2)
    by_name: dict[str, Inner] = {}
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("needed", "whole number, > 0, ≤ 1,000", "**needed**"),
        ("share", "number, ≥ 0, < 1", "`1e-5`"),
        ("choice", "`a`, `b`", "`a`"),
        ("flag", "true or false", "`true`"),
        ("optional", "text", ""),
        ("many", "list of number, > 0", "`[0.5, 1.0]`"),
        ("pair", "[whole number, whole number]", "`[1, 2]`"),
        ("by_name", "mapping of names to settings", "`{}`"),
        ("inner", "settings", "`inner`"),
    ],
)
def test_a_declaration_becomes_words(name: str, value: str, default: str) -> None:
    field = Example.model_fields[name]
    assert (reference.value(field), reference.default(field)) == (value, default)


def test_the_pages_are_up_to_date() -> None:
    made = {f"{kind}.md": text for kind, text in reference.pages().items()}
    written = {file.name: file.read_text(encoding="utf-8") for file in reference.FOLDER.glob("*.md")}
    assert written == made, "run python docs/recipe_reference.py"


def test_every_key_has_a_meaning() -> None:
    rows = [
        line for text in reference.pages().values() for line in text.splitlines() if line.startswith("| `")
    ]
    assert len(rows) > 600
    assert [row for row in rows if row.endswith("|  |")] == []
