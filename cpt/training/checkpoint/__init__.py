"""Checkpoints that a kill cannot spoil, and the snapshot in memory that an anomaly rolls back to.

A run's state is kept by its *parts* (`parts.py`). A *snapshot* (`snapshot.py`) is the state of all of them
at one moment. A *checkpoint* is a snapshot in a folder (`folder.py`), written aside, checksummed and renamed;
`store.py` finds the newest readable one and removes old ones, `policy.py` says when one is due, `keeper.py`
is what the loop talks to.
"""
