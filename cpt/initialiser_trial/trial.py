"""One change of vocabulary, every initialisation: which leaves the model best after a few steps.

A comparison's folder: every finished row is kept at once, so that a stop loses one method at most.

The comparison as a picture: bits per byte against steps, one line per method.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from cpt.corpus import read_index, retokenise
from cpt.corpus.texts import iterate_texts
from cpt.errors import CptError, DamagedFile, UsageError
from cpt.initialiser_trial.short_training import TrialCurves, TrialSettings, heldout, train_and_measure
from cpt.json_file import parse_rows
from cpt.models.bits_per_byte import TokenisedText
from cpt.stages.base import Artifact, Context, Progress
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.vocabulary.change import change_model, change_tokenizer
from cpt.stages.vocabulary.config import EmbeddingsConfig, VocabularyConfig
from tokenizer_tools.transfer import Transfer, between

UNCHANGED = "unchanged"
"""Name of the model as it is, with its own tokenizer: what a change has to be worth it against."""


@dataclass(frozen=True)
class TrialRow:
    """One method's result.

    Attributes:
        method: name, with parameters where they are set; `UNCHANGED` for the model as it is.
        domain, general: bits per byte by step; empty where it failed.
        initialisation_seconds: time to make the rows and write the model.
        tokens, bytes, epochs, training_seconds: what the probe trained on, how often, and how long.
        failure: why there are no figures.
    """

    method: str
    domain: dict[int, float]
    general: dict[int, float]
    initialisation_seconds: float = 0.0
    tokens: int = 0
    bytes: float = 0.0
    epochs: float = 0.0
    training_seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class TrialResult:
    """The table, with what holds for all its rows.

    Attributes:
        steps: at which bits per byte were read.
        vocabulary: tokens before and after, rows copied and made, and what else is known of the change.
        bytes_per_token: of the held-out domain text, before and after.
        rows: the unchanged model first, then methods in the order in which they were asked for.
        windows: bytes that a window of the held-out text holds, by source; the same for every row.
    """

    steps: Sequence[int]
    vocabulary: dict[str, Any]
    bytes_per_token: tuple[float, float]
    rows: Sequence[TrialRow]
    windows: Mapping[str, Any] = field(default_factory=dict)

    def ranked(self) -> list[TrialRow]:
        """Methods by domain bits per byte after the last step, the best first; failed ones last."""
        last = self.steps[-1]
        changed = [row for row in self.rows if row.method != UNCHANGED]
        return sorted(changed, key=lambda row: row.domain.get(last, float("inf")))

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "ranking": [row.method for row in self.ranked() if not row.failure]}


def build_corpus(
    model: Path,
    domain: Sequence[Mapping[str, Any]],
    general: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    sequence_length: int,
    heldout: float,
    seed: int,
    progress: Progress,
) -> Path:
    """A corpus in the model's own tokens, made by the corpus stage from its sources."""
    config = CORPUS.Config.model_validate(
        {
            "domain": list(domain),
            "general": list(general),
            "sequence_length": sequence_length,
            "heldout": heldout,
            "heldout_min": {"documents": 1, "bytes": 1},  # all methods are ranked on it, however little
        }
    )
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "model").symlink_to(model.resolve())
    base = Artifact(name="base", stage="base", kinds=("model",), fingerprint="", folder=folder / "base")
    for part in ("made", "work"):
        (folder / part).mkdir()
    CORPUS.run(config, {"model": base}, Context(folder / "made", folder / "work", seed, progress, {}))
    return folder / "made" / "corpus"


def run_trial(
    model: Path,
    corpus: Path,
    change: VocabularyConfig,
    methods: Sequence[EmbeddingsConfig],
    settings: TrialSettings,
    progress: Progress,
    scratch: Path,
    finished: Callable[[TrialRow], None] | None = None,
    known: Mapping[str, TrialRow] = MappingProxyType({}),
) -> TrialResult:
    """Change the vocabulary once, initialise it by every method, and probe each model.

    A method that cannot do this change is a row that says why; the others go on.

    Args:
        corpus: in the model's own tokens (`build_corpus`).
        change: which tokens go and come; its `embeddings` are not looked at.
        scratch: folder for what is made on the way: one model at a time.
        finished: called with every row when it is known.
        known: rows of an earlier call, by method; they are taken as they are.
    """
    rows: list[TrialRow] = []

    def keep(row: TrialRow) -> None:
        rows.append(row)
        if finished is not None:
            finished(row)

    tokenizer, changed_corpus = scratch / "tokenizer", scratch / "corpus"
    facts = change_tokenizer(change, model, lambda: _texts(corpus), tokenizer, progress=progress)
    retokenise(corpus, tokenizer, changed_corpus, progress, former=model)
    shared = heldout([(model, corpus), (tokenizer, changed_corpus)], settings)
    before, after = shared.texts
    if UNCHANGED in known:
        keep(known[UNCHANGED])
    else:
        progress.message(f"{UNCHANGED}: probing the model as it is")
        keep(_row(UNCHANGED, train_and_measure(model, corpus, settings, before), 0.0))
    transfer = between(model, tokenizer, model=model, seed=settings.seed, texts=lambda: _texts(corpus))
    for embeddings in methods:
        row = known.get(label(embeddings))
        keep(
            row or _measure(embeddings, transfer, changed_corpus, change, settings, after, progress, scratch)
        )
    return TrialResult(
        steps=tuple(settings.steps),
        vocabulary={
            **facts,
            "copied_rows": len(transfer.shared_target),
            "new_rows": len(transfer.new),
        },
        bytes_per_token=(_bytes_per_token(corpus), _bytes_per_token(changed_corpus)),
        rows=rows,
        windows={source: held.as_json() for source, held in shared.windows.items()},
    )


def label(embeddings: EmbeddingsConfig) -> str:
    """A method's name with its parameters: "clp(clip=False)"."""
    given = ", ".join(f"{name}={value}" for name, value in (embeddings.model_extra or {}).items())
    return f"{embeddings.method}({given})" if given else embeddings.method


def _measure(
    embeddings: EmbeddingsConfig,
    transfer: Transfer,
    corpus: Path,
    change: VocabularyConfig,
    settings: TrialSettings,
    texts: Mapping[str, TokenisedText],
    progress: Progress,
    scratch: Path,
) -> TrialRow:
    name = label(embeddings)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        output = Path(folder) / "model"
        shutil.copytree(scratch / "tokenizer", output)
        began = time.perf_counter()
        try:
            change_model(
                embeddings,
                transfer,
                output,
                pad_to_multiple_of=change.pad_to_multiple_of,
                progress=progress,
            )
            taken = time.perf_counter() - began
            progress.message(f"{name}: probing")
            return _row(name, train_and_measure(output, corpus, settings, texts), taken)
        except CptError as error:
            return TrialRow(name, {}, {}, failure=str(error))
        except Exception as error:  # a method of somebody's own: the others' figures must not be lost
            return TrialRow(name, {}, {}, failure=f"{type(error).__name__}: {error}")


def _row(name: str, result: TrialCurves, seconds: float) -> TrialRow:
    return TrialRow(
        method=name,
        domain=result.bits_per_byte("domain"),
        general=result.bits_per_byte("general"),
        initialisation_seconds=seconds,
        tokens=result.tokens,
        bytes=result.bytes,
        epochs=result.epochs,
        training_seconds=result.seconds,
    )


def _texts(corpus: Path) -> Iterator[str]:
    return iterate_texts(corpus, "domain", "train")


def _bytes_per_token(corpus: Path) -> float:
    return read_index(corpus).bytes_per_token("domain", "heldout")


_SHOWN_TIMES_BEST = 1.6
"""Lines that start higher than this many times the best start are cut off by the axis."""


def plot(comparison: TrialResult, file: Path) -> None:
    """Write the picture; the format follows the file's suffix (.svg, .png, .pdf)."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = [name for name in ("domain", "general") if any(getattr(row, name) for row in comparison.rows)]
    colours = mpl.colormaps["tab20"]
    order = [row.method for row in comparison.ranked()]
    for axes, source in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        highest = []
        for row in comparison.rows:
            curve = getattr(row, source)
            if not curve:
                continue
            plain = row.method == UNCHANGED
            axes.plot(
                list(curve),
                list(curve.values()),
                marker="o",
                label=row.method,
                color="black" if plain else colours(order.index(row.method) % 20),
                linestyle="--" if plain else "-",
            )
            highest.append(max(curve.values()))
        axes.set_ylim(top=min(max(highest), _SHOWN_TIMES_BEST * min(highest)) * 1.02)
        axes.set_title(f"{source} text, held out")
        axes.set_xlabel("training steps")
        axes.set_ylabel("bits per byte")
        axes.grid(alpha=0.3)
    handles = {line.get_label(): line for line in figure.axes[0].get_lines()}
    names = [name for name in [UNCHANGED, *order] if name in handles]
    figure.legend([handles[name] for name in names], names, loc="outside right center", frameon=False)
    figure.savefig(file)


FIGURES, PICTURE = "comparison.json", "comparison.svg"

_ASKED, _ROWS, _SCRATCH = "asked.json", "rows.jsonl", "scratch"


class TrialFolder:
    """Rows on disk.

    Attributes:
        rows: those that are known, by method; one that failed is not.
        scratch: folder for what is made on the way; empty at the start, gone when all is finished.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        """Begin a comparison, or go on with one.

        Args:
            folder: new, empty, or left by the same comparison when it was stopped.
            asked: what makes the comparison what it is, as plain data.

        Raises:
            UsageError: the folder holds something else.
        """
        self._folder, self._asked = folder, json.loads(json.dumps(asked, default=str))
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if (folder.exists() and not folder.is_dir()) or (found and not self._is_ours()):
            raise UsageError(f"{folder} exists already", hint="Choose another --out, or remove it first.")
        self.scratch = folder / _SCRATCH
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        (folder / _ASKED).write_text(_json(self._asked), encoding="utf-8")
        self.rows = {row.method: row for row in self._read() if not row.failure}

    def add(self, row: TrialRow) -> None:
        """Keep a row."""
        if row.method not in self.rows:
            with (self._folder / _ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")

    def finish(self, comparison: TrialResult) -> None:
        """Write figures and picture, and remove what led to them."""
        plot(comparison, self._folder / PICTURE)
        figures = {"asked": self._asked, **comparison.as_json()}
        (self._folder / FIGURES).write_text(_json(figures), encoding="utf-8")
        for name in (_ASKED, _ROWS):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.scratch)

    def _is_ours(self) -> bool:
        file = self._folder / _ASKED
        return file.is_file() and file.read_bytes() == _json(self._asked).encode()

    def _read(self) -> list[TrialRow]:
        file = self._folder / _ROWS
        content = file.read_bytes() if file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        hint = "Choose another --out, or remove the folder to compare anew."
        rows = parse_rows(whole, dict[str, Any], file, hint)
        try:
            found = [_row_of_json(row) for row in rows]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFile(file, f"not of the form that a comparison has: {error}", hint=hint) from error
        file.write_bytes(whole)
        return found


def _row_of_json(data: dict[str, Any]) -> TrialRow:
    curves = {
        name: {int(step): value for step, value in data[name].items()} for name in ("domain", "general")
    }
    return TrialRow(**{**data, **curves})


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
