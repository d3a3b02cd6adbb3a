"""Arguments and options that several `cpt tokenizer` commands share.

Small values on the command line: a method's parameters, steps, a method with its parameters.

What the commands read: references, texts; and where they say what they are doing.

A new folder that is there whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout
from rich.text import Text

from cpt.cli.naming import split_name
from cpt.cli.output import err
from cpt.errors import RecipeError, UsageError
from cpt.recipe.document import COMMAND_LINE, parse, plain
from cpt.recipe.stopping import interruptible
from cpt.references import locate, resolve_file
from cpt.stages.base import NullProgress

Base = Annotated[
    str, typer.Argument(metavar="BASE", help="The model: folder, hub id, GGUF, file in a wheel.")
]
Texts = Annotated[
    list[str],
    typer.Option("--text", metavar="[NAME=]FILE", help="Text that the vocabulary is for. May be repeated."),
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
    str, typer.Option("--method", metavar="NAME", help="How new rows are made: see cpt tokenizer methods.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Parameters of the method: `k=32`, `donor=DIR`."),
]
Pad = Annotated[
    int,
    typer.Option(
        "--pad", metavar="N", min=1, max=65_536, help="Round the embedding's rows up to a multiple."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of every random choice.")]
TokenizerOnly = Annotated[
    bool, typer.Option("--tokenizer-only", metavar="", help="Write the tokenizer without a model.")
]

OptionalTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--text", metavar="[NAME=]FILE", help="Text from which some methods learn. May be repeated."
    ),
]

DEFAULT_METHOD = "subtoken-mean"


def parameters(words: Iterable[str]) -> dict[str, Any]:
    """`k=32` and the like, with values in YAML.

    Raises:
        UsageError: a word is not of that form.
    """
    found = {}
    for word in words:
        name, separator, text = word.partition("=")
        if name.strip() == "method":
            raise UsageError(f"`{word}` is no parameter", hint="Choose the method by --method.")
        if not separator or not name.strip():
            raise UsageError(f"`{word}` is no setting", hint="Write key=value, such as `k=32`.")
        try:
            found[name.strip().replace("-", "_")] = plain(parse(text, COMMAND_LINE))
        except RecipeError as error:
            raise UsageError(f"{name}: {error.problems[0].message}") from error
    return found


def method(word: str) -> dict[str, Any]:
    """`clp` or `clp:clip=false,top_k=20` as the `embeddings` of a vocabulary stage."""
    name, _, settings = word.partition(":")
    return {"method": name.strip(), **parameters(part for part in settings.split(",") if part.strip())}


def steps(text: str) -> tuple[int, ...]:
    """`0,50,200` as ascending numbers, 0 among them.

    Raises:
        UsageError: it is no list of numbers.
    """
    try:
        found = {int(part.replace("_", "")) for part in text.split(",")}
    except ValueError:
        found = {-1}
    if min(found) < 0:
        raise UsageError(f"--steps {text} is no list of numbers", hint="Write it like 0,50,200.")
    return tuple(sorted({0, *found}))


def texts_of(references: Sequence[str]) -> Callable[[], Iterator[str]]:
    """Starts a pass over the documents of files or folders, in any format that the corpus stage reads.

    Args:
        references: `FILE` or `NAME=FILE`, as they are given.

    Raises:
        DataError: A later pass reads other content than the first.
    """
    sources = [source_of(split_name(reference)[1]) for reference in references]
    paths = [(each["path"], resolve_file(each["path"], shown()), each["format"]) for each in sources]
    passes: dict[Path, Mapping[Path, str]] = {}

    def texts() -> Iterator[str]:
        from cpt.corpus.documents import Document
        from cpt.corpus.readers import ReadFiles, read
        from cpt.references.resolve import changed

        for name, path, form in paths:
            files = ReadFiles()
            for item in read(path, form, files=files):
                if isinstance(item, Document):
                    yield item.text
            content = files.of(path)
            if passes.setdefault(path, content) != content:
                raise changed(name)

    return texts


def heldout_of(heldout: Sequence[str], text: Sequence[str]) -> Callable[[], Iterator[str]]:
    """Start passes over held-out documents, without those that are also in the text that is learnt from.

    Documents are the same where the corpus stage finds them the same (`cpt.corpus.split.digest`). A gain
    measured on text that was learnt from is too large.

    Raises:
        UsageError: no held-out document is left.
    """
    from cpt.corpus.split import digest

    learnt = {digest(document) for document in texts_of(text)()}
    documents = texts_of(heldout)

    def others() -> Iterator[str]:
        return (document for document in documents() if digest(document) not in learnt)

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
    """A source as the corpus stage takes it; a file whose name tells no format is plain text."""
    from cpt.corpus.readers import format_of

    place = located(reference)
    plain = Path(place).is_file() and format_of(Path(place)) is None
    return {"path": place, "format": "text" if plain else "auto"}


def located(reference: str) -> str:
    """The reference with a relative path made absolute, looked for in the working directory."""
    return locate(reference, Path.cwd())


class _Shown(NullProgress):
    """Progress as lines on standard error."""

    def message(self, text: str) -> None:
        err().print(Text(text, style="dim"), soft_wrap=True)


def shown() -> _Shown:
    """Where a command says what it is doing."""
    return _Shown()


def check_free(output: Path) -> None:
    """Raise unless nothing stands where the result is to be written."""
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(f"{output} exists already", hint="Choose another --out, or remove it first.")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that takes its name when all went well.

    When not, also on Ctrl-C and SIGTERM, nothing is left of it, nor of folders made to hold it. What a killed
    process left there is removed first: a lock tells it from what another process is writing.

    Raises:
        UsageError: there is something at `output`, or another process is writing it.
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
            if output.is_dir():
                output.rmdir()
            made.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()
        for folder in made_for_it:  # the innermost first; those that hold the result stay
            with suppress(OSError):
                folder.rmdir()
