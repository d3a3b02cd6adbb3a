"""`cpt corpus study` shows or writes the questions that can be mined from texts, without a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cpt.cli.corpus.sources import TextField, Workers, sources_of, validated
from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.cli.progress_bar import show_progress
from cpt.cli.tokenizer.options import located, parameters, staged_output
from cpt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from cpt.stages.corpus.source_config import Source
    from cpt.stages.corpus.study_config import Study

_SHOWN = 400


def study(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [KEY=VALUE...]",
            help="Texts (files, or sources as a recipe has them: '{path: FILE, limit: 50}'), and settings as "
            "a recipe has them in `corpus.study`: miners, language, trained, "
            "forms, passage, tasks, shuffle, probe, ontologies, ontology_terms. Values are YAML.",
        ),
    ],
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Show what is found, with examples, and write nothing.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder for reading, questions and recall probe."),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=1, help="Most examples of each task (with --inspect).")
    ] = 2,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of random choices.")] = 17,
    text_field: TextField = "text",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Mine questions and reading tasks from texts: glossaries, definitions, headings, connectives, and more.

    Example: cpt corpus study textbook.jsonl --inspect
    """
    if inspect == (output is not None):
        raise UsageError("give either --inspect or --out DIR", hint="--inspect shows, --out writes.")
    from cpt.references import resolve_file
    from cpt.stages.corpus.study_config import Study

    settings = [word for word in words if word.partition("=")[0] in Study.model_fields and "=" in word]
    files = [word for word in words if word not in settings]
    for word in files:
        key, sign, _ = word.partition("=")
        if sign and key.isidentifier() and (near := did_you_mean(key, set(Study.model_fields))):
            raise UsageError(f"{key}: no such setting", hint=near)
    if not files:
        raise UsageError("no text is named", hint="cpt corpus study FILE --inspect")
    how, sources = validated(Study, parameters(settings)), sources_of(files, text_field, "SOURCE")
    if how.write is not None:
        raise UsageError("a model writes only in a recipe, which keeps its answers", hint="cpt run RECIPE")
    how = how.model_copy(update={"ontologies": tuple(map(located, how.ontologies))})
    for reference in how.ontologies:  # before minutes of mining
        resolve_file(reference)
    if output is None:
        return _inspect(sources, how, most, seed, workers, as_json)
    from cpt.stages.corpus.alone import study as write

    with staged_output(output) as folder, show_progress(resumable=False) as view:
        facts = write(sources, how, folder, view, seed, workers or "auto")
    if as_json:
        return print_json({"folder": str(output), **facts})
    _print_counts(facts["items"])
    lead = f"{facts['facts']:,} facts. A recipe reads {output}/reading.jsonl as it is, "
    chat = "`chat: {prompt: prompt, completion: completion, prompt_weight: 0}`"
    out().print(f"{lead}questions.jsonl by {chat}.", soft_wrap=True)
    return None


def _inspect(
    sources: list[Source], how: Study, most: int, seed: int, workers: int | None, as_json: bool
) -> None:
    from cpt.corpus.study.language import load_language
    from cpt.corpus.study.mining import Counts
    from cpt.stages.corpus.alone import mined_of

    with show_progress(resumable=False) as view:
        mined = mined_of(sources, how, view, seed, workers or "auto")
    counts = Counts()
    for each in mined:
        counts.add(each)
    examples = list(_examples(mined, load_language(how.language), most, seed))
    if as_json:
        return print_json({"items": counts.as_json(), "examples": examples})
    _print_counts(counts.as_json())
    console = out()
    for example in examples:
        console.print()
        console.print(f"{example['task']}  {example['document']}", style="bold")
        console.print(_shortened(example["prompt"]), soft_wrap=True)
        console.print(f"  {_shortened(example['answer'])}", style="green", soft_wrap=True)
    return None


def _examples(mined: Any, language: Any, most: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield examples of every task and label, drawn by the seed."""
    from cpt.corpus.study.items import chance
    from cpt.corpus.study.language import chosen_wording, worded

    by_task: dict[tuple[str, str], list[Any]] = {}
    for each in mined:
        by_task.setdefault((each.item.task, each.item.label), []).append(each)
    for (task, label), found in by_task.items():
        for each in chance("examples", seed, task, label).sample(found, min(most, len(found))):
            key = f"{seed}:{each.key}"
            question = worded(each.item, chosen_wording(each.item, language, key), key)
            yield {
                "task": task,
                "document": each.document,
                "prompt": question.prompt,
                "answer": question.answer,
            }


def _print_counts(items: dict[str, dict[str, int]]) -> None:
    table = rows("miner", "task", "items#")
    for miner, tasks in items.items():
        for at, (task, number) in enumerate(tasks.items()):
            table.add_row("", miner if at == 0 else "", task, f"{number:,}")
    out().print(table)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
