"""The texts that a pretrain stage's probes read: how much of which documents, and if these are enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import DataError, Problem
from cpt.monitor.gates.gate import Gate, Warn
from cpt.stages.base import Progress
from cpt.stages.corpus_sources import read_sources
from cpt.stages.documents import has_texts, iterate_texts
from cpt.stages.monitor_config import Monitor

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe
    from cpt.monitor.probes.text import TextProbe
    from cpt.monitor.text_sample import TextSample
    from cpt.training.trains import Trains

HELD_OUT = ("domain", "general")
"""Sources whose held-out text is always probed."""

FEWEST = 8
"""Documents below which a rise must be many standard errors large to be told from noise, so no gate acts."""


@dataclass(frozen=True)
class Probed:
    """What is probed, and where.

    Attributes:
        model: the starting model, whole and loaded; `folder`: its files.
        work: keeps what the starting model has sampled, for a run that continues.
    """

    model: Any
    folder: Path
    corpus: Path
    work: Path
    seed: int
    new_tokens: Sequence[int]
    trains: Trains


def text_probes(monitor: Monitor, probed: Probed, progress: Progress) -> Iterator[TextProbe]:
    """A probe of every held-out text, and of every text of one's own.

    Raises:
        DataError: a text has no documents.
    """
    import numpy as np

    from cpt.corpus.documents import Document
    from cpt.monitor.probes.text import TextProbe

    def sampled(texts: Iterable[str], tokens: int) -> TextSample:
        held = list(texts)
        order = np.random.default_rng(probed.seed).permutation(len(held))
        return _sampled([held[index] for index in order], tokens, monitor, probed.folder, probed.corpus)

    for name in HELD_OUT:
        if has_texts(probed.corpus, name, "heldout"):
            sample = sampled(iterate_texts(probed.corpus, name, "heldout"), monitor.tokens)
            _say_if_few(name, len(sample.text.bytes), progress)
            yield TextProbe(name, sample.text, monitor.regular, sample.fingerprint)
    for name, wanted in monitor.texts.items():
        items = read_sources(wanted.sources, progress)
        texts = (item.text for item in items if isinstance(item, Document))
        try:
            sample = sampled(texts, wanted.tokens or monitor.tokens)
        except DataError as error:
            raise DataError(f"monitor.texts.{name}: {error.message}", hint=error.hint) from error
        _say_if_few(name, len(sample.text.bytes), progress)
        yield TextProbe(name, sample.text, wanted.when(monitor.regular), sample.fingerprint)


def documents_read(probes: Iterable[Probe]) -> dict[str, int]:
    """Documents that each probe of a text reads."""
    from cpt.monitor.probes.text import TextProbe

    return {probe.name: len(probe.text.bytes) for probe in probes if isinstance(probe, TextProbe)}


def samples_read(probes: Iterable[Probe]) -> dict[str, str]:
    """Fingerprint of what each probe of a text reads."""
    from cpt.monitor.probes.text import TextProbe

    return {probe.name: probe.sample for probe in probes if isinstance(probe, TextProbe) and probe.sample}


def most_documents(gates: Sequence[Gate], monitor: Monitor, model: Path, corpus: Path) -> dict[str, int]:
    """The most documents of each held-out text with a gate that acts that a probe can come to read.

    Those are the shortest ones; which ones are read depends on the run's seed.
    """
    found = {}
    gated = {gate.budget.probe for gate in gates if not isinstance(gate, Warn)}
    for name in HELD_OUT:
        if name in gated and has_texts(corpus, name, "heldout"):
            shortest = sorted(iterate_texts(corpus, name, "heldout"), key=len)
            found[name] = len(_sampled(shortest, monitor.tokens, monitor, model, corpus).text.bytes)
    return found


def few_documents(gates: Sequence[Gate], documents: Mapping[str, int]) -> list[Problem]:
    """Gates that could not tell a rise from noise, as they act on a text of too few documents.

    Args:
        documents: that each text's probe reads.
    """
    return [
        Problem(
            f"`{gate.budget}` cannot be told from noise: {gate.budget.probe} is read on {_counted(count)}, "
            f"of the {FEWEST} that a gate needs",
            key=f"gates.{number}.budget",
            hint="Raise monitor.tokens, or hold out more text; or choose the action `warn`.",
        )
        for number, gate in enumerate(gates)
        if not isinstance(gate, Warn) and (count := documents.get(gate.budget.probe, FEWEST)) < FEWEST
    ]


def _sampled(texts: Iterable[str], tokens: int, monitor: Monitor, model: Path, corpus: Path) -> TextSample:
    from cpt.corpus import read_index
    from cpt.model_folder.tokenizer import load_tokenizer
    from cpt.monitor.text_sample import sample_text
    from cpt.stages.corpus_problems import max_positions

    window = min(monitor.window, max_positions(model) or monitor.window)
    return sample_text(load_tokenizer(model), texts, window, read_index(corpus).start_token, tokens)


def _say_if_few(name: str, documents: int, progress: Progress) -> None:
    """Tell that a text has too few documents to tell a rise from noise."""
    from cpt.monitor.noise import critical, looks

    if documents == 1:
        progress.message(
            f"{name} is read on one document, so its noise is not known and any rise counts: raise "
            "monitor.tokens, or hold out more text"
        )
    elif documents < FEWEST:
        errors = critical(looks(1, 1), documents)
        progress.message(
            f"{name} is read on {documents} documents, so a rise counts only from {errors:,.0f} standard "
            "errors on, and until then every budget of it holds: raise monitor.tokens, or hold out more text"
        )


def _counted(documents: int) -> str:
    return "one document" if documents == 1 else f"{documents} documents"
