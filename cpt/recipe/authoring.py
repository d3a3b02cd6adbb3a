"""Write recipe files: copies of packaged recipes, and recipes that continue a training of another one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cpt.errors import UsageError, did_you_mean
from cpt.recipe.load import load
from cpt.recipe.schema import Recipe, Step
from cpt.stages.base import StageConfig
from cpt.training.distributed.environment import Environment


def templates() -> dict[str, str]:
    """Return the text of each packaged recipe by its name."""
    found = (item for item in files("recipes").iterdir() if item.name.endswith(".yaml"))
    return {
        item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8")
        for item in sorted(found, key=lambda item: item.name)
    }


def template(name: str) -> str:
    """Return the text of a packaged recipe.

    Raises:
        UsageError: There is none of that name.
    """
    known = templates()
    if name not in known:
        raise UsageError(f"there is no template `{name}`", hint=did_you_mean(name, known))
    return known[name]


def about(text: str) -> str:
    """Return a recipe's first comment line, which says what it is for."""
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    return first.lstrip("# ").strip() if first.startswith("#") else ""


KIND = "pretrain"
_BEFORE_CONSTANT = frozenset({"peak", "warmup", "cooldown", "cooldown_share"})
"""Settings of an infinite schedule that a training which continues it has none of."""

_NOT_TAKEN_OVER = frozenset({"name", "from", "start", "tokens", "schedule"})


def write_continuation(
    recipe: Recipe,
    path: Path,
    *,
    tokens: int,
    checkpoint: str,
    stage: str | None,
    name: str,
    carried: bool = False,
) -> None:
    """Write a recipe with one more stage, right after the training that it continues.

    The new stage has the settings of that training except its schedule: that one is kept where it goes on
    from before an anneal. It begins with the checkpoint and unseen text. Later stages that name the earlier
    training (`from`) name the new one instead.

    Args:
        checkpoint: "last", "pre-anneal", or the step of a milestone.
        stage: Name of the training to continue; the recipe's last one by default.
        name: Name of the new stage.
        carried: True to go on with the checkpoint's optimizer state, False to begin with a fresh optimizer.

    Raises:
        UsageError: There is no such training, the name is taken, or the file exists.
    """
    continued = _training(recipe, stage)
    if name in {step.name for step in recipe.steps}:
        raise UsageError(f"the recipe has a stage `{name}` already", hint="Choose another --name.")
    if path.exists():
        hint = f"`cpt run {path}` resumes it; --out FILE writes another."
        raise UsageError(f"{path} exists already", hint=hint)
    stages = list(recipe.data["stages"])
    at = next(place for place, step in enumerate(recipe.steps) if step is continued)
    taken = {key: value for key, value in stages[at][KIND].items() if key not in _NOT_TAKEN_OVER}
    start: dict[str, Any] = {"checkpoint": int(checkpoint) if checkpoint.isdecimal() else checkpoint}
    start |= {"optimizer": True} if carried else {}
    if checkpoint == "pre-anneal" and (schedule := _gone_on_with(continued.config, carried=carried)):
        taken["schedule"] = schedule
    new = {"name": name, "from": continued.name, "start": start, "tokens": tokens, **taken}
    later = [_renamed(each, continued.name, name) for each in stages[at + 1 :]]
    _dump({**recipe.data, "stages": [*stages[: at + 1], {KIND: new}, *later]}, path)


def _gone_on_with(training: StageConfig, *, carried: bool) -> dict[str, Any]:
    """Return the schedule that goes on from before a training's anneal; empty where none can.

    Args:
        carried: Whether its optimizer goes on, which needs no warm-up.
    """
    from cpt.stages.pretrain.config import PretrainConfig

    if not isinstance(training, PretrainConfig):
        return {}
    kind = training.schedule.kind
    written = {"kind": kind} | training.schedule.model_dump(mode="json", exclude_defaults=True)
    if kind == "infinite":
        kept = {key: value for key, value in written.items() if key not in _BEFORE_CONSTANT}
        return kept | {"continues": True}
    if kind == "wsd":
        return written | ({"warmup": 0.0} if carried else {})
    return {}  # a power law counts the tokens of its own run


def settle(path: Path, overrides: list[str], place: Environment | None = None) -> Recipe:
    """Write overrides into a file that `write_continuation` wrote, and load it; remove it if they are wrong.

    Args:
        place: Hardware and processes of the run, for the stages' checks.
    """
    try:
        settled = load(path, overrides, place=place)
    except Exception:
        path.unlink()
        raise
    _dump(settled.data, path)
    return settled


def _training(recipe: Recipe, stage: str | None) -> Step:
    found = {step.name: step for step in recipe.steps if step.kind == KIND}
    if stage is None and found:
        return list(found.values())[-1]
    if stage not in found:
        what = f"no {KIND} stage `{stage}`" if stage else f"no {KIND} stage"
        raise UsageError(f"the recipe has {what}", hint=did_you_mean(stage or KIND, list(found)))
    return found[stage]


def _renamed(value: Any, old: str, new: str) -> Any:
    """Return settings in which every `from: old`, at any depth, names another stage."""
    if isinstance(value, dict):
        return {
            key: new if (key, inner) == ("from", old) else _renamed(inner, old, new)
            for key, inner in value.items()
        }
    return [_renamed(inner, old, new) for inner in value] if isinstance(value, list) else value


def _dump(data: dict[str, Any], path: Path) -> None:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)
