"""Find what is wrong with a pretrain stage before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import PART
from cpt.corpus.texts import has_texts, heldout_texts
from cpt.errors import Problem, RecipeError, UsageError
from cpt.monitor.reading import Kind
from cpt.sources import DOMAIN
from cpt.stages.base import Artifact, UpstreamConfigs
from cpt.stages.corpus.checks import tokenizer_problems
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.advised_replay import advice_problems
from cpt.stages.pretrain.config import Monitor, PretrainConfig
from cpt.stages.pretrain.continuation import consumed_before, optimizer_problems
from cpt.stages.pretrain.data import held_out, planned, start_checkpoint, steps_of, stream_of
from cpt.stages.pretrain.hardware import hardware_problems
from cpt.stages.pretrain.input_noise import has_documents, noise_problems
from cpt.stages.pretrain.mixture import (
    continuation_problems,
    domain_parts,
    domain_sources,
    epoch_problems,
    gated_part_problems,
    gated_parts,
    part_problems,
    step_problems,
)
from cpt.stages.pretrain.objective import objective_problems, teacher_problems
from cpt.stages.pretrain.probe_plan import sizes_of
from cpt.stages.pretrain.probe_texts import (
    EARLY_END,
    HELD_OUT,
    few_documents,
    most_documents,
    own_text_problems,
)
from cpt.stages.pretrain.probes import SOURCES, monitor_problems
from cpt.stages.pretrain.skill_it import amount_problems, skill_problems, skill_setting_problems
from cpt.training.feature import RunFacts
from cpt.training.features import features_of
from cpt.training.features.gate_controller import GateController, least_rows
from cpt.training.features.trackers import TrackerLogging
from cpt.training.optimizers.base import MatrixConfig
from cpt.training.trainable import All, Setup

if TYPE_CHECKING:
    from cpt.training.distributed.environment import Environment


def input_problems(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """Return what is wrong in the settings, with the corpus, and with the model, as far as they are known."""
    from cpt.corpus.mixture import replay_rows

    if unasked := skill_setting_problems(config):
        return unasked
    if unadvised := advice_problems(config, inputs["model"].path("model") if "model" in inputs else None):
        return unadvised
    for key, share in config.replay_shares.items():
        try:
            replay_rows(share, config.batch_sequences)
        except UsageError as error:
            return [Problem(error.message, key=key, hint=error.hint)]
    found = start_checkpoint(config, inputs)
    corpus = inputs["corpus"].path("corpus") if "corpus" in inputs else None
    problems = _rounding_problems(config) + objective_problems(config)
    if "model" in inputs:
        own = config.model_dump(mode="json")
        problems += optimizer_problems(config.start, own, inputs["model"].config)
    problems += (unfit := monitor_problems(config.monitor, config.gates))
    if corpus is None or isinstance(found, Problem):
        problems += _feature_problems(config, inputs, None)
        if isinstance(found, Problem):
            return [*problems, found]
        some = _trainable_problems(config, inputs, config.most_tokens) if "model" in inputs else []
        return [*problems, *some]
    steps, of_corpus = _corpus_problems(config, corpus, consumed_before(config.start, found, inputs))
    problems += _feature_problems(config, inputs, steps) + of_corpus
    if "model" in inputs:
        model = inputs["model"].path("model")
        problems += tokenizer_problems(model, corpus) or teacher_problems(config.objective, inputs)
        gates, readable = config.gates, _without(config.monitor, unfit)
        sizes = sizes_of(readable, gates, HELD_OUT, None)
        problems += few_documents(gates, most_documents(gates, sizes, config.monitor, model, corpus))
        problems += own_text_problems(gates, sizes, readable, model, corpus)
        if not problems:
            _, steps = planned(config, inputs, seed=0)
            problems += _trainable_problems(config, inputs, steps)
    return problems


def gate_text_problems(config: PretrainConfig, corpus: Artifact) -> list[Problem]:
    """Return problems of gates for which the held-out text is too little for any tokenizer."""
    folder = corpus.path("corpus")
    held = {name: len(heldout_texts(folder, name)) for name in HELD_OUT if has_texts(folder, name, "heldout")}
    source = next((name for name in SOURCES if name in held), None)
    ends = {} if source is None else {EARLY_END: held[source]}
    gates = GateController(config.gates).problems(_facts(config, {"corpus": corpus}), _replay_rows(config))
    return gates + few_documents(config.gates, held | ends)


def _without(monitor: Monitor, unfit: Sequence[Problem]) -> Monitor:
    """Return the monitor without the texts that have a problem already."""
    keys = [problem.key or "" for problem in unfit]
    sound = {
        name: text
        for name, text in monitor.texts.items()
        if not any(key.startswith(f"monitor.texts.{name}.") for key in keys)
    }
    return monitor.model_copy(update={"texts": sound})


def environment_problems(
    config: PretrainConfig, place: Environment, upstream: Mapping[str, UpstreamConfigs]
) -> list[Problem]:
    """Return what the hardware, the installed packages and sharded weights cannot do.

    Args:
        upstream: configurations of the stages that make each input, by role.
    """
    chain = upstream.get("model", ())
    problems = hardware_problems(config, place) + _start_problems(config, chain)
    corpora = [maker for maker in upstream.get("corpus", ()) if isinstance(maker, CorpusConfig)]
    if corpora and not any(maker.replay for maker in corpora):
        problems += _without_replay_text(config) + GateController(config.gates).without_replay_text()
    if corpora:
        parts = corpora[-1].parts
        problems += part_problems(config, parts, corpora[-1].parts_not_made)
        problems += skill_problems(config, parts) + gated_part_problems(config, parts)
        problems += _mixture_start_problems(config, chain, parts)
        problems += noise_problems(config, parts)
    if place.assumed_hardware is None:
        problems += [replace(p, key=f"optimizer.{p.key}") for p in config.optimizer.problems()]
        problems += TrackerLogging(config.trackers).missing_packages()
    return problems


def _start_problems(config: PretrainConfig, upstream: UpstreamConfigs) -> list[Problem]:
    """Return a problem if the training to continue will keep no model from before an anneal."""
    continued = upstream[-1] if upstream else None
    if config.start is None or not isinstance(continued, PretrainConfig):
        return []
    if config.start.optimizer and not continued.checkpoint.keep_optimizer:
        name = continued.name or "pretrain"
        message = f"{name} keeps no optimizer state with its checkpoints"
        hint = f"Set checkpoint.keep_optimizer: true in {name}, or leave start.optimizer out."
        return [Problem(message, key="start.optimizer", hint=hint)]
    own, its = (each.model_dump(mode="json") for each in (config, continued))
    if unfit := optimizer_problems(config.start, own, its):
        return unfit
    if config.start.checkpoint != "pre-anneal":
        return []
    reason = None
    if continued.trainable.kind == "lora":
        reason = "an adapter trains, which is no model until it is merged at the end"
    elif continued.planned_schedule.anneal_begins(continued.most_tokens) is None:
        reason = (
            f"its schedule, {continued.schedule.kind}, has no anneal or decay after a phase to continue from"
        )
    if reason is None:
        return []
    message = f"{continued.name or 'pretrain'} keeps no checkpoint pre-anneal: {reason}"
    return [Problem(message, key="start.checkpoint", hint="Start from `last`, or from a milestone.")]


def _mixture_start_problems(
    config: PretrainConfig, upstream: UpstreamConfigs, parts: Sequence[str]
) -> list[Problem]:
    """Return a problem if one stage reads parts and the stage that it continues reads them as one text.

    A stage whose mixture does not fit the parts has read another corpus, which is no problem.
    """
    continued = upstream[-1] if upstream else None
    if config.start is None or config.start.data == "again" or not parts:
        return []
    if not isinstance(continued, PretrainConfig) or part_problems(continued, parts):
        return []
    ways = [
        [f"{DOMAIN}{PART}{part}" for part in parts] if each.mixture else [DOMAIN]
        for each in (continued, config)
    ]
    hint = (
        "Give both stages a mixture, or neither; or set start: {data: again}. A corpus that the earlier "
        "stage has not read is begun at its beginning with that setting, too."
    )
    found = continuation_problems(dict.fromkeys(ways[0], 0), ways[1])
    return [replace(problem, hint=hint) for problem in found]


def _without_replay_text(config: PretrainConfig) -> list[Problem]:
    """Return the problem that a corpus without replay text is, if some is wanted."""
    wanted = [(key, share) for key, share in config.replay_shares.items() if share]
    return [
        Problem(
            f"a replay share of {share:g} is wanted, but the corpus has no replay text",
            key=key,
            hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
        )
        for key, share in wanted[:1]
    ]


def _corpus_problems(
    config: PretrainConfig, corpus: Path, begin: Mapping[str, int]
) -> tuple[int | None, list[Problem]]:
    """Return the number of steps, if there are any, and what the corpus cannot give."""
    if (missing := _without_replay_text(config)) and not has_texts(corpus, "replay", "train"):
        return None, missing
    sources = domain_sources(corpus) if config.mixture else [DOMAIN]
    wrong = part_problems(config, domain_parts(corpus)) + continuation_problems(begin, sources)
    wrong += skill_problems(config, domain_parts(corpus), held_out(corpus, parts=True))
    if wrong:
        return None, wrong
    planned_stream = stream_of(config, corpus, 0, begin)
    steps = steps_of(config, corpus, planned_stream)
    planned_stream = planned_stream.for_steps(steps)
    stream = planned_stream.with_replay(  # with which the domain text is gone through fastest
        lambda rows: least_rows(config.gates, rows, config.batch_sequences)
    )
    if not steps:
        times = "as often as `epochs` allows" if config.mixture else f"{config.epochs:g} times"
        message = f"the domain text, gone through {times}, does not fill one batch"
        hint = "Add text, use smaller batches, or set more epochs."
        return None, [Problem(message, key="epochs", hint=hint)]
    problems = _schedule_problems(config, steps)
    if config.mixture is not None:
        how_often = amount_problems if config.skill_it else epoch_problems
        return steps, [
            *problems,
            *step_problems(config, planned_stream, steps),
            *how_often(config, planned_stream, stream, steps),
        ]
    most = stream.available_steps(config.epochs)
    if steps <= most:
        return steps, problems
    if config.tokens is None:
        message = (
            f"{config.epochs:g} times the domain text are {steps:,} steps, but with as little replay as a "
            f"gate allows (`least`) the text lasts for {most:,}"
        )
        hint = f"Set tokens: {planned_stream.tokens(most)}, or leave `least` out."
        return steps, [*problems, Problem(message, key="tokens", hint=hint)]
    passes = stream.epochs(steps)
    return steps, [
        *problems,
        Problem(
            f"{config.tokens:,} tokens are {steps:,} steps, but the domain text lasts for {most:,} steps "
            f"({stream.available_tokens(config.epochs):,} tokens) when it is gone through at most "
            f"{config.epochs:g} times",
            key="tokens",
            hint=f"Train on fewer tokens, add text, or set epochs: {math.ceil(passes * 100) / 100:g}.",
        ),
    ]


def _feature_problems(
    config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int | None
) -> list[Problem]:
    """Return the problems of all training features."""
    facts = _facts(config, inputs, steps)
    problems = []
    for feature in features_of(config):
        if isinstance(feature, GateController):
            problems += feature.problems(facts, _replay_rows(config))
        else:
            problems += feature.problems(facts)
    return problems


def _replay_rows(config: PretrainConfig) -> list[int]:
    """Return the replay rows of the phases."""
    from cpt.corpus.mixture import replay_rows

    return [replay_rows(share, config.batch_sequences) for share in config.replay_shares.values()]


def _facts(config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int | None = None) -> RunFacts:
    from cpt.corpus.mixture import replay_rows
    from cpt.models.token_ids import read_new_tokens

    corpus = inputs["corpus"].path("corpus") if "corpus" in inputs else None
    model = inputs["model"].path("model") if "model" in inputs else None
    new_tokens = model is None or bool(read_new_tokens(model))
    return RunFacts(
        config.for_tokens(config.most_tokens),
        steps,
        probe_kinds(config, corpus, new_tokens),
        config.batch_sequences,
        replay_rows(config.first_replay, config.batch_sequences),
        None if corpus is None else has_texts(corpus, "replay", "train"),
        has_documents(config, corpus) if corpus is not None and config.input_noise else None,
    )


def probe_kinds(config: PretrainConfig, corpus: Path | None, new_tokens: bool) -> dict[str, Kind]:
    """Return the kinds of all probes, by name, as far as they are known.

    Args:
        corpus: folder of the corpus; None while it is not made: then every text is assumed to be held out.
        new_tokens: True if the model has new tokens, or may have some.
    """
    monitor = config.monitor
    texts = [*HELD_OUT, *gated_parts(config)] if corpus is None else held_out(corpus, config.probes_parts)
    found: dict[str, Kind] = dict.fromkeys([*texts, *monitor.texts], "text")
    found |= dict.fromkeys(monitor.tasks, "task")
    found |= {"drift": "drift"} if monitor.drift is not None else {}
    found |= {"early-end": "early-end"} if monitor.early_end is not None and texts else {}
    found |= {"weights": "weights"} if monitor.weights is not None else {}
    return found | ({"new-tokens": "new-tokens"} if new_tokens else {})


def _schedule_problems(config: PretrainConfig, steps: int) -> list[Problem]:
    too_short = config.planned_schedule.too_short(steps)
    hint = "Train on more tokens, or give that phase a larger share, or none (0)."
    return [Problem(too_short, key="schedule", hint=hint)] if too_short else []


def _trainable_problems(config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int) -> list[Problem]:
    """Return problems of the model with the settings of what trains.

    Args:
        steps: number of steps of the run; while it is not known, more than there can be.
    """
    from cpt.models.loading import without_weights
    from cpt.models.token_ids import read_new_tokens

    if config.trainable == All():
        return []
    folder = inputs["model"].path("model")
    model = without_weights(folder)
    try:
        config.trainable.apply(model, Setup(steps, read_new_tokens(folder)))
    except RecipeError as error:
        return [replace(problem, key=f"trainable.{problem.key}") for problem in error.problems]
    problems = []
    if isinstance(config.optimizer, MatrixConfig) and not _has_matrices(model):
        problems.append(
            Problem(
                f"{config.optimizer.kind} is for matrices inside the layers, of which none trains here: it "
                "would be plain AdamW",
                key="optimizer.kind",
                hint="Set optimizer: {kind: adamw}.",
            )
        )
    return problems


def _has_matrices(model: Any) -> bool:
    """Return True if a matrix of the model itself, inside its layers, is marked as training."""
    from cpt.training.optimizers.groups import sort_weights

    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return ("matrices", "matrix") in sort_weights(model, trained)


def _rounding_problems(config: PretrainConfig) -> list[Problem]:
    if config.master_weights != "stochastic-rounding" or config.trainable == All():
        return []
    return [
        Problem(
            "stochastic rounding is for runs in which every weight trains, in the same way",
            key="master_weights",
            hint="Leave `trainable` out, or set master_weights: fp32.",
        )
    ]
