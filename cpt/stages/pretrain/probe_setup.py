"""What a pretrain stage measures while it trains: its probes, as the monitor's settings ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.errors import Problem
from cpt.progress import Progress
from cpt.stages.corpus.checks import source_problem
from cpt.stages.corpus.config import Source
from cpt.stages.pretrain.early_end_probe import early_end_probe
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.probe_texts import ProbeContext, text_probes

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe
    from cpt.stages.pretrain.probe_sizes import Sizes


def build_probes(monitor: Monitor, sizes: Sizes, probed: ProbeContext, progress: Progress) -> list[Probe]:
    """Every probe that the settings ask for, texts first.

    Args:
        sizes: how much of each text is read.

    Raises:
        StageFailed: a task's data are not there, or the starting model samples nothing.
        DataError: a text has no documents.
    """
    from cpt.monitor.probes.new_tokens import NewTokensProbe

    texts = text_probes(monitor, sizes, probed, progress)
    probes: list[Probe] = [*texts, *_task_probes(monitor, probed, progress)]
    if monitor.drift is not None:
        probes.append(_drift_probe(monitor, probed, progress))
    probes += early_end_probe(monitor, probed, progress)
    if monitor.weights is not None:
        probes += _weights_probe(monitor, probed, progress)
    if probed.new_tokens:
        probes.append(NewTokensProbe(probed.new_tokens, monitor.regular))
    return probes


def monitor_problems(monitor: Monitor) -> list[Problem]:
    """What is wrong with the settings, as far as files and the catalogue of tasks tell."""
    found = (source_problem(key, source) or _empty(key, source) for key, source in monitor.sources())
    problems = [problem for problem in found if problem is not None]
    for name in monitor.tasks:
        problems += task_problems(name, monitor.data)
    return [replace(problem, key=f"monitor.{problem.key}") for problem in problems]


def _empty(key: str, source: Source) -> Problem | None:
    file = Path(source.path)
    if not file.is_file() or file.stat().st_size:
        return None
    hint = "Give it text to measure, or leave the source out."
    return Problem(f"{source.path} is empty", key=f"{key}.path", hint=hint)


def monitor_references(monitor: Monitor) -> list[str]:
    """Files of the texts, and the folder of the tasks' data."""
    return [
        *(source.path for _, source in monitor.sources()),
        *([monitor.data] if monitor.data is not None and monitor.tasks else []),
    ]


def planned_names(monitor: Monitor, held_out: Sequence[str], weights: bool, new_tokens: bool) -> str:
    """What will be read: "probes domain, general, piqa, weights within 5% of the training's work"."""
    names = [*held_out, *monitor.texts, *monitor.tasks]
    names += ["drift"] if monitor.drift is not None else []
    names += ["early-end"] if monitor.early_end is not None else []
    names += ["weights"] if monitor.weights is not None and weights else []
    names += ["new-tokens"] if new_tokens else []
    bound = "" if monitor.budget is None else f" within {100 * monitor.budget:g}% of the training's work"
    return f"probes {', '.join(names)}{bound}"


def _task_probes(monitor: Monitor, probed: ProbeContext, progress: Progress) -> Iterator[Probe]:
    from cpt.corpus import read_index
    from cpt.monitor.probes.task import TaskProbe
    from evals.scorer import make_scorer

    for name, wanted in monitor.tasks.items():
        progress.message(f"{name}: loading the task")
        start = read_index(probed.corpus).start_token
        items, grade, tokens = make_scorer(
            name, wanted.items, monitor.data, probed.folder, start, probed.seed
        )
        yield TaskProbe(name, items, grade, wanted.when(monitor.regular), tokens)


def task_problems(name: str, data: str | None) -> list[Problem]:
    """What keeps a task from being probed, as far as the catalogue and the data tell."""
    from evals.local_data import DataFolder
    from evals.preparation import source_of
    from evals.registry import suites
    from evals.scorer import find_choice_task

    entry = find_choice_task(name)
    if entry is None:
        known = {each.task for suite in suites().values() for each in suite.tasks}
        reason = "its score is no accuracy of choices" if name in known else "there is no such task"
        return [Problem(f"{name}: {reason}", key=f"tasks.{name}", hint="See cpt eval suites.")]
    source = source_of(entry)
    if data is None or not Path(data).is_dir() or source is None:
        return []
    if DataFolder(Path(data)).find(*source).complete:
        return []
    message = f"{data} does not hold the data of {name}"
    return [Problem(message, key="data", hint="See cpt eval suites NAME --data DIR.")]


def _drift_probe(monitor: Monitor, probed: ProbeContext, progress: Progress) -> Probe:
    from cpt.monitor.probes.drift import DriftProbe, as_text
    from cpt.stages.pretrain.samples import drift_samples

    assert monitor.drift is not None
    start, samples = drift_samples(monitor.drift, probed, progress)
    return DriftProbe(as_text(samples, start), monitor.drift.when(monitor.regular))


def _weights_probe(monitor: Monitor, probed: ProbeContext, progress: Progress) -> list[Probe]:
    from cpt.models.weights import stored_tensors
    from cpt.monitor.probes.weights import WeightsProbe

    assert monitor.weights is not None
    if probed.trainable.kind == "lora":
        progress.message("the update of the weights is not probed: an adapter trains beside them")
        return []
    model = probed.model
    names = {id(weight): name for name, weight in model.named_parameters()}
    embeddings, head = (
        names[id(matrix.weight)] for matrix in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    unknown = names.values() - stored_tensors(probed.folder).keys()
    if unknown:
        progress.message(
            f"the update of the weights is not probed: the model's files have other names ({min(unknown)})"
        )
        return []
    return [WeightsProbe(probed.folder, embeddings, head, monitor.weights.when(monitor.regular))]
