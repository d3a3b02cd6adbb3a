"""`cpt estimate`: memory, time and cost of a recipe's training before it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cpt.cli.heartbeat import show_waiting
from cpt.cli.options import DEFAULT_RUNS, Json, Overrides, RecipeArgument, Runs
from cpt.cli.output import out, print_json, rows
from cpt.cli.silence import redirect_warnings
from cpt.errors import UsageError
from cpt.formatting import duration, number, plural, size
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.store import Store
from cpt.stages.hypernetwork.config import HypernetworkStageConfig
from cpt.training.distributed.environment import Environment

if TYPE_CHECKING:
    from cpt.estimate.hypernetwork_stage import NetworkEstimate
    from cpt.estimate.memory import Fit
    from cpt.estimate.other_stages import OtherWork
    from cpt.estimate.stage import Estimate, EstimateRequest

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def estimate(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="A GPU by name: h100, a100, l4, rtx-4090, …")
    ] = None,
    gpus: Annotated[
        int, typer.Option("--gpus", metavar="N", min=1, help="Number of GPUs, one process each.")
    ] = 1,
    fsdp: Annotated[
        bool,
        typer.Option(
            "--fsdp", metavar="", help="Shard weights, gradients and optimizer state over the GPUs (FSDP2)."
        ),
    ] = False,
    price: Annotated[
        float | None,
        typer.Option("--price", metavar="X", min=0, help="Price of one GPU, or of this machine, per hour."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="Memory to fit in, 80GB or 24GiB; default: the device's."
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", metavar="", help="Train here for some seconds to measure the time."),
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Predict peak memory by part, time and cost of every stage that trains, without training.

    Where a stage does not fit, time and cost are those of the variant that does. Stages that train no model
    are listed with the tokens that they read or sample.

    Example: cpt estimate medical.yaml --gpu h100 --price 2.5
    """
    if gpu is None and gpus > 1:
        raise UsageError("--gpus counts GPUs of one name", hint="Name it: --gpu h100 --gpus 8.")
    if gpu is not None and calibrate:
        raise UsageError("--calibrate measures this machine, --gpu names another", hint="Leave one out.")
    if fsdp and gpus < 2:
        raise UsageError("--fsdp shards a model over GPUs", hint="Add their number: --gpu h100 --gpus 8.")
    limit = None if memory is None else bytes_of(memory)
    request = _request(gpu, gpus, limit, price, calibrate)
    other_hardware = request.device.hardware if gpu else None
    place = Environment(other_hardware, gpus, sharded=fsdp)
    checked = load(recipe, overrides or (), place=place)
    with redirect_warnings(runs / checked.name / "libraries.log"):
        found = _estimates(checked, Store(runs / checked.name), request, place)
    others = _others(checked, found)
    if as_json:
        device = request.device.as_json() | {"count": gpus}
        print_json(
            {
                "name": checked.name,
                "device": device,
                "stages": [each.as_json() for each in found],
                "other_stages": [each.as_json() for each in others],
            }
        )
    else:
        _print(checked, found, others, request)


def bytes_of(text: str) -> int:
    """Parse `80GB`, `24 GiB` or `1000000` into bytes.

    Raises:
        UsageError: The text is no size.
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"--memory: `{text}` is no size", hint="Write 80GB or 24GiB.")
    return round(float(match[1]) * (_BINARY_UNITS if match[3] else _UNITS)[match[2]])


def _request(
    gpu: str | None, gpus: int, limit: int | None, price: float | None, calibrate: bool
) -> EstimateRequest:
    from cpt.estimate import devices as devices
    from cpt.estimate.stage import EstimateRequest

    device = devices.gpu(gpu) if gpu else devices.this_machine()
    suggest = gpu is not None or limit is not None
    return EstimateRequest(device, gpus, limit or device.memory_bytes, price, calibrate, suggest)


def _estimates(
    recipe: Recipe, store: Store, request: EstimateRequest, place: Environment
) -> list[Estimate | NetworkEstimate]:
    from cpt.estimate.hypernetwork_stage import estimate_network, plan_network
    from cpt.estimate.recipe import plan_job, training_steps
    from cpt.estimate.stage import estimate as estimated

    training = training_steps(recipe)
    if not training:
        raise UsageError("the recipe has no pretrain or hypernetwork stage, so there is nothing to estimate")
    with show_waiting("planning"):
        artifacts = make_plan(recipe, store).artifacts
    found: list[Estimate | NetworkEstimate] = []
    for step in training:
        with show_waiting(f"estimating {step.name}"):
            if isinstance(step.located, HypernetworkStageConfig):
                network = plan_network(recipe, step, artifacts, place, fetch=True)
                assert network is not None, "it was fetched"
                found.append(estimate_network(network, request))
            elif (job := plan_job(recipe, step, artifacts, fetch=True, place=place)) is not None:
                found.append(estimated(job, request))
    return found


def _others(recipe: Recipe, found: list[Estimate | NetworkEstimate]) -> list[OtherWork]:
    from cpt.estimate.other_stages import other_work
    from cpt.estimate.stage import Estimate

    return other_work(recipe, [each for each in found if isinstance(each, Estimate)])


def _print(
    recipe: Recipe,
    found: list[Estimate | NetworkEstimate],
    others: list[OtherWork],
    request: EstimateRequest,
) -> None:
    where = request.device.name if request.count == 1 else f"{request.count} of {request.device.name}"
    out().print(Text.assemble((recipe.name, "bold"), (f"  on {where}", "dim")))
    for each in found:
        _print_stage(each)
    if others:
        _print_others(others, request)


def _print_others(others: list[OtherWork], request: EstimateRequest) -> None:
    """Print the stages that train no model, with tokens, time and cost as far as they are known."""
    console = out()
    table = rows("other stage", "what it does", "tokens#", "time#", "cost#", "not counted")
    for each in others:
        tokens = each.read or each.sampled
        took = "not known" if each.seconds is None else duration(each.seconds)
        cost = "" if each.cost is None else f"{each.cost:,.2f}"
        counted = number(tokens) if tokens else ""
        table.add_row("", each.stage, each.what, counted, took, cost, each.uncounted)
    console.print(table)
    if request.device.is_gpu and any(each.sampled for each in others):
        console.print(
            "  Sampling on a GPU: no peak rate tells its time; engine: vllm samples faster.", soft_wrap=True
        )


def _print_stage(each: Estimate | NetworkEstimate) -> None:
    from cpt.estimate.stage import Estimate

    console = out()
    batch = _batch(each) if isinstance(each, Estimate) else _network_batch(each)
    console.print(Text.assemble((f"  {each.planned.step.name}", "bold"), (f"  {batch}", "dim")))
    table = rows("part", "at the peak#")
    for part, amount in each.memory.parts.items():
        table.add_row("", part, size(amount))
    table.add_row("", Text("all", style="bold"), Text(size(each.memory.peak), style="bold"))
    console.print(table)
    more = [*_advice(each), *_host(each)] if isinstance(each, Estimate) else _network_advice(each)
    for line in (_verdict(each), *more, _time(each)):
        console.print(f"  {line}", soft_wrap=True)
    for assumption in each.planned.assumptions:
        console.print(Text(f"  assumed: {assumption}", style="dim"), soft_wrap=True)


def _batch(each: Estimate) -> str:
    job = each.planned.job
    shared = f" shared by {job.processes}" if job.processes > 1 else ""
    return f"{plural(len(job.sequences), 'sequence')} per step{shared}, {job.settings.micro_batch} at once"


def _network_batch(each: NetworkEstimate) -> str:
    config = each.planned.config
    shared = f" shared by {each.planned.processes}" if each.planned.processes > 1 else ""
    texts = f"{plural(config.texts, 'text')} per step{shared}, {config.micro_batch or config.texts} at once"
    return f"{texts}, {each.predicted:,} of {each.rows:,} rows predicted by {number(each.parameters)} weights"


def _network_advice(each: NetworkEstimate) -> list[str]:
    if each.fits:
        return []
    if each.planned.config.predicted is None or each.predicted <= each.planned.config.predicted:
        return ["Set `micro_batch` or `predicted` lower: memory grows with both."]
    return ["Set `micro_batch` or `texts` lower: a step's own tokens all get rows, whatever `predicted` is."]


def _verdict(each: Estimate | NetworkEstimate) -> str:
    from cpt.estimate.memory import MARGIN

    verdict = "fits" if each.fits else "does not fit"
    room = f"{size(each.limit)} with {MARGIN:.0%} to spare"
    return f"It {verdict} in {room}; the peak is reached in: {each.memory.moment}."


def _advice(each: Estimate) -> list[str]:
    if not each.suggested:
        return []
    if each.fit is not None:
        return [f"The largest that fits is {_batches(each.fit, each.planned.job.processes)}."]
    if each.checkpointed is not None:
        found = _batches(each.checkpointed, each.planned.job.processes)
        return [
            "Not even one sequence at a time fits.",
            f"With gradient_checkpointing: true, the largest that fits is {found}.",
        ]
    others = "" if each.planned.job.sharded else ", several GPUs that shard the model (--gpus N --fsdp)"
    return [
        f"Not even one sequence at a time fits: take shorter sequences{others}, adapters "
        "(trainable: {kind: lora}) or a smaller model."
    ]


def _batches(fit: Fit, processes: int) -> str:
    count = "once" if fit.accumulation == 1 else f"{fit.accumulation} times"
    each = f" on each of {processes}" if processes > 1 else ""
    return f"micro_batch_sequences: {fit.micro_batch}, {count} per step{each}, at {size(fit.peak)}"


def _host(each: Estimate) -> list[str]:
    if each.memory.host is None:
        return []
    return [
        f"The machine's main memory holds up to {size(each.memory.host)} (all processes, on one machine)."
    ]


def _time(each: Estimate | NetworkEstimate) -> str:
    from cpt.estimate.stage import Estimate

    if isinstance(each, Estimate) and each.priced is None:
        return "It has no time and no cost: no variant of it fits."
    if each.duration is None:
        return "For the time add --calibrate, which measures this machine, or name a GPU with --gpu."
    took, rate = duration(each.duration.seconds), number(each.duration.tokens_per_second)
    text = f"{number(each.tokens)} tokens take {took} at {rate} tokens/s: {each.duration.basis}."
    if not each.fits and isinstance(each, Estimate) and each.variant:
        settings = ", ".join(f"{key}: {str(value).lower()}" for key, value in each.variant.items())
        text = f"With what fits ({settings}) {text}"
    if each.cost is None:
        return text
    return f"{text} That costs {each.cost:,.2f}, in the currency of --price."
