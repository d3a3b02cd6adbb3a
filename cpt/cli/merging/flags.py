"""A merge from flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.cli.merging.asked import SHARD_SIZE, Asked, named, parsed_base, setting
from cpt.cli.merging.references import parse_model
from cpt.errors import Problem, UsageError


def from_flags(
    base: str | None,
    add: Sequence[str],
    method: str | None,
    density: float | None,
    normalize: bool | None,
    settings: Sequence[str],
    tokenizer: str | None,
    settings_of: str | None,
    template: str | None,
    dtype: str | None,
    compute_dtype: str | None,
    seed: int | None,
    shard_size: str | None,
) -> Asked:
    """What the flags ask for.

    Raises:
        UsageError: there is no model, or two have one name.
        CannotMerge: there is no such chat template.
    """
    from merging.request import AUTO, InputModel, MergeRequest

    if not add:
        raise UsageError(
            "name the models to merge",
            hint="cpt merge --base B --add M:0.8 --out O, or cpt merge plan.yaml --out O.",
        )
    models, base_model = named([parse_model(text) for text in add], parsed_base(base))
    names = [str(model.name) for model in models]
    given = {"density": density, "normalize": normalize}
    shared, own, problems = _settings(
        settings,
        {name: value for name, value in given.items() if value is not None},
        {str(model.name): {} if model.weight is None else {"weight": model.weight} for model in models},
    )
    parents = tuple(InputModel(name, Path(), parameters=own[name]) for name in names)
    request = MergeRequest(
        method=(method or "task-arithmetic").replace("_", "-"),
        models=parents,
        base=None if base_model is None else InputModel(str(base_model.name), Path()),
        parameters=shared,
        tokenizer=tokenizer or AUTO,
        settings=settings_of,
        chat_template=template_text(template, Path.cwd()),
        dtype=dtype,
        compute_dtype=compute_dtype,
        seed=seed or 0,
    )
    named_models = [*models, *([base_model] if base_model else [])]
    references = {str(model.name): model.reference for model in named_models}
    return Asked(request, references, Path.cwd(), shard_size or SHARD_SIZE, problems=tuple(problems))


def _settings(
    words: Sequence[str], shared: dict[str, Any], own: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[Problem]]:
    """Add what `--set` says to the parameters of the method and of each model, and tell what cannot be."""
    problems = []
    for word in words:
        try:
            model, name, value = setting(word, list(own))
        except UsageError as error:
            problems.append(Problem(error.message, hint=error.hint))
            continue
        whose = shared if model is None else own[model]
        if name in whose:
            of = "" if model is None else f" of {model}"
            problems.append(Problem(f"`--set {word}`: {name}{of} is given twice"))
        whose[name] = value
    return shared, own, problems


def template_text(choice: str | None, folder: Path) -> str | None:
    """A chat template: of a file, one of mergekit's by name, or the text itself.

    Raises:
        CannotMerge: it is none of these.
    """
    from cpt.references.syntax import exists
    from merging.mergekit_file import chat_template

    if choice is None:
        return None
    if exists(folder / choice) and (folder / choice).is_file():
        return (folder / choice).read_text(encoding="utf-8")
    return chat_template(choice, ())
