"""A short training probe: bits per byte of a model before the first step and after a few.

Loss before training misranks initialisations (arXiv 2608.03494): what counts is where a model stands after
some steps. All initialisations of one vocabulary see the same text in the same order with the same schedule;
a model with other tokens sees other stretches of the same corpus, of other lengths in bytes. All are measured
on the same held-out text in the same windows of it (see `cpt.models.shared_windows`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cpt.corpus import TrainingStream, open_source, read_documents, read_index
from cpt.corpus.texts import has_texts
from cpt.models.bits_per_byte import TokenisedText
from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
from cpt.models.shared_windows import Reader, WindowBytes, tokenise_shared
from cpt.models.tokenizer import load_tokenizer
from cpt.monitor.probes.base import Subject
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.progress import NullProgress
from cpt.sources import DOMAIN
from cpt.stages.corpus.checks import window_for
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.master import MasterWeights
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.settings import Settings
from cpt.training.trainable import All, Layers
from cpt.training.trainable.base import NONE

Trained = Literal["all", "embeddings"]

_WARMUP_STEPS = 10


@dataclass(frozen=True)
class ProbeSettings:
    """How long and on what a probe trains.

    Attributes:
        steps: steps after which bits per byte are read, ascending; 0 is before training.
        batch_sequences: packed sequences of a step.
        peak: learning rate after a warm-up of ten steps, or of half the steps if they are fewer than 20.
        trained: every weight, or the vocabulary's matrices alone.
        heldout_bytes: bytes of held-out text that are read of each source.
        window: most tokens of it that any model reads at once, however short the training sequences are.
        seed: of the order of the training text and the choice of held-out text.
    """

    steps: Sequence[int] = (0, 50, 200)
    batch_sequences: int = 1
    peak: float = 1e-4
    trained: Trained = "all"
    heldout_bytes: int = 40_000
    window: int = 1024
    seed: int = 17


@dataclass(frozen=True)
class ProbeResult:
    """Where a model stood.

    Attributes:
        levels: bits per byte by source and step.
        tokens, bytes, epochs: what was trained on; more than one epoch repeats text.
        seconds: of training alone.
    """

    levels: Mapping[str, Mapping[int, float]]
    tokens: int
    bytes: float
    epochs: float
    seconds: float

    def bits_per_byte(self, source: str) -> dict[int, float]:
        """Bits per byte by step."""
        return dict(self.levels.get(source, {}))


def probe(
    model_folder: Path,
    corpus: Path,
    settings: ProbeSettings,
    texts: Mapping[str, TokenisedText] | None = None,
) -> ProbeResult:
    """Train a copy of the model for a few steps on the corpus and read bits per byte on the way.

    Args:
        corpus: corpus folder in the model's own tokens; its sequence length is a sequence of the probe.
        texts: held-out text of every source, in windows that other models share (`heldout`); the model's own
            windows if left out.
    """
    model = load_model(model_folder)
    texts = heldout([(model_folder, corpus)], settings).texts[0] if texts is None else texts
    if max(settings.steps) == 0:
        model.to(best_device())
        MasterWeights(model, resolve_precision("auto"))  # the precision in which training reads it
        subject = Subject(PackedLanguageModel(model), {})
        levels = {
            source: {0: TextProbe(source, text, AtSteps((0,))).read(subject, 1.0).value}
            for source, text in texts.items()
        }
        return ProbeResult(levels, 0, 0.0, 0.0, 0.0)
    stream = TrainingStream({DOMAIN: open_source(corpus, DOMAIN)}, 0, settings.batch_sequences, settings.seed)
    with tempfile.TemporaryDirectory() as work:
        probes = [TextProbe(source, text, AtSteps(settings.steps)) for source, text in texts.items()]
        result = train(model, stream, probes, _training(settings), Path(work), NullProgress())
    per_token = read_index(corpus).bytes_per_token(DOMAIN, "train")
    epochs = result.ledger[DOMAIN]["epochs"]
    levels = {
        source: {each.step: each.value for each in result.readings if each.probe == source}
        for source in texts
    }
    return ProbeResult(levels, result.tokens, result.tokens * per_token, epochs, result.seconds)


@dataclass(frozen=True)
class Heldout:
    """The same held-out text in several tokenizers.

    Attributes:
        texts: by source, for each tokenizer.
        windows: how much text a window holds, by source; the same for all.
    """

    texts: list[dict[str, TokenisedText]]
    windows: dict[str, WindowBytes]


def heldout(tokenizers: Sequence[tuple[Path, Path]], settings: ProbeSettings) -> Heldout:
    """Cut the held-out text of every source into windows that hold the same bytes for all tokenizers.

    A window is as long as the settings and the model's positions let it, or shorter where another tokenizer
    needs more tokens. It does not follow the sequences of the training: in short ones a vocabulary of small
    pieces sees little text, which would be held against it.

    Args:
        tokenizers: folders, each with the corpus in its tokens; the corpora have the same documents. The
            first is the model's.
    """
    window = window_for(tokenizers[0][0], settings.window)
    loaded = [(load_tokenizer(folder), read_index(corpus)) for folder, corpus in tokenizers]
    readers = [Reader.of(each, window, index.start_token) for each, index in loaded]
    found = Heldout([{} for _ in readers], {})
    documented = tokenizers[0][1]
    for source in ("domain", "general"):
        if has_texts(documented, source, "heldout"):
            documents = [document.text for document in read_documents(documented, source, "heldout")]
            shared = tokenise_shared(readers, cut(documents, settings.heldout_bytes, settings.seed))
            found.windows[source] = shared.bytes
            for texts, text in zip(found.texts, shared.texts, strict=True):
                texts[source] = text
    return found


def cut(documents: Sequence[str], size: int, seed: int) -> list[str]:
    """Documents in a seeded order until they hold `size` bytes, none longer than a tenth of that."""
    taken: list[str] = []
    left = size
    for at in np.random.default_rng(seed).permutation(len(documents)):
        if left <= 0:
            break
        most = min(left, max(size // 10, 1))
        text = documents[at].encode()[:most].decode(errors="ignore").rstrip()
        if text:
            taken.append(text)
            left -= len(text.encode())
    return taken


def _training(settings: ProbeSettings) -> Settings:
    steps, alone = max(settings.steps), settings.trained == "embeddings"
    return Settings(
        steps=steps,
        micro_batch=settings.batch_sequences,
        schedule=Constant(peak=settings.peak, warmup=min(0.5, _WARMUP_STEPS / steps)),
        optimizer=AdamW(),
        clip=1.0,
        dtype=resolve_precision("auto"),
        trainable=Layers(kind="layers", layers=NONE, embeddings="all") if alone else All(),
        checkpoint=Checkpoints(every=steps + 1),
    )
