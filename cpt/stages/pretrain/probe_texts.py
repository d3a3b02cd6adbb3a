"""The texts that a pretrain stage's probes read: how much of which documents, and if these are enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.texts import former_tokenizer, has_texts, iterate_texts
from cpt.errors import CptError, DataError, Problem
from cpt.monitor.gates.gate import Gate, Warn
from cpt.progress import NullProgress, Progress
from cpt.references import parse
from cpt.references.syntax import LocalPath
from cpt.stages.corpus.config import Source
from cpt.stages.corpus.sources import read_sources
from cpt.stages.pretrain.monitor_config import Monitor, Text

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe
    from cpt.monitor.probes.text import TextProbe
    from cpt.monitor.text_sample import TextSample
    from cpt.stages.pretrain.probe_sizes import Sizes
    from cpt.training.trainable import Trains

HELD_OUT = ("domain", "general")
"""Sources whose held-out text is always probed."""

EARLY_END = "early-end"
"""Name of the probe of ends in mid-sentence."""

FEWEST = 8
"""Documents below which a rise must be many standard errors large to be told from noise, so no gate acts."""

_MEASURED = 200
"""Documents by which the length of all is measured."""


@dataclass(frozen=True)
class ProbeContext:
    """What is probed, and where.

    Attributes:
        model: the starting model, whole and loaded; `folder`: its files.
        work: keeps what the starting model has sampled, for a run that continues.
        contents: reference -> fingerprint of the texts of one's own.
    """

    model: Any
    folder: Path
    corpus: Path
    work: Path
    seed: int
    new_tokens: Sequence[int]
    trainable: Trains
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A text: its documents, their mean tokens as far as the first window reaches, and tokens in all."""

    documents: int
    length: float
    tokens: int


def text_probes(
    monitor: Monitor, sizes: Sizes, probed: ProbeContext, progress: Progress
) -> Iterator[TextProbe]:
    """A probe of every held-out text, and of every text of one's own.

    Args:
        sizes: how much of each is read.

    Raises:
        DataError: a text has no documents.
    """
    import numpy as np

    from cpt.monitor.probes.text import TextProbe

    def sampled(name: str, texts: Iterable[str]) -> TextSample:
        held, length = list(texts), None
        if name in sizes.growing:
            length = measured(held, probed.seed, monitor, probed.folder, probed.corpus).length
        order = np.random.default_rng(probed.seed).permutation(len(held))
        ordered, tokens = [held[index] for index in order], sizes.tokens(name, length)
        sample = _sampled(ordered, tokens, monitor, probed.folder, probed.corpus)
        documents = len(sample.text.bytes)
        _say_if_few(name, documents, progress)
        if name in sizes.limits:
            progress.message(sizes.shown(name, sample.text.tokens, documents, len(held)))
        return sample

    for name in HELD_OUT:
        if has_texts(probed.corpus, name, "heldout"):
            sample = sampled(name, iterate_texts(probed.corpus, name, "heldout"))
            yield TextProbe(name, sample.text, monitor.regular, sample.fingerprint)
    for name, wanted in monitor.texts.items():
        try:
            sample = sampled(name, _own_texts(wanted, progress, probed.contents))
        except DataError as error:
            raise DataError(f"monitor.texts.{name}: {error.message}", hint=error.hint) from error
        yield TextProbe(name, sample.text, wanted.when(monitor.regular), sample.fingerprint)


def documents_read(probes: Iterable[Probe]) -> dict[str, int]:
    """Documents that each probe of a text, or of ends in mid-sentence, reads."""
    from cpt.monitor.probes.early_end import EarlyEndProbe
    from cpt.monitor.probes.text import TextProbe

    found = {probe.name: len(probe.text.bytes) for probe in probes if isinstance(probe, TextProbe)}
    return found | {probe.name: len(probe.documents) for probe in probes if isinstance(probe, EarlyEndProbe)}


def samples_read(probes: Iterable[Probe]) -> dict[str, str]:
    """Fingerprint of what each probe of a text reads."""
    from cpt.monitor.probes.text import TextProbe

    return {probe.name: probe.sample for probe in probes if isinstance(probe, TextProbe) and probe.sample}


def most_documents(
    gates: Sequence[Gate], sizes: Sizes, monitor: Monitor, model: Path, corpus: Path
) -> dict[str, int]:
    """The most documents of each held-out text with a gate that acts that a probe can come to read.

    Those are the shortest ones; which ones are read depends on the run's seed.
    """
    found = {}
    for name in HELD_OUT:
        if name in _acting(gates) and has_texts(corpus, name, "heldout"):
            shortest = sorted(iterate_texts(corpus, name, "heldout"), key=len)
            found[name] = len(_sampled(shortest, sizes.least(name), monitor, model, corpus).text.bytes)
    return found


def own_text_problems(
    gates: Sequence[Gate], sizes: Sizes, monitor: Monitor, model: Path, corpus: Path
) -> list[Problem]:
    """What keeps gates from acting on texts of one's own, as far as these are local files.

    Of a text no more is read than it takes to find enough documents for a gate.
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
    """Documents that a probe can read: the most, or of as few texts as make enough for a gate."""
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
    place = parse(source.path).place
    return isinstance(place, LocalPath) and place.path.exists()


def _acting(gates: Sequence[Gate]) -> set[str]:
    """Texts, or other probes, with a gate that does more than warn."""
    return {gate.budget.probe for gate in gates if not isinstance(gate, Warn)}


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
            hint=f"{_remedy(gate.budget.probe)}; or choose the action `warn`.",
        )
        for number, gate in enumerate(gates)
        if not isinstance(gate, Warn) and (count := documents.get(gate.budget.probe, FEWEST)) < FEWEST
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


def measured(texts: Sequence[str], seed: int, monitor: Monitor, model: Path, corpus: Path) -> Measure:
    """Measure a text by some of its documents, in the tokens that its sample is counted in."""
    import numpy as np

    from cpt.corpus import read_index
    from cpt.models.encoding import token_ids
    from cpt.models.tokenizer import load_tokenizer

    some = [texts[index] for index in np.random.default_rng(seed).permutation(len(texts))[:_MEASURED]]
    counted_in = former_tokenizer(corpus) or model
    tokenizer, lead = load_tokenizer(counted_in), read_index(corpus).start_token is not None
    lengths = np.asarray([len(ids) + lead for ids in token_ids(tokenizer, some)] or [1])
    first = np.minimum(lengths, _window(monitor, model))
    return Measure(len(texts), float(first.mean()), round(lengths.mean() * len(texts)))


def _window(monitor: Monitor, model: Path) -> int:
    from cpt.stages.corpus.checks import window_for

    return window_for(model, monitor.window)


def _say_if_few(name: str, documents: int, progress: Progress) -> None:
    """Tell that a text has too few documents to tell a rise from noise."""
    from cpt.monitor.noise import bound, critical, looks

    if documents == 1:
        progress.message(
            f"{name} is read on one document, so its noise is not known, and no budget of it can be shown to "
            "be held or broken: raise monitor.tokens, or hold out more text"
        )
    elif documents < FEWEST:
        progress.message(
            f"{name} is read on {documents} documents, so a budget of it is broken during the training only "
            f"from {critical(looks(1, 1), documents):,.0f} standard errors beyond its limit on, and held or "
            f"broken at the end only {bound(documents):.1f} standard errors or more from it: raise "
            "monitor.tokens, or hold out more text"
        )


def _counted(documents: int) -> str:
    return "one document" if documents == 1 else f"{documents} documents"
