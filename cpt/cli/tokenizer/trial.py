"""Run the trial of `cpt tokenizer compare`, and show its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError
from rich.console import Console

from cpt.cli.output import rows
from cpt.cli.tokenizer.changes import base_for, config_of
from cpt.cli.tokenizer.options import located, method_settings, shown, source_of
from cpt.errors import UsageError
from cpt.formatting import duration
from cpt.recipe.failures import interruptible
from cpt.references import fingerprint, resolve_model
from tokenizer_tools.settings import EmbeddingsConfig

if TYPE_CHECKING:
    from cpt.initialiser_trial.results import MethodMeans, TrialResult, TrialRow
    from cpt.seeds import Mean

_KEYS = {"extend": "tokens", "replace": "tokenizer", "train": "tokens"}


@dataclass(frozen=True)
class TrialRequest:
    """The arguments of `cpt tokenizer compare`."""

    base: str
    texts: tuple[str, ...]
    general: tuple[str, ...]
    change: Mapping[str, Any]
    methods: tuple[str, ...]
    hypernet: str | None
    alm: tuple[str, ...]
    alm_boundary: float
    steps: tuple[int, ...]
    sequence_length: int
    batch: int
    rate: float
    trained: str
    heldout: float
    heldout_bytes: int
    window: int
    seed: int
    seeds: int


def run_request(request: TrialRequest, output: Path) -> TrialResult:
    """Run a trial and write figures and picture into a folder; continue an earlier call that was stopped.

    Raises:
        UsageError: A method, a parameter of a method, or another setting is wrong.
    """
    from cpt.initialiser_trial.folder import TrialFolder
    from cpt.initialiser_trial.short_training import Trained, TrialSettings
    from cpt.initialiser_trial.trial import build_corpus, label, run_trial
    from tokenizer_tools.change import check_initialisation

    methods = [_method(word) for word in request.methods] or _every_method()
    methods += _hypernetwork_methods(request)
    distilled = [_method(word, "--alm") for word in request.alm]
    methods = list({label(each): each for each in [*methods, *distilled]}.values())
    distilled = list({label(each): each for each in distilled}.values())
    if request.seeds > 1 and max(request.steps) == 0:
        raise UsageError(
            "--seeds repeats trainings, and --steps 0 trains nothing",
            hint="Leave --seeds out, or name steps: --steps 0,50.",
        )
    if request.trained not in get_args(Trained):
        raise UsageError(f"--trained {request.trained}", hint=f"One of: {', '.join(get_args(Trained))}.")
    change = config_of({name: {_KEYS[name]: value} for name, value in request.change.items()})
    settings = TrialSettings(
        steps=request.steps,
        batch_sequences=request.batch,
        peak=request.rate,
        trained=request.trained,  # type: ignore[arg-type]
        heldout_bytes=request.heldout_bytes,
        window=request.window,
        boundary=request.alm_boundary or None,
        seed=request.seed,
    )
    model = resolve_model(located(request.base), shown())
    for embeddings in methods:
        if embeddings.method == "hypernetwork":  # else it is found out after all others have trained
            check_initialisation(embeddings, model)
    with interruptible("The same command continues: finished trainings are kept."):
        folder = TrialFolder(output, _identity(request, methods))
        corpus = build_corpus(
            model,
            [source_of(text) for text in request.texts],
            [source_of(text) for text in request.general],
            folder.scratch / "base",
            sequence_length=request.sequence_length,
            heldout=request.heldout,
            seed=request.seed,
            progress=shown(),
        )

        def finished(row: TrialRow) -> None:
            folder.add(row)
            _show_row(row, request)

        result = run_trial(
            model,
            corpus,
            change,
            methods,
            settings,
            shown(),
            folder.scratch,
            finished,
            known=folder.rows,
            distilled=distilled,
            seeds=request.seeds,
        )
        folder.finish(result)
    return result


def _identity(request: TrialRequest, methods: Sequence[EmbeddingsConfig]) -> dict[str, Any]:
    """Return the request with the fingerprints of the files that it names."""
    from cpt.initialiser_trial.trial import label

    files = {*request.texts, *request.general, request.base, *filter(None, [request.change.get("replace")])}
    files |= {file for embeddings in methods for file in embeddings.files().values()}
    return {
        **{field.name: getattr(request, field.name) for field in fields(request)},
        "methods": [label(embeddings) for embeddings in methods],
        "content": {name: fingerprint(located(name)) for name in sorted(files)},
        "windows": "the same bytes for every tokenizer",  # rows with other windows cannot be continued
    }


def print_result(console: Console, result: TrialResult, output: Path) -> None:
    """Print the table of a trial, the best method first."""
    from cpt.initialiser_trial.folder import PICTURE

    before, after = result.bytes_per_token
    console.print(f"{before:.3f} bytes per token before, {after:.3f} after; bits per byte of held-out text:")
    means, several = result.means(), len(result.seeds) > 1
    sources = ["domain", "general"] if any(each.general for each in means) else ["domain"]
    columns = [f"{source} {step}#" for source in sources for step in result.steps]
    table = rows("method", *columns, *(["behind the best#"] if several else []), "rows in#")
    for each in means:
        if not each.failure:
            figures = [_level(getattr(each, source)[step]) for source in sources for step in result.steps]
            behind = [_difference(each.behind)] if several else []
            seconds = duration(each.initialisation_seconds) if each.initialisation_seconds else ""
            table.add_row("", each.method, *figures, *behind, seconds)
    console.print(table)
    _print_notes(console, result, means)
    console.print(f"{output / PICTURE}")


def _print_notes(console: Console, result: TrialResult, means: Sequence[MethodMeans]) -> None:
    seeds = len(result.seeds)
    if seeds > 1:
        console.print(
            f"Means of {seeds} trainings in different orders of the text, with 95% intervals; "
            f"behind the best: domain text after step {result.steps[-1]}, order by order."
        )
    elif result.steps[-1] > 0:
        console.print("One training each: --seeds 3 shows how much of a difference is chance.")
    if any(row.epochs > 1 for row in result.rows):
        console.print(
            "Training repeated the text. More text, or fewer steps, makes the comparison more reliable."
        )
    for each in means:
        if each.failure:
            console.print(f"  {each.method}: {each.failure}", soft_wrap=True)


def _level(mean: Mean) -> str:
    half = None if mean.high is None else mean.high - mean.value
    return f"{mean.value:.4f} ± {half:.4f}" if half else f"{mean.value:.4f}"


def _difference(mean: Mean | None) -> str:
    return "" if mean is None else f"{mean.value:.4f} ({mean.low:.4f} to {mean.high:.4f})"


def _show_row(row: TrialRow, request: TrialRequest) -> None:
    seed = f" (seed {row.seed})" if request.seeds > 1 else ""
    if row.failure:
        return shown().message(f"{row.method}{seed}: {row.failure}")
    curve = ", ".join(f"{row.domain[step]:.4f} at {step}" for step in request.steps)
    return shown().message(f"{row.method}{seed}: {curve}")


def _method(word: str, option: str = "--method") -> EmbeddingsConfig:
    settings = method_settings(word)
    try:
        return EmbeddingsConfig.model_validate(settings)
    except ValidationError as error:
        reasons = "; ".join(str(item["msg"]).removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"{option} {word}: {reasons}") from error


def _hypernetwork_methods(request: TrialRequest) -> list[EmbeddingsConfig]:
    """Return the two ways to use the hypernetwork that `--hypernet` names."""
    from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

    if request.hypernet is None:
        return []
    folder = resolve_hypernetwork(located(request.hypernet), shown())
    settings = {"method": "hypernetwork", "folder": request.hypernet, **base_for(folder, request.base)}
    ways = ("copied", "predicted")
    return [EmbeddingsConfig.model_validate(settings | {"shared": shared}) for shared in ways]


def _every_method() -> list[EmbeddingsConfig]:
    from cpt.initialiser_trial.trial import label
    from tokenizer_tools.embeddings import methods

    found = [EmbeddingsConfig(method=name) for name, each in methods() if not each.needs]
    return sorted(found, key=label)
