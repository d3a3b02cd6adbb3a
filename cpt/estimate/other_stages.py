"""Estimate the work of stages that train no model: sampling, distillation, search of a merge, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cpt.corpus.self_generated import SAMPLED_COST
from cpt.corpus.workers import process_count
from cpt.errors import CptError
from cpt.estimate.devices import this_machine
from cpt.estimate.model import architecture
from cpt.estimate.simulate import explained
from cpt.estimate.simulated_model import build
from cpt.estimate.stage import Estimate
from cpt.monitor.probe_work import FORWARD
from cpt.recipe.plan import Plan
from cpt.recipe.presets import SAMPLED_PER_SECOND
from cpt.recipe.schema import Recipe, Step
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.evaluate.config import EvaluateConfig, names_stage
from cpt.stages.merge.config import MergeConfig
from cpt.stages.vocabulary.config import VocabularyConfig

_TEXTS = 2
"""Held-out texts that merges and evaluations read: of the domain, and general."""

_BACKWARD = 3
"""Forward passes that a forward and a backward pass take as long as."""

SAMPLED_FLOPS = SAMPLED_PER_SECOND * 2 * 134_515_008 / 2
"""Operations per second of a CPU core that samples, at two for each weight and token.

Measured with SmolLM2-135M on two cores. It is rough: on another processor the quickstart's text took 45 s
where this says 101 s.
"""


@dataclass(frozen=True)
class OtherWork:
    """Work of a stage that trains no model.

    Attributes:
        stage: Name of the stage.
        what: The work in words.
        read: Tokens in forward passes; 0 if nothing is read, or their number is not known before.
        sampled: Tokens that the model samples.
        uncounted: What takes time and is not counted, in words; "" if nothing is.
        seconds: Duration; None if it is not known.
        cost: Cost in the currency of the price; None without a price or a duration.
    """

    stage: str
    what: str
    read: int = 0
    sampled: int = 0
    uncounted: str = ""
    seconds: float | None = None
    cost: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return JSON data, in tokens and seconds."""
        return asdict(self)


def other_work(recipe: Recipe, trained: Iterable[Estimate]) -> list[OtherWork]:
    """Return the work of all stages that train no model, in the recipe's order.

    They run on one device. A token that is read takes a third of the time of a trained one. Sampling makes
    one token of each text after the other, so that no peak rate of a GPU tells its time: there it is None.

    Args:
        recipe: Recipe of the run.
        trained: Estimates of its trainings, whose first known rate is that of the device.
    """
    known = next((each for each in trained if each.duration), None)
    return [_timed(work, known) for step in recipe.steps for work in _work_of(step)]


def sampling_seconds(plan: Plan) -> dict[str, float]:
    """Return about how long each corpus stage that will run samples text on this machine, for `cpt plan`.

    Batches that are kept from an earlier run are not subtracted. Empty where a GPU samples, whose rate is
    not known, and where the base is not local or no causal language model.
    """
    tokens = {
        entry.step.name: sum(work.sampled for work in _work_of(entry.step))
        for entry in plan.to_run
        if isinstance(entry.step.located, CorpusConfig)
    }
    if not any(tokens.values()) or this_machine().is_gpu:
        return {}
    try:
        config = architecture(plan.recipe.base, fetch=False)
        if config is None:
            return {}
        with explained(config), torch.device("meta"):
            weights = sum(parameter.numel() for parameter in build(config).parameters())
    except CptError:  # `cpt estimate` and the run report it
        return {}
    rate = SAMPLED_FLOPS * process_count("auto") / (2 * weights)
    return {name: count / rate for name, count in tokens.items() if count}


def _timed(work: OtherWork, known: Estimate | None) -> OtherWork:
    if known is None or known.duration is None or not (work.read or work.sampled):
        return work
    if work.sampled and known.on_gpu:
        return work
    job = known.planned.job
    rate = known.duration.tokens_per_second / job.processes
    seconds = (FORWARD * work.read + SAMPLED_COST * work.sampled) / rate
    cost = None if known.price is None else seconds / 3600 * known.price * job.processes
    return OtherWork(**asdict(work) | {"seconds": seconds, "cost": cost})


def _work_of(step: Step) -> Iterator[OtherWork]:
    """Yield what a stage does; nothing for trainings, the report, and stages without a model."""
    config: Any = step.located
    if isinstance(config, CorpusConfig):
        tokens = sum(made.tokens for _, made in config.self_generated())
        rated = "rating of all documents" if config.select and config.select.by.kind == "base" else ""
        if tokens or rated:
            what = "samples replay text" if tokens else "rates documents"
            yield OtherWork(step.name, what, sampled=tokens, uncounted=rated)
    elif isinstance(config, VocabularyConfig):
        yield from _distillation(step.name, config)
    elif isinstance(config, MergeConfig) and (search := config.searching) is not None:
        asked = bool(search.tasks) or search.objective is not None
        read = (search.points + 1) * search.tokens * _TEXTS  # and the base
        yield OtherWork(
            step.name, f"measures {search.points} merges", read, uncounted="its tasks" if asked else ""
        )
    elif isinstance(config, EvaluateConfig):
        yield _evaluation(step.name, config)


def _distillation(name: str, config: VocabularyConfig) -> Iterator[OtherWork]:
    """Yield the work of learning new tokens' rows from snippets of text."""
    method = config.embeddings.method
    parameters = config.embeddings.parameters(config.embeddings.model_extra)
    if not hasattr(parameters, "snippets_per_token"):
        return
    if config.extend is None:  # how many tokens are new is known when both vocabularies are
        yield OtherWork(name, f"{method} of new tokens", uncounted="its snippets")
        return
    snippets = config.extend.tokens * parameters.snippets_per_token
    passes = 1 + _BACKWARD * getattr(parameters, "epochs", 0)
    read = snippets * parameters.snippet_tokens * passes
    yield OtherWork(name, f"{method} of {config.extend.tokens:,} tokens, at most", read)


def _evaluation(name: str, config: EvaluateConfig) -> OtherWork:
    """Return the reading of held-out text by all models; what tasks and suites read is not known before."""
    others = [name for name in config.against if not names_stage(name)]  # of any size
    models = len(config.against) + 1 - len(others)
    read = models * _TEXTS * config.heldout_tokens
    uncounted = [f"task {task.name}" for task in config.tasks]
    uncounted += [f"suite {suite}" for suite in config.suites]
    uncounted += [f"reading by {name}" for name in others]
    return OtherWork(name, f"{models} models read held-out text", read, uncounted=", ".join(uncounted))
