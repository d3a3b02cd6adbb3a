"""The command over the fake stages, as a process of its own; `SLOW=pretrain` slows that stage."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "recipe")]

import fake_stages  # noqa: E402

import cpt.references  # noqa: E402
import cpt.stages  # noqa: E402
from cpt.cli import main  # noqa: E402


def wait(_context: object, step: int) -> None:
    if step > 0 or os.environ["SLOW"] != "pretrain":
        time.sleep(60)


cpt.stages.stages = lambda: fake_stages.REGISTRY  # type: ignore[assignment]
fake_stages.FakeReferences(Path.cwd() / "cache").replace(
    lambda name, function: setattr(cpt.references, name.rpartition(".")[2], function)
)
if "SLOW" in os.environ:
    fake_stages.HOOKS[os.environ["SLOW"]] = wait
sys.exit(main())
