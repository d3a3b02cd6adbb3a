"""What the commands read: references, texts; and where they say what they are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from cpt.cli.options import split_name
from cpt.cli.output import err
from cpt.errors import UsageError
from cpt.references import locate, resolve_file
from cpt.stages.base import NullProgress


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
        from cpt.references.unchanged import changed

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
