"""`cpt estimate`: memory, time and cost of a recipe's training before it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cpt.cli.form import duration, number, plural, size
from cpt.cli.options import DEFAULT_RUNS, Json, Overrides, RecipeArgument, Runs
from cpt.cli.output import out, print_json, rows
from cpt.cli.quiet import diverted
from cpt.errors import UsageError
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.schema import Recipe, Step
from cpt.recipe.store import Store
from cpt.stages.base import Artifact

if TYPE_CHECKING:
    from cpt.estimate.calibration import Calibration
    from cpt.estimate.cost import Duration
    from cpt.estimate.device import Device
    from cpt.estimate.fit import Fit
    from cpt.estimate.memory import Memory
    from cpt.estimate.recipe import Planned

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class _Wanted:
    """What the command line asks for."""

    device: Device
    count: int
    limit: int
    price: float | None
    calibrate: bool
    suggest: bool


@dataclass(frozen=True)
class _Estimate:
    """What is predicted for one stage."""

    planned: Planned
    memory: Memory
    limit: int
    fit: Fit | None
    suggested: bool
    flops_per_token: float
    duration: Duration | None
    calibration: Calibration | None
    cost: float | None

    def as_json(self) -> dict[str, Any]:
        from cpt.estimate.fit import fits

        job, memory = self.planned.job, self.memory
        return {
            "stage": self.planned.step.name,
            "peak_bytes": memory.peak,
            "moment": memory.moment,
            "parts": dict(memory.parts),
            "moments": {name: dict(parts) for name, parts in memory.moments.items()},
            "batch_sequences": len(job.sequences),
            "micro_batch_sequences": job.micro_batch,
            "accumulation": job.accumulation,
            "limit_bytes": self.limit,
            "fits": fits(memory.peak, self.limit),
            "suggestion": _suggestion(self.fit) if self.suggested else None,
            "steps": job.steps,
            "tokens": job.tokens,
            "flops_per_token": self.flops_per_token,
            "time": asdict(self.duration) if self.duration else None,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "cost": self.cost,
            "assumptions": list(self.planned.assumptions),
        }


def _suggestion(fit: Fit | None) -> dict[str, int] | None:
    if fit is None:
        return None
    return {
        "micro_batch_sequences": fit.micro_batch,
        "accumulation": fit.accumulation,
        "peak_bytes": fit.peak,
    }


def estimate(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="A GPU by name: h100, a100, l4, rtx-4090, …")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", min=1, help="How many of them.")] = 1,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Price of one GPU (or of this machine) per hour.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="Memory to fit in: 80GB, 24GiB; else the device's."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", metavar="", help="Train for some seconds here, to tell the time."),
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Predict peak memory by part, time and cost of every pretrain stage, without training.

    Example: cpt estimate medical.yaml --gpu h100 --price 2.5
    """
    from cpt.estimate.device import gpu as named
    from cpt.estimate.device import this_machine

    if gpu is None and gpus > 1:
        raise UsageError("--gpus counts GPUs of one name", hint="Name it: --gpu h100 --gpus 8.")
    if gpu is not None and calibrate:
        raise UsageError("--calibrate measures this machine, not a GPU by name", hint="Leave one of them out.")
    device = named(gpu) if gpu else this_machine()
    limit = device.memory_bytes if memory is None else bytes_of(memory)
    wanted = _Wanted(device, gpus, limit, price, calibrate, bool(gpu or memory))
    checked = load(recipe, overrides or ())
    with diverted(runs / checked.name / "libraries.log"):
        found = _estimates(checked, Store(runs / checked.name), wanted)
    if as_json:
        print_json(
            {
                "name": checked.name,
                "device": asdict(device) | {"count": gpus},
                "stages": [each.as_json() for each in found],
            }
        )
    else:
        _print(checked, found, wanted)


def bytes_of(text: str) -> int:
    """Bytes that `80GB`, `24 GiB` or `1.5e9` stand for.

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if match is None or value <= 0:
        raise UsageError(f"--memory: `{text}` is no size", hint="Write 80GB or 24GiB.")
    return round(value * (_BINARY if match[3] else _UNITS)[match[2]])


def memory_line(recipe: Recipe, step: Step, artifacts: Mapping[str, Artifact]) -> str:
    """`4.9 GB of memory at the peak`, for `cpt plan`; empty when the model is not at hand."""
    from cpt.estimate.device import this_machine
    from cpt.estimate.memory import memory_of
    from cpt.estimate.recipe import plan_job

    planned = plan_job(recipe, step, artifacts, fetch=False)
    if planned is None:
        return ""
    device = this_machine()
    return f"about {size(memory_of(planned.job, device).peak)} of memory at the peak (cpt estimate tells more)"


def _estimates(recipe: Recipe, store: Store, wanted: _Wanted) -> list[_Estimate]:
    from cpt.estimate.recipe import plan_job, pretrain_steps

    training = pretrain_steps(recipe)
    if not training:
        raise UsageError("the recipe has no pretrain stage, so there is nothing to estimate")
    entries = make_plan(recipe, store).entries
    artifacts = {entry.step.name: entry.artifact for entry in entries if entry.artifact}
    found = []
    for step in training:
        planned = plan_job(
            recipe, step, artifacts, fetch=True, on_gpu=wanted.device.is_gpu, processes=wanted.count
        )
        if planned is not None:
            found.append(_estimate(planned, wanted))
    return found


def _estimate(planned: Planned, wanted: _Wanted) -> _Estimate:
    from cpt.estimate.calibration import calibrate
    from cpt.estimate.cost import by_peak, flops_per_token
    from cpt.estimate.fit import fits, largest_fit
    from cpt.estimate.memory import memory_in, memory_of
    from cpt.estimate.rehearsal import rehearse

    job, device = planned.job, wanted.device
    rehearsal = rehearse(job, on_gpu=device.is_gpu)
    memory = memory_in(rehearsal, device)
    suggest = wanted.suggest or not fits(memory.peak, wanted.limit)
    fit = largest_fit(job, wanted.limit, lambda tried: memory_of(tried, device).peak) if suggest else None
    calibration = calibrate(job, rehearsal.weights) if wanted.calibrate else None
    if calibration is not None:
        duration: Duration | None = calibration.duration(job)
    else:
        duration = by_peak(job, rehearsal.weights, device) if device.flops else None
    cost = None
    if duration is not None and wanted.price is not None:
        cost = duration.cost(wanted.count, wanted.price)
    flops = flops_per_token(job, rehearsal.weights)
    return _Estimate(planned, memory, wanted.limit, fit, suggest, flops, duration, calibration, cost)


def _print(recipe: Recipe, found: list[_Estimate], wanted: _Wanted) -> None:
    console = out()
    where = wanted.device.name if wanted.count == 1 else f"{wanted.count} x {wanted.device.name}"
    console.print(Text.assemble((recipe.name, "bold"), (f"  on {where}", "dim")))
    for each in found:
        _print_stage(each, wanted)


def _print_stage(each: _Estimate, wanted: _Wanted) -> None:
    from cpt.estimate.fit import MARGIN, fits

    console, job, memory = out(), each.planned.job, each.memory
    batch = f"{plural(len(job.sequences), 'sequence')} per step, {job.micro_batch} at once"
    console.print(Text.assemble((f"  {each.planned.step.name}", "bold"), (f"  {batch}", "dim")))
    table = rows("part", "peak memory#")
    for part, amount in memory.parts.items():
        table.add_row("", part, size(amount))
    table.add_row("", Text("all", style="bold"), Text(size(memory.peak), style="bold"))
    console.print(table)
    if fits(memory.peak, each.limit):
        console.print(f"  Fits in {size(each.limit)}; the peak is reached in moment `{memory.moment}`.")
    else:
        console.print(f"  Does not fit in {size(each.limit)} with {MARGIN:.0%} to spare.", style="yellow")
    if each.suggested:
        console.print(f"  {_advice(each.fit)}", soft_wrap=True)
    if each.duration is not None:
        console.print(f"  {_time(each, wanted)}", soft_wrap=True)
    else:
        console.print("  Time: add --calibrate to measure this machine, or name a GPU with --gpu.")
    for assumption in each.planned.assumptions:
        console.print(Text(f"  assumed: {assumption}", style="dim"), soft_wrap=True)


def _advice(fit: Fit | None) -> str:
    if fit is None:
        return "Not even one sequence at a time fits: take shorter sequences or a smaller model."
    return (
        f"Largest that fits: micro_batch_sequences: {fit.micro_batch}, which makes "
        f"{plural(fit.accumulation, 'micro batch').replace('batchs', 'batches')} per step ({size(fit.peak)})."
    )


def _time(each: _Estimate, wanted: _Wanted) -> str:
    assert each.duration is not None
    text = f"{number(each.planned.job.tokens)} tokens take {duration(each.duration.seconds)}"
    text += f" at {number(each.duration.tokens_per_second)} tokens/s: {each.duration.basis}."
    if each.cost is not None:
        text += f" Cost: {each.cost:,.2f}."
    return text
