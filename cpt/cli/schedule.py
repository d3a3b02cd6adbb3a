"""`cpt schedule`: show a learning-rate schedule in numbers and as a curve; one command per kind."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, get_args

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rich.text import Text
from typer.core import TyperGroup

from cpt.cli.output import out, print_json, rows
from cpt.cli.rate_curve import draw
from cpt.errors import Problem, RecipeError, UsageError, did_you_mean
from cpt.recipe.explain import findings
from cpt.training.schedules import KINDS, ScheduleConfig


class _Kinds(TyperGroup):
    """A group whose commands are the kinds of schedule."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-"):
            raise UsageError(f"there is no schedule `{cmd_name}`", hint=did_you_mean(cmd_name, self.commands))
        return found


app = typer.Typer(
    add_completion=False,
    cls=_Kinds,
    help="Show a learning-rate schedule: its rates in every phase, and its curve.",
    no_args_is_help=True,
)


def show(schedule: ScheduleConfig, total: int, at: list[float], as_json: bool) -> None:
    """Print a schedule's rates at fractions of each of its phases, and its curve.

    Args:
        schedule: Schedule to show.
        total: Length of the run in the schedule's unit.
        at: Fractions of each phase.
        as_json: True to print JSON, without the curve.
    """
    phases, highest = schedule.phases(total), schedule.highest
    if as_json:
        found = [
            {
                "name": phase.name,
                "first": phase.first,
                "last": phase.last,
                "rates": {f"{t:g}": phase.curve(t) for t in at},
                "of_highest": {f"{t:g}": phase.curve(t) / highest for t in at},
            }
            for phase in phases
        ]
        return print_json(
            {
                "kind": schedule.kind,
                "settings": schedule.model_dump(mode="json"),
                "total": total,
                "anneal_begins": schedule.anneal_begins(total),
                "phases": found,
            }
        )
    console = out()
    table = rows("phase", f"{schedule.unit}#", *(f"at {100 * t:g}%#" for t in at))
    for phase in phases:
        rates = (f"{phase.curve(t):.4e}" for t in at)
        table.add_row("", phase.name, f"{phase.first + 1:,}-{phase.last + 1:,}", *rates)
    console.print(table)
    console.print()
    for line in draw(schedule, total, console.width - 2, schedule.unit):
        console.print(Text(f"  {line}"), soft_wrap=True)
    return None


def configure(cls: type[ScheduleConfig], given: Mapping[str, Any]) -> ScheduleConfig:
    """Build a schedule from options.

    Raises:
        RecipeError: Options are wrong; it lists every mistake.
    """
    try:
        return cls.model_validate(given)
    except ValidationError as error:
        raise RecipeError(
            Problem(found.message, key=_flag(str(found.where[0])) if found.where else None, hint=found.hint)
            for found in findings(error, cls, given)
        ) from error


def fractions(text: str) -> list[float]:
    """Parse `0.25,0.5` into numbers from 0 to 1.

    Raises:
        UsageError: The text is no list of such numbers.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= t <= 1 for t in found):
        raise UsageError(f"--at {text} is no list of fractions", hint="Write it like 0.25,0.5,0.75.")
    return found


def _command(kind: str, cls: type[ScheduleConfig]) -> Callable[..., None]:
    """Return a command whose options are the settings of one kind of schedule."""

    def command(steps: float, at: str, as_json: bool, **given: Any) -> None:
        if not math.isfinite(steps) or steps < 1 or steps != int(steps):
            raise UsageError(f"--steps {steps:g} is no length of a run", hint="Give a whole number above 0.")
        schedule = configure(cls, {name: value for name, value in given.items() if value is not None})
        show(schedule, int(steps), fractions(at), as_json)

    parameters = [_option(name, info) for name, info in _settings(cls).items()]
    parameters += [
        _parameter(
            "steps", float, typer.Option(1000, "--steps", metavar="N", help="Length of the run, in the unit.")
        ),
        _parameter(
            "at",
            str,
            typer.Option(_QUARTERS, "--at", metavar="T,...", help="Fractions of each phase."),
        ),
        _parameter(
            "as_json", bool, typer.Option(False, "--json", metavar="", help="Print JSON on standard output.")
        ),
    ]
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    example = f"Example: cpt schedule {kind} {_EXAMPLES.get(kind, '--peak 1e-4')}"
    command.__doc__ = "\n\n".join([" ".join(text.split()) for text in paragraphs] + [example])
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


_QUARTERS = "0,0.25,0.5,0.75,1"

_EXAMPLES = {
    "infinite": "--cooldown inverse-sqrt --at 0.25,0.5,0.75",
    "power": "--batch 128 --tokens 1e11 --decay-share 0.1",
    "reuse": "--start 3e-5",
}


def _settings(cls: type[ScheduleConfig]) -> dict[str, FieldInfo]:
    """Return a schedule's settings, those of its own kind first."""
    fields = {name: info for name, info in cls.model_fields.items() if name not in ("kind", "unit")}
    return {**fields, "unit": cls.model_fields["unit"]}


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    """Return a setting as an option; the schedule checks its value, and reports a missing one."""
    annotation, metavar, choices = _type_of(info.annotation)
    default = None if info.is_required() else info.default
    option = typer.Option(default, _flag(name), metavar=metavar, help=f"{info.description}{choices}")
    return _parameter(name, annotation if default is not None else annotation | None, option)


def _type_of(annotation: Any) -> tuple[type, str, str]:
    """Return the type, the placeholder and the choices of an option; counts may be written as 1e9."""
    members = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if bool in members:
        return bool, "", ""
    if int in members or float in members:
        return float, "N" if int in members else "X", ""
    return str, "NAME", f" One of {', '.join(get_args(annotation))}."


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


for _kind, _cls in KINDS.items():
    app.command(_kind)(_command(_kind, _cls))
