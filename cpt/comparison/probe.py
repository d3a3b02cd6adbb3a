"""A short training probe: bits per byte of a model before the first step and after a few.

Loss before training misranks initialisations (arXiv 2608.03494): what counts is where a model stands after
some steps. All initialisations of one vocabulary see the same text in the same order with the same schedule;
a model with other tokens sees other stretches of the same corpus, of other lengths in bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cpt.corpus import TrainingStream, open_source, read_documents, read_index
from cpt.corpus.stream import DOMAIN
from cpt.model_folder.tokenizer import load_tokenizer
from cpt.monitor.bits_per_byte import TokenisedText, tokenise_text
from cpt.monitor.probes.base import Subject
from cpt.monitor.probes.text import TextProbe
from cpt.monitor.schedule import AtSteps
from cpt.packed.model import PackedLanguageModel, load_model, resolve_precision
from cpt.stages.base import Silent
from cpt.stages.documents import has_texts
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.master import MasterWeights
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Constant
from cpt.training.settings import Settings
from cpt.training.trains import All, Layers
from cpt.training.trains.base import NONE

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
        seed: of the order of the training text and the choice of held-out text.
    """

    steps: Sequence[int] = (0, 50, 200)
    batch_sequences: int = 1
    peak: float = 1e-4
    trained: Trained = "all"
    heldout_bytes: int = 40_000
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


def probe(model_folder: Path, corpus: Path, settings: ProbeSettings) -> ProbeResult:
    """Train a copy of the model for a few steps on the corpus and read bits per byte on the way.

    Args:
        corpus: corpus folder in the model's own tokens; its sequence length is a sequence of the probe.
    """
    model = load_model(model_folder)
    texts = heldout(model_folder, corpus, settings)
    if max(settings.steps) == 0:
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
        result = train(model, stream, probes, _training(settings), Path(work), Silent())
    per_token = read_index(corpus).bytes_per_token(DOMAIN, "train")
    epochs = result.ledger[DOMAIN]["epochs"]
    levels = {
        source: {each.step: each.value for each in result.readings if each.probe == source}
        for source in texts
    }
    return ProbeResult(levels, result.tokens, result.tokens * per_token, epochs, result.seconds)


def heldout(model_folder: Path, corpus: Path, settings: ProbeSettings) -> dict[str, TokenisedText]:
    """The same held-out text of every source, in a model's tokens.

    The text is cut by bytes, not by tokens: else a model with longer tokens would read more of it.
    """
    tokenizer, index = load_tokenizer(model_folder), read_index(corpus)
    texts = {}
    for source in ("domain", "general"):
        if has_texts(corpus, source, "heldout"):
            documents = [document.text for document in read_documents(corpus, source, "heldout")]
            chosen = cut(documents, settings.heldout_bytes, settings.seed)
            texts[source] = tokenise_text(tokenizer, chosen, index.sequence_length, index.start_token)
    return texts


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
        trains=Layers(kind="layers", layers=NONE, embeddings="all") if alone else All(),
        checkpoint=Checkpoints(every=steps + 1),
    )
