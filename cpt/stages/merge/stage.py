"""The merge stage: models put together, such as what was trained, back onto the base with a weight."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.corpus.texts import heldout_texts, start_token_of
from cpt.errors import CannotMerge, Problem
from cpt.monitor.reading import Kind
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
from cpt.stages.merge.averaging import average_request, missing, training_of, unkept
from cpt.stages.merge.config import MergeConfig, MergeSearch, Setting
from cpt.stages.merge.search import DOMAIN, GENERAL, LOG, Material

if TYPE_CHECKING:
    from cpt.training.place import Place
    from merging.candidates import Candidate
    from merging.plan import Plan
    from merging.request import MergeRequest

CORPUS = "corpus"
_FEWEST = 2
"""Documents of a text that a search needs: of one, nothing is known of the noise."""


class MergeStage(Stage[MergeConfig]):
    """Merges models of one architecture; their vocabularies are aligned first."""

    kind: ClassVar[str] = "merge"
    Config: ClassVar[type[StageConfig]] = MergeConfig
    consumes: ClassVar[tuple[str, ...]] = ("model",)
    produces: ClassVar[tuple[str, ...]] = ("model",)
    contract: ClassVar[int] = 3

    def wire(self, config: MergeConfig, earlier: Sequence[UpstreamArtifact]) -> dict[str, str]:
        """Role `base`, if there is one, `model:<place>` for each model, and `corpus` for a search.

        An average has the role `training` alone.
        """
        if config.average is not None:
            return {"training": training_of(config.average.of, earlier)}
        roles = {} if config.base is None else {"base": _with_model(config.base, earlier, "base")}
        for place, model in enumerate(config.models):
            roles[f"model:{place}"] = _with_model(model.from_, earlier, f"models.{place}.from")
        if config.searching is not None:
            roles[CORPUS] = _with_corpus(earlier)
        return roles

    def selects_on_heldout(self, config: MergeConfig) -> bool:
        """A search reads half of the held-out text."""
        return config.searching is not None

    def references(self, config: MergeConfig) -> list[str]:
        """The folder of the tasks' data."""
        search = config.searching
        return [] if search is None or search.data is None else [search.data]

    def check(self, config: MergeConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """Whether the method takes such models and parameters, and, of those that exist, whether they fit."""
        return [*_problems(config, inputs), *_search_problems(config)]

    def heldout_problems(self, config: MergeConfig, corpus: Artifact, halved: bool) -> list[Problem]:
        """A search needs half of the held-out text to choose weights by."""
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
        """How many merges are tried, and for what."""
        if config.searching is None:
            return ""
        budgets = f" so that {', '.join(gate.budget.text for gate in config.gates)}" if config.gates else ""
        return f"weights of at most {config.searching.points} merges{budgets}"

    def check_environment(
        self, config: MergeConfig, place: Place, upstream: Mapping[str, UpstreamConfigs]
    ) -> list[Problem]:
        """That the training whose checkpoints are averaged will keep none."""
        return [] if config.average is None else list(unkept(config.average, upstream.get("training", ())))

    def run(self, config: MergeConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Merge, and write the model with the vocabulary of the models.

        Raises:
            GateFailed: no weights that were tried are shown to keep the budgets; the best compromise is
                written.
        """
        from merging.plan import plan, read_inputs

        request = _request(config, inputs, context.seed)
        parents = read_inputs(request)
        if config.searching is not None:
            corpus = inputs[CORPUS].path("corpus")
            return _searched(config, config.searching, request, parents, corpus, context)
        what = config.method if config.average is None else config.average.title
        metrics = _write(plan(request, parents), what, context)
        return {**metrics, "weights": _weights(request), **_analysed(request, parents, context)}


def _searched(
    config: MergeConfig,
    search: MergeSearch,
    request: MergeRequest,
    parents: Sequence[Candidate],
    corpus: Path,
    context: Context,
) -> dict[str, Any]:
    """Choose the weights and merge with them."""
    from cpt.stages.merge.search import chosen_sentence, find_weights, require_budgets, search_metrics
    from merging.plan import plan

    log, stage = context.work / LOG, config.name or MergeStage.kind
    material = Material(
        {name: heldout_texts(corpus, name, "search") for name in (DOMAIN, GENERAL)},
        partial(start_token_of, corpus),
        context.seed,
    )
    found = find_weights(
        request, parents, search, config.gates, material, context.work, log, context.progress
    )
    chosen = found.space.request_at(found.chosen.values)
    metrics = _write(plan(chosen, parents), config.method, context, chosen_sentence(found))
    shutil.copyfile(log, context.output / "model" / LOG)
    metrics |= {
        "weights": _weights(chosen),
        **search_metrics(found, config.gates, tuple(search.tasks), stage),
    }
    metrics |= _analysed(chosen, parents, context)
    context.progress.message(chosen_sentence(found))
    require_budgets(metrics, stage)
    return metrics


def _write(plan: Plan, what: str, context: Context, chosen: str | None = None) -> dict[str, Any]:
    """Write a merge; the library's report as plain data."""
    from merging.run import run

    context.progress.message(f"merging tensor by tensor: {what}")
    report = run(
        plan,
        context.output / "model",
        chosen=chosen,
        progress=lambda done, total: context.progress.update(done, total, "bytes"),
    )
    if plan.reach_note:
        context.progress.message(plan.reach_note)
    return asdict(report)


def _analysed(request: MergeRequest, parents: Sequence[Candidate], context: Context) -> dict[str, Any]:
    """The task vectors, where there is a base to have them from."""
    from merging.analysis.analyse import analyse

    if request.base is None:
        return {}
    context.progress.message("measuring the task vectors")
    analysis = analyse(
        parents[0], parents[1:], lambda done, total: context.progress.update(done, total, "weights")
    )
    return {"analysis": asdict(analysis)}


def _weights(request: MergeRequest) -> dict[str, Setting]:
    """Every model's weight, as far as it has one."""
    return {
        model.name: model.parameters["weight"] for model in request.models if "weight" in model.parameters
    }


def _request(config: MergeConfig, inputs: Mapping[str, Artifact], seed: int) -> MergeRequest:
    """What is asked of the library; an artifact that is not there yet has only its name."""
    from merging.request import InputModel, MergeRequest

    if config.average is not None:
        return average_request(config.average, inputs["training"], config.dtype)

    def parent(role: str, name: str, settings: Mapping[str, Setting]) -> InputModel:
        if role not in inputs:
            return InputModel(name, Path(), parameters=settings)
        artifact = inputs[role]
        return InputModel(name, artifact.path("model"), artifact.fingerprint, settings)

    return MergeRequest(
        method=config.method,
        models=tuple(
            parent(f"model:{place}", model.from_, model.settings())
            for place, model in enumerate(config.models)
        ),
        base=None if config.base is None else parent("base", config.base, {}),
        parameters=config.parameters,
        tokenizer=config.tokenizer,
        settings=config.settings,
        dtype=config.dtype,
        compute_dtype=config.compute_dtype,
        seed=seed,
    )


def _problems(config: MergeConfig, inputs: Mapping[str, Artifact]) -> Iterator[Problem]:
    """Whether the models fit together, with the weights in the middle of what is searched."""
    from merging.plan import check_request, plan, read_inputs
    from merging.search import search_space

    if config.average is not None:
        too_few = list(missing(config.average, inputs))
        yield from too_few
        if too_few or not inputs:
            return
    request = _request(config, inputs, seed=0)
    complete = config.average is not None or len(inputs.keys() - {CORPUS}) == len(request.parents)
    try:
        candidates = read_inputs(request) if complete else None
        if (search := config.searching) is not None:
            space = search_space(
                request, candidates, bounds=search.bounds, density=search.density, groups=search.groups
            )
            request = space.request_at(space.centre)
        plan(request, candidates) if complete else check_request(request)
    except CannotMerge as error:
        for problem in error.problems:
            yield Problem(problem, hint=error.hint)


def _search_problems(config: MergeConfig) -> Iterator[Problem]:
    """Whether weights can be chosen: tasks and budgets that exist."""
    from cpt.stages.pretrain.gates import budget_problems
    from cpt.stages.pretrain.probe_setup import task_problems

    search = config.searching
    if search is None:
        return
    for task in search.tasks:
        yield from (
            replace(problem, key=f"search.{problem.key}") for problem in task_problems(task, search.data)
        )
    probes: dict[str, Kind] = {DOMAIN: "text", GENERAL: "text", **dict.fromkeys(search.tasks, "task")}
    counted = Counter(gate.budget.probe for gate in config.gates)
    for name, count in counted.items():
        if count > 1:
            yield Problem(f"{name} has {count} budgets", key="gates", hint="One is enough.")
    for number, gate in enumerate(config.gates):
        yield from budget_problems(gate.budget, f"gates.{number}", probes, under="search.tasks")


def _with_corpus(earlier: Sequence[UpstreamArtifact]) -> str:
    """The newest corpus, by whose held-out text weights are chosen."""
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
