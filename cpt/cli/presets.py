"""Define `cpt presets`: the packaged recipes, what they need and what they gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from cpt.cli.options import Json
from cpt.cli.output import out, print_json, rows
from cpt.formatting import duration, duration_in_words, number, signed, size
from cpt.recipe.presets import Preset
from cpt.recipe.presets import presets as packaged


def presets(as_json: Json = False) -> None:
    """List the packaged recipes: what each is for, what it needs, and what it gave when it was run.

    Time is estimated for two cores, without benchmarks. Memory, time and cost on a GPU are those of training
    alone. Nothing is loaded or fetched: `cpt estimate RECIPE --gpu NAME` is for other models and GPUs.

    Example: cpt presets
    """
    found = packaged()
    if as_json:
        return print_json([asdict(each) for each in found])
    table = rows("preset", "needs", "gave")
    for each in found:
        table.add_row("", Text(each.name, style="bold"), Text(_needs(each)), Text(_gave(each)))
    console = out()
    for each in found:
        console.print(Text.assemble((each.name, "bold"), f"  {each.about}"), soft_wrap=True)
    console.print()
    console.print(table)
    console.print(
        "Time: on two cores, without benchmarks. Figures of a GPU are of training alone, at "
        f"${_price(found):.2f} an hour; sampling, merge search and evaluation are not counted. "
        "Other models and GPUs: cpt estimate RECIPE --gpu NAME --price X. "
        "To copy one: cpt init my.yaml --template NAME; its header has a variant of minutes.",
        soft_wrap=True,
    )
    return None


def _price(found: Sequence[Preset]) -> float:
    """Return the price of an hour by which all estimates are made."""
    (price,) = {preset.needs.price for preset in found if preset.needs is not None}
    return price


def _needs(preset: Preset) -> str:
    """Return data, tokens, time and limit of a recipe in words."""
    words = [", ".join(preset.data) or "no data of yours"]
    if preset.tokens:
        words.append(f"{number(preset.tokens)} tokens")
    if preset.cpu_seconds:
        words.append(f"about {duration_in_words(preset.cpu_seconds)}")
    if (gpu := preset.needs) is not None:
        cost = f"${gpu.cost:,.2f}" if gpu.cost >= 0.01 else "less than a cent"
        time = duration_in_words(gpu.training_seconds)
        words.append(f"training on {gpu.gpu}: {size(gpu.memory_bytes)}, {time}, {cost}")
    if preset.bound:
        words.append(preset.bound)
    return "; ".join(words)


def _gave(preset: Preset) -> str:
    """Return the changes of bits per byte in the run of a recipe."""
    gave = preset.gave
    if gave is None:
        return "not run yet"
    domain, general = (signed(each["value"]) for each in (gave.domain, gave.general))
    what = ["tiny variant"] if gave.tiny else []
    what += [f"{gave.seeds} seeds"] if gave.seeds > 1 else []
    of = f"{', '.join(what)}: " if what else ""
    return (
        f"{of}domain {domain}, general {general} bits per byte in {duration(gave.seconds)} ({gave.machine})"
    )
