"""What a pretrain stage will do, in numbers: tokens, steps, and what its probes read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpt.corpus.texts import has_texts, iterate_texts
from cpt.monitor.budget import Demand, ProbeBudget, planned_shares
from cpt.monitor.schedule import Moment
from cpt.stages.base import Artifact, UpstreamConfigs
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.data import expected_tokens, planned, tokens_of
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.probe_cost import allowance_of, asked_for, over_budget, planned_readings
from cpt.stages.pretrain.probe_setup import planned_names
from cpt.stages.pretrain.probe_sizes import Sizes, sizes_of
from cpt.stages.pretrain.probe_texts import HELD_OUT, Measure, measured
from cpt.stages.vocabulary.config import VocabularyConfig


def planned_tokens(
    config: PretrainConfig, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
) -> str:
    """Say how many steps and tokens there will be, as far as the corpus is known."""
    passes = f"{config.epochs:g} times the domain text, {config.replay:.0%} replay"
    if "corpus" in inputs:
        stream, steps = planned(config, inputs, seed=0)
        tokens = f"about {tokens_of(stream, steps):,} tokens in {steps:,} steps"
        return tokens if config.tokens else f"{tokens}: {passes}"
    if config.tokens:
        return f"{config.tokens:,} tokens"
    expected = expected_tokens(config, upstream.get("corpus", ()))
    return f"about {expected:,} tokens: {passes}" if expected else passes


def planned_probes(
    config: PretrainConfig, inputs: Mapping[str, Artifact], upstream: Mapping[str, UpstreamConfigs]
) -> list[str]:
    """Say what will be read, how often, at what cost, and what rises that will find."""
    facts = Facts.of(config, inputs, upstream)
    if facts.end is None:
        return [planned_names(config.monitor, facts.held_out, facts.weights, facts.new_tokens)]
    reading = Reading.of(config, facts, facts.end, inputs)
    excess = over_budget(reading.allowance, reading.demands, facts.end.tokens)
    return [
        planned_readings(reading.allowance, reading.demands, facts.end.tokens),
        *reading.limits(),
        *([excess] if excess else []),
    ]


def planned_work(
    config: PretrainConfig,
    inputs: Mapping[str, Artifact],
    upstream: Mapping[str, UpstreamConfigs],
    end: Moment,
) -> float:
    """Return the training tokens that all readings cost, in a run that ends at a moment."""
    reading = Reading.of(config, Facts.of(config, inputs, upstream), end, inputs)
    shares = planned_shares(reading.allowance, end.tokens, reading.demands)
    return sum(each.done(shares[name]) for name, each in reading.demands.items())


@dataclass(frozen=True)
class Reading:
    """What is read, as far as it is known before the run.

    Attributes:
        texts: those with a limit that are known; `tokens`: that are read of each text.
    """

    sizes: Sizes
    texts: Mapping[str, Measure]
    tokens: Mapping[str, int]
    demands: Mapping[str, Demand]
    allowance: ProbeBudget | None

    @classmethod
    def of(cls, config: PretrainConfig, facts: Facts, end: Moment, inputs: Mapping[str, Artifact]) -> Reading:
        """Gather it for a run that ends at a moment."""
        monitor, gates = config.monitor, config.gates
        more = {"weights": facts.weights, "new_tokens": facts.new_tokens}
        sizes = sizes_of(monitor, gates, facts.held_out, end, **more)
        tokens = {name: sizes.tokens(name) for name in sizes.names}
        found = _measured(monitor, inputs, facts, sizes)
        for name, text in found.items():
            tokens[name] = min(sizes.tokens(name, text.length), text.tokens)
        texts = {name: text for name, text in found.items() if name in sizes.limits}
        demands = asked_for(monitor, gates, tokens, end, **more)
        return cls(sizes, texts, tokens, demands, allowance_of(monitor, len(facts.held_out)))

    def limits(self) -> Iterator[str]:
        """Say of every limit what rise will be found, or what it asks for."""
        for name in self.sizes.limits:
            if name not in self.texts:
                yield self.sizes.asked(name)
                continue
            text, tokens = self.texts[name], self.tokens[name]
            documents = min(text.documents, max(1, round(tokens / text.length)))
            yield self.sizes.shown(name, tokens, documents, text.documents)


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it begins.

    Attributes:
        held_out: the corpus's texts that are probed.
        end: steps and tokens of the run; None where nothing says how much text there is.
        weights: whether the update of the weights can be probed.
        new_tokens: whether the model has any that its base did not have.
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
        """Gather them from inputs that are made, and from the settings of what makes the others."""
        from cpt.models.token_ids import read_new_tokens

        if "model" in inputs:
            new_tokens = bool(read_new_tokens(inputs["model"].path("model")))
        else:
            chain = upstream.get("model", ())
            new_tokens = any(isinstance(each, VocabularyConfig) and each.brings_new_tokens for each in chain)
        weights = config.trainable.kind != "lora"
        if "corpus" in inputs:
            corpus = inputs["corpus"].path("corpus")
            stream, steps = planned(config, inputs, seed=0)
            return cls(held_out(corpus), Moment(steps, tokens_of(stream, steps)), weights, new_tokens)
        corpora = [each for each in upstream.get("corpus", ()) if isinstance(each, CorpusConfig)]
        tokens = expected_tokens(config, upstream.get("corpus", ()))
        if not corpora or not tokens:
            return cls(HELD_OUT, None, weights, new_tokens)
        texts = HELD_OUT if corpora[-1].general else HELD_OUT[:1]
        steps = math.ceil(tokens / (config.batch_sequences * corpora[-1].sequence_length))
        return cls(texts, Moment(steps, tokens), weights, new_tokens)


def held_out(corpus: Path) -> tuple[str, ...]:
    """Return the corpus's texts that are probed."""
    return tuple(name for name in HELD_OUT if has_texts(corpus, name, "heldout"))


def _measured(
    monitor: Monitor, inputs: Mapping[str, Artifact], facts: Facts, sizes: Sizes
) -> dict[str, Measure]:
    """Measure the held-out texts that are known; those of one's own are read when the stage runs."""
    if "corpus" not in inputs:
        return {}
    corpus = inputs["corpus"].path("corpus")
    found = {name: counted(corpus, name, monitor.window) for name in facts.held_out}
    if "model" in inputs:
        model = inputs["model"].path("model")
        for name in found.keys() & sizes.limits.keys():
            texts = list(iterate_texts(corpus, name, "heldout"))
            found[name] = measured(texts, 0, monitor, model, corpus)
    return found


def counted(corpus: Path, name: str, window: int) -> Measure:
    """Return the measure of a held-out text by the corpus's own counts, for which no model is needed.

    Its length is right where no document is longer than the window, and else too large.
    """
    from cpt.corpus import read_index

    counts = read_index(corpus).sources[name].splits["heldout"]
    return Measure(counts.documents, min(counts.tokens / counts.documents, window), counts.tokens)
