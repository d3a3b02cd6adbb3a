"""`cpt merge methods`: describe the methods, their use and their parameters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows

if TYPE_CHECKING:
    from merging.methods import Method, Parameter


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One method, with its parameters.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the merge methods: description, use, and parameters with their defaults.

    Example: cpt merge methods ties
    """
    from merging.methods import find_method
    from merging.methods import methods as all_methods

    found = list(all_methods().values()) if name is None else [find_method(name)]
    if as_json:
        return print_json([_facts(method) for method in found] if name is None else _facts(found[0]))
    if name is not None:
        return _print_one(found[0])
    console = out()
    for method in found:
        console.print(Text.assemble((method.name, "bold"), f"  {method.line}"), soft_wrap=True)
        console.print(Text(f"    when: {method.when}", style="dim"), soft_wrap=True)
        words = " ".join(_short(parameter) for parameter in method.parameters)
        if words:
            console.print(Text(f"    {words}"), soft_wrap=True)
    return None


def _facts(method: Method) -> dict[str, Any]:
    facts = asdict(method)
    for parameter in facts["parameters"]:
        for end in ("low", "high"):
            if parameter[end] in (float("-inf"), float("inf")):
                parameter[end] = None
    return facts


def _short(parameter: Parameter) -> str:
    value = "…" if parameter.default is None else _value(parameter.default)
    return f"{parameter.name}={value}"


def _value(value: float | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _print_one(method: Method) -> None:
    console = out()
    console.print(Text.assemble((method.name, "bold"), f"  {method.line}"), soft_wrap=True)
    console.print(f"  when: {method.when}", soft_wrap=True)
    most = "or more" if method.most is None else f"to {method.most}"
    count = f"{method.least}" if method.most == method.least else f"{method.least} {most}"
    base = {"required": "needs a base", "optional": "takes a base or none", "none": "has no base"}[
        method.base
    ]
    console.print(f"  models: {count}; {base}" + ("; random: --seed" if method.random else ""))
    if method.reference:
        console.print(Text(f"  {method.reference}", style="dim"), soft_wrap=True)
    if not method.parameters:
        return
    table = rows("parameter", "type", "default", "range", "of")
    for parameter in method.parameters:
        default = "must be given" if parameter.required else "none"
        default = default if parameter.default is None else _value(parameter.default)
        whose = "each model, or all" if parameter.per_model else "all models"
        table.add_row("", parameter.name, parameter.kind, default, _range(parameter), whose)
    console.print(table)


def _range(parameter: Parameter) -> str:
    if parameter.high != float("inf"):
        return f"{parameter.low:g} … {parameter.high:g}"
    return f"≥ {parameter.low:g}" if parameter.low != float("-inf") else ""
