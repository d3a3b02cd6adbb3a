"""Write the training log `steps.jsonl`: a JSON line per step, cut back to the checkpoint on a resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from cpt.training.feature import Run, StepOutcome, TrainingFeature
from cpt.training.json_lines import JsonLines

if TYPE_CHECKING:
    from cpt.training.checkpoint.stateful import StateDict
    from cpt.training.settings import TrainingConfig

STEPS = "steps.jsonl"
"""Name of the training log in a run's work folder."""


class StepLog(TrainingFeature):
    """The training log, and the progress that a listener sees after each step.

    Only the main process writes a file.
    """

    state_name: ClassVar[str] = "log"
    rolls_back: ClassVar[bool] = False  # steps that are rolled back stay in the log

    def __init__(self) -> None:
        self._file: JsonLines | None = None
        self._length = 0

    @classmethod
    def of(cls, config: TrainingConfig) -> Self:  # noqa: ARG003
        return cls()

    def on_resume(self, run: Run) -> None:
        if run.processes.is_main:
            self._file = JsonLines(run.work / STEPS, self._length)

    def after_step(self, run: Run, step: StepOutcome) -> None:
        record = step_record(run, step)
        if self._file:
            self._file.write(record)
        run.progress.update(
            run.state.step,
            run.settings.steps,
            "step",
            loss=step.gradient.loss_nats,
            tokens_per_second=record["tokens_per_second"],
            **run.state.latest,
            **gate_figures(run),
        )

    def on_end(self, run: Run) -> None:  # noqa: ARG002
        if self._file:
            self._file.close()

    def state_dict(self) -> StateDict:
        """Return the length of the log, all of which is then on the disk."""
        return {"bytes": self._file.length() if self._file else self._length}

    def load_state_dict(self, saved: StateDict) -> None:
        self._length = saved["bytes"]


def step_record(run: Run, step: StepOutcome) -> dict[str, Any]:
    """Return the log's record of the step that was taken last."""
    state, gradient = run.state, step.gradient
    record: dict[str, Any] = {
        "step": state.step,
        "tokens": state.tokens,
        "loss_nats": gradient.loss_nats,
        "lr": step.rate,
        "grad_norm": gradient.norm,
        "seconds": state.seconds,
        "tokens_per_second": sum(sequence.length for sequence in step.batch) / step.seconds,
        "sources": {source: counts["tokens"] for source, counts in state.counted.items()},
    }
    if gradient.parts:
        record["loss_parts"] = dict(gradient.parts)
    if step.anomaly:
        record |= {"anomaly": step.anomaly.kind, "action": step.anomaly.action}
    return record | gate_figures(run)


def gate_figures(run: Run) -> dict[str, float]:
    """Return the replay share and the factor of the rate, in a run with gates."""
    from cpt.training.features.gate_controller import GateController

    return run.feature(GateController).figures
