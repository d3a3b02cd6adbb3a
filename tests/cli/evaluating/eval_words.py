"""Words that the tests of `cpt eval` share."""

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Calls the command: exit code, standard output, standard error."""

ON_DATA = ("--suite", "toy.yaml:quick", "--data", "data", "--offline")
