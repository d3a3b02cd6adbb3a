"""Build the probes that the monitor's settings ask for, and find what keeps them from being read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.corpus.texts import has_texts, heldout_texts, shuffled
from cpt.errors import DataError, Problem
from cpt.halves import Half
from cpt.monitor.gates.gate import Gate, Stop
from cpt.progress import Progress
from cpt.stages.choosing import choice_problems
from cpt.stages.corpus.checks import source_problem
from cpt.stages.corpus.source_config import Source
from cpt.stages.pretrain.config import Monitor
from cpt.stages.pretrain.probe_texts import ProbeContext, text_probes
from cpt.stages.pretrain.samples import ends_of

if TYPE_CHECKING:
    from cpt.monitor.probes.base import Probe
    from cpt.monitor.probes.early_end import EarlyEndProbe
    from cpt.stages.pretrain.probe_plan import Sizes


SOURCES = ("general", "domain")
"""Texts for the probe of early ends: the first that is held out. Forgetting shows in general text."""


def early_end_probe(monitor: Monitor, probe_context: ProbeContext, progress: Progress) -> list[EarlyEndProbe]:
    """Return the probe of early ends, if the settings ask for it and the text allows it."""
    from cpt.corpus import read_index
    from cpt.models.tokenizer import load_tokenizer
    from cpt.monitor.probes.early_end import EarlyEndProbe, beginnings
    from cpt.stages.corpus.checks import window_for

    if monitor.early_end is None:
        return []
    ends = ends_of(probe_context)
    source = next((name for name in SOURCES if has_texts(probe_context.corpus, name, "heldout")), None)
    if not ends or source is None:
        progress.message("ends in mid-sentence are not probed: no token is known to end a text")
        return []
    try:
        found = beginnings(
            load_tokenizer(probe_context.folder),
            shuffled(heldout_texts(probe_context.corpus, source), probe_context.seed),
            window_for(probe_context.folder, monitor.window),
            read_index(probe_context.corpus).start_token,
            monitor.early_end_tokens,
        )
    except DataError as error:
        progress.message(f"ends in mid-sentence are not probed: {error.message}")
        return []
    return [EarlyEndProbe(found, ends, monitor.early_end.when(monitor.regular))]


def build_probes(
    monitor: Monitor, sizes: Sizes, probe_context: ProbeContext, progress: Progress
) -> list[Probe]:
    """Return every probe that the settings ask for, texts first.

    Args:
        sizes: number of tokens that are read of each text.

    Raises:
        StageFailed: a task's data are not there, or the starting model samples nothing.
        DataError: a text has no documents.
    """
    from cpt.monitor.probes.new_tokens import NewTokensProbe

    texts = text_probes(monitor, sizes, probe_context, progress)
    probes: list[Probe] = [*texts, *_task_probes(monitor, probe_context, progress)]
    if monitor.drift is not None:
        probes.append(_drift_probe(monitor, probe_context, progress))
    probes += early_end_probe(monitor, probe_context, progress)
    if monitor.weights is not None:
        probes += _weights_probe(monitor, probe_context, progress)
    if probe_context.new_tokens:
        probes.append(NewTokensProbe(probe_context.new_tokens, monitor.regular))
    return probes


def monitor_problems(monitor: Monitor, gates: Sequence[Gate] = ()) -> list[Problem]:
    """Return what is wrong with the settings, by the files and the registry of tasks.

    Args:
        gates: gates, whose choice of a result by a task is checked as well.
    """
    found = (source_problem(key, source) or _empty(key, source) for key, source in monitor.sources())
    problems = [problem for problem in found if problem is not None]
    for name in monitor.tasks:
        problems += task_problems(name, monitor.data)
    problems += _p_gold_problems(monitor)
    problems = [replace(problem, key=f"monitor.{problem.key}") for problem in problems]
    return problems + [
        Problem(
            f"the result cannot be chosen by the accuracy of {gate.by}",
            key=f"gates.{number}.by",
            hint=f"Set monitor.tasks.{gate.by}.measure: p_gold; it reads half of the items, and evaluate "
            "reports the other half.",
        )
        for number, gate in enumerate(gates)
        if isinstance(gate, Stop) and gate.by in monitor.tasks
        if monitor.tasks[gate.by].measure == "accuracy"
    ]


def _p_gold_problems(monitor: Monitor) -> list[Problem]:
    """Return the reasons why tasks cannot be measured by p_gold on half of their items."""
    from evals.halves import FEWEST
    from evals.scorer import find_choice_task

    tasks = {name: task for name, task in monitor.tasks.items() if task.measure == "p_gold"}
    few = [
        Problem(
            f"{task.items} items of {name} are too few to choose by",
            key=f"tasks.{name}.items",
            hint=f"Give it {FEWEST} or more.",
        )
        for name, task in tasks.items()
        if task.items < FEWEST
    ]
    entries = [entry for name in tasks if (entry := find_choice_task(name)) is not None]
    return few + choice_problems(entries, monitor.data, lambda name: f"tasks.{name}")


def _empty(key: str, source: Source) -> Problem | None:
    file = Path(source.path)
    if not file.is_file() or file.stat().st_size:
        return None
    hint = "Give it text to measure, or leave the source out."
    return Problem(f"{source.path} is empty", key=f"{key}.path", hint=hint)


def monitor_references(monitor: Monitor) -> list[str]:
    """Return the files of the texts, and the folder of the tasks' data."""
    return [
        *(source.path for _, source in monitor.sources()),
        *([monitor.data] if monitor.data is not None and monitor.tasks else []),
    ]


def planned_names(monitor: Monitor, held_out: Sequence[str], weights: bool, new_tokens: bool) -> str:
    """Describe what will be read: "probes domain, piqa, weights within 5% of the training's work"."""
    names = [*held_out, *monitor.texts, *monitor.tasks]
    names += ["drift"] if monitor.drift is not None else []
    names += ["early-end"] if monitor.early_end is not None else []
    names += ["weights"] if monitor.weights is not None and weights else []
    names += ["new-tokens"] if new_tokens else []
    bound = (
        ""
        if monitor.probe_share is None
        else f" within {100 * monitor.probe_share:g}% of the training's work"
    )
    return f"probes {', '.join(names)}{bound}"


def _task_probes(monitor: Monitor, probe_context: ProbeContext, progress: Progress) -> Iterator[Probe]:
    from cpt.corpus import read_index
    from evals.scorer import make_scorer

    for name, wanted in monitor.tasks.items():
        progress.message(f"{name}: loading the task")
        start = read_index(probe_context.corpus).start_token
        half: Half | None = "search" if wanted.measure == "p_gold" else None
        scorer = make_scorer(
            name, wanted.items, monitor.data, probe_context.folder, start, probe_context.seed, half
        )
        yield scorer.probe(wanted.when(monitor.regular), wanted.measure)


def task_problems(name: str, data: str | None) -> list[Problem]:
    """Return what keeps a task from being probed, by the registry and the data."""
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


def _drift_probe(monitor: Monitor, probe_context: ProbeContext, progress: Progress) -> Probe:
    from cpt.monitor.probes.drift import DriftProbe, as_text
    from cpt.stages.pretrain.samples import drift_samples

    assert monitor.drift is not None
    start, samples = drift_samples(monitor.drift, probe_context, progress)
    return DriftProbe(as_text(samples, start), monitor.drift.when(monitor.regular))


def _weights_probe(monitor: Monitor, probe_context: ProbeContext, progress: Progress) -> list[Probe]:
    from cpt.models.weights import stored_tensors
    from cpt.monitor.probes.weights import WeightsProbe

    assert monitor.weights is not None
    if not probe_context.trainable.moves_own_weights:
        what = "an adapter trains" if probe_context.trainable.kind == "lora" else "added layers train"
        progress.message(f"the update of the weights is not probed: {what} beside them")
        return []
    model = probe_context.model
    names = {id(weight): name for name, weight in model.named_parameters()}
    embeddings, head = (
        names[id(matrix.weight)] for matrix in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    unknown = names.values() - stored_tensors(probe_context.folder).keys()
    if unknown:
        progress.message(
            f"the update of the weights is not probed: the model's files have other names ({min(unknown)})"
        )
        return []
    return [WeightsProbe(probe_context.folder, embeddings, head, monitor.weights.when(monitor.regular))]
