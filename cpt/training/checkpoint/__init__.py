"""Write checkpoints that a kill cannot spoil, and take snapshots in memory for rollbacks.

A run's state is in its *stateful* objects (`stateful.py`). A *snapshot* (`snapshot.py`) is the state of all
of them after one step. A *checkpoint* is a snapshot on the disk (`store.py`), which a thread may write
(`writer.py`). When one is due, and what the loop calls: `cpt.training.features.checkpoints`.
"""

from __future__ import annotations

from typing import Literal

CheckpointKind = Literal["milestone", "pre-anneal", "last"]
"""Reason why a finished run keeps the weights of a step to start from."""
