"""Plan what a pretrain stage trains on and reads: its stream, steps, tokens, probes, and their words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.corpus.texts import has_texts, heldout_texts
from cpt.errors import Problem
from cpt.formatting import plural, size
from cpt.monitor.probe_work import Demand, ProbeWork, planned_shares
from cpt.monitor.schedule import Moment
from cpt.sources import DOMAIN, PART, REPLAY, STUDY
from cpt.stages.base import Artifact, StageConfig, UpstreamConfigs
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import Monitor, PretrainConfig
from cpt.stages.pretrain.continuation import Checkpoint, consumed_before, find_start
from cpt.stages.pretrain.mixture import described, domain_parts, domain_sources, epoch_bounds, phases_of
from cpt.stages.pretrain.probe_plan import (
    Sizes,
    over_share,
    planned_readings,
    probe_demands,
    probe_work_of,
    sizes_of,
    sources_of,
)
from cpt.stages.pretrain.probe_texts import HELD_OUT, Measure, measured
from cpt.stages.pretrain.probes import planned_names
from cpt.stages.pretrain.recall_texts import unread
from cpt.stages.pretrain.schedule_advice import schedule_advice
from cpt.stages.pretrain.trained_replay import trained_replay
from cpt.training.features import features_of
from cpt.training.features.gate_controller import may_replay
from cpt.training.objectives import Alm, SelfConstraint, SelfDistillation

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream


def start_checkpoint(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> Checkpoint | Problem | None:
    """Return the checkpoint that the stage starts from, if it continues another one that is finished."""
    if config.start is None or "model" not in inputs:
        return None
    return find_start(config.start, inputs["model"])


def steps_of(config: PretrainConfig, corpus: Path, stream: TrainingStream) -> int:
    """Return the fewest steps with the tokens of the settings (sequences may not be full), or all steps."""
    from cpt.corpus import read_index

    if config.tokens is None:
        return stream.available_steps(epoch_bounds(config, stream))
    most = config.batch_sequences * read_index(corpus).sequence_length
    steps = 0
    while (missing := config.tokens - stream.for_steps(steps).tokens(steps)) > 0:
        steps += math.ceil(missing / most)
    return steps


def expected_tokens(config: PretrainConfig, upstream: Sequence[StageConfig]) -> int | None:
    """Return the number of tokens of a stage whose corpus is not made yet; None if it cannot be known.

    Args:
        upstream: configurations of the stages that make the corpus.
    """
    from cpt.corpus.mixture import replay_rows

    if config.tokens is not None or config.start is not None:  # an earlier stage has used some text
        return config.tokens
    if config.mixture is not None or isinstance(config.epochs, Mapping):  # sizes of parts decide
        return None
    selected = [maker.select.tokens for maker in upstream if isinstance(maker, CorpusConfig) and maker.select]
    domain_rows = config.batch_sequences - replay_rows(config.replay_share, config.batch_sequences)
    share = domain_rows / config.batch_sequences
    tokens = selected[-1] if selected else None
    return round(tokens * config.epochs / share) if tokens is not None else None


def planned(config: PretrainConfig, inputs: Mapping[str, Artifact], seed: int) -> tuple[TrainingStream, int]:
    """Return the stream of a corpus, and the number of steps of the stage.

    Args:
        inputs: the corpus at least; without a finished model no text counts as consumed.
    """
    found, corpus = start_checkpoint(config, inputs), inputs["corpus"].path("corpus")
    begin = consumed_before(config.start, None if isinstance(found, Problem) else found, inputs)
    stream = stream_of(config, corpus, seed, begin)
    steps = steps_of(config, corpus, stream)
    return stream.for_steps(steps), steps


def stream_of(
    config: PretrainConfig, corpus: Path, seed: int, begin: Mapping[str, int] | None = None
) -> TrainingStream:
    """Return domain and replay text in the order of training; phases are placed by `for_steps`.

    Args:
        begin: number of sequences of each source that an earlier training has consumed.
    """
    from cpt.corpus import TrainingStream, open_source

    replay = any(config.replay_shares.values()) or may_replay(config.gates)
    opened = {REPLAY: open_source(corpus, REPLAY)} if replay and has_texts(corpus, REPLAY, "train") else {}
    noise = config.input_noise > 0
    if config.mixture is None:
        opened[DOMAIN] = open_source(corpus, DOMAIN, tell_plain=noise)
        return TrainingStream(opened, config.replay_share, config.batch_sequences, seed, begin)
    parts = {name: open_source(corpus, name, tell_plain=noise) for name in domain_sources(corpus)}
    sizes = {name: len(part) for name, part in parts.items()}
    phases = phases_of(config, sizes)
    return TrainingStream({**parts, **opened}, 0, config.batch_sequences, seed, begin, phases)


def planned_tokens(
    config: PretrainConfig, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
) -> str:
    """Describe the number of steps and tokens, as far as the corpus is known."""
    if config.mixture is not None:
        passes = f"mixture of {'; then '.join(phase.described() for phase in config.mixture)}"
    else:
        passes = f"{config.epochs:g} times the domain text, {trained_replay(config)} replay"
    replay = f", {trained_replay(config)} replay" if config.replay_share and not config.mixture else ""
    if "corpus" in inputs:
        stream, steps = planned(config, inputs, seed=0)
        tokens = f"about {stream.tokens(steps):,} tokens in {steps:,} steps"
        named = config.tokens or config.mixture
        tokens += replay if named else ""
        lost = unread(config, inputs["corpus"].path("corpus"), stream, steps)
        advice = schedule_advice(config, inputs, steps, stream.tokens(steps))
        kept = kept_states(config, inputs, steps, stream.tokens(steps))
        said = [tokens if named else f"{tokens}: {passes}", *described(stream, steps), *lost, *advice, *kept]
        return "; ".join(said)
    if config.tokens:
        return f"{config.tokens:,} tokens" + (f": {passes}" if config.mixture else replay)
    expected = expected_tokens(config, upstream.get("corpus", ()))
    return f"about {expected:,} tokens: {passes}" if expected else passes


def kept_states(config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int, tokens: int) -> list[str]:
    """Describe the disk space of the optimizer states that stay beside models; nothing if none is wanted."""
    from cpt.models.weights import count_parameters

    if not config.checkpoint.keep_optimizer or "model" not in inputs:
        return []
    every, schedule = config.checkpoint.keep_every, config.for_tokens(tokens).schedule
    end = tokens if schedule.unit == "tokens" else steps
    anneals = config.trainable.kind != "lora" and schedule.anneal_begins(end) is not None
    count = ((steps - 1) // every if every else 0) + anneals
    if not count:
        return ["keep_optimizer keeps nothing: set checkpoint.keep_every, or a schedule that anneals"]
    most = _STATE_BYTES * count_parameters(inputs["model"].path("model")) * count
    return [f"the optimizer's state stays with {plural(count, 'model')}: up to {size(most)} of disk space"]


_STATE_BYTES = 8
"""Bytes of the largest optimizer state, AdamW's, of each weight."""


def planned_probes(
    config: PretrainConfig, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
) -> list[str]:
    """Describe what will be read, how often, at what cost, and which rises that will find."""
    facts = Facts.of(config, inputs, upstream)
    if facts.end is None:
        return [planned_names(config.monitor, facts.held_out, facts.weights, facts.new_tokens)]
    reading = Reading.of(config, facts, facts.end, inputs)
    excess = over_share(reading.probe_work, reading.demands, facts.end.tokens)
    return [
        planned_readings(reading.probe_work, reading.demands, facts.end.tokens),
        *reading.limits(),
        *([excess] if excess else []),
    ]


def planned_work(
    config: PretrainConfig,
    inputs: Mapping[str, Artifact],
    upstream: Mapping[str, UpstreamConfigs],
    end: Moment,
) -> float:
    """Return the work of all readings, in training tokens, in a run that ends at a moment."""
    reading = Reading.of(config, Facts.of(config, inputs, upstream), end, inputs)
    shares = planned_shares(reading.probe_work, end.tokens, reading.demands)
    return sum(each.done(shares[name]) for name, each in reading.demands.items())


def against_forgetting(config: PretrainConfig) -> list[str]:
    """Return what the stage does against forgetting, besides replay, in words for `cpt plan`."""
    said = []
    if isinstance(config.objective, SelfConstraint):
        said.append("replay rows hold it to its start")
    if isinstance(config.objective, SelfDistillation):
        said.append(f"taught by {config.objective.teacher}")
    if isinstance(config.objective, Alm):
        said.append(f"taught by {config.objective.teacher}, chunk by chunk of text (ALM)")
    return said + [words for feature in features_of(config) if (words := feature.describe())]


@dataclass(frozen=True)
class Reading:
    """The readings of a run, as far as they are known before it.

    Attributes:
        texts: measures of the known texts that have a limit.
        tokens: number of tokens that are read of each text.
    """

    sizes: Sizes
    texts: Mapping[str, Measure]
    tokens: Mapping[str, int]
    demands: Mapping[str, Demand]
    probe_work: ProbeWork | None

    @classmethod
    def of(cls, config: PretrainConfig, facts: Facts, end: Moment, inputs: Mapping[str, Artifact]) -> Reading:
        """Return the readings of a run that ends at a moment."""
        monitor, gates = config.monitor, config.gates
        mixed = config.skill_it.every if config.skill_it else None
        more = {"weights": facts.weights, "new_tokens": facts.new_tokens}
        sizes = sizes_of(monitor, gates, facts.held_out, end, mixed=mixed, **more)
        tokens = {name: sizes.tokens(name) for name in sizes.names}
        found = _measured(monitor, inputs, facts, sizes)
        for name, text in found.items():
            tokens[name] = min(sizes.tokens(name, text.length), text.tokens)
        texts = {name: text for name, text in found.items() if name in sizes.limits}
        documents = {name: text.documents_in(tokens[name]) for name, text in found.items()}
        demands = probe_demands(monitor, gates, tokens, end, documents=documents, mixed=mixed, **more)
        return cls(sizes, texts, tokens, demands, probe_work_of(monitor, len(sources_of(facts.held_out))))

    def limits(self) -> Iterator[str]:
        """Describe for every limit the rise that will be found, or the sample that it needs."""
        for name in self.sizes.limits:
            if name not in self.texts:
                yield self.sizes.asked(name)
                continue
            text, tokens = self.texts[name], self.tokens[name]
            yield self.sizes.shown(name, tokens, text.documents_in(tokens), text.documents)


@dataclass(frozen=True)
class Facts:
    """Facts about a run that are known before it begins.

    Attributes:
        held_out: names of the corpus's texts that are probed.
        end: steps and tokens of the run; None if the amount of text is not known.
        weights: True if the update of the weights can be probed.
        new_tokens: True if the model has tokens that its base did not have.
    """

    held_out: tuple[str, ...]
    end: Moment | None
    weights: bool
    new_tokens: bool

    @classmethod
    def of(
        cls,
        config: PretrainConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> Facts:
        """Return the facts from finished inputs, and from the settings of stages that make the others."""
        from cpt.models.token_ids import read_new_tokens

        if "model" in inputs:
            new_tokens = bool(read_new_tokens(inputs["model"].path("model")))
        else:
            chain = upstream.get("model", ())
            new_tokens = any(each.brings_new_tokens for each in chain)
        weights = config.trainable.moves_own_weights
        if "corpus" in inputs:
            corpus = inputs["corpus"].path("corpus")
            stream, steps = planned(config, inputs, seed=0)
            texts = held_out(corpus, config.probes_parts)
            return cls(texts, Moment(steps, stream.tokens(steps)), weights, new_tokens)
        corpora = [each for each in upstream.get("corpus", ()) if isinstance(each, CorpusConfig)]
        tokens = expected_tokens(config, upstream.get("corpus", ()))
        if not corpora or not tokens:
            return cls(HELD_OUT, None, weights, new_tokens)
        texts = HELD_OUT if corpora[-1].general else HELD_OUT[:1]
        if config.probes_parts:
            texts = (*texts, *(f"{DOMAIN}{PART}{part}" for part in corpora[-1].parts if part not in STUDY))
        steps = math.ceil(tokens / (config.batch_sequences * corpora[-1].sequence_length))
        return cls(texts, Moment(steps, tokens), weights, new_tokens)


def held_out(corpus: Path, parts: bool = False) -> tuple[str, ...]:
    """Return the names of the corpus's texts that are probed.

    Args:
        parts: True if each part of the domain is probed, too; parts without held-out text are left out.
    """
    names = [name for name in HELD_OUT if has_texts(corpus, name, "heldout")]
    of_parts = domain_sources(corpus) if parts and domain_parts(corpus) else []
    return (*names, *(name for name in of_parts if len(heldout_texts(corpus, name))))


def _measured(
    monitor: Monitor, inputs: Mapping[str, Artifact], facts: Facts, sizes: Sizes
) -> dict[str, Measure]:
    """Measure the held-out texts that are known; a user's texts are read when the stage runs."""
    if "corpus" not in inputs:
        return {}
    corpus = inputs["corpus"].path("corpus")
    found = {name: counted(corpus, name, monitor.window) for name in facts.held_out}
    if "model" in inputs:
        model = inputs["model"].path("model")
        for name in found.keys() & sizes.limits.keys():
            found[name] = measured(heldout_texts(corpus, name), 0, monitor, model, corpus)
    return found


def counted(corpus: Path, name: str, window: int) -> Measure:
    """Return the measure of a held-out text by the corpus's own counts, without a model.

    Its length is too large if a document is longer than the window. Documents of a part are taken to be as
    long as the domain's.
    """
    from cpt.corpus import read_index

    whole = name.partition(PART)[0]
    counts = read_index(corpus).sources[whole].splits["heldout"]
    length = min(counts.tokens / counts.documents, window)
    if name == whole:
        return Measure(counts.documents, length, counts.tokens)
    documents = len(heldout_texts(corpus, name))
    return Measure(documents, length, round(documents * counts.tokens / counts.documents))
