"""`cpt corpus dedup`, `decontaminate` and `select` do one step of the corpus stage, without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cpt.cli.corpus.contents import print_ledger
from cpt.cli.corpus.sources import AS_A_SOURCE, SOURCE, TextField, Texts, Workers, sources_of, validated
from cpt.cli.options import Json
from cpt.cli.output import out, print_json
from cpt.cli.progress_bar import show_progress
from cpt.cli.tokenizer.options import located, parameters, staged_output
from cpt.errors import RecipeError, UsageError

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the corpus that is left.")]


def _settings(key: str, names: str) -> Any:
    return typer.Argument(
        metavar="KEY=VALUE",
        help=f"Settings, as a recipe has them in `corpus.{key}`: {names}. Values are YAML.",
    )


def dedup(
    text: Texts,
    output: Out,
    settings: Annotated[
        list[str] | None, _settings("deduplicate", "kind, ngram, bands, rows, threshold")
    ] = None,
    heldout: Annotated[
        list[str] | None,
        typer.Option("--heldout", metavar=SOURCE, help=f"Text of which no duplicate may stay. {AS_A_SOURCE}"),
    ] = None,
    text_field: TextField = "text",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Remove exact and near-duplicates (MinHash) from texts. `kind=exact` removes exact ones alone.

    Example: cpt corpus dedup --text 'data/*.jsonl' --out clean bands=20
    """
    from cpt.corpus.minhash import MinHash
    from cpt.stages.corpus import alone
    from cpt.stages.corpus.config import Exact

    given = parameters(settings or [])
    how: Exact | MinHash
    if given.get("kind") == "exact":
        how = validated(Exact, given)
    else:
        how = validated(MinHash, {"kind": "minhash"} | given)
    sources, kept_out = sources_of(text, text_field), sources_of(heldout or [], text_field, "--heldout")
    with staged_output(output) as folder, show_progress(resumable=False) as view:
        alone.deduplicate(sources, how, folder, view, kept_out, workers or "auto")
    _print(output, as_json)


def decontaminate(
    text: Texts,
    output: Out,
    settings: Annotated[list[str] | None, _settings("decontaminate", "ngram, action")] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", metavar="NAME[:LEVEL]", help="A suite (cpt eval suites). May be repeated."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="A task of lm-eval. May be repeated.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(
            "--items", metavar="FILE", help="Your own items, a JSON object a line. May be repeated."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Folder with data sets; what it lacks comes from the hub."
        ),
    ] = None,
    text_field: TextField = "text",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Remove documents that hold benchmark items from texts, or with `action=cut` the matches alone.

    Example: cpt corpus decontaminate --text notes.jsonl --suite medical:full --out clean
    """
    from cpt.stages.corpus import alone
    from cpt.stages.corpus.benchmarks import benchmark_problems
    from cpt.stages.corpus.config import Decontamination

    named = {
        "suites": suite or [],
        "tasks": task or [],
        "files": [located(each) for each in items or []],
        "data": None if data is None else str(data),
    }
    given = parameters(settings or [])
    if twice := sorted(given.keys() & {key for key, value in named.items() if value}):
        raise UsageError(f"{', '.join(twice)}: given as an option and as a setting", hint="Give it once.")
    how = validated(Decontamination, named | given)
    if problems := benchmark_problems(how):
        raise RecipeError(problems)
    sources = sources_of(text, text_field)
    with staged_output(output) as folder, show_progress(resumable=False) as view:
        alone.decontaminate(sources, how, folder, view, workers or "auto")
    _print(output, as_json)


def select(
    text: Texts,
    output: Out,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="REF", help="Model whose tokenizer counts tokens; `by=base` rates with it."
        ),
    ],
    settings: Annotated[
        list[str] | None, _settings("select", "tokens, by, min_tokens, max_repetition")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of random choices.")] = 17,
    text_field: TextField = "text",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Select the best documents of texts, up to a number of tokens.

    Example: cpt corpus select --text web.jsonl --model MODEL --out best tokens=2000000
    'by={kind: dsir, target: [{path: books.jsonl}]}'
    """
    from cpt.references import resolve_model, resolve_tokenizer
    from cpt.stages.corpus import alone
    from cpt.stages.corpus.checks import selection_problems, source_problem
    from cpt.stages.corpus.config import CorpusConfig, Selection

    how = validated(Selection, parameters(settings or []))
    sources = sources_of(text, text_field)
    config = validated(
        CorpusConfig, {"domain": [source.model_dump() for source in sources], "select": how.model_dump()}
    )
    named = [(key, each) for key, each in config.sources() if key.startswith("select.")]
    found = [problem for key, each in named if (problem := source_problem(key, each)) is not None]
    if problems := [*found, *selection_problems(config)]:
        raise RecipeError(problems)
    with staged_output(output) as folder, show_progress(resumable=False) as view:
        needs_weights = how.by.kind == "base"
        base = resolve_model(located(model), view) if needs_weights else resolve_tokenizer(located(model))
        alone.select(sources, how, base, folder, view, seed, workers or "auto")
    _print(output, as_json)


def _print(folder: Path, as_json: bool) -> None:
    """Print the ledger of a corpus, and how a recipe reads it."""
    from cpt.corpus.documents import documents_path
    from cpt.corpus.index import read_index
    from cpt.sources import DOMAIN

    if as_json:
        return print_json({"folder": str(folder), "sources": read_index(folder).ledger()})
    print_ledger(folder)
    left = documents_path(folder, DOMAIN, "train")
    out().print(f"Corpus: {folder}; a recipe reads it by `path: {left}`", soft_wrap=True, highlight=False)
    return None
