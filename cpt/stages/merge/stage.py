"""The merge stage: put models together, such as the trained one back onto the base with a weight."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.texts import heldout_texts, start_token_of
from cpt.errors import CannotMerge, CptError, Problem
from cpt.monitor.reading import Kind
from cpt.progress import Progress
from cpt.references import fingerprint, unchanged
from cpt.sources import DOMAIN, GENERAL
from cpt.stages.base import (
    Artifact,
    Context,
    Stage,
    StageConfig,
    UpstreamArtifact,
    UpstreamConfigs,
    WiringError,
    newest,
)
from cpt.stages.choosing import CHOSEN_BY, chosen_by
from cpt.stages.evaluate.suites import suite_references
from cpt.stages.merge.averaging import average_request, missing_checkpoints, training_of, unkept_checkpoints
from cpt.stages.merge.config import MergeConfig, MergeSearch
from cpt.stages.merge.evaluation import Material
from cpt.stages.merge.objective import chosen_tasks, described, objective_problems
from cpt.stages.merge.request import ModelFolder, merge_request, template_file
from cpt.stages.merge.search import LOG

if TYPE_CHECKING:
    from cpt.training.distributed.environment import Environment
    from merging.candidates import Candidate
    from merging.request import MergeRequest
    from merging.run import MergeReport

CORPUS = "corpus"
_FEWEST = 2
"""Smallest number of documents of a text for a search: one document says nothing about the noise."""

_fetched: dict[str, Path] = {}
"""Reference -> folder of the models that this process has fetched, so that checks need no network."""


class MergeStage(Stage[MergeConfig]):
    """The stage that merges models of one architecture and aligns their vocabularies first."""

    kind: ClassVar[str] = "merge"
    Config: ClassVar[type[StageConfig]] = MergeConfig
    consumes: ClassVar[tuple[str, ...]] = ("model",)
    produces: ClassVar[tuple[str, ...]] = ("model",)
    contract: ClassVar[int] = 4  # 4: a search reads a passage of each of many documents

    def wire(self, config: MergeConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Return the roles: `base` and `model:<place>` for models of stages, `corpus` for a search.

        An average has the role `training` alone. Referenced models have no role.
        """
        if config.average is not None:
            return {"training": training_of(config.average.of, earlier)}
        roles = {"base": _with_model(config.base, earlier, "base")} if isinstance(config.base, str) else {}
        for place, model in enumerate(config.models):
            if model.from_ is not None:
                roles[f"model:{place}"] = _with_model(model.from_, earlier, f"models.{place}.from")
        if config.searching is not None:
            roles[CORPUS] = _with_corpus(earlier)
        return roles

    def selects_on_heldout(self, config: MergeConfig) -> bool:
        """Return True for a search, which reads half of the held-out text."""
        return config.searching is not None

    def selects_by_tasks(self, config: MergeConfig) -> bool:
        """Return True for a search whose objective is a measure of tasks."""
        return config.searching is not None and config.searching.objective is not None

    def references(self, config: MergeConfig) -> list[str]:
        """Return the referenced models, the chat template's file, a suite's file, and the tasks' data."""
        search, template = config.searching, template_file(config.chat_template)
        found = [model.reference for model in config.external_models]
        found += [] if template is None else [template]
        if search is not None:
            suite = None if search.objective is None else search.objective.suite
            found += suite_references([] if suite is None else [suite], search.data)
        return list(dict.fromkeys(found))

    def fetch(self, config: MergeConfig, progress: Progress) -> list[Problem]:
        """Fetch the referenced models, and report those that cannot be had."""
        from merging.adapters import resolve_input

        problems = []
        for model in config.external_models:
            try:
                _fetched[model.reference] = resolve_input(model.reference, progress)
            except CptError as error:
                problems.append(Problem(error.message, key=model.key, hint=error.hint))
        return problems

    def check(self, config: MergeConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Report models and parameters that the method does not take, and models that do not fit together."""
        return [*_problems(config, inputs), *_search_problems(config)]

    def heldout_problems(self, config: MergeConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """Report held-out text of which half is too little to choose weights on."""
        if config.searching is None:
            return []
        folder = corpus.path("corpus")
        counted = {name: len(heldout_texts(folder, name, "search")) for name in (DOMAIN, GENERAL)}
        few = [(name, count) for name, count in counted.items() if count < _FEWEST]
        return [
            Problem(
                f"half of the held-out {name} text is {count} documents, too few to choose weights by",
                key="search",
                hint=f"Give the corpus stage {name} text, hold out more of it, or give the weights.",
            )
            for name, count in few
        ]

    def forecast(
        self,
        config: MergeConfig,
        inputs: Mapping[str, Artifact],
        upstream: Mapping[str, UpstreamConfigs],
    ) -> str:
        """Return the number of merges that a search tries, and its limits."""
        if config.searching is None:
            return ""
        limits = f" so that {', '.join(gate.limit.text for gate in config.gates)}" if config.gates else ""
        objective = config.searching.objective
        by = "" if objective is None else f" by {described(objective)}"
        return f"weights of at most {config.searching.points} merges{by}{limits}"

    def check_environment(
        self, config: MergeConfig, place: Environment, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """Report a training whose checkpoints are to be averaged and that will keep none."""
        return (
            []
            if config.average is None
            else list(unkept_checkpoints(config.average, upstream.get("training", ())))
        )

    def run(self, config: MergeConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Merge, and write the model.

        Raises:
            GateFailed: No weights that were tried are shown to keep the limits; the best compromise is
                written.
            DataError: A referenced model changed while it was read.
        """
        with unchanged([model.reference for model in config.external_models], context.contents):
            if config.average is not None:
                request = average_request(config.average, inputs["training"], config.dtype)
            else:
                folders = _folders(config, inputs, context.contents, context.progress)
                request = merge_request(config, folders, context.seed)
            return _merged(config, request, inputs, context)


def _merged(
    config: MergeConfig, request: MergeRequest, inputs: Mapping[str, Artifact], context: Context
) -> dict[str, Any]:
    from merging.plan import plan, read_inputs
    from merging.request import shard_bytes
    from merging.run import run

    models = read_inputs(request)
    if config.searching is not None:
        return _searched(config, config.searching, request, models, inputs[CORPUS].path("corpus"), context)
    what = config.method if config.average is None else config.average.title
    context.progress.message(f"merging tensor by tensor: {what}")
    report = run(
        plan(request, models),
        context.output / "model",
        shard_bytes=shard_bytes(config.shard_size),
        progress=lambda done, total: context.progress.update(done, total, "bytes"),
    )
    return _metrics(report, request, context) | _analysed(request, models, context)


def _searched(
    config: MergeConfig,
    search: MergeSearch,
    request: MergeRequest,
    models: Sequence[Candidate],
    corpus: Path,
    context: Context,
) -> dict[str, Any]:
    """Choose the weights and merge with them."""
    from cpt.stages.merge.search import chosen_sentence, require_limits, search_and_write, search_metrics
    from merging.request import shard_bytes

    log, stage = context.work / LOG, config.name or MergeStage.kind
    material = Material(
        {name: heldout_texts(corpus, name, "search") for name in (DOMAIN, GENERAL)},
        partial(start_token_of, corpus),
        context.seed,
    )
    found, chosen, report = search_and_write(
        request,
        models,
        search,
        config.gates,
        material,
        context.work,
        log,
        context.output / "model",
        context.progress,
        shard_bytes=shard_bytes(config.shard_size),
    )
    shutil.copyfile(log, context.output / "model" / LOG)
    metrics = _metrics(report, chosen, context)
    metrics |= search_metrics(found, config.gates, tuple(search.tasks), stage)
    if search.objective is not None:
        metrics[CHOSEN_BY] = chosen_by(search.objective.measure, chosen_tasks(search))
    metrics |= _analysed(chosen, models, context)
    context.progress.message(chosen_sentence(found, search.objective))
    require_limits(metrics, stage)
    return metrics


def _metrics(report: MergeReport, request: MergeRequest, context: Context) -> dict[str, Any]:
    """Return the library's report and every model's weight; say which tokens are out of reach."""
    if report.out_of_reach:
        context.progress.message(report.notes[-1])
    return asdict(report) | {
        "weights": {
            model.name: model.parameters["weight"] for model in request.models if "weight" in model.parameters
        }
    }


def _analysed(request: MergeRequest, models: Sequence[Candidate], context: Context) -> dict[str, Any]:
    """Measure the task vectors; without a base there are none."""
    from merging.analysis.analyse import analyse

    if request.base is None:
        return {}
    context.progress.message("measuring the task vectors")
    analysis = analyse(
        models[0], models[1:], lambda done, total: context.progress.update(done, total, "weights")
    )
    return {"analysis": asdict(analysis)}


def _folders(
    config: MergeConfig,
    inputs: Mapping[str, Artifact],
    contents: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> dict[str, ModelFolder]:
    """Return the models that are there, by their name in the merge.

    Args:
        contents: Reference -> fingerprint of its content.
        progress: Listener for a download. None: models are neither downloaded nor fingerprinted.

    Raises:
        ReferenceUnavailable: A referenced model cannot be had.
    """
    from merging.adapters import resolve_input

    names = {"base": str(config.base_name)}
    names |= {f"model:{place}": name for place, name in enumerate(config.model_names)}
    found = {
        names[role]: ModelFolder(artifact.path("model"), artifact.fingerprint)
        for role, artifact in inputs.items()
        if role in names
    }
    for model in config.external_models:
        reference = model.reference
        if progress is not None:
            mark = (contents or {}).get(reference) or fingerprint(reference)
            found[model.name] = ModelFolder(resolve_input(reference, progress), mark)
        elif Path(reference).is_dir():
            found[model.name] = ModelFolder(resolve_input(reference))
        elif reference in _fetched:
            found[model.name] = ModelFolder(_fetched[reference])
    return found


def _problems(config: MergeConfig, inputs: Mapping[str, Artifact]) -> Iterator[Problem]:
    """Report what does not fit together, with the weights in the middle of what is searched."""
    from merging.adapters import is_adapter
    from merging.check import check_fit, check_request
    from merging.plan import plan, read_inputs
    from merging.search import search_space

    try:
        if config.average is not None:
            too_few = list(missing_checkpoints(config.average, inputs))
            yield from too_few
            if too_few or not inputs:
                return
            request = average_request(config.average, inputs["training"], config.dtype)
        else:
            request = merge_request(config, _folders(config, inputs), seed=0)
        there = [model for model in request.inputs if model.folder != Path()]
        if request.base is not None and request.base not in there:  # adapters are read on top of the base
            there = [model for model in there if not is_adapter(model.folder)]
        candidates = read_inputs(request, there) if there else ()
        complete = len(there) == len(request.inputs)
        if (search := config.searching) is not None:
            space = search_space(
                request,
                candidates if complete else None,
                bounds=search.bounds,
                density=search.density,
                groups=search.groups,
            )
            request = space.request_at(space.centre)
        if complete:
            plan(request, candidates)
        else:
            check_request(request)
            check_fit(candidates)
    except CannotMerge as error:
        for problem in error.problems:
            yield Problem(problem, hint=error.hint)


def _search_problems(config: MergeConfig) -> Iterator[Problem]:
    """Report tasks and limits of a search that do not exist."""
    from cpt.stages.pretrain.probes import task_problems
    from cpt.training.features.gate_controller import limit_problems

    search = config.searching
    if search is None:
        return
    yield from objective_problems(search)
    for task in search.tasks:
        yield from (
            replace(problem, key=f"search.{problem.key}") for problem in task_problems(task, search.data)
        )
    probes: dict[str, Kind] = {DOMAIN: "text", GENERAL: "text", **dict.fromkeys(search.tasks, "task")}
    counted = Counter(gate.limit.probe for gate in config.gates)
    for name, count in counted.items():
        if count > 1:
            yield Problem(f"{name} has {count} limits", key="gates", hint="One is enough.")
    for number, gate in enumerate(config.gates):
        yield from limit_problems(gate.limit, f"gates.{number}", probes, under="search.tasks")


def _with_corpus(earlier: Sequence[UpstreamArtifact]) -> str:
    """Return the newest corpus, on whose held-out text weights are chosen."""
    try:
        return newest(earlier, CORPUS)
    except WiringError as error:
        hint = "Put a corpus stage before it, or give every model its weight."
        raise WiringError(replace(error.problem, key="search", hint=hint)) from None


def _with_model(name: str, earlier: Sequence[UpstreamArtifact], key: str) -> str:
    holders = [stage.name for stage in earlier if "model" in stage.kinds]
    if name in holders:
        return name
    known = any(stage.name == name for stage in earlier)
    message = f"`{name}` makes no model" if known else f"there is no earlier stage called `{name}`"
    raise WiringError(Problem(message, key=key, hint=f"Models are made by: {', '.join(holders)}."))


STAGE = MergeStage()
