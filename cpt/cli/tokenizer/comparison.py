"""`cpt tokenizer compare`: from flags to a comparison, and the comparison as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console

from cpt.cli.output import rows
from cpt.cli.tokenizer import values
from cpt.cli.tokenizer.change import config_of
from cpt.cli.tokenizer.inputs import located, shown, source_of
from cpt.errors import UsageError
from cpt.formatting import duration
from cpt.initialiser_trial.kept import PICTURE, KeptRows
from cpt.initialiser_trial.methods import UNCHANGED, Comparison, Row, build_corpus, compare, label
from cpt.initialiser_trial.probe import ProbeSettings, Trained
from cpt.recipe.stopping import interruptible
from cpt.references import fingerprint, resolve_model
from cpt.stages.vocabulary.config import EmbeddingsConfig

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
    window: int
    seed: int


def run_comparison(asked: Asked, output: Path) -> Comparison:
    """Compare, and write figures and picture into a folder; go on with what an earlier, stopped call left.

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
        window=asked.window,
        seed=asked.seed,
    )
    model = resolve_model(located(asked.base), shown())
    with interruptible("The same command continues: finished methods are kept."):
        kept = KeptRows(output, _asked(asked, methods))
        corpus = build_corpus(
            model,
            [source_of(text) for text in asked.texts],
            [source_of(text) for text in asked.general],
            kept.scratch / "base",
            sequence_length=asked.sequence_length,
            heldout=asked.heldout,
            seed=asked.seed,
            progress=shown(),
        )

        def finished(row: Row) -> None:
            kept.add(row)
            _tell(row, asked)

        comparison = compare(
            model, corpus, change, methods, settings, shown(), kept.scratch, finished, known=kept.rows
        )
        kept.finish(comparison)
    return comparison


def _asked(asked: Asked, methods: Sequence[EmbeddingsConfig]) -> dict[str, Any]:
    """What is asked for, with the content of the files that it names."""
    files = {*asked.texts, *asked.general, asked.base, *filter(None, [asked.change.get("replace")])}
    return {
        **{field.name: getattr(asked, field.name) for field in fields(asked)},
        "methods": [label(embeddings) for embeddings in methods],
        "content": {name: fingerprint(located(name)) for name in sorted(files)},
        "windows": "the same bytes for every tokenizer",  # rows of other windows are not gone on with
    }


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
    console.print(f"{output / PICTURE}")


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
    settings = values.method(word)
    try:
        return EmbeddingsConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"--method {word}: {reasons}") from error


def _every_method() -> list[EmbeddingsConfig]:
    from tokenizer_tools.embeddings import names

    found = [EmbeddingsConfig(method=name) for name in names()]
    return sorted(found, key=label)
