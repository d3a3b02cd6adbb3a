"""One change of vocabulary, every initialisation: which leaves the model best after a few steps."""

from __future__ import annotations

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
from cpt.errors import CptError
from cpt.initialiser_trial.probe import ProbeResult, ProbeSettings, heldout, probe
from cpt.models.bits_per_byte import TokenisedText
from cpt.progress import Progress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.vocabulary.change import change_model, change_tokenizer
from cpt.stages.vocabulary.config import EmbeddingsConfig, VocabularyConfig
from tokenizer_tools.transfer import Transfer, between

UNCHANGED = "unchanged"
"""Name of the model as it is, with its own tokenizer: what a change has to be worth it against."""


@dataclass(frozen=True)
class Row:
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
class Comparison:
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
    rows: Sequence[Row]
    windows: Mapping[str, Any] = field(default_factory=dict)

    def ranked(self) -> list[Row]:
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


def compare(
    model: Path,
    corpus: Path,
    change: VocabularyConfig,
    methods: Sequence[EmbeddingsConfig],
    settings: ProbeSettings,
    progress: Progress,
    scratch: Path,
    finished: Callable[[Row], None] | None = None,
    known: Mapping[str, Row] = MappingProxyType({}),
) -> Comparison:
    """Change the vocabulary once, initialise it by every method, and probe each model.

    A method that cannot do this change is a row that says why; the others go on.

    Args:
        corpus: in the model's own tokens (`build_corpus`).
        change: which tokens go and come; its `embeddings` are not looked at.
        scratch: folder for what is made on the way: one model at a time.
        finished: called with every row when it is known.
        known: rows of an earlier call, by method; they are taken as they are.
    """
    rows: list[Row] = []

    def keep(row: Row) -> None:
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
        keep(_row(UNCHANGED, probe(model, corpus, settings, before), 0.0))
    transfer = between(model, tokenizer, model=model, seed=settings.seed, texts=lambda: _texts(corpus))
    for embeddings in methods:
        row = known.get(label(embeddings))
        keep(
            row or _measure(embeddings, transfer, changed_corpus, change, settings, after, progress, scratch)
        )
    return Comparison(
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
    settings: ProbeSettings,
    texts: Mapping[str, TokenisedText],
    progress: Progress,
    scratch: Path,
) -> Row:
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
            return _row(name, probe(output, corpus, settings, texts), taken)
        except CptError as error:
            return Row(name, {}, {}, failure=str(error))
        except Exception as error:  # a method of somebody's own: the others' figures must not be lost
            return Row(name, {}, {}, failure=f"{type(error).__name__}: {error}")


def _row(name: str, result: ProbeResult, seconds: float) -> Row:
    return Row(
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
