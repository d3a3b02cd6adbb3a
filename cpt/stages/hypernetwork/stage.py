"""Run the hypernetwork stage: train on the corpus's text, and write the network with its curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.texts import cut_sample, has_texts, heldout_texts, iterate_texts
from cpt.errors import CptError, Problem
from cpt.progress import NullProgress, Progress
from cpt.references import resolve_tokenizer, unchanged
from cpt.sources import DOMAIN, GENERAL, REPLAY
from cpt.stages.base import BASE, Artifact, Context, Stage, StageConfig, UpstreamArtifact, UpstreamConfigs
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.stages.hypernetwork.fixed_tokenizer import (
    architecture,
    initial_problems,
    load_initial,
    require_source,
    wire_initial,
    write_model,
    write_tokenizer,
)

if TYPE_CHECKING:
    from cpt.corpus.heldout_texts import HeldOutTexts
    from cpt.training.distributed.environment import Environment
    from tokenizer_tools.hypernetwork.network import Hypernetwork
    from tokenizer_tools.hypernetwork.training.loop import HypernetworkTraining
    from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

KIND = "hypernetwork"
PROBES = "probes.jsonl"
"""Name of the file of readings in the stage's result."""


class HypernetworkStage(Stage[HypernetworkStageConfig]):
    """The hypernetwork stage. It trains on text of the domain and of replay; held-out text is measured.

    With a fixed tokenizer it may train the model too, and makes that model and its corpus as well.
    """

    kind: ClassVar[str] = KIND
    Config: ClassVar[type[StageConfig]] = HypernetworkStageConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = (KIND, "model", "corpus")
    distributed: ClassVar[bool] = True

    def outputs(self, config: HypernetworkStageConfig) -> tuple[str, ...]:
        """Return the hypernetwork; and model and corpus in the fixed tokenizer, if the model trains too."""
        return (KIND,) if config.backbone is None else self.produces

    def wire(self, config: HypernetworkStageConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return model and corpus, and the hypernetwork that a training in a fixed tokenizer begins with."""
        inputs = dict(super().wire(config, earlier))
        return inputs | wire_initial(config, earlier, inputs["model"])

    def references(self, config: HypernetworkStageConfig) -> list[str]:
        """Return the references of tokenizers, and of the run that is continued or begun with."""
        named = (config.tokenizer, config.initial, config.start)
        return [*config.probes.tokenizers.values(), *(each for each in named if each is not None)]

    def fetch(self, config: HypernetworkStageConfig, progress: Progress) -> list[Problem]:
        """Fetch tokenizers, and the run that is continued or begun with; report what cannot be had."""
        from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork
        from tokenizer_tools.vocabulary import read_vocabulary

        def read_tokenizer(reference: str) -> None:
            read_vocabulary(resolve_tokenizer(reference, progress))

        def read_network(reference: str) -> None:
            architecture(config, resolve_hypernetwork(reference, progress))

        probed = {f"probes.tokenizers.{name}": each for name, each in config.probes.tokenizers.items()}
        wanted = [(key, reference, read_tokenizer) for key, reference in probed.items()]
        wanted += [("tokenizer", config.tokenizer, read_tokenizer)] if config.tokenizer is not None else []
        wanted += [("initial", config.initial, read_network)] if config.initial is not None else []
        problems = []
        for key, reference, read in wanted:
            try:
                read(reference)
            except CptError as error:
                problems.append(Problem(error.message, key=key, hint=error.hint))
        return [*problems, *_start_problems(config, {}, progress)]

    def check(self, config: HypernetworkStageConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Return problems of the network with the model's width, and of a corpus without text."""
        problems = []
        if config.start is not None and Path(config.start).is_absolute():  # else it is not located, or remote
            problems += _start_problems(config, inputs, NullProgress())
        problems += initial_problems(config, inputs)
        if "model" in inputs:
            problems += _model_problems(config, inputs)
        if "corpus" in inputs and config.probes.tokenizers:
            corpus = inputs["corpus"].path("corpus")
            if not any(has_texts(corpus, source, "heldout") for source in (DOMAIN, GENERAL)):
                problems.append(
                    Problem(
                        "the corpus has no held-out text, on which tokenizers are measured",
                        key="probes",
                        hint="Hold out a part of it, or leave probes out.",
                    )
                )
        return problems

    def check_environment(
        self, config: HypernetworkStageConfig, place: Environment, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """Refuse sharded weights: every process needs the whole model and the whole network."""
        if not place.sharded:
            return []
        return [Problem("a hypernetwork cannot be trained with FSDP2", hint="Launch without --use_fsdp.")]

    def forecast(
        self,
        config: HypernetworkStageConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        """Return steps, tokens and vocabularies in numbers."""
        tokens = config.steps * config.texts * config.sequence_length
        first = f"{config.warm_steps:,} + " if config.warm_steps else ""
        words = f"{first}{config.steps:,} steps, at most {tokens:,} tokens"
        if config.tokenizer is not None:
            trained = "the hypernetwork trains" if config.backbone is None else "hypernetwork and model train"
            return f"{words} of {config.tokenizer}, on which {trained}"
        if config.dynamic is not None:
            return f"{words} of the model's own, up to {config.dynamic:.0%} of them merged"
        return f"{words} in sampled vocabularies of {config.sampling.vocabulary:,}"

    def run(
        self, config: HypernetworkStageConfig, inputs: Mapping[str, Artifact], context: Context
    ) -> dict[str, Any]:
        """Train, then write the network, its model card, the log and the readings; and the trained model."""
        import torch

        from cpt.models.packed_model import resolve_precision
        from cpt.training.distributed.collectives import ProcessGroup
        from cpt.training.distributed.context import distributed_context
        from cpt.training.json_lines import write_lines
        from tokenizer_tools.hypernetwork.folder import save_hypernetwork
        from tokenizer_tools.hypernetwork.reference import resolve_training
        from tokenizer_tools.hypernetwork.source import read_source
        from tokenizer_tools.hypernetwork.training.backbone import load_backbone
        from tokenizer_tools.hypernetwork.training.continuation import begin_from, keep_checkpoint
        from tokenizer_tools.hypernetwork.training.loop import HypernetworkTraining
        from tokenizer_tools.hypernetwork.training.zero_shot import build_probes

        model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        processes = ProcessGroup(distributed_context())
        source = read_source(model)
        with TemporaryDirectory(dir=context.work) as scratch:
            with unchanged(self.references(config), context.contents):
                tokenizers = {
                    name: resolve_tokenizer(reference, context.progress)
                    for name, reference in config.probes.tokenizers.items()
                }
                tokenizer = write_tokenizer(
                    config, model, corpus, Path(scratch) / "tokenizer", context.progress
                )
                initial = load_initial(config, inputs, model, context.progress)
                start = None if config.start is None else resolve_training(config.start, context.progress)
                if start is not None:
                    require_source(start, model)
                settings = _settings(config, initial, start)
                probes = build_probes(
                    source,
                    tokenizers,
                    {
                        name: cut_sample(texts, settings.probes.bytes, context.seed)
                        for name, texts in _heldout(corpus)
                    },
                    settings.probes.window,
                    settings.network.pieces,
                )
                if start is not None and processes.is_main:
                    begin_from(start, context.work)
            precision = resolve_precision(settings.precision)
            training = HypernetworkTraining(
                source,
                load_backbone(
                    source, precision if settings.backbone is None else torch.float32, processes.device
                ),
                list(_training_texts(corpus)),
                probes,
                settings,
                context.seed,
                context.work,
                context.progress,
                processes,
                target=None if tokenizer is None else tokenizer.vocabulary,
                initial=None if initial is None else initial.state_dict(),
                continues=start is not None,
            )
            training.run()
            processes.close()
            if not processes.is_main:
                return {}
            folder, metrics = context.output / KIND, _metrics(training)
            facts = _training_facts(config, settings, inputs, metrics)
            reference, known = _reference(inputs["model"], context)
            save_hypernetwork(training.network, folder, source, reference, facts, resolvable=known)
            keep_checkpoint(context.work, training.state.step, folder)
            write_lines(folder / PROBES, training.state.readings)
            if tokenizer is not None and settings.backbone is not None:
                trained = training.trained_model()
                metrics["vocabulary"] = write_model(trained, source, tokenizer, config, corpus, context)
        return metrics


def _settings(
    config: HypernetworkStageConfig, initial: Hypernetwork | None, start: Path | None
) -> HypernetworkTrainingConfig:
    """Return the settings of the training, with the architecture of the network that it begins with."""
    network = config.network
    if initial is not None:
        network = initial.config
    elif start is not None and config.tokenizer is not None:
        network = architecture(config, start)
    return config.training.model_copy(update={"network": network})


def _start_problems(
    config: HypernetworkStageConfig, inputs: Mapping[str, Artifact], progress: Progress
) -> list[Problem]:
    """Return the problem of a run to continue: it cannot be had, or is another model's."""
    from tokenizer_tools.hypernetwork.reference import resolve_training
    from tokenizer_tools.hypernetwork.training.continuation import start_problem

    if config.start is None:
        return []
    try:
        folder = resolve_training(config.start, progress)
        problem = start_problem(folder, config.total_steps)
        if problem is None and "model" in inputs:
            require_source(folder, inputs["model"].path("model"))
    except CptError as error:
        problem = Problem(error.message, key="start", hint=error.hint)
    return [problem] if problem is not None else []


def _model_problems(config: HypernetworkStageConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """Return the problems of the model: an output bias, or a width that the network cannot have."""
    from cpt.models.loading import settings
    from tokenizer_tools.hypernetwork.source import roles_of

    model = inputs["model"].path("model")
    try:
        if "bias" in roles_of(model):
            message = f"the output embeddings of {model} have a bias, for which no training exists yet"
            return [Problem(message, hint="Take a model without one.")]
        if config.initial is None and KIND not in inputs:
            config.network.sizes(settings(model).get_text_config().hidden_size)
    except CptError as error:
        return [Problem(error.message, hint=error.hint)]
    except ValueError as error:
        return [Problem(str(error), key="network.heads")]
    return []


def _training_texts(corpus: Path) -> Iterable[str]:
    for source in (DOMAIN, REPLAY):
        if has_texts(corpus, source, "train"):
            yield from iterate_texts(corpus, source, "train")


def _heldout(corpus: Path) -> Iterable[tuple[str, HeldOutTexts]]:
    found = ((source, heldout_texts(corpus, source)) for source in (DOMAIN, GENERAL))
    return ((source, texts) for source, texts in found if len(texts))


def _metrics(training: HypernetworkTraining) -> dict[str, Any]:
    """Return counts, times, and the curve of every probe: bits per byte by step."""
    state = training.state
    curves: dict[str, dict[int, float]] = {}
    for reading in state.readings:
        curves.setdefault(reading["probe"], {})[reading["step"]] = reading["value"]
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "bytes": state.bytes,
        "seconds": state.seconds,
        "probe_seconds": state.probe_seconds,
        "tokens_per_second": state.tokens / (state.seconds - state.first_stage_seconds),
        "truncated": state.truncated,
        "zero_shot": curves,
    }


def _training_facts(
    config: HypernetworkStageConfig,
    settings: HypernetworkTrainingConfig,
    inputs: Mapping[str, Artifact],
    metrics: Mapping[str, Any],
) -> Any:
    """Return the facts of the model card."""
    from tokenizer_tools.hypernetwork.folder import TrainingFacts, read_facts
    from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

    before = None
    if config.initial is not None:
        before = read_facts(resolve_hypernetwork(config.initial)).training
    elif KIND in inputs:
        before = read_facts(inputs[KIND].path(KIND)).training
    corpus = inputs["corpus"]
    figures = {
        f"{probe} before" if step == first else f"{probe} after": value
        for probe, curve in metrics["zero_shot"].items()
        for first in (min(curve),)
        for step, value in curve.items()
        if step in (first, max(curve))
    }
    listed = [*(corpus.config.get("domain") or ()), *_listed(corpus.config.get("replay"))]
    return TrainingFacts(
        data=tuple(str(entry["path"]) for entry in listed if "path" in entry),
        steps=metrics["steps"],
        settings=settings.model_dump(mode="json"),
        before=before,
        figures={"tokens": metrics["tokens"], "bytes": metrics["bytes"], **figures},
    )


def _listed(replay: Any) -> list[Any]:
    return replay if isinstance(replay, list) else []


def _reference(model: Artifact, context: Context) -> tuple[str, bool]:
    """Return the source model: the recipe's base as it is written, and True; else its stage, and False."""
    if model.stage == BASE:
        return str(context.recipe.get("base", BASE)), True
    return f"the model of stage {model.name} of the recipe {context.recipe.get('name', '?')}", False


STAGE = HypernetworkStage()
