"""Libraries are told to be quiet; what the user set is left alone."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from cpt.cli.silence import silence_libraries, silent


def test_the_users_own_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TRANSFORMERS_VERBOSITY": "info"})
    silence_libraries()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ["TQDM_DISABLE"] == "1"


def test_silence_ends_with_what_it_was_for(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        print("unheard")
        print("unheard", file=sys.stderr)
        logging.getLogger("somelib").error("unheard")
        raise RuntimeError

    with pytest.raises(RuntimeError), silent():
        fail()
    print("heard")
    assert capsys.readouterr() == ("heard\n", "")
    assert logging.getLogger("somelib").isEnabledFor(logging.ERROR)
