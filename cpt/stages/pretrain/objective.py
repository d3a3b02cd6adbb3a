"""What a pretrain stage's objective, pull and average ask of its recipe: found before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.errors import Problem
from cpt.stages.base import UpstreamArtifact, WiringError
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.gates import may_replay
from cpt.training.features.weight_averaging import Lawa
from cpt.training.objectives import SelfConstraint, SelfDistillation

TEACHER = "teacher"
"""Role of the pretrain stage whose model teaches."""


def wire_teacher(config: PretrainConfig, earlier: Sequence[UpstreamArtifact], student: str) -> dict[str, str]:
    """Role and name of the teacher, if the objective has one.

    The student must start where the teacher's training started: so they also have one vocabulary and width.

    Args:
        student: name of the stage whose model this one starts from.
    """
    if not isinstance(config.objective, SelfDistillation):
        return {}
    name = config.objective.teacher
    trainings = {stage.name: stage for stage in earlier if {"model", "training"} <= stage.kinds}
    if name not in trainings:
        there = f"Earlier pretrain stages: {', '.join(trainings)}." if trainings else "Put one before it."
        raise WiringError(
            Problem(f"`{name}` is no earlier pretrain stage", key="objective.teacher", hint=there)
        )
    starts = list(_starts(name, trainings))
    if student not in starts:
        raise WiringError(
            Problem(
                f"the student starts from `{student}`, but its teacher's training began at `{starts[0]}`",
                key="from",
                hint=f"A student starts where its teacher did: set from: {starts[0]}.",
            )
        )
    return {TEACHER: name}


def _starts(name: str, trainings: Mapping[str, UpstreamArtifact]) -> Sequence[str]:
    """Stages at whose models the trainings began that led to a model, the latest first."""
    starts = []
    while name in trainings:
        name = trainings[name].inputs["model"]
        starts.append(name)
    return starts


def against_forgetting(config: PretrainConfig) -> list[str]:
    """What the stage does against forgetting, besides replay, in words for `cpt plan`."""
    said = []
    if isinstance(config.objective, SelfConstraint):
        said.append("replay rows hold it to its start")
    if isinstance(config.objective, SelfDistillation):
        said.append(f"taught by {config.objective.teacher}")
    if config.l2_sp is not None:
        said.append("weights pulled to their start")
    if config.average is not None:
        said.append(f"the result is an average of weights ({config.average.kind})")
    if config.gates:
        said.append("bounded: " + ", ".join(f"{gate.budget} ({gate.action})" for gate in config.gates))
    return said


def objective_problems(config: PretrainConfig) -> list[Problem]:
    """Objective, pull and average that do not go with the stage's other settings."""
    problems = []
    no_replay = not config.replay and not may_replay(config.gates)
    if isinstance(config.objective, SelfConstraint) and no_replay:
        problems.append(
            Problem(
                "self-constraint acts on replay rows, and there are none: replay is 0",
                key="objective.kind",
                hint="Set `replay:` to a share of each batch, and give the corpus replay text.",
            )
        )
    if config.trainable.kind == "lora":
        problems += [
            Problem(
                f"{what} of an adapter's two factors is not {what} of the weights that they make",
                key=key,
                hint="Leave it out, or train without an adapter.",
            )
            for key, what in {"l2_sp": "a pull", "average": "an average"}.items()
            if getattr(config, key) is not None
        ]
    if config.average is not None and config.master_weights == "stochastic-rounding":
        problems.append(
            Problem(
                "an average is float32, and weights rounded by chance have no float32 to put it in",
                key="average.kind",
                hint="Set master_weights: fp32, or leave `average` out.",
            )
        )
    return problems + _pull_problems(config)


def _pull_problems(config: PretrainConfig) -> list[Problem]:
    if config.l2_sp is None:
        return []
    rate = config.planned_schedule.highest * max([1.0, *config.trainable.rates.multiples().values()])
    share = rate * config.l2_sp.strength
    if share <= 1:
        return []
    return [
        Problem(
            f"at a rate of {rate:g} a step would take back {share:g} times the distance from the start",
            key="l2_sp.strength",
            hint=f"Set it to {1 / rate:g} at most.",
        )
    ]


def average_problems(config: PretrainConfig, steps: int) -> list[Problem]:
    """An average of more of a run's weights than there will be.

    Args:
        steps: of the run.
    """
    average = config.average
    if not isinstance(average, Lawa) or average.every * average.last <= steps:
        return []
    return [
        Problem(
            f"{average.last} times {average.every} steps are more than the run has: {steps}",
            key="average.every",
            hint=f"Set it to {steps // average.last} at most."
            if steps >= average.last
            else "Average fewer (`last`), or train for more steps.",
        )
    ]
