"""Shares of replay that a batch rounds to the same rows are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_tiny_model

from cpt.errors import RecipeError
from cpt.sweep.configurations import check
from cpt.sweep.factors import parse_factors
from cpt.sweep.state import SweepRequest

RECIPE = """\
name: tiny
base: model
stages:
  - corpus: {domain: [{path: notes.txt}], replay: [{path: notes.txt}]}
  - pretrain: {tokens: 100, batch_sequences: 8}
"""


def test_levels_that_are_the_same_rows(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "notes.txt").write_text("A fever is a fever.\n")
    (tmp_path / "tiny.yaml").write_text(RECIPE)

    def checked(*vary: str) -> list[str]:
        factors = tuple(parse_factors(vary, "grid"))
        return check(SweepRequest(name="s", recipe=str(tmp_path / "tiny.yaml"), factors=factors, seeds=(1,)))

    with pytest.raises(RecipeError) as caught:
        checked("pretrain.replay=0,0.1,0.15,0.25", "pretrain.schedule.peak=1e-4,1e-3")
    assert [problem.message for problem in caught.value.problems] == [
        "replay 0.1 and 0.15 are both 1 of 8 sequences of a batch"
    ]
    assert checked("pretrain.replay=0,0.125,0.25", "pretrain.schedule.peak=1e-4,1e-3") == []
    assert checked("pretrain.replay=0,0.1,0.25", "pretrain.schedule.peak=1e-4,1e-3") == [
        "`replay: 0.1` trains on 0.125 replay: 1 of 8 sequences of a batch"
    ]
