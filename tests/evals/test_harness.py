"""lm-eval while it is driven, and afterwards as before."""

import contextlib
import logging

import datasets
import lm_eval.api.task as task_module
import pytest
from jinja2.exceptions import UndefinedError
from lm_eval.utils import apply_template, env

from evals.harness import silence_lm_eval


def state() -> tuple:
    return (
        logging.getLogger("lm_eval").level,
        task_module.tqdm,
        datasets.is_progress_bar_enabled(),
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
        env.from_string,
    )


def test_the_libraries_are_silent_meanwhile_and_as_before_afterwards(capfd: pytest.CaptureFixture) -> None:
    before = state()
    with contextlib.suppress(KeyError), silence_lm_eval():
        logging.getLogger("lm_eval").warning("noise")
        list(task_module.tqdm(range(3)))
        assert not datasets.is_progress_bar_enabled()
        assert not datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
        raise KeyError
    assert state() == before
    assert capfd.readouterr().err == ""


def test_templates_are_compiled_once_and_render_the_same() -> None:
    with silence_lm_eval():
        assert env.from_string("{{ a }}!") is env.from_string("{{ a }}!")
        assert [apply_template("{{ a }}!", {"a": text}) for text in ("x", "{{ a }}")] == ["x!", "{{ a }}!"]
        with pytest.raises(UndefinedError):
            apply_template("{{ a }}!", {})
