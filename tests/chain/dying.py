"""Make the `cpt` command kill itself (kill -9) in the middle of one stage.

`DIE=corpus` and so on: the signal comes when the stage has written its output, before it is renamed into
place. `DIE=sampling` dies within the corpus stage, between two batches of replay text; `DIE=step` within
pretrain, after a step that no checkpoint holds; `DIE=terminate` sends SIGTERM there instead. Of two
processes, with `STEP="5 8"`, the second dies at step 5, and when both have been restarted the first at 8.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from cpt.cli import main
from cpt.stages import stages


def die(number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def die_after_run(stage: Any) -> None:
    run = type(stage).run

    def fatal(*arguments: Any) -> None:
        run(*arguments)
        die()

    type(stage).run = fatal


def die_in_step(last: int, number: signal.Signals) -> None:
    from cpt.training.state import State

    count = State.count

    def fatal(state: Any, batch: Any) -> None:
        count(state, batch)
        if state.step == last:
            die(number)

    State.count = fatal  # type: ignore[method-assign]


def die_in_sampling(batch: int) -> None:
    from cpt.corpus import self_generated

    sample, calls = self_generated._Sampler.sample, []

    def fatal(*arguments: Any) -> Any:
        calls.append(1)
        return die() if len(calls) > batch else sample(*arguments)

    self_generated._Sampler.sample = fatal  # type: ignore[method-assign]


def die_as_told() -> None:
    """Arrange the death that the environment asks for."""
    where = os.environ.get("DIE", "")
    if where in ("step", "terminate"):
        steps = os.environ["STEP"].split()
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if int(os.environ.get("RANK", "0")) == len(steps) - 1 - attempt:
            die_in_step(int(steps[attempt]), signal.SIGKILL if where == "step" else signal.SIGTERM)
    elif where == "sampling":
        die_in_sampling(1)
    elif where:
        die_after_run(stages()[where])


if __name__ == "__main__":
    die_as_told()
    sys.exit(main())
