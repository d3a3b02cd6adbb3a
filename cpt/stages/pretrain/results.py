"""Write the results of a pretrain stage: model, logs, ledger, and figures of its probes and limits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.documents import PART
from cpt.errors import StageFailed
from cpt.monitor.gates.gate import Gate
from cpt.progress import Progress
from cpt.sources import DOMAIN, WITHOUT_LOSS
from cpt.stages.base import Context
from cpt.stages.choosing import CHOSEN_BY, ChosenBy, chosen_by
from cpt.stages.gates import require_held
from cpt.stages.pretrain.config import Monitor, PretrainConfig
from cpt.stages.pretrain.probe_texts import EARLY_END, ProbeContext, samples_read
from cpt.training.features.skill_it import UPDATES
from cpt.training.features.step_log import STEPS
from cpt.training.features.trackers import TENSORBOARD

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.monitor.probes.base import Probe
    from cpt.stages.pretrain.samples import Continued
    from cpt.training.settings import Settings
    from cpt.training.state import Result


def save_model(model: Any, source: Path, folder: Path, written: Path | None = None) -> None:
    """Write the trained weights, with the tokenizer and the generation settings of the model before.

    Args:
        written: folder of the trained weights, which is moved; None if the model has them.
    """
    if written is None:
        model.save_pretrained(folder)
    else:
        shutil.move(written, folder)
    for file in source.iterdir():
        if file.name == "config.json":
            continue  # save_pretrained has written it, with the data type of what it saved
        if (
            file.is_file()
            and not file.name.startswith("model")
            and file.suffix in {".json", ".jinja", ".model", ".txt"}
        ):
            shutil.copyfile(file, folder / file.name)


def save_training(
    config: PretrainConfig,
    settings: Settings,
    result: Result,
    stream: TrainingStream,
    context: Context,
    probe_context: ProbeContext,
    probes: Sequence[Probe],
    continued: Continued | None,
) -> dict[str, Any]:
    """Write the training folder, and return the stage's metrics.

    Args:
        continued: continuations of the model before and after training, if there are any.
    """
    from cpt.stages.pretrain.samples import seconds_spent
    from cpt.training.json_lines import write_lines

    folder = context.output / "training"
    folder.mkdir()
    shutil.copyfile(context.work / STEPS, folder / STEPS)
    write_lines(folder / "probes.jsonl", (reading.as_json() for reading in result.readings))
    write_lines(folder / "anomalies.jsonl", result.anomalies)
    write_lines(folder / "actions.jsonl", result.actions)
    if result.mixture:
        write_lines(folder / UPDATES, result.mixture)
    if (context.work / TENSORBOARD).is_dir():
        shutil.copytree(context.work / TENSORBOARD, folder / TENSORBOARD)
    if (context.work / "adapter").is_dir():
        shutil.copytree(context.work / "adapter", folder / "adapter")
    ledger = _ledger(result, stream)
    for name, row in ledger.items():
        row.update(_listed(name, row, result, stream, probe_context.corpus))
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=2))
    probing = result.probe_seconds + _save_samples(continued, folder)
    probing += seconds_spent(context.work, "samples.json", "drift.json")
    monitoring = _monitoring(settings, result, probes, probing)
    _report_cost(monitoring, context.progress)
    summary = {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens / result.seconds,
        "schedule": _phases(settings),
        "mixture": _mixture(result, stream) if config.mixture else [],
        "probe_seconds": probing,
        "checkpoint_seconds": result.checkpoint_seconds,
        "anomalies": len(result.anomalies),
        "monitor": monitoring,
        "samples": samples_read(probes),
        **probe_figures(config.gates, result, config.monitor.tolerance, settings.stage),
        **_choice(config, probes),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return {**summary, "ledger": ledger}


def _choice(config: PretrainConfig, probes: Sequence[Probe]) -> dict[str, Any]:
    """Return the tasks by half of whose items gates acted, if there are any."""
    from cpt.monitor.probes.task import TaskProbe

    names = config.choosing_tasks
    read = [probe for probe in probes if isinstance(probe, TaskProbe) and probe.name in names]
    tasks = [ChosenBy(probe.name, probe.source, probe.data) for probe in read]
    return {CHOSEN_BY: chosen_by("p_gold", tasks)} if tasks else {}


def _ledger(result: Result, stream: TrainingStream) -> dict[str, dict[str, Any]]:
    """Return the ledger by source, in which each source with named parts has theirs."""
    parts = stream.parts(result.steps, result.dropped)
    ledger: dict[str, dict[str, Any]] = {}
    for name, row in result.ledger.items():
        source = name.partition(PART)[0]
        if source == name:
            ledger[name] = {**row, "parts": parts[name]} if name in parts else dict(row)
        else:
            ledger.setdefault(source, {"parts": {}})["parts"][name] = dict(row)
    domain = ledger[DOMAIN]
    if DOMAIN not in result.ledger:  # its parts were read apart
        rows = domain.pop("parts")
        counted = ("sequences", "tokens", WITHOUT_LOSS)
        for key in (*counted, *(f"skipped_{key}" for key in counted)):
            if any(key in row for row in rows.values()):
                domain[key] = sum(row.get(key, 0) for row in rows.values())
        domain["epochs"] = domain["sequences"] / sum(map(stream.size, rows))
        domain["parts"] = rows
    return ledger


SAMPLED = "self_generated"
"""Name of sampled text among listed sources."""


def _listed(
    source: str, row: Mapping[str, Any], result: Result, stream: TrainingStream, corpus: Path
) -> dict[str, Any]:
    """Return the trained tokens and epochs of each listed source, where a source has several: `listed`.

    Raises:
        StageFailed: they do not add up to the ledger.
    """
    import numpy as np

    from cpt.corpus.document_columns import ListedSources

    listed = ListedSources(corpus, source, "train")
    names = listed.names
    if len(names) < 2:
        return {}
    read = [name for name in result.ledger if name.partition(PART)[0] == source]
    counts = [stream.tokens_by_group(name, listed, len(names), result.steps, result.dropped) for name in read]
    trained, of_an_epoch = np.sum(counts, axis=0)
    if trained.sum() != row["tokens"]:
        raise StageFailed(
            f"by the ledger {row['tokens']:,} tokens of {source} were trained on, by its listed sources "
            f"{trained.sum():,}",
            hint="Please report this.",
        )
    epochs = trained / np.maximum(of_an_epoch, 1)
    rows = zip(names, trained.tolist(), epochs.tolist(), strict=True)
    return {"listed": {name or SAMPLED: {"tokens": tokens, "epochs": each} for name, tokens, each in rows}}


def _mixture(result: Result, stream: TrainingStream) -> list[dict[str, Any]]:
    """Return what was trained on by phase of the mixture and source.

    Raises:
        StageFailed: it does not add up to the ledger.
    """
    phases = stream.by_phase(result.steps, result.dropped)
    for name, row in result.ledger.items():
        for key in ("sequences", "tokens"):
            by_phase = sum(phase["sources"][name][key] for phase in phases)
            if by_phase != row[key]:
                raise StageFailed(
                    f"by the ledger {row[key]:,} {key} of {name} were trained on, by its phases {by_phase:,}",
                    hint="Please report this.",
                )
    return phases


def _save_samples(continued: Continued | None, folder: Path) -> float:
    """Write the continuations of the model before and after training; return the seconds of the second."""
    if continued is None:
        return 0.0
    text = json.dumps(continued.samples, indent=2, ensure_ascii=False)
    (folder / "samples.json").write_text(text, encoding="utf-8")
    return continued.seconds


def _monitoring(
    settings: Settings, result: Result, probes: Sequence[Probe], seconds: float
) -> dict[str, Any]:
    """Return the work and the time of probes, and the number of readings made and due."""
    work = settings.probe_work.other_work if settings.probe_work else 0.0
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
        "probe_share": settings.probe_work.share if settings.probe_work else None,
        "work": work / settings.tokens,
        "share": seconds / result.seconds,
        "probes": found,
    }


def _report_cost(monitoring: Mapping[str, Any], progress: Progress) -> None:
    """Report skipped readings, and required readings that exceeded the probe share."""
    allowed, work = monitoring["probe_share"], monitoring["work"]
    left_out = [
        f"{name} {probe['wanted'] - probe['readings']} of {probe['wanted']}"
        for name, probe in monitoring["probes"].items()
        if probe["readings"] < probe["wanted"]
    ]
    if left_out:
        progress.message(
            f"the probe share of {allowed:.1%} left out readings: {', '.join(left_out)}; the values "
            "between the readings that were made are not known"
        )
    if allowed is not None and work > allowed:
        progress.message(
            f"probes did {work:.1%} of the training's work, over their share of {allowed:.1%}: first and "
            "last readings, those that gates or online mixing need, and samples are never left out; smaller "
            "ones are cheaper (monitor.tokens, monitor.samples)"
        )


def _phases(settings: Settings) -> dict[str, Any]:
    """Return the schedule's phases, each with the number of steps (or tokens) before it."""
    schedule = settings.config.schedule
    phases = schedule.phases(settings.tokens if schedule.unit == "tokens" else settings.steps)
    begins = [{"name": phase.name, "first": phase.first} for phase in phases]
    return {"kind": schedule.kind, "unit": schedule.unit, "phases": begins}


def probe_figures(gates: Sequence[Gate], result: Result, tolerance: float, stage: str = "") -> dict[str, Any]:
    """Return the figures of a run's probes for its summary: gates, stability, continual, and an early end.

    They use the readings up to the weights that are the result. A limit for which `fail` has ended the run
    is broken: it was shown to be, at any number of interim looks.
    """
    from cpt.monitor.continual import continual
    from cpt.monitor.gates import judge
    from cpt.monitor.stability import stability

    ended = result.ended or {}
    last = ended.get("result_step", result.steps)
    readings = [reading for reading in result.readings if reading.step <= last]
    judged = judge(gates, readings, 1.0, tolerance, stage=stage)
    if ended.get("action") == "fail":
        judged = [
            replace(j, verdict="broken", why=ended["why"]) if j.key == ended["key"] else j for j in judged
        ]
    return {
        "stability": {name: asdict(gap) for name, gap in stability(readings, tolerance).items()},
        "continual": {name: asdict(figures) for name, figures in continual(readings).items()},
        "gates": [judgement.as_json() for judgement in judged],
        "ended": result.ended,
    }


def require_limits(metrics: Mapping[str, Any], monitor: Monitor, stage: str) -> None:
    """Raise if a limit is not held at the end of a run and its gate does more than warn.

    Raises:
        GateFailed: a limit is broken. GateNotShown: one is not shown to be held. Both name all of them.
    """

    def setting(probe: str) -> str:
        if probe in monitor.tasks:
            return f"{stage}.monitor.tasks.{probe}.items"
        if probe in monitor.texts:
            return f"{stage}.monitor.texts.{probe}.tokens"
        of_its_own = {"drift": "drift.tokens", EARLY_END: "early_end.tokens"}
        return f"{stage}.monitor.{of_its_own.get(probe, 'tokens')}"

    remedy = "Use more replay, a lower rate or fewer tokens"
    require_held(metrics, setting, remedy=remedy, kept="The result is kept.")
