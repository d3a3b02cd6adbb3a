"""Arguments, options, references, texts and output folders that several `cpt tokenizer` commands share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.text import Text

from cpt.atomic import publish_folder
from cpt.cli.options import split_name
from cpt.cli.output import err
from cpt.errors import RecipeError, UsageError
from cpt.progress import NullProgress
from cpt.recipe.document import COMMAND_LINE, parse, plain
from cpt.recipe.failures import interruptible
from cpt.references import locate, resolve_file

Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The model: folder, hub id, GGUF, file in a wheel.")
]
Texts = Annotated[
    list[str],
    typer.Option("--text", metavar="[NAME=]FILE", help="Text that the vocabulary is for. May be repeated."),
]
OptionalTexts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="[NAME=]FILE", help="Text that some methods learn from. May be repeated."),
]
Heldout = Annotated[
    list[str] | None,
    typer.Option(
        "--heldout",
        metavar="[NAME=]FILE",
        help="Other text, on which the gain is measured. May be repeated.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the result.")]
MethodName = Annotated[
    str,
    typer.Option("--method", metavar="NAME", help="Initialisation of new rows: see cpt tokenizer methods."),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Parameters of the method: `k=32`, `donor=DIR`."),
]
Pad = Annotated[
    int,
    typer.Option(
        "--pad", metavar="N", min=1, max=65_536, help="Round the embedding's rows up to a multiple of N."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random choice.")]
TokenizerOnly = Annotated[
    bool, typer.Option("--tokenizer-only", metavar="", help="Write the tokenizer without a model.")
]

DEFAULT_METHOD = "subtoken-mean"


def parameters(words: Iterable[str]) -> dict[str, Any]:
    """Return the parameters in words such as `k=32`, with values in YAML.

    Raises:
        UsageError: A word is not of that form.
    """
    found = {}
    for word in words:
        name, separator, text = word.partition("=")
        if name.strip() == "method":
            raise UsageError(f"`{word}` is no parameter", hint="Choose the method by --method.")
        if not separator or not name.strip():
            raise UsageError(f"`{word}` is no setting", hint="Write key=value, such as `k=32`.")
        found[name.strip().replace("-", "_")] = yaml_value(name, text)
    return found


def yaml_value(name: str, text: str, hint: str | None = None) -> Any:
    """Return a value that is written in YAML on the command line.

    Args:
        name: Name of the setting or option, for the message.
        hint: Remedy for text that is no YAML.

    Raises:
        UsageError: The text is no YAML.
    """
    try:
        return plain(parse(text, COMMAND_LINE))
    except RecipeError as error:
        raise UsageError(f"{name}: {error.problems[0].message}", hint=hint) from error


def method_settings(word: str) -> dict[str, Any]:
    """Return `clp` or `clp:clip=false,top_k=20` as the `embeddings` settings of a vocabulary change."""
    name, _, settings = word.partition(":")
    return {"method": name.strip(), **parameters(part for part in settings.split(",") if part.strip())}


def step_numbers(text: str) -> tuple[int, ...]:
    """Return `0,50,200` as ascending numbers, 0 among them.

    Raises:
        UsageError: The text is no list of numbers.
    """
    try:
        found = {int(part.replace("_", "")) for part in text.split(",")}
    except ValueError:
        found = {-1}
    if min(found) < 0:
        raise UsageError(f"--steps {text} is no list of numbers", hint="Write it like 0,50,200.")
    return tuple(sorted({0, *found}))


def texts_of(references: Sequence[str]) -> Callable[[], Iterator[str]]:
    """Return a function that starts a pass over the documents of files or folders.

    Args:
        references: `FILE` or `NAME=FILE`, in any format that the corpus stage reads.

    Raises:
        DataError: In a pass, if it reads other content than the first pass.
    """
    from tokenizer_tools.texts import TextFile, passes_over_files

    sources = [source_of(split_name(reference)[1]) for reference in references]
    return passes_over_files(
        [TextFile(each["path"], resolve_file(each["path"], shown()), each["format"]) for each in sources]
    )


def heldout_of(heldout: Sequence[str], text: Sequence[str]) -> Callable[[], Iterator[str]]:
    """Return a function that starts a pass over held-out documents that are not in the training text.

    Documents are equal by the corpus stage's own rule (`cpt.corpus.build.digest`). On text that was learned
    from, the measured gain would be too large.

    Raises:
        UsageError: No held-out document is left.
    """
    from cpt.corpus.digests import digest

    learned = {digest(document) for document in texts_of(text)()}
    documents = texts_of(heldout)

    def others() -> Iterator[str]:
        return (document for document in documents() if digest(document) not in learned)

    total, left = (sum(1 for _ in each()) for each in (documents, others))
    if total and not left:
        raise UsageError(
            f"--heldout {', '.join(heldout)}: all {total:,} documents are in --text too",
            hint="Give text that is not learnt from.",
        )
    if left < total:
        shown().message(f"held-out text: {total - left:,} of {total:,} documents are in --text too: left out")
    return others


def source_of(reference: str) -> dict[str, Any]:
    """Return a source as the corpus stage takes it; a file name without a known suffix means plain text."""
    from cpt.corpus.readers import format_of

    path = located(reference)
    is_plain = Path(path).is_file() and format_of(Path(path)) is None
    return {"path": path, "format": "text" if is_plain else "auto"}


def located(reference: str) -> str:
    """Return the reference with a relative path made absolute in the working directory."""
    return locate(reference, Path.cwd())


class _Shown(NullProgress):
    """Progress as lines on standard error."""

    def message(self, text: str) -> None:
        err().print(Text(text, style="dim"), soft_wrap=True)


def shown() -> _Shown:
    """Return the progress that a command shows on standard error."""
    return _Shown()


def check_free(output: Path) -> None:
    """Raise `UsageError` if the output folder exists and is not empty."""
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(f"{output} exists already", hint="Choose another --out, or remove it first.")


@contextmanager
def staged_output(output: Path) -> Iterator[Path]:
    """Yield a staging folder that takes the name of the output folder when the block succeeds.

    After a failure, Ctrl-C or SIGTERM nothing is left of it, nor of parent folders made for it. What a
    killed process left is removed first: a lock tells it from the folder of a process that still writes.

    Raises:
        UsageError: The output folder exists, or another process is writing it.
        Interrupted: Ctrl-C. Terminated: SIGTERM.
    """
    check_free(output)
    output = output.absolute()
    made_for_it = [folder for folder in output.parents if not folder.exists()]
    scratch = output.with_name(f".{output.name}.unfinished")
    scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(scratch / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"another process is writing {output}", hint="Wait for it, or choose another --out."
        ) from error
    try:
        with interruptible():
            made = scratch / output.name
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            yield made
            publish_folder(made, output, durable=False)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()
        for folder in made_for_it:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()
