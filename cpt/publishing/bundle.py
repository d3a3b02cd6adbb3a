"""Fill a folder with a run's model, its card and its recipe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ruamel.yaml import YAML
from tokenizers import Tokenizer

from cpt.corpus.texts import has_texts, heldout_texts
from cpt.errors import CptError, UsageError
from cpt.models.tokenizer import load_tokenizer
from cpt.publishing.card import model_card, without_folders
from cpt.publishing.compatibility import Finding, compatibility
from cpt.recipe.journal import Run
from cpt.recipe.reported_runs import run_facts
from cpt.recipe.store import Record
from cpt.references import locate, resolve_tokenizer
from cpt.stages.base import BASE

CARD, RECIPE = "README.md", "recipe.yaml"
_TEXTS = 100
"""Held-out documents on which tokenizers are compared."""


@dataclass(frozen=True)
class Bundle:
    """A folder to publish.

    Attributes:
        folder: The folder.
        stage: Stage whose model it is.
        findings: What other tools make of the model.
        limits: Messages of limits that are not held, by stage.
        measured: True if the card has figures.
    """

    folder: Path
    stage: str
    findings: Sequence[Finding]
    limits: dict[str, str]
    measured: bool


def final_model(run: Run) -> Record:
    """Return the result with the run's final model.

    Raises:
        UsageError: The run or a stage of it is not finished, or it makes no model.
    """
    if run.state != "finished":
        raise UsageError(
            f"the run `{run.name}` is {run.state}", hint="Finish it first: cpt run with the same arguments."
        )
    finished = run.finished()
    if missing := [name for name in run.stages if name not in finished]:
        raise UsageError(
            f"stages of the run `{run.name}` have no result: {', '.join(missing)}",
            hint="Finish it first: cpt run without --until, --only and --from.",
        )
    models = [record for record in finished.values() if "model" in record.kinds]
    if not models:
        raise UsageError(f"the run `{run.name}` has no stage that makes a model")
    return models[-1]


def limits_not_held(run: Run) -> dict[str, str]:
    """Return the messages of limits that are not held, by stage."""
    return {name: record.gate for name, record in run.finished().items() if record.gate}


def is_measured(run: Run, record: Record) -> bool:
    """Return True if a stage of the run compares the model of a result with the base, the last one of all."""
    evaluated = [each.sources for each in run.finished().values() if "scores" in each.kinds]
    last = evaluated[-1] if evaluated else {}
    return (last.get("before"), last.get("after")) == (BASE, record.name)


def fill(folder: Path, run: Run, name: str, licence: str | None) -> Bundle:
    """Write the model, the card and the recipe into an empty folder.

    The card states sources by name and size; none of their text is published. Weights are hard links where
    the file system has them; everything else is copied, since it may be edited.

    Args:
        folder: Empty folder.
        run: Finished run.
        name: Id of the repository, or name of the folder.
        licence: Licence of the model, as the hub names it.
    """
    record, facts = final_model(run), run_facts(run)
    model = record.path("model")
    for source in sorted(path for path in model.rglob("*") if path.is_file()):
        target = folder / source.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(source, target)
    findings = compatibility(model, _texts(run), _base_tokenizer(run))
    measured = is_measured(run, record)
    card = model_card(facts, name, licence, findings, measured=measured)
    (folder / CARD).write_text(card, encoding="utf-8")
    with (folder / RECIPE).open("w", encoding="utf-8") as file:
        YAML().dump(without_folders(YAML(typ="safe").load(facts.recipe)), file)
    return Bundle(folder, record.name, findings, limits_not_held(run), measured)


def _place(source: Path, target: Path) -> None:
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)


def _base_tokenizer(run: Run) -> Tokenizer | None:
    """Return the tokenizer of the run's base; None if it cannot be had now."""
    recipe, file = run.data.get("recipe") or {}, Path(run.data.get("recipe_file") or "recipe.yaml")
    try:
        return load_tokenizer(resolve_tokenizer(locate(str(recipe.get("base")), file.parent)))
    except (CptError, OSError):
        return None


def _texts(run: Run) -> list[str]:
    """Return held-out documents of the run's newest corpus; made-up ones if it has none."""
    corpora = [record.path("corpus") for record in run.finished().values() if "corpus" in record.kinds]
    for source in ("domain", "general"):
        if corpora and has_texts(corpora[-1], source, "heldout"):
            return list(islice(heldout_texts(corpora[-1], source), _TEXTS))
    return ["Some words, 1,234 numbers.\n\n\tAnd others: été, 中文."]
