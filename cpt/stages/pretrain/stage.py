"""Run the pretrain stage: continue the model's training on the corpus, and watch what it forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from cpt.errors import Problem, RecipeError
from cpt.monitor.schedule import Moment
from cpt.stages.base import Artifact, Context, Stage, StageConfig, UpstreamArtifact, UpstreamConfigs
from cpt.stages.pretrain.advised_replay import described, law_references, other_start, read_again
from cpt.stages.pretrain.checks import environment_problems, gate_text_problems, input_problems
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import (
    OPTIMIZER,
    consumed_before,
    kept_optimizer,
    wire_start,
    write_checkpoint_models,
)
from cpt.stages.pretrain.data import (
    against_forgetting,
    held_out,
    planned_probes,
    planned_tokens,
    start_checkpoint,
    steps_of,
    stream_of,
)
from cpt.stages.pretrain.input_noise import ordinary_tokens
from cpt.stages.pretrain.mixture import repeated
from cpt.stages.pretrain.objective import load_teacher, wire_teacher
from cpt.stages.pretrain.probe_plan import (
    over_share,
    planned_readings,
    probe_work_of,
    sizes_of,
    sources_of,
)
from cpt.stages.pretrain.probe_texts import ProbeContext, documents_read, few_documents
from cpt.stages.pretrain.probes import build_probes, monitor_references
from cpt.stages.pretrain.recall_texts import unread
from cpt.stages.pretrain.results import require_limits, save_model, save_training
from cpt.stages.pretrain.schedule_advice import continued_advice, schedule_advice
from cpt.stages.pretrain.skill_it import graph_read_again, graph_references, most_sequences
from cpt.stages.pretrain.trained_replay import rounded_replay
from cpt.training.features.trackers import Tracking
from cpt.training.settings import Settings

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.training.distributed.environment import Environment, Hardware


class PretrainStage(Stage[PretrainConfig]):
    """Continual pretraining with re-warming, replay and probes."""

    kind: ClassVar[str] = "pretrain"
    Config: ClassVar[type[StageConfig]] = PretrainConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "training")
    contract: ClassVar[int] = 3
    distributed: ClassVar[bool] = True

    def wire(self, config: PretrainConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return model and corpus, and a teacher if there is one; a stage to continue must be a training."""
        roles = super().wire(config, earlier)
        if config.start is not None:
            wire_start(earlier, roles["model"])
        return roles | wire_teacher(config, earlier, roles["model"])

    def selects_by_tasks(self, config: PretrainConfig) -> bool:
        """Return True where gates act by the p_gold of tasks."""
        return bool(config.choosing_tasks)

    def check(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Return problems of the settings with the corpus and the model (`cpt.stages.pretrain.checks`)."""
        return input_problems(config, inputs)

    def heldout_problems(self, config: PretrainConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """Return problems of gates with too little held-out text to tell a rise from noise."""
        return gate_text_problems(config, corpus)

    def check_environment(
        self, config: PretrainConfig, place: Environment, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """Return what the hardware, the installed packages and sharded weights cannot do."""
        return environment_problems(config, place, upstream)

    def forecast(
        self,
        config: PretrainConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        """Return steps and tokens, as far as the corpus is known, the probes, and what they can show."""
        words = [
            planned_tokens(config, inputs, upstream),
            *rounded_replay(config),
            *described(config),
            *continued_advice(config, _planned_before(upstream.get("model", ()))),
            *against_forgetting(config),
        ]
        return "; ".join([*words, *planned_probes(config, inputs, upstream)])

    def references(self, config: PretrainConfig) -> list[str]:
        """Return the files of the monitor's texts, the folder of its tasks' data, law and skills graph."""
        return [*monitor_references(config.monitor), *law_references(config), *graph_references(config)]

    def run(self, config: PretrainConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Train, then save the model and the records of the training.

        Raises:
            RecipeError: the start is not there, or a gate's text has too few documents; nothing was trained.
            GateFailed: a limit is broken at the end, or not shown to be held; everything is saved.
        """
        from cpt.models.packed_model import load_model
        from cpt.models.token_ids import read_new_tokens
        from cpt.models.unloaded_model import is_unloaded
        from cpt.stages.pretrain.samples import sample_after, sample_before, to_gpu
        from cpt.stages.pretrain.starting_model import load_to_train, weights_are_sharded
        from cpt.training.checkpoint.kept_model import keep_model
        from cpt.training.checkpoint.kept_optimizer import keep_optimizer
        from cpt.training.checkpoint.store import load_weights
        from cpt.training.data import followed
        from cpt.training.deterministic import deterministic
        from cpt.training.distributed.context import distributed_context
        from cpt.training.distributed.writing import MODEL
        from cpt.training.features.probe_runner import demands_of
        from cpt.training.loop import train

        config = graph_read_again(read_again(config, context.contents), context.contents)
        model_folder, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        found = start_checkpoint(config, inputs)
        if isinstance(found, Problem):
            raise RecipeError([found])
        if found is not None:
            model_folder = inputs["model"].folder / found.folder
        begin = consumed_before(config.start, found, inputs)
        model, stream = load_to_train(model_folder), stream_of(config, corpus, context.seed, begin)
        sharded, unloaded = weights_are_sharded(), is_unloaded(model)
        steps = steps_of(config, corpus, stream)
        stream = stream.for_steps(steps)
        for warning in (
            *rounded_replay(config),
            *described(config),
            *repeated(stream, steps),
            *unread(config, corpus, stream, steps),
            *schedule_advice(config, inputs, steps, stream.tokens(steps)),
            *continued_advice(config, _trained_before(inputs["model"])),
        ):
            context.progress.message(warning)
        new_tokens = read_new_tokens(model_folder)
        settings = settings_of(config, steps, stream.tokens(steps), new_tokens, context.seed)
        settings = replace(settings, tracking=_tracking(config, context))
        if config.start is not None and config.start.optimizer and found is not None:
            settings = replace(settings, optimizer_state=kept_optimizer(found, inputs["model"]))
        if config.skill_it is not None:
            settings = replace(settings, most_sequences=most_sequences(config, stream))
        if config.input_noise:
            rows = model.get_input_embeddings().num_embeddings
            settings = replace(settings, ordinary_tokens=ordinary_tokens(model_folder, corpus, rows))
        teacher = load_teacher(config.objective, inputs, model_folder)
        probe_context = ProbeContext(
            model,
            model_folder,
            corpus,
            context.work,
            context.seed,
            settings.new_tokens,
            config.trainable,
            context.contents,
        )
        with deterministic(config.deterministic):  # samples and probes multiply on the GPU, too
            to_gpu(model)
            texts = held_out(corpus, config.probes_parts)
            end = Moment(settings.steps, settings.tokens)
            sizes = sizes_of(
                config.monitor,
                config.gates,
                texts,
                end,
                weights=config.trainable.moves_own_weights,
                new_tokens=bool(settings.new_tokens),
                mixed=config.skill_it.every if config.skill_it else None,
            )
            probes = build_probes(config.monitor, sizes, probe_context, context.progress)
            if few := few_documents(config.gates, documents_read(probes)):
                raise RecipeError(few)
            if config.monitor.samples is not None:
                sample_before(config.monitor.samples, probe_context)
            probe_work = probe_work_of(config.monitor, len(sources_of(texts)))
            demands = demands_of(probes, end, config.gates)
            settings = replace(settings, probe_work=probe_work)
            context.progress.message(planned_readings(probe_work, demands, end.tokens))
            if excess := over_share(probe_work, demands, end.tokens):
                context.progress.message(excess)
            result = train(model, stream, probes, settings, context.work, context.progress, teacher)
        trained, continued = context.work / MODEL if sharded else None, None
        if config.monitor.samples is not None:
            by_shard = trained if unloaded else None
            if trained and not unloaded and distributed_context().is_main:
                probe_context = replace(probe_context, model=load_model(trained))
            continued = sample_after(config.monitor.samples, probe_context, by_shard)
        if not distributed_context().is_main:
            return {}
        for warning in other_start(config, result.readings):
            context.progress.message(warning)
        save_model(model, model_folder, context.output / "model", trained)
        taken = cast("TrainingStream", followed(stream, result))
        metrics = save_training(config, settings, result, taken, context, probe_context, probes, continued)

        def save(step: int, folder: Path) -> None:
            finished = context.output / "model"
            if unloaded:
                keep_model(context.work, step, finished, folder, settings.new_tokens)
            else:
                whole = load_model(finished) if sharded else model
                load_weights(context.work, step, whole, settings.new_tokens)
                save_model(whole, model_folder, folder)
            if config.checkpoint.keep_optimizer:
                keep_optimizer(context.work, step, folder / OPTIMIZER)

        write_checkpoint_models(context.output, result.kept, taken.consumed, save, context.progress.message)
        require_limits(metrics, config.monitor, settings.stage)
        return metrics


def settings_of(
    config: PretrainConfig,
    steps: int,
    tokens: int,
    new_tokens: Sequence[int],
    seed: int,
    hardware: Hardware | None = None,
) -> Settings:
    """Return the settings of the training loop, without the work of probes and the names in trackers.

    Args:
        tokens: number of tokens in all steps.
        new_tokens: ids of the tokens that the model's base did not have.
        hardware: hardware to train on; None: this machine's.
    """
    from cpt.models.packed_model import resolve_precision
    from cpt.training.distributed.environment import this_hardware

    hardware = hardware or this_hardware()
    return Settings(
        config.for_tokens(tokens),
        steps=steps,
        micro_batch=config.micro_batch_sequences or config.batch_sequences,
        dtype=resolve_precision(config.precision, hardware.bfloat16),
        on_gpu=hardware.is_gpu,
        tokens=tokens,
        new_tokens=new_tokens,
        seed=seed,
        tolerance=config.monitor.tolerance,
        stage=config.name or PretrainStage.kind,
    )


def _planned_before(upstream: UpstreamConfigs) -> PretrainConfig | None:
    """Return the settings of the training that will make a model; None if another stage does."""
    return upstream[-1] if upstream and isinstance(upstream[-1], PretrainConfig) else None


def _trained_before(made: Artifact) -> PretrainConfig | None:
    """Return the settings of the training that has made a model; None if something else has."""
    trained = made.stage == PretrainStage.kind
    return PretrainConfig.model_validate(made.config | {"name": made.name}) if trained else None


def _tracking(config: PretrainConfig, context: Context) -> Tracking:
    project, settings = str(context.recipe.get("name", "cpt")), config.model_dump(mode="json")
    return Tracking(project, config.name or PretrainStage.kind, settings)


STAGE = PretrainStage()
