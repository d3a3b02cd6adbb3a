"""The pretrain stage: continue the model's training on the corpus, and watch what it forgets."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.errors import Problem, RecipeError
from cpt.monitor.schedule import Moment
from cpt.progress import Progress
from cpt.stages.base import Artifact, Context, Stage, StageConfig, UpstreamArtifact, UpstreamConfigs
from cpt.stages.pretrain.checks import environment_problems, gate_text_problems, input_problems
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.continuation import begin_of_data, wire_start, write_kept
from cpt.stages.pretrain.data import start_of, steps_of, stream_of, tokens_of
from cpt.stages.pretrain.gates import probe_figures, require_budgets
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.objective import TEACHER, against_forgetting, wire_teacher
from cpt.stages.pretrain.plan import held_out, planned_probes, planned_tokens
from cpt.stages.pretrain.probe_cost import allowance_of, over_budget, planned_readings
from cpt.stages.pretrain.probe_setup import build_probes, monitor_references
from cpt.stages.pretrain.probe_sizes import sizes_of
from cpt.stages.pretrain.probe_texts import ProbeContext, documents_read, few_documents, samples_read
from cpt.training.trackers import TENSORBOARD, Tracking

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.monitor.probes.base import Probe
    from cpt.training.place import Place
    from cpt.training.settings import Settings
    from cpt.training.state import Result


class PretrainStage(Stage[PretrainConfig]):
    """Continual pretraining with re-warming, replay and probes."""

    kind: ClassVar[str] = "pretrain"
    Config: ClassVar[type[StageConfig]] = PretrainConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "training")
    contract: ClassVar[int] = 3
    distributed: ClassVar[bool] = True

    def wire(self, config: PretrainConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Model and corpus, and a teacher if there is one; what is to be continued must be a training."""
        roles = super().wire(config, earlier)
        if config.start is not None:
            wire_start(earlier, roles["model"])
        return roles | wire_teacher(config, earlier, roles["model"])

    def check(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Settings, corpus and model must go together (`cpt.stages.pretrain.checks`)."""
        return input_problems(config, inputs)

    def heldout_problems(self, config: PretrainConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """Gates need text to watch, and enough documents of it to tell a rise from noise."""
        return gate_text_problems(config, corpus)

    def check_environment(
        self, config: PretrainConfig, place: Place, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """What the hardware cannot compute in, what is not installed, what needs undivided weights."""
        return environment_problems(config, place, upstream)

    def forecast(
        self,
        config: PretrainConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        """Steps and tokens, as far as the corpus is known, what is probed, and what that can show."""
        words = [planned_tokens(config, inputs, upstream), *against_forgetting(config)]
        return "; ".join([*words, *planned_probes(config, inputs, upstream)])

    def references(self, config: PretrainConfig) -> list[str]:
        """Files of the monitor's texts, and the folder of its tasks' data."""
        return monitor_references(config.monitor)

    def run(self, config: PretrainConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Train, then save the model and what is known of the training.

        Raises:
            RecipeError: the start is not there, or a gate's text has too few documents; nothing was trained.
            GateFailed: a budget is broken at the end, or not shown to be held; everything is saved.
        """
        from cpt.models.packed_model import load_model
        from cpt.stages.pretrain.samples import sample_before, to_gpu
        from cpt.training.checkpoint.store import load_weights
        from cpt.training.deterministic import deterministic
        from cpt.training.loop import train
        from cpt.training.watch import demands_of
        from cpt.training.world import world

        model_folder, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        found = start_of(config, inputs)
        if isinstance(found, Problem):
            raise RecipeError([found])
        if found is not None:
            model_folder = inputs["model"].folder / found.folder
        begin = begin_of_data(config.start, found, inputs)
        model, stream = load_model(model_folder), stream_of(config, corpus, context.seed, begin)
        settings = _settings(config, steps_of(config, corpus, stream), stream, model_folder, context)
        teacher = load_model(inputs[TEACHER].path("model")) if TEACHER in inputs else None
        probed = ProbeContext(
            model,
            model_folder,
            corpus,
            context.work,
            context.seed,
            settings.new_tokens,
            config.trainable,
            context.contents,
        )
        with deterministic(
            config.deterministic
        ):  # the first products on a GPU are those of samples and probes
            to_gpu(model)
            texts, end = held_out(corpus), Moment(settings.steps, settings.tokens)
            sizes = sizes_of(
                config.monitor,
                config.gates,
                texts,
                end,
                weights=config.trainable.kind != "lora",
                new_tokens=bool(settings.new_tokens),
            )
            probes = build_probes(config.monitor, sizes, probed, context.progress)
            if few := few_documents(config.gates, documents_read(probes)):
                raise RecipeError(few)
            if config.monitor.samples is not None and world().is_main:
                sample_before(config.monitor.samples, probed)
            allowance = allowance_of(config.monitor, len(texts))
            demands = demands_of(probes, end, config.gates)
            settings = replace(settings, allowance=allowance)
            context.progress.message(planned_readings(allowance, demands, end.tokens))
            if excess := over_budget(allowance, demands, end.tokens):
                context.progress.message(excess)
            result = train(model, stream, probes, settings, context.work, context.progress, teacher)
        if not world().is_main:
            return {}
        _save_model(model, model_folder, context.output / "model")
        followed = stream.with_phases(result.phases) if result.phases else stream
        metrics = _save_training(config, settings, result, followed, context, probed, probes)

        def save(step: int, folder: Path) -> None:
            load_weights(context.work, step, model, settings.new_tokens)
            _save_model(model, model_folder, folder)

        write_kept(context.output, result.kept, followed.consumed, save, context.progress.message)
        require_budgets(metrics, config.monitor, settings.stage)
        return metrics


def _settings(
    config: PretrainConfig, steps: int, stream: TrainingStream, model_folder: Path, context: Context
) -> Settings:
    from cpt.models.new_tokens import read_new_tokens

    settings = settings_of(
        config, steps, tokens_of(stream, steps), read_new_tokens(model_folder), context.seed
    )
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
    from cpt.models.packed_model import resolve_precision
    from cpt.training.settings import Settings

    return Settings(
        steps=steps,
        micro_batch=config.micro_batch_sequences or config.batch_sequences,
        schedule=config.schedule.for_run(config.batch_sequences, tokens),
        optimizer=config.optimizer,
        clip=config.clip,
        dtype=resolve_precision(config.precision, bfloat16),
        checkpoint=config.checkpoint,
        anomalies=config.anomalies,
        compile=config.compile,
        tokens=tokens,
        trainable=config.trainable,
        new_tokens=new_tokens,
        seed=seed,
        gradient_checkpointing=config.gradient_checkpointing,
        stochastic_rounding=config.master_weights == "stochastic-rounding",
        float8=config.precision == "fp8",
        gates=config.gates,
        tolerance=config.monitor.tolerance,
        objective=config.objective,
        l2_sp=config.l2_sp,
        average=config.average,
        stage=config.name or PretrainStage.kind,
    )


def _tracking(config: PretrainConfig, context: Context) -> Tracking:
    project, settings = str(context.recipe.get("name", "cpt")), config.model_dump(mode="json")
    return Tracking(config.trackers, project, config.name or PretrainStage.kind, settings)


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


def _save_training(
    config: PretrainConfig,
    settings: Settings,
    result: Result,
    stream: TrainingStream,
    context: Context,
    probed: ProbeContext,
    probes: Sequence[Probe],
) -> dict[str, Any]:
    """Write the training folder; returns the stage's metrics."""
    from cpt.stages.pretrain.samples import seconds_spent
    from cpt.training.log import write_lines

    folder = context.output / "training"
    folder.mkdir()
    shutil.copyfile(context.work / "steps.jsonl", folder / "steps.jsonl")
    write_lines(folder / "probes.jsonl", (reading.as_json() for reading in result.readings))
    write_lines(folder / "anomalies.jsonl", result.anomalies)
    write_lines(folder / "actions.jsonl", result.actions)
    if (context.work / TENSORBOARD).is_dir():
        shutil.copytree(context.work / TENSORBOARD, folder / TENSORBOARD)
    if (context.work / "adapter").is_dir():
        shutil.copytree(context.work / "adapter", folder / "adapter")
    parts = stream.parts(result.steps, result.dropped)
    ledger = {
        source: {**row, "parts": parts[source]} if source in parts else row
        for source, row in result.ledger.items()
    }
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=2))
    probing = result.probe_seconds + _save_samples(config.monitor, probed, folder)
    probing += seconds_spent(context.work, "samples.json", "drift.json")
    monitoring = _monitoring(settings, result, probes, probing)
    _say_cost(monitoring, context.progress)
    summary = {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens / result.seconds,
        "schedule": _phases(settings),
        "probe_seconds": probing,
        "checkpoint_seconds": result.checkpoint_seconds,
        "anomalies": len(result.anomalies),
        "monitor": monitoring,
        "samples": samples_read(probes),
        **probe_figures(config.gates, result, config.monitor.tolerance, settings.stage),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return {**summary, "ledger": ledger}


def _save_samples(monitor: Monitor, probed: ProbeContext, folder: Path) -> float:
    """Write how the model went on before and goes on now; returns the seconds that it took."""
    from cpt.stages.pretrain.samples import sample_after

    if monitor.samples is None:
        return 0.0
    began = time.perf_counter()
    samples = sample_after(monitor.samples, probed)
    (folder / "samples.json").write_text(json.dumps(samples, indent=2, ensure_ascii=False), encoding="utf-8")
    return time.perf_counter() - began


def _monitoring(
    settings: Settings, result: Result, probes: Sequence[Probe], seconds: float
) -> dict[str, Any]:
    """What monitoring did beside the training's work, what it took of its time, and what was left out."""
    work = settings.allowance.beside if settings.allowance else 0.0
    found = {}
    for probe in probes:
        readings = [reading for reading in result.readings if reading.probe == probe.name]
        done = probe.work * sum(reading.share for reading in readings)
        work += done
        found[probe.name] = {
            "seconds": sum(reading.seconds for reading in readings),
            "work": done / settings.tokens,
            "readings": len(readings),
            "wanted": result.wanted[probe.name],
            "smallest_share": min((reading.share for reading in readings), default=None),
        }
    return {
        "budget": settings.allowance.share if settings.allowance else None,
        "work": work / settings.tokens,
        "share": seconds / result.seconds,
        "probes": found,
    }


def _say_cost(monitoring: Mapping[str, Any], progress: Progress) -> None:
    """Tell what the budget left out, and that what is never left out did more work than it allows."""
    budget, work = monitoring["budget"], monitoring["work"]
    left_out = [
        f"{name} {probe['wanted'] - probe['readings']} of {probe['wanted']}"
        for name, probe in monitoring["probes"].items()
        if probe["readings"] < probe["wanted"]
    ]
    if left_out:
        progress.message(
            f"the monitor's budget of {budget:.1%} left out readings: {', '.join(left_out)}; what happened "
            "between those that were read is not known"
        )
    if budget is not None and work > budget:
        progress.message(
            f"probes did {work:.1%} of the training's work, over their budget of {budget:.1%}: first and "
            "last readings, those that gates need, and samples are never left out; smaller ones are cheaper "
            "(monitor.tokens, monitor.samples)"
        )


def _phases(settings: Settings) -> dict[str, Any]:
    """The schedule's phases, each with the steps (or tokens) that are done before it begins."""
    schedule = settings.schedule
    phases = schedule.phases(settings.tokens if schedule.unit == "tokens" else settings.steps)
    begins = [{"name": phase.name, "first": phase.first} for phase in phases]
    return {"kind": schedule.kind, "unit": schedule.unit, "phases": begins}


STAGE = PretrainStage()
