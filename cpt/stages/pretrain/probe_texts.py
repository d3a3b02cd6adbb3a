"""Sample the texts that a pretrain stage's probes read, and check that they are enough for its gates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.texts import former_tokenizer, has_texts, heldout_texts, shuffled
from cpt.errors import CptError, DataError, Problem
from cpt.monitor.gates.gate import Gate, Warn
from cpt.progress import NullProgress, Progress
from cpt.references import parse
from cpt.references.syntax import LocalPath
from cpt.stages.corpus.source_config import Source
from cpt.stages.corpus.sources import read_sources
from cpt.stages.pretrain.config import Monitor, Text

if TYPE_CHECKING:
    from cpt.corpus.heldout_texts import HeldOutTexts
    from cpt.monitor.probes.base import Probe
    from cpt.monitor.probes.text import TextProbe
    from cpt.monitor.text_sample import TextSample
    from cpt.stages.pretrain.probe_plan import Sizes
    from cpt.training.trainable import Trainable

HELD_OUT = ("domain", "general")
"""Names of the sources whose held-out text is always probed."""

EARLY_END = "early-end"
"""Name of the probe of ends in mid-sentence."""

FEWEST = 8
"""Smallest number of documents for a gate: with fewer, a rise must be many standard errors to stand out."""

_MEASURED = 200
"""Number of documents by which the mean length is measured."""


@dataclass(frozen=True)
class ProbeContext:
    """The model and the data that probes are built from.

    Attributes:
        model: starting model; without values if its weights are sharded (`unloaded_model`).
        folder: folder of its files.
        work: folder that keeps the samples of the starting model, for a run that continues.
        contents: reference -> fingerprint of a user's texts.
    """

    model: Any
    folder: Path
    corpus: Path
    work: Path
    seed: int
    new_tokens: Sequence[int]
    trainable: Trainable
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """The measure of a text: documents, their mean tokens within the first window, and all tokens."""

    documents: int
    length: float
    tokens: int

    def documents_in(self, tokens: int) -> int:
        """Return the number of documents that so many tokens of the text are, about."""
        return min(self.documents, max(1, round(tokens / self.length)))


def text_probes(
    monitor: Monitor, sizes: Sizes, probe_context: ProbeContext, progress: Progress
) -> Iterator[TextProbe]:
    """Yield a probe of every held-out text, and of every text of the user.

    Args:
        sizes: number of tokens that are read of each.

    Raises:
        DataError: a text has no documents.
    """
    from cpt.monitor.probes.text import TextProbe

    def sampled(name: str, held: Sequence[str] | HeldOutTexts) -> TextSample:
        length = None
        if name in sizes.growing:
            length = measured(
                held, probe_context.seed, monitor, probe_context.folder, probe_context.corpus
            ).length
        ordered, tokens = shuffled(held, probe_context.seed), sizes.tokens(name, length)
        sample = _sampled(ordered, tokens, monitor, probe_context.folder, probe_context.corpus)
        documents = len(sample.text.bytes)
        _say_if_few(name, documents, progress)
        if name in sizes.limits:
            progress.message(sizes.shown(name, sample.text.tokens, documents, len(held)))
        return sample

    for name in sizes.names:
        if name not in monitor.texts:
            sample = sampled(name, heldout_texts(probe_context.corpus, name))
            yield TextProbe(name, sample.text, sizes.schedule(name, monitor), sample.fingerprint)
    for name, wanted in monitor.texts.items():
        try:
            sample = sampled(name, list(_own_texts(wanted, progress, probe_context.contents)))
        except DataError as error:
            raise DataError(f"monitor.texts.{name}: {error.message}", hint=error.hint) from error
        yield TextProbe(name, sample.text, sizes.schedule(name, monitor), sample.fingerprint)


def documents_read(probes: Iterable[Probe]) -> dict[str, int]:
    """Return the number of documents that each probe of a text, or of early ends, reads."""
    from cpt.monitor.probes.early_end import EarlyEndProbe
    from cpt.monitor.probes.text import TextProbe

    found = {probe.name: len(probe.text.bytes) for probe in probes if isinstance(probe, TextProbe)}
    return found | {probe.name: len(probe.documents) for probe in probes if isinstance(probe, EarlyEndProbe)}


def samples_read(probes: Iterable[Probe]) -> dict[str, str]:
    """Return the fingerprint of each text probe's sample."""
    from cpt.monitor.probes.text import TextProbe

    return {probe.name: probe.sample for probe in probes if isinstance(probe, TextProbe) and probe.sample}


def most_documents(
    gates: Sequence[Gate], sizes: Sizes, monitor: Monitor, model: Path, corpus: Path
) -> dict[str, int]:
    """Return the largest possible number of sampled documents of each held-out text with an acting gate.

    It is that of the shortest documents; the documents of a run depend on its seed.
    """
    found = {}
    for name in HELD_OUT:
        if name in _acting(gates) and has_texts(corpus, name, "heldout"):
            texts = heldout_texts(corpus, name)
            shortest = texts.at(texts.lengths().argsort(kind="stable"))
            found[name] = len(_sampled(shortest, sizes.least(name), monitor, model, corpus).text.bytes)
    return found


def own_text_problems(
    gates: Sequence[Gate], sizes: Sizes, monitor: Monitor, model: Path, corpus: Path
) -> list[Problem]:
    """Return what keeps gates from acting on a user's texts that are local files.

    A text is read only until there are enough documents for a gate.
    """
    problems: list[Problem] = []
    documents: dict[str, int] = {}
    for name, wanted in monitor.texts.items():
        if name not in _acting(gates) or not all(_is_local(source) for source in wanted.sources):
            continue
        texts, tokens = _own_texts(wanted, NullProgress(), {}), sizes.least(name)
        try:
            documents[name] = _enough_documents(texts, tokens, monitor, model, corpus)
        except CptError as error:
            problems.append(Problem(error.message, key=f"monitor.texts.{name}", hint=error.hint))
    return problems + few_documents(gates, documents)


def _own_texts(wanted: Text, progress: Progress, contents: Mapping[str, str]) -> Iterator[str]:
    from cpt.corpus.documents import Document

    items = read_sources(wanted.sources, progress, contents)
    return (item.text for item in items if isinstance(item, Document))


def _enough_documents(texts: Iterable[str], tokens: int, monitor: Monitor, model: Path, corpus: Path) -> int:
    """Return the number of documents that a probe can read, of a text's beginning if that is enough."""
    held: list[str] = []

    def most() -> int:
        try:
            sample = _sampled(sorted(held, key=len), tokens, monitor, model, corpus)
        except DataError:  # nothing to score
            return 0
        return len(sample.text.bytes)

    for text in texts:
        held.append(text)
        is_time = len(held) >= FEWEST and len(held).bit_count() == 1  # ever more rarely
        if is_time and (found := most()) >= FEWEST:
            return found
    return most()


def _is_local(source: Source) -> bool:
    place = parse(source.path).location
    return isinstance(place, LocalPath) and place.path.exists()


def _acting(gates: Sequence[Gate]) -> set[str]:
    """Return the probes with a gate that does more than warn."""
    return {gate.limit.probe for gate in gates if not isinstance(gate, Warn)}


def few_documents(gates: Sequence[Gate], documents: Mapping[str, int]) -> list[Problem]:
    """Return a problem for each gate that acts on too few documents to tell a rise from noise.

    Args:
        documents: number of documents that each text's probe reads.
    """
    return [
        Problem(
            f"`{gate.limit}` cannot be told from noise: {gate.limit.probe} is read on {_counted(count)}, "
            f"of the {FEWEST} that a gate needs",
            key=f"gates.{number}.limit",
            hint=f"{_remedy(gate.limit.probe)}; or choose the action `warn`.",
        )
        for number, gate in enumerate(gates)
        if not isinstance(gate, Warn) and (count := documents.get(gate.limit.probe, FEWEST)) < FEWEST
    ]


def _remedy(text: str) -> str:
    if text in HELD_OUT:
        return "Raise monitor.tokens, or hold out more text"
    if text == EARLY_END:
        return "Raise monitor.early_end.tokens, or hold out more text"
    return f"Raise monitor.texts.{text}.tokens, or give the text more documents"


def _sampled(texts: Iterable[str], tokens: int, monitor: Monitor, model: Path, corpus: Path) -> TextSample:
    from cpt.corpus import read_index
    from cpt.models.shared_windows import Reader
    from cpt.models.tokenizer import load_tokenizer
    from cpt.monitor.text_sample import sample_text, shared_sample

    index, window, tokenizer = read_index(corpus), _window(monitor, model), load_tokenizer(model)
    if (former := former_tokenizer(corpus)) is None:
        return sample_text(tokenizer, texts, window, index.start_token, tokens)
    before = Reader.of(load_tokenizer(former), window, index.former_start_token)
    return shared_sample(before, Reader.of(tokenizer, window, index.start_token), texts, tokens)


def measured(
    texts: Sequence[str] | HeldOutTexts, seed: int, monitor: Monitor, model: Path, corpus: Path
) -> Measure:
    """Measure a text by some of its documents, in tokens of the tokenizer that samples it."""
    import numpy as np

    from cpt.corpus import read_index
    from cpt.models.encoding import token_ids
    from cpt.models.tokenizer import load_tokenizer

    some = list(islice(shuffled(texts, seed), _MEASURED))
    counted_in = former_tokenizer(corpus) or model
    tokenizer, lead = load_tokenizer(counted_in), read_index(corpus).start_token is not None
    lengths = np.asarray([len(ids) + lead for ids in token_ids(tokenizer, some)] or [1])
    first = np.minimum(lengths, _window(monitor, model))
    return Measure(len(texts), float(first.mean()), round(lengths.mean() * len(texts)))


def _window(monitor: Monitor, model: Path) -> int:
    from cpt.stages.corpus.checks import window_for

    return window_for(model, monitor.window)


def _say_if_few(name: str, documents: int, progress: Progress) -> None:
    """Report that a text has too few documents to tell a rise from noise."""
    from cpt.monitor.noise import bound, critical, looks

    if documents == 1:
        progress.message(
            f"{name} is read on one document, so its noise is not known, and no limit on it can be shown to "
            "be held or broken: raise monitor.tokens, or hold out more text"
        )
    elif documents < FEWEST:
        progress.message(
            f"{name} is read on {documents} documents, so a limit on it is broken during the training only "
            f"from {critical(looks(1, 1), documents):,.0f} standard errors beyond the limit on, and held or "
            f"broken at the end only {bound(documents):.1f} standard errors or more from it: raise "
            "monitor.tokens, or hold out more text"
        )


def _counted(documents: int) -> str:
    return "one document" if documents == 1 else f"{documents} documents"
