"""Estimate the time of a sweep's configurations, as `cpt estimate --calibrate` does.

It is a process of its own, `python -m cpt.sweep.estimates FOLDER NUMBER...`: it runs where the runs will,
after the words of `--launcher`, and leaves no model in the memory beside theirs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cpt.errors import CptError, StageFailed
from cpt.json_file import read_or_none, write_json
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.schema import Recipe, Step
from cpt.recipe.store import Store
from cpt.stages.base import Artifact
from cpt.sweep.configurations import overrides_of
from cpt.sweep.state import SweepFile, SweepPart, read_sweep

if TYPE_CHECKING:
    from cpt.estimate.job import Job
    from cpt.estimate.stage import Estimate

FILE = "estimates.json"


class Estimates(SweepPart):
    """The content of `estimates.json`.

    Attributes:
        recipe_sha256, overrides: Recipe and settings of all runs that they are of.
        seconds: Seconds by configuration and stage.
        unknown: Reason why a configuration has none.
    """

    recipe_sha256: str = ""
    overrides: tuple[str, ...] = ()
    seconds: dict[str, dict[str, float]] = Field(default={})
    unknown: dict[str, str] = Field(default={})

    def lacking(self, numbers: Sequence[int]) -> list[int]:
        """Return the configurations that were not estimated."""
        return [each for each in numbers if str(each) not in self.seconds.keys() | self.unknown.keys()]


def kept_estimates(folder: Path, file: SweepFile) -> Estimates:
    """Return the estimates of earlier commands; none if the recipe or the settings of all runs changed."""
    found: Estimates | None = read_or_none(folder / FILE, Estimates)
    if found and (found.recipe_sha256, found.overrides) == (file.recipe_sha256, file.request.overrides):
        return found
    return Estimates(recipe_sha256=file.recipe_sha256, overrides=file.request.overrides)


class Estimator:
    """An estimator of stages, which measures each kind of training step once."""

    def __init__(self) -> None:
        from cpt.estimate.devices import this_machine
        from cpt.estimate.stage import EstimateRequest

        device = this_machine()
        self._request = EstimateRequest(device, 1, device.memory_bytes, calibrate=True)
        self._measured: dict[str, Estimate] = {}

    def seconds(self, recipe: Recipe, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
        """Return the seconds of the stages that can be priced: trainings, sampling, reading of held-out text.

        Args:
            recipe: Recipe of a run.
            artifacts: Finished results, by name of the stage.

        Raises:
            StageFailed: A training cannot be priced: the number of its tokens follows from the corpus, or it
                does not fit in the memory.
            CptError: The model cannot be had.
        """
        from cpt.estimate.hypernetwork_stage import estimate_network, plan_network
        from cpt.estimate.other_stages import other_work
        from cpt.estimate.recipe import training_steps
        from cpt.stages.hypernetwork.config import HypernetworkStageConfig
        from cpt.training.distributed.environment import Environment

        trained, found = [], {}
        for step in training_steps(recipe):
            if isinstance(step.located, HypernetworkStageConfig):
                network = plan_network(recipe, step, artifacts, Environment(), fetch=True)
                assert network is not None, "it was fetched"
                duration = estimate_network(network, self._request).duration
            else:
                estimate = self._training(recipe, step, artifacts)
                trained.append(estimate)
                duration = estimate.duration
            if duration is None:
                raise StageFailed(f"{step.name} does not fit in the memory of {self._request.device.name}")
            found[step.name] = duration.seconds
        others = {each.stage: each.seconds for each in other_work(recipe, trained) if each.seconds}
        return found | others

    def _training(self, recipe: Recipe, step: Step, artifacts: Mapping[str, Artifact]) -> Estimate:
        """Return the estimate of a pretrain stage, from a measurement of a step of its kind."""
        from cpt.estimate.recipe import plan_job
        from cpt.estimate.stage import estimate
        from cpt.stages.pretrain.data import expected_tokens

        config: Any = step.located
        made = step.inputs.get("corpus") in artifacts
        if not made and expected_tokens(config, recipe.upstream(step, "corpus")) is None:
            raise StageFailed(f"the tokens of {step.name} follow from its corpus, which is not made yet")
        planned = plan_job(recipe, step, artifacts, fetch=True)
        assert planned is not None, "it was fetched"
        kind = _kind(planned.job)
        first = self._measured.get(kind)
        if first is None:
            self._measured[kind] = first = estimate(planned, self._request)
        if first.calibration is None or first.priced is None:
            return first
        calibration = first.calibration.adapted(first.priced, planned.job)
        return replace(first, planned=planned, duration=calibration.duration(planned.job))


_TIMELESS = {"schedule", "gates", "checkpoint", "anomalies", "trackers", "skill_it"}
"""Settings that do not change the time of a step."""


def _kind(job: Job) -> str:
    """Return all that the time of a training step depends on, but for the number of its operations."""
    config = job.settings.config.model_dump(mode="json", exclude=_TIMELESS)
    own = [job.architecture.to_dict(), config, job.settings.micro_batch, str(job.settings.dtype)]
    return json.dumps(own, sort_keys=True, default=str)


def main(words: Sequence[str]) -> None:
    """Estimate configurations of a sweep, and write `estimates.json`.

    Args:
        words: Folder of the sweep, and numbers of its configurations.
    """
    folder, numbers = Path(words[0]), [int(word) for word in words[1:]]
    file = read_sweep(folder)
    kept = kept_estimates(folder, file)
    estimator, request = Estimator(), file.request
    seconds, unknown = dict(kept.seconds), dict(kept.unknown)
    for number in numbers:
        trial = next(each for each in file.trials if each.number == number)
        try:
            recipe = load(Path(request.recipe), overrides_of(request, trial.values, trial.seed, trial.run))
            artifacts = make_plan(recipe, Store(folder.absolute().parent / trial.run)).artifacts
            seconds[str(number)] = estimator.seconds(recipe, artifacts)
        except CptError as error:
            unknown[str(number)] = error.message
        except Exception as error:  # such as too little memory: the others can be estimated
            unknown[str(number)] = f"{type(error).__name__}: {error}"
        found = kept.model_copy(update={"seconds": seconds, "unknown": unknown})
        write_json(folder / FILE, found.model_dump(mode="json"))  # each, as memory may end the process


if __name__ == "__main__":
    main(sys.argv[1:])
