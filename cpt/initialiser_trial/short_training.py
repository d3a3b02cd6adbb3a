"""Train a model for a few steps, and measure bits per byte before the first step and on the way.

Loss before training misranks initialisations (arXiv 2608.03494), so models are compared after some steps.
All initialisations of one vocabulary see the same text in the same order with the same schedule. A model
with other tokens sees other parts of the same corpus, of other lengths in bytes. All models are measured on
the same held-out text in the same windows (see `cpt.models.shared_windows`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cpt.corpus import TrainingStream, open_source, read_index
from cpt.corpus.texts import cut_sample, has_texts, heldout_texts
from cpt.models.bits_per_byte import TokenisedText
from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
from cpt.models.shared_windows import Reader, WindowBytes, tokenise_shared
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import ModelView
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.progress import NullProgress
from cpt.sources import DOMAIN
from cpt.stages.corpus.checks import window_for
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.loop import train
from cpt.training.master_weights import MasterWeights
from cpt.training.objectives import Alm, CrossEntropy
from cpt.training.schedules import Constant
from cpt.training.settings import Settings, TrainingConfig
from cpt.training.trainable import All, Layers
from cpt.training.trainable.spec import NONE

if TYPE_CHECKING:
    from cpt.training.objectives.reference_model import AlignedTeacher

Trained = Literal["all", "embeddings"]

_WARMUP_STEPS = 10


@dataclass(frozen=True)
class TrialSettings:
    """Settings of the short training of each model in a trial.

    Attributes:
        steps: Training steps after which bits per byte are measured, ascending; 0 is before training.
        batch_sequences: Number of packed sequences per step.
        peak: Learning rate after a warm-up of ten steps, or of half the steps below 20 steps.
        trained: Trained weights: all, or the vocabulary's matrices alone.
        heldout_bytes: Bytes of held-out text per source.
        window: Longest window of held-out text in tokens. It does not depend on the training sequences.
        boundary: See `cpt.training.objectives.alm.Alm`; of models that learn from a teacher.
        seed: Seed of the order of the training text and of the choice of held-out text.
    """

    steps: Sequence[int] = (0, 50, 200)
    batch_sequences: int = 1
    peak: float = 1e-4
    trained: Trained = "all"
    heldout_bytes: int = 40_000
    window: int = 1024
    boundary: float | None = 0.1
    seed: int = 17


@dataclass(frozen=True)
class TrialCurves:
    """Bits per byte of one model during its short training.

    Attributes:
        levels: Bits per byte by source and step.
        tokens, bytes, epochs: Amount of training text; more than one epoch repeats text.
        seconds: Time of training alone.
    """

    levels: Mapping[str, Mapping[int, float]]
    tokens: int
    bytes: float
    epochs: float
    seconds: float

    def bits_per_byte(self, source: str) -> dict[int, float]:
        """Return the bits per byte of a source by step."""
        return dict(self.levels.get(source, {}))


def train_and_measure(
    model_folder: Path,
    corpus: Path,
    settings: TrialSettings,
    texts: Mapping[str, TokenisedText] | None = None,
    teacher: AlignedTeacher | None = None,
) -> TrialCurves:
    """Train a copy of the model for a few steps on the corpus, and measure bits per byte on the way.

    Args:
        model_folder: Folder of the model.
        corpus: Corpus folder in the model's own tokens; gives the sequence length.
        settings: Settings of the training.
        texts: Held-out text of every source, in windows that models share (`heldout`); by default the
            model's own windows.
        teacher: Model with another tokenizer from which the model learns by approximate likelihood matching;
            by default it learns from the text alone.
    """
    model = load_model(model_folder)
    texts = heldout([(model_folder, corpus)], settings).texts[0] if texts is None else texts
    if max(settings.steps) == 0:
        model.to(best_device())
        MasterWeights(model, resolve_precision("auto"))  # rounds as training does
        subject = ModelView(PackedLanguageModel(model), {})
        levels = {
            source: {0: TextProbe(source, text, AtSteps((0,))).read(subject, 1.0).value}
            for source, text in texts.items()
        }
        return TrialCurves(levels, 0, 0.0, 0.0, 0.0)
    stream = TrainingStream({DOMAIN: open_source(corpus, DOMAIN)}, 0, settings.batch_sequences, settings.seed)
    with tempfile.TemporaryDirectory() as work:
        probes = [TextProbe(source, text, AtSteps(settings.steps)) for source, text in texts.items()]
        training = _training(settings, alm=teacher is not None)
        result = train(model, stream, probes, training, Path(work), NullProgress(), teacher)
    per_token = read_index(corpus).bytes_per_token(DOMAIN, "train")
    epochs = result.ledger[DOMAIN]["epochs"]
    levels = {
        source: {each.step: each.value for each in result.readings if each.probe == source}
        for source in texts
    }
    return TrialCurves(levels, result.tokens, result.tokens * per_token, epochs, result.seconds)


@dataclass(frozen=True)
class Heldout:
    """The same held-out text in several tokenizers.

    Attributes:
        texts: Tokenised text by source, for each tokenizer.
        windows: Bytes of text per window, by source; the same for all tokenizers.
    """

    texts: list[dict[str, TokenisedText]]
    windows: dict[str, WindowBytes]


def heldout(tokenizers: Sequence[tuple[Path, Path]], settings: TrialSettings) -> Heldout:
    """Cut the held-out text of every source into windows that hold the same bytes for all tokenizers.

    A window is as long as the settings and the model's positions allow, or shorter where another tokenizer
    needs more tokens. It does not follow the training sequences: in short sequences a vocabulary of small
    pieces sees little context, which would count against it.

    Args:
        tokenizers: Tokenizer folders, each with a corpus folder in its tokens. The corpora have the same
            documents. The first tokenizer is the model's.
        settings: Settings of the training.
    """
    window = window_for(tokenizers[0][0], settings.window)
    loaded = [(load_tokenizer(folder), read_index(corpus)) for folder, corpus in tokenizers]
    readers = [Reader.of(each, window, index.start_token) for each, index in loaded]
    found = Heldout([{} for _ in readers], {})
    documented = tokenizers[0][1]
    for source in ("domain", "general"):
        if has_texts(documented, source, "heldout"):
            documents = heldout_texts(documented, source)
            shared = tokenise_shared(readers, cut_sample(documents, settings.heldout_bytes, settings.seed))
            found.windows[source] = shared.bytes
            for texts, text in zip(found.texts, shared.texts, strict=True):
                texts[source] = text
    return found


def _training(settings: TrialSettings, *, alm: bool) -> Settings:
    steps, alone = max(settings.steps), settings.trained == "embeddings"
    config = TrainingConfig(
        schedule=Constant(peak=settings.peak, warmup=min(0.5, _WARMUP_STEPS / steps)),
        objective=Alm(kind="alm", boundary=settings.boundary) if alm else CrossEntropy(),
        trainable=Layers(kind="layers", layers=NONE, embeddings="all") if alone else All(),
        checkpoint=Checkpoints(every=steps + 1),
    )
    return Settings(config, steps, settings.batch_sequences, resolve_precision("auto"))
