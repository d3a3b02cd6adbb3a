"""`cpt tokenizer compare`: from flags to a comparison, and the comparison as a table."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console

from cpt.cli import read_settings
from cpt.cli.form import duration
from cpt.cli.output import rows
from cpt.cli.vocabulary_changes import config_of, located, shown, source_of, written_aside
from cpt.comparison.methods import UNCHANGED, Comparison, Row, build_corpus, compare, label
from cpt.comparison.plot import plot
from cpt.comparison.probe import ProbeSettings, Trained
from cpt.errors import UsageError
from cpt.references import resolve_model
from cpt.stages.vocabulary_config import EmbeddingsConfig

_KEYS = {"extend": "tokens", "replace": "tokenizer", "train": "tokens"}


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    base: str
    texts: tuple[str, ...]
    general: tuple[str, ...]
    change: Mapping[str, Any]
    methods: tuple[str, ...]
    steps: tuple[int, ...]
    sequence_length: int
    batch: int
    rate: float
    trained: str
    heldout: float
    heldout_bytes: int
    seed: int


def run_comparison(asked: Asked, output: Path) -> Comparison:
    """Compare, and write comparison.json and comparison.svg into a new folder.

    Raises:
        UsageError: an unknown method, a wrong parameter of one, or another wrong setting.
    """
    methods = [_method(word) for word in asked.methods] or _every_method()
    if asked.trained not in get_args(Trained):
        raise UsageError(f"--trained {asked.trained}", hint=f"One of: {', '.join(get_args(Trained))}.")
    change = config_of({name: {_KEYS[name]: value} for name, value in asked.change.items()})
    settings = ProbeSettings(
        steps=asked.steps,
        batch_sequences=asked.batch,
        peak=asked.rate,
        trained=asked.trained,  # type: ignore[arg-type]
        heldout_bytes=asked.heldout_bytes,
        seed=asked.seed,
    )
    with written_aside(output) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        model = resolve_model(located(asked.base), shown())
        corpus = build_corpus(
            model,
            [source_of(text) for text in asked.texts],
            [source_of(text) for text in asked.general],
            Path(scratch) / "base",
            sequence_length=asked.sequence_length,
            heldout=asked.heldout,
            seed=asked.seed,
            progress=shown(),
        )
        comparison = compare(
            model, corpus, change, methods, settings, shown(), Path(scratch), lambda row: _tell(row, asked)
        )
        facts = {"asked": {each.name: getattr(asked, each.name) for each in fields(asked)}}
        text = json.dumps({**facts, **comparison.as_json()}, indent=2, ensure_ascii=False, default=str)
        (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
        plot(comparison, folder / "comparison.svg")
    return comparison


def print_comparison(console: Console, comparison: Comparison, output: Path) -> None:
    """The table, the best method first."""
    before, after = comparison.bytes_per_token
    console.print(f"{before:.3f} bytes per token before, {after:.3f} after; bits per byte of held-out text:")
    general = any(row.general for row in comparison.rows)
    columns = [f"domain {step}#" for step in comparison.steps]
    columns += [f"general {step}#" for step in comparison.steps] if general else []
    table = rows("method", *columns, "rows in#")
    unchanged = [row for row in comparison.rows if row.method == UNCHANGED]
    for row in [*unchanged, *comparison.ranked()]:
        if not row.failure:
            table.add_row("", row.method, *_figures(row, comparison, general))
    console.print(table)
    if any(row.epochs > 1 for row in comparison.rows):
        console.print("The text was gone through more than once; more text, or fewer steps, would tell more.")
    for row in comparison.rows:
        if row.failure:
            console.print(f"  {row.method}: {row.failure}", soft_wrap=True)
    console.print(f"{output / 'comparison.svg'}")


def _figures(row: Row, comparison: Comparison, general: bool) -> list[str]:
    curves = [row.domain, row.general] if general else [row.domain]
    figures = [f"{curve[step]:.4f}" for curve in curves for step in comparison.steps]
    return [*figures, "" if row.method == UNCHANGED else duration(row.initialisation_seconds)]


def _tell(row: Row, asked: Asked) -> None:
    if row.failure:
        return shown().message(f"{row.method}: {row.failure}")
    curve = ", ".join(f"{row.domain[step]:.4f} at {step}" for step in asked.steps)
    return shown().message(f"{row.method}: {curve}")


def _method(word: str) -> EmbeddingsConfig:
    settings = read_settings.method(word)
    try:
        return EmbeddingsConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"--method {word}: {reasons}") from error


def _every_method() -> list[EmbeddingsConfig]:
    from tokenizer_tools.embeddings import names

    found = [EmbeddingsConfig(method=name) for name in names()]
    return sorted(found, key=label)
