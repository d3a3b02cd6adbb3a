"""Libraries are told to be quiet; what the user set is left alone."""

from __future__ import annotations

import os

import pytest

from cpt.cli.quiet import quiet_libraries


def test_the_users_own_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TRANSFORMERS_VERBOSITY": "info"})
    quiet_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ["TQDM_DISABLE"] == "1"
