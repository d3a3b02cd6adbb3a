"""Try every initialisation of one change of vocabulary, and rank them after a short training of each."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cpt.corpus import read_index, retokenise
from cpt.corpus.texts import iterate_texts
from cpt.errors import CptError
from cpt.initialiser_trial.results import UNCHANGED, TrialResult, TrialRow
from cpt.initialiser_trial.short_training import TrialCurves, TrialSettings, heldout, train_and_measure
from cpt.models.bits_per_byte import TokenisedText
from cpt.progress import Progress
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.objective import load_alm_teacher
from tokenizer_tools.change import change_model, change_tokenizer
from tokenizer_tools.settings import EmbeddingsConfig, VocabularyChange
from tokenizer_tools.transfer import Transfer, plan_transfer


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
    known: Mapping[tuple[str, int], TrialRow] = MappingProxyType({}),
    distilled: Sequence[EmbeddingsConfig] = (),
    seeds: int = 1,
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
        known: Rows of an earlier call, by method and seed; they are not measured again.
        distilled: Methods whose models are trained once more, for the same steps on the same text, by
            approximate likelihood matching with the unchanged model as teacher.
        seeds: Number of trainings of each model, in different orders of the text; the rows are made once.
    """
    orders = [settings.seed + number for number in range(seeds)]
    rows: list[TrialRow] = []

    def keep(row: TrialRow) -> None:
        rows.append(row)
        if finished is not None:
            finished(row)

    def missing(name: str) -> list[int]:
        found = [known[name, seed] for seed in orders if (name, seed) in known]
        for row in found:
            keep(row)
        return [seed for seed in orders if seed not in {row.seed for row in found}]

    tokenizer, changed_corpus = scratch / "tokenizer", scratch / "corpus"
    facts = change_tokenizer(change, model, lambda: _texts(corpus), tokenizer, progress=progress)
    retokenise(corpus, tokenizer, changed_corpus, progress, former=model)
    shared = heldout([(model, corpus), (tokenizer, changed_corpus)], settings)
    before, after = shared.texts
    left = missing(UNCHANGED)
    if left:
        progress.message(f"{UNCHANGED}: training the model as it is")
    for seed in left:
        keep(_row(UNCHANGED, seed, train_and_measure(model, corpus, replace(settings, seed=seed), before)))
    transfer = plan_transfer(model, tokenizer, model=model, seed=settings.seed, texts=lambda: _texts(corpus))
    contenders = [(each, False) for each in methods] + [(each, True) for each in distilled]
    for embeddings, alm in contenders:
        if left := missing(label(embeddings, alm=alm)):
            each = [replace(settings, seed=seed) for seed in left]
            measured = _measure(
                embeddings, transfer, changed_corpus, change, each, after, progress, scratch, alm=alm
            )
            for row in measured:
                keep(row)
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
    trainings: Sequence[TrialSettings],
    texts: Mapping[str, TokenisedText],
    progress: Progress,
    scratch: Path,
    *,
    alm: bool,
) -> Iterator[TrialRow]:
    """Yield the rows of a method's trainings as they end; the first failure ends them."""
    name, seed = label(embeddings, alm=alm), trainings[0].seed
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
            for settings in trainings:
                seed = settings.seed
                result = train_and_measure(output, corpus, settings, texts, teacher)
                yield _row(name, seed, result, taken)
        except CptError as error:
            yield TrialRow(name, seed, {}, {}, failure=str(error))
        except Exception as error:  # a method may be the user's own: keep the figures of the others
            yield TrialRow(name, seed, {}, {}, failure=f"{type(error).__name__}: {error}")


def _row(name: str, seed: int, result: TrialCurves, initialisation_seconds: float = 0.0) -> TrialRow:
    return TrialRow(
        method=name,
        seed=seed,
        domain=result.bits_per_byte("domain"),
        general=result.bits_per_byte("general"),
        initialisation_seconds=initialisation_seconds,
        tokens=result.tokens,
        bytes=result.bytes,
        epochs=result.epochs,
        training_seconds=result.seconds,
    )


def _texts(corpus: Path) -> Iterator[str]:
    return iterate_texts(corpus, "domain", "train")


def _bytes_per_token(corpus: Path) -> float:
    return read_index(corpus).bytes_per_token("domain", "heldout")
