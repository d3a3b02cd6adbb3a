"""Try every initialisation of one change of vocabulary, and rank them after a short training of each.

The folder of a trial keeps every finished row at once, so a stop loses one method at most.
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

from cpt.corpus import read_index, retokenise
from cpt.corpus.texts import iterate_texts
from cpt.errors import CptError, DamagedFile, UsageError
from cpt.initialiser_trial.short_training import TrialCurves, TrialSettings, heldout, train_and_measure
from cpt.json_file import parse_rows
from cpt.models.bits_per_byte import TokenisedText
from cpt.progress import Progress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.objective import load_alm_teacher
from tokenizer_tools.change import change_model, change_tokenizer
from tokenizer_tools.settings import EmbeddingsConfig, VocabularyChange
from tokenizer_tools.transfer import Transfer, plan_transfer

FIGURES, PICTURE = "comparison.json", "comparison.svg"
_REQUEST, _ROWS, _SCRATCH = "asked.json", "rows.jsonl", "scratch"

UNCHANGED = "unchanged"
"""Name of the row of the model as it is, with its own tokenizer: the baseline of every change."""


@dataclass(frozen=True)
class TrialRow:
    """The result of one method.

    Attributes:
        method: Name, with parameters that differ from the defaults; `UNCHANGED` for the model as it is.
        domain, general: Bits per byte by step; empty after a failure.
        initialisation_seconds: Time to make the rows and write the model.
        tokens, bytes, epochs, training_seconds: Amount of training text, and time of the training.
        failure: Reason for missing figures.
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
    """The rows of a trial, and the facts that hold for all of them.

    Attributes:
        steps: Training steps after which bits per byte were measured.
        vocabulary: Facts on the change: tokens before and after, rows copied and made, checks.
        bytes_per_token: Bytes per token of the held-out domain text, before and after the change.
        rows: The unchanged model first, then the methods in the order of the request.
        windows: Bytes per window of held-out text, by source; the same for every row.
    """

    steps: Sequence[int]
    vocabulary: dict[str, Any]
    bytes_per_token: tuple[float, float]
    rows: Sequence[TrialRow]
    windows: Mapping[str, Any] = field(default_factory=dict)

    def ranked(self) -> list[TrialRow]:
        """Return the methods by domain bits per byte after the last step, the best first, failures last."""
        last = self.steps[-1]
        changed = [row for row in self.rows if row.method != UNCHANGED]
        return sorted(changed, key=lambda row: row.domain.get(last, float("inf")))

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
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
    """Build a corpus in the model's own tokens by the corpus stage, and return its folder."""
    config = CORPUS.Config.model_validate(
        {
            "domain": list(domain),
            "general": list(general),
            "sequence_length": sequence_length,
            "heldout": heldout,
            "heldout_min": {
                "documents": 1,
                "bytes": 1,
            },  # all methods share it, so even little text ranks them
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
    change: VocabularyChange,
    methods: Sequence[EmbeddingsConfig],
    settings: TrialSettings,
    progress: Progress,
    scratch: Path,
    finished: Callable[[TrialRow], None] | None = None,
    known: Mapping[str, TrialRow] = MappingProxyType({}),
    distilled: Sequence[EmbeddingsConfig] = (),
) -> TrialResult:
    """Change the vocabulary once, initialise it by every method, and train and measure each model.

    A method that fails becomes a row with the reason; the others continue.

    Args:
        model: Folder of the model.
        corpus: Corpus in the model's own tokens (`build_corpus`).
        change: Change of vocabulary; its `embeddings` are not used.
        methods: Initialisation methods.
        settings: Settings of the short training.
        progress: Receiver of messages.
        scratch: Folder for intermediate results: one model at a time.
        finished: Function that receives every finished row.
        known: Rows of an earlier call, by method; they are not measured again.
        distilled: Methods whose models are trained once more, for the same steps on the same text, by
            approximate likelihood matching with the unchanged model as teacher.
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
        progress.message(f"{UNCHANGED}: training the model as it is")
        keep(_row(UNCHANGED, train_and_measure(model, corpus, settings, before), 0.0))
    transfer = plan_transfer(model, tokenizer, model=model, seed=settings.seed, texts=lambda: _texts(corpus))
    contenders = [(each, False) for each in methods] + [(each, True) for each in distilled]
    for embeddings, alm in contenders:
        row = known.get(label(embeddings, alm=alm))
        keep(
            row
            or _measure(
                embeddings, transfer, changed_corpus, change, settings, after, progress, scratch, alm=alm
            )
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


def label(embeddings: EmbeddingsConfig, *, alm: bool = False) -> str:
    """Return a method's name with its parameters, and with its training if that is alm: "clp(clip=False)"."""
    given = ", ".join(f"{name}={value}" for name, value in (embeddings.model_extra or {}).items())
    return (f"{embeddings.method}({given})" if given else embeddings.method) + (", alm" if alm else "")


def _measure(
    embeddings: EmbeddingsConfig,
    transfer: Transfer,
    corpus: Path,
    change: VocabularyChange,
    settings: TrialSettings,
    texts: Mapping[str, TokenisedText],
    progress: Progress,
    scratch: Path,
    *,
    alm: bool,
) -> TrialRow:
    name = label(embeddings, alm=alm)
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
            progress.message(f"{name}: training")
            teacher = load_alm_teacher(transfer.model, output, corpus) if alm else None
            return _row(name, train_and_measure(output, corpus, settings, texts, teacher), taken)
        except CptError as error:
            return TrialRow(name, {}, {}, failure=str(error))
        except Exception as error:  # a method may be the user's own: keep the figures of the others
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
"""Upper end of the axis in units of the best start; lines that start higher are cut off."""


def plot(result: TrialResult, file: Path) -> None:
    """Plot bits per byte against steps, one line per method; the file's suffix sets the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = [name for name in ("domain", "general") if any(getattr(row, name) for row in result.rows)]
    colours = mpl.colormaps["tab20"]
    order = [row.method for row in result.ranked()]
    for axes, source in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        highest = []
        for row in result.rows:
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


class TrialFolder:
    """The folder of a trial: finished rows, then figures and picture.

    Attributes:
        rows: Finished rows by method; failed rows are left out, so a continued trial tries them again.
        scratch: Folder for intermediate results; empty at the start, removed at the end.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        """Begin a trial, or continue one.

        Args:
            folder: Folder that is new, empty, or left by the same trial when it was stopped.
            request: Plain data that identifies the trial.

        Raises:
            UsageError: The folder holds something else.
        """
        self._folder, self._request = folder, json.loads(json.dumps(request, default=str))
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if (folder.exists() and not folder.is_dir()) or (found and not self._is_ours()):
            raise UsageError(f"{folder} exists already", hint="Choose another --out, or remove it first.")
        self.scratch = folder / _SCRATCH
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        (folder / _REQUEST).write_text(_json(self._request), encoding="utf-8")
        self.rows = {row.method: row for row in self._read() if not row.failure}

    def add(self, row: TrialRow) -> None:
        """Write a finished row."""
        if row.method not in self.rows:
            with (self._folder / _ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")

    def finish(self, result: TrialResult) -> None:
        """Write figures and picture, and remove rows and intermediate results."""
        plot(result, self._folder / PICTURE)
        figures = {"asked": self._request, **result.as_json()}
        (self._folder / FIGURES).write_text(_json(figures), encoding="utf-8")
        for name in (_REQUEST, _ROWS):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.scratch)

    def _is_ours(self) -> bool:
        file = self._folder / _REQUEST
        return file.is_file() and file.read_bytes() == _json(self._request).encode()

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
