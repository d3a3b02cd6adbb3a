"""What can be wrong with a pretrain stage, found before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.texts import has_texts, heldout_texts
from cpt.errors import Problem, RecipeError, UsageError
from cpt.stages.base import Artifact, UpstreamConfigs
from cpt.stages.corpus.checks import tokenizer_problems
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import begin_of_data
from cpt.stages.pretrain.data import planned, start_of, steps_of, stream_of, tokens_of
from cpt.stages.pretrain.early_end_probe import SOURCES
from cpt.stages.pretrain.gates import Setting, gate_problems, least_rows, measured, no_replay_text
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.objective import average_problems, objective_problems
from cpt.stages.pretrain.probe_setup import monitor_problems
from cpt.stages.pretrain.probe_sizes import sizes_of
from cpt.stages.pretrain.probe_texts import (
    EARLY_END,
    HELD_OUT,
    few_documents,
    most_documents,
    own_text_problems,
)
from cpt.stages.vocabulary.config import VocabularyConfig
from cpt.training.launch import whole_weights_needed
from cpt.training.trackers import missing
from cpt.training.trainable import All, Setup

if TYPE_CHECKING:
    from cpt.training.place import Place


def input_problems(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """What does not fit in the settings, to the corpus, and to the model, as far as these are known."""
    from cpt.corpus.stream import replay_rows

    try:
        replay_rows(config.replay, config.batch_sequences)
    except UsageError as error:
        return [Problem(error.message, key="replay", hint=error.hint)]
    problems = _rounding_problems(config) + objective_problems(config)
    problems += (unfit := monitor_problems(config.monitor))
    problems += _gate_problems(config, inputs)
    if "corpus" not in inputs:
        some = _trains_problems(config, inputs, config.most_tokens) if "model" in inputs else []
        return [*problems, *some]
    found = start_of(config, inputs)
    if isinstance(found, Problem):
        return [*problems, found]
    begin = begin_of_data(config.start, found, inputs)
    problems += _corpus_problems(config, inputs["corpus"].path("corpus"), begin)
    if "model" in inputs:
        model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        problems += tokenizer_problems(model, corpus)
        gates, readable = config.gates, _without(config.monitor, unfit)
        sizes = sizes_of(readable, gates, HELD_OUT, None)
        problems += few_documents(gates, most_documents(gates, sizes, config.monitor, model, corpus))
        problems += own_text_problems(gates, sizes, readable, model, corpus)
        if not problems:
            _, steps = planned(config, inputs, seed=0)
            problems += _trains_problems(config, inputs, steps)
    return problems


def gate_text_problems(config: PretrainConfig, corpus: Artifact) -> list[Problem]:
    """Gates for which the held-out text is too little, whatever tokenizer will read it."""
    folder = corpus.path("corpus")
    held = {name: len(heldout_texts(folder, name)) for name in HELD_OUT if has_texts(folder, name, "heldout")}
    source = next((name for name in SOURCES if name in held), None)
    ends = {} if source is None else {EARLY_END: held[source]}
    return _gate_problems(config, {"corpus": corpus}) + few_documents(config.gates, held | ends)


def _without(monitor: Monitor, unfit: Sequence[Problem]) -> Monitor:
    """The monitor without the texts that have a problem already."""
    keys = [problem.key or "" for problem in unfit]
    sound = {
        name: text
        for name, text in monitor.texts.items()
        if not any(key.startswith(f"monitor.texts.{name}.") for key in keys)
    }
    return monitor.model_copy(update={"texts": sound})


def environment_problems(
    config: PretrainConfig, place: Place, upstream: Mapping[str, UpstreamConfigs]
) -> list[Problem]:
    """What the hardware cannot compute in, what is not installed, what needs undivided weights.

    Args:
        upstream: by role, what makes each input.
    """
    chain = upstream.get("model", ())
    problems = _precision_problems(config, place) + _start_problems(config, chain)
    corpora = [maker for maker in upstream.get("corpus", ()) if isinstance(maker, CorpusConfig)]
    if corpora and not any(maker.replay for maker in corpora):
        problems += no_replay_text(config.gates)
    if place.elsewhere is None:
        problems += [replace(p, key=f"optimizer.{p.key}") for p in config.optimizer.problems()]
        problems += _tracker_problems(config)
    if place.divided:
        new = any(isinstance(maker, VocabularyConfig) and maker.brings_new_tokens for maker in chain)
        problems += whole_weights_needed(
            config.optimizer,
            config.anomalies,
            adapter=config.trainable.kind == "lora",
            new_rows=config.trainable.new_rows_apart(Setup(config.most_tokens, (0,) if new else ())),
            stochastic_rounding=config.master_weights == "stochastic-rounding",
            float8=config.precision == "fp8",
            gradient_checkpointing=config.gradient_checkpointing,
            gates=config.gates,
            model_beside=config.objective.needs_model_beside,
        )
    return problems


def _start_problems(config: PretrainConfig, upstream: UpstreamConfigs) -> list[Problem]:
    """That the training which is to be continued will keep no model from before an anneal."""
    continued = upstream[-1] if upstream else None
    if config.start is None or config.start.checkpoint != "pre-anneal":
        return []
    if not isinstance(continued, PretrainConfig):
        return []
    reason = None
    if continued.trainable.kind == "lora":
        reason = "an adapter trains, which is no model until it is merged at the end"
    elif continued.planned_schedule.anneal_begins(continued.most_tokens) is None:
        reason = (
            f"its schedule, {continued.schedule.kind}, has no anneal or decay after a phase to go on from"
        )
    if reason is None:
        return []
    message = f"{continued.name or 'pretrain'} keeps no checkpoint pre-anneal: {reason}"
    return [Problem(message, key="start.checkpoint", hint="Start from `last`, or from a milestone.")]


def _tracker_problems(config: PretrainConfig) -> list[Problem]:
    return [
        Problem(
            f"the tracker {name} is not installed",
            key="trackers",
            hint=f"Install it: pip install 'cpt-workbench[{name}]'",
        )
        for name in missing(config.trackers)
    ]


def _corpus_problems(config: PretrainConfig, corpus: Path, begin: Mapping[str, int]) -> list[Problem]:
    """What the corpus cannot give."""
    if config.replay and not has_texts(corpus, "replay", "train"):
        return [
            Problem(
                f"a replay share of {config.replay:g} is wanted, but the corpus has no replay text",
                key="replay",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
            )
        ]
    planned_stream = stream_of(config, corpus, 0, begin)
    steps = steps_of(config, corpus, planned_stream)
    fewest = least_rows(config.gates, planned_stream.rows(0).get("replay", 0), config.batch_sequences)
    stream = planned_stream.with_phases([(0, fewest)])  # with which the domain text is gone through fastest
    most = stream.available_steps(config.epochs)
    if not steps:
        message = f"the domain text, gone through {config.epochs:g} times, does not fill one batch"
        return [Problem(message, key="epochs", hint="Add text, use smaller batches, or set more epochs.")]
    problems = _schedule_problems(config, steps) + average_problems(config, steps)
    if steps <= most:
        return problems
    if config.tokens is None:
        message = (
            f"{config.epochs:g} times the domain text are {steps:,} steps, but with as little replay as a "
            f"gate allows (`least`) the text lasts for {most:,}"
        )
        hint = f"Set tokens: {tokens_of(planned_stream, most)}, or leave `least` out."
        return [*problems, Problem(message, key="tokens", hint=hint)]
    passes = stream.epochs(steps)
    return [
        *problems,
        Problem(
            f"{config.tokens:,} tokens are {steps:,} steps, but the domain text lasts for {most:,} steps "
            f"({stream.available_tokens(config.epochs):,} tokens) when it is gone through at most "
            f"{config.epochs:g} times",
            key="tokens",
            hint=f"Train on fewer tokens, add text, or set epochs: {math.ceil(passes * 100) / 100:g}.",
        ),
    ]


def _gate_problems(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    from cpt.corpus.stream import replay_rows
    from cpt.models.new_tokens import read_new_tokens

    corpus = inputs["corpus"].path("corpus") if "corpus" in inputs else None
    model = inputs["model"].path("model") if "model" in inputs else None
    new_tokens = model is None or bool(read_new_tokens(model))
    setting = Setting(
        measured(config.monitor, corpus, new_tokens),
        config.batch_sequences,
        replay_rows(config.replay, config.batch_sequences),
        None if corpus is None else has_texts(corpus, "replay", "train"),
    )
    return gate_problems(config.gates, setting)


def _schedule_problems(config: PretrainConfig, steps: int) -> list[Problem]:
    too_short = config.planned_schedule.too_short(steps)
    hint = "Train on more tokens, or give that phase a larger share, or none (0)."
    return [Problem(too_short, key="schedule", hint=hint)] if too_short else []


def _trains_problems(config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int) -> list[Problem]:
    """What the model does not go with in the settings of what trains.

    Args:
        steps: of the run; while they are not known, more than there can be.
    """
    from cpt.models.architecture import without_weights
    from cpt.models.new_tokens import read_new_tokens

    if config.trainable == All():
        return []
    folder = inputs["model"].path("model")
    model = without_weights(folder)
    try:
        choice = config.trainable.choose(model, Setup(steps, read_new_tokens(folder)))
    except RecipeError as error:
        return error.problems
    problems = []
    if config.checkpoint.keep_every and not choice.is_model:
        problems.append(
            Problem(
                "milestones are models, and an adapter is none until it is merged at the end",
                key="checkpoint.keep_every",
                hint="Leave it out, or train without an adapter.",
            )
        )
    if config.optimizer.needs_whole_matrices and not _has_matrices(model):
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
    """Whether a matrix of the model itself, inside its layers, is marked as training."""
    from cpt.training.groups import sort_weights

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


def _precision_problems(config: PretrainConfig, place: Place) -> list[Problem]:
    """What the hardware cannot compute in, and weights that there is nothing to round of."""
    problems = []
    if config.precision == "fp8":
        from cpt.training.float8 import why_not_float8

        if reason := why_not_float8(place.hardware):
            problems.append(Problem(reason, key="precision", hint="Set precision: bf16, or auto."))
    if config.master_weights == "stochastic-rounding":
        import torch

        from cpt.models.packed_model import resolve_precision

        if resolve_precision(config.precision, place.hardware.bfloat16) == torch.float32:
            where = f"on {place.elsewhere.name}" if place.elsewhere else "here"
            problems.append(
                Problem(
                    f"precision {config.precision} is float32 {where}: nothing is left to round by chance",
                    key="master_weights",
                    hint="Set precision: bf16, or master_weights: fp32.",
                )
            )
    return problems
