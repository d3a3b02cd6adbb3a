"""The pretrain stage: continue the model's training on the corpus, and watch what it forgets."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.errors import Problem, RecipeError
from cpt.stages.base import Artifact, Context, Earlier, Stage, StageConfig
from cpt.stages.continuing import Checkpoint, begin_of_data, find_start, wire_start, write_kept
from cpt.stages.documents import has_texts, iterate_texts, tokenizer_problems
from cpt.stages.pretrain_config import PretrainConfig
from cpt.stages.vocabulary_config import VocabularyConfig
from cpt.training.launch import whole_weights_needed
from cpt.training.trackers import TENSORBOARD, Tracking, missing
from cpt.training.trains import All, Setup

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.monitor.bits_per_byte import TokenisedText
    from cpt.training.place import Place
    from cpt.training.settings import Settings
    from cpt.training.state import Result

PROBES = ("domain", "general")
"""Sources whose held-out text is probed."""


class PretrainStage(Stage[PretrainConfig]):
    """Continual pretraining with re-warming, replay and probes."""

    kind: ClassVar[str] = "pretrain"
    Config: ClassVar[type[StageConfig]] = PretrainConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "training")
    together: ClassVar[bool] = True

    def wire(self, config: PretrainConfig, earlier: Sequence[Earlier]) -> dict[str, str]:
        """Model and corpus; what is to be continued must be a training."""
        roles = super().wire(config, earlier)
        if config.start is not None:
            wire_start(earlier, roles["model"])
        return roles

    def check(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """The replay share must be whole rows, and the corpus must hold the tokens that are asked for."""
        from cpt.corpus.stream import replay_rows

        try:
            replay_rows(config.replay, config.batch_sequences)
        except RecipeError as error:
            return error.problems
        problems = _rounding_problems(config)
        if "corpus" not in inputs:
            some = _trains_problems(config, inputs, config.tokens) if "model" in inputs else []
            return [*problems, *some]
        found = _find_start(config, inputs)
        if isinstance(found, Problem):
            return [*problems, found]
        begin = begin_of_data(config.start, found, inputs)
        problems += _corpus_problems(config, inputs["corpus"].path("corpus"), begin)
        if "model" in inputs:
            model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
            problems += tokenizer_problems(model, corpus)
            if not problems:
                _, steps = planned(config, inputs, seed=0)
                problems += _trains_problems(config, inputs, steps)
        return problems

    def misfits(self, config: PretrainConfig, place: Place, makers: Sequence[StageConfig]) -> list[Problem]:
        """What the hardware cannot compute in, what is not installed, what needs undivided weights."""
        problems = _precision_problems(config, place) + _start_problems(config, makers)
        if place.elsewhere is None:
            problems += [replace(p, key=f"optimizer.{p.key}") for p in config.optimizer.problems()]
            problems += _tracker_problems(config)
        if place.divided:
            new = any(isinstance(maker, VocabularyConfig) and maker.brings_new_tokens for maker in makers)
            problems += whole_weights_needed(
                config.optimizer,
                config.faults,
                adapter=config.trains.kind == "lora",
                new_rows=config.trains.new_rows_apart(Setup(config.tokens, (0,) if new else ())),
                stochastic_rounding=config.master == "stochastic-rounding",
                float8=config.precision == "fp8",
                gradient_checkpointing=config.gradient_checkpointing,
            )
        return problems

    def forecast(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> str:
        """Steps and tokens, as far as the corpus is known."""
        if "corpus" not in inputs:
            return f"{config.tokens:,} tokens"
        stream, steps = planned(config, inputs, seed=0)
        return f"about {_tokens(stream, steps):,} tokens in {steps:,} steps"

    def run(self, config: PretrainConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Train, then save the model and what is known of the training."""
        from cpt.packed.model import load_model
        from cpt.training.checkpoint.store import load_weights
        from cpt.training.loop import train
        from cpt.training.repeatable import repeatable
        from cpt.training.world import world

        model_folder, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        found = _find_start(config, inputs)
        if isinstance(found, Problem):
            raise RecipeError([found])
        if found is not None:
            model_folder = inputs["model"].folder / found.folder
        begin = begin_of_data(config.start, found, inputs)
        model, stream = load_model(model_folder), _stream(config, corpus, context.seed, begin)
        settings = _settings(config, _steps(config, corpus, stream), stream, model_folder, context)
        probes = _probes(config, model, model_folder, corpus, context.seed)
        with repeatable(config.repeatable):
            result = train(model, stream, probes, settings, context.work, context.progress)
        if not world().is_main:
            return {}
        _save_model(model, model_folder, context.output / "model")
        metrics = _save_training(config, result, context)

        def save(step: int, folder: Path) -> None:
            load_weights(context.work, step, model, settings.new_tokens)
            _save_model(model, model_folder, folder)

        write_kept(context.output, result.kept, stream.passed, save, context.progress.message)
        return metrics


def _find_start(config: PretrainConfig, inputs: Mapping[str, Artifact]) -> Checkpoint | Problem | None:
    """What the stage starts from, if it continues another one that is made already."""
    if config.start is None or "model" not in inputs:
        return None
    return find_start(config.start, inputs["model"])


def _start_problems(config: PretrainConfig, makers: Sequence[StageConfig]) -> list[Problem]:
    """That the training which is to be continued will keep no model from before an anneal."""
    continued = makers[-1] if makers else None
    if config.start is None or config.start.checkpoint != "pre-anneal":
        return []
    if not isinstance(continued, PretrainConfig):
        return []
    reason = None
    if continued.trains.kind == "lora":
        reason = "an adapter trains, which is no model until it is merged at the end"
    elif continued.planned_schedule.anneal_begins(continued.tokens) is None:
        reason = (
            f"its schedule, {continued.schedule.kind}, has no anneal or decay after a phase to go on from"
        )
    if reason is None:
        return []
    message = f"{continued.name or 'pretrain'} keeps no checkpoint pre-anneal: {reason}"
    return [Problem(message, key="start.checkpoint", hint="Start from `last`, or from a milestone.")]


def _steps(config: PretrainConfig, corpus: Path, stream: TrainingStream) -> int:
    """The fewest steps that hold the tokens asked for: sequences are not always full."""
    from cpt.corpus import read_index

    most = config.batch_sequences * read_index(corpus).sequence_length
    steps = 0
    while (missing := config.tokens - _tokens(stream, steps)) > 0:
        steps += math.ceil(missing / most)
    return steps


def _tokens(stream: TrainingStream, steps: int) -> int:
    return sum(int(entry["tokens"]) for entry in stream.ledger(steps).values())


def planned(config: PretrainConfig, inputs: Mapping[str, Artifact], seed: int) -> tuple[TrainingStream, int]:
    """What a corpus would be trained on: the stream and the steps that are taken of it.

    Args:
        inputs: the corpus at least; without a model that is made already no text counts as gone through.
    """
    found, corpus = _find_start(config, inputs), inputs["corpus"].path("corpus")
    begin = begin_of_data(config.start, None if isinstance(found, Problem) else found, inputs)
    stream = _stream(config, corpus, seed, begin)
    return stream, _steps(config, corpus, stream)


def _stream(
    config: PretrainConfig, corpus: Path, seed: int, begin: Mapping[str, int] | None = None
) -> TrainingStream:
    from cpt.corpus import TrainingStream, open_source
    from cpt.corpus.stream import DOMAIN, REPLAY

    names = (DOMAIN, REPLAY) if config.replay else (DOMAIN,)
    sources = {name: open_source(corpus, name) for name in names if has_texts(corpus, name, "train")}
    return TrainingStream(sources, config.replay, config.batch_sequences, seed, begin)


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
    stream = _stream(config, corpus, 0, begin)
    steps = _steps(config, corpus, stream)
    most = stream.available_steps(config.epochs)
    problems = _schedule_problems(config, steps)
    if steps <= most:
        return problems
    passes = stream.passes(steps)
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


def _schedule_problems(config: PretrainConfig, steps: int) -> list[Problem]:
    too_short = config.planned_schedule.too_short(steps)
    hint = "Train on more tokens, or give that phase a larger share, or none (0)."
    return [Problem(too_short, key="schedule", hint=hint)] if too_short else []


def _trains_problems(config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int) -> list[Problem]:
    """What the model does not go with in the settings of what trains.

    Args:
        steps: of the run; while they are not known, more than there can be.
    """
    from cpt.model_folder.architecture import without_weights
    from cpt.model_folder.new_tokens import read_new_tokens

    if config.trains == All():
        return []
    folder = inputs["model"].path("model")
    model = without_weights(folder)
    try:
        choice = config.trains.choose(model, Setup(steps, read_new_tokens(folder)))
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
    if config.master != "stochastic-rounding" or config.trains == All():
        return []
    return [
        Problem(
            "stochastic rounding is for runs in which every weight trains, in the same way",
            key="master",
            hint="Leave `trains` out, or set master: fp32.",
        )
    ]


def _precision_problems(config: PretrainConfig, place: Place) -> list[Problem]:
    """What the hardware cannot compute in, and weights that there is nothing to round of."""
    problems = []
    if config.precision == "fp8":
        from cpt.training.float8 import why_not_float8

        if reason := why_not_float8(place.hardware):
            problems.append(Problem(reason, key="precision", hint="Set precision: bf16, or auto."))
    if config.master == "stochastic-rounding":
        import torch

        from cpt.packed.model import resolve_precision

        if resolve_precision(config.precision, place.hardware.bfloat16) == torch.float32:
            where = f"on {place.elsewhere.name}" if place.elsewhere else "here"
            problems.append(
                Problem(
                    f"precision {config.precision} is float32 {where}: nothing is left to round by chance",
                    key="master",
                    hint="Set precision: bf16, or master: fp32.",
                )
            )
    return problems


def _settings(
    config: PretrainConfig, steps: int, stream: TrainingStream, model_folder: Path, context: Context
) -> Settings:
    from cpt.model_folder.new_tokens import read_new_tokens

    settings = settings_of(config, steps, _tokens(stream, steps), read_new_tokens(model_folder), context.seed)
    return replace(settings, trackers=_tracking(config, context))


def settings_of(
    config: PretrainConfig,
    steps: int,
    tokens: int,
    new_tokens: Sequence[int],
    seed: int,
    bfloat16: bool | None = None,
) -> Settings:
    """How the loop is told to train, save for where its log goes.

    Args:
        tokens: of all steps.
        new_tokens: ids of the tokens that the model's base did not have.
        bfloat16: whether the hardware multiplies bfloat16 matrices; None to ask this machine's.
    """
    from cpt.monitor.probes import probe_steps
    from cpt.packed.model import resolve_precision
    from cpt.training.settings import Settings

    return Settings(
        steps=steps,
        micro_batch=config.micro_batch_sequences or config.batch_sequences,
        schedule=config.schedule.for_run(config.batch_sequences, tokens),
        optimizer=config.optimizer,
        clip=config.clip,
        dtype=resolve_precision(config.precision, bfloat16),
        probe_at=probe_steps(steps, config.monitor.every),
        checkpoint=config.checkpoint,
        faults=config.faults,
        compile=config.compile,
        tokens=tokens,
        trains=config.trains,
        new_tokens=new_tokens,
        seed=seed,
        gradient_checkpointing=config.gradient_checkpointing,
        stochastic_rounding=config.master == "stochastic-rounding",
        float8=config.precision == "fp8",
    )


def _tracking(config: PretrainConfig, context: Context) -> Tracking:
    project, settings = str(context.recipe.get("name", "cpt")), config.model_dump(mode="json")
    return Tracking(config.trackers, project, config.name or PretrainStage.kind, settings)


def _probes(
    config: PretrainConfig, model: Any, folder: Path, corpus: Path, seed: int
) -> dict[str, TokenisedText]:
    """Held-out documents of every probed source, in a seeded order, in the model's tokens."""
    import numpy as np

    from cpt.corpus import read_index
    from cpt.model_folder.tokenizer import load_tokenizer
    from cpt.monitor.bits_per_byte import tokenise_text

    tokenizer, start_token = load_tokenizer(folder), read_index(corpus).start_token
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    window = min(config.monitor.window, positions or config.monitor.window)
    probes = {}
    for name in PROBES:
        if has_texts(corpus, name, "heldout"):
            texts = list(iterate_texts(corpus, name, "heldout"))
            order = np.random.default_rng(seed).permutation(len(texts))
            shuffled = (texts[index] for index in order)
            probes[name] = tokenise_text(tokenizer, shuffled, window, start_token, config.monitor.tokens)
    return probes


def _save_model(model: Any, source: Path, folder: Path) -> None:
    """Write the trained weights, and beside them the source's tokenizer and generation settings."""
    model.save_pretrained(folder)
    for file in source.iterdir():
        if file.name == "config.json":
            continue  # save_pretrained has written it, with the data type of what it saved
        if (
            file.is_file()
            and not file.name.startswith("model")
            and file.suffix in {".json", ".jinja", ".model", ".txt"}
        ):
            shutil.copyfile(file, folder / file.name)


def _save_training(config: PretrainConfig, result: Result, context: Context) -> dict[str, Any]:
    """Write the training folder; returns the stage's metrics."""
    from cpt.monitor.probes import stability
    from cpt.training.log import write_lines

    folder = context.output / "training"
    folder.mkdir()
    shutil.copyfile(context.work / "steps.jsonl", folder / "steps.jsonl")
    write_lines(folder / "probes.jsonl", (reading.as_json() for reading in result.readings))
    write_lines(folder / "faults.jsonl", result.faults)
    if (context.work / TENSORBOARD).is_dir():
        shutil.copytree(context.work / TENSORBOARD, folder / TENSORBOARD)
    if (context.work / "adapter").is_dir():
        shutil.copytree(context.work / "adapter", folder / "adapter")
    (folder / "ledger.json").write_text(json.dumps(result.ledger, indent=2))
    gaps = stability(result.readings, config.monitor.tolerance)
    summary = {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens / result.seconds,
        "schedule": _phases(config, result),
        "probe_seconds": result.probe_seconds,
        "checkpoint_seconds": result.checkpoint_seconds,
        "faults": len(result.faults),
        "stability": {name: asdict(gap) for name, gap in gaps.items()},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return {**summary, "ledger": result.ledger}


def _phases(config: PretrainConfig, result: Result) -> dict[str, Any]:
    """The schedule's phases, each with the steps (or tokens) that were done before it began."""
    schedule = config.schedule.for_run(config.batch_sequences, result.tokens)
    phases = schedule.phases(result.tokens if schedule.unit == "tokens" else result.steps)
    begins = [{"name": phase.name, "first": phase.first} for phase in phases]
    return {"kind": schedule.kind, "unit": schedule.unit, "phases": begins}


STAGE = PretrainStage()
