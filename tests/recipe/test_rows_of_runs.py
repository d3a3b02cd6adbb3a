"""Rows of a mixture law from finished runs, and runs that it cannot use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))

from law_runs import PARAMETERS, write, write_run
from planted import run_rows

from cpt.errors import RecipeError
from cpt.recipe.journal import find_run
from cpt.recipe.law_rows import rows_of_runs

ROWS = run_rows("a", 0.75, size=PARAMETERS)


def rows(root: Path, *names: str, stage: str | None = None, domain: str = "domain") -> list[Any]:
    return rows_of_runs([(domain, find_run(root, name)) for name in names], stage)


def test_readings_of_a_part_of_the_text_are_set_on_the_first_of_all_of_it(tmp_path: Path) -> None:
    write_run(tmp_path, "a", ROWS)
    found = rows(tmp_path, "a")
    assert [row.tokens for row in found] == [row.tokens for row in ROWS]
    for row, planted in zip(found, ROWS, strict=True):
        assert row.domain_loss == pytest.approx(planted.domain_loss)
        assert row.general_loss == pytest.approx(planted.general_loss)
        assert (row.run, row.parameters, row.share, row.domain) == ("a", 1_000, 0.75, "domain")


def test_the_warm_up_and_what_was_undone_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, "a", ROWS, warmup=2, ended=5)
    assert [row.tokens for row in rows(tmp_path, "a")] == [ROWS[step].tokens for step in (0, 3, 4, 5)]


def test_runs_keep_the_names_of_their_domains_and_their_own(tmp_path: Path) -> None:
    for root in ("one", "two"):
        write_run(tmp_path / root, "a", ROWS)
    found = rows_of_runs(
        [("law", find_run(tmp_path / "one", "a")), ("medical", find_run(tmp_path / "two", "a"))]
    )
    assert [row.domain for row in found] == ["law"] * len(ROWS) + ["medical"] * len(ROWS)
    assert len({row.run for row in found}) == 2


def test_of_several_pretrain_stages_one_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, "a", ROWS, stages=("first", "second"))
    with pytest.raises(RecipeError, match=r"a: it has several pretrain stages: first, second"):
        rows(tmp_path, "a")
    assert len(rows(tmp_path, "a", stage="second")) == len(ROWS)
    with pytest.raises(RecipeError, match="no finished pretrain stage `third`"):
        rows(tmp_path, "a", stage="third")


def test_runs_without_one_share_of_replay_are_all_named(tmp_path: Path) -> None:
    write_run(tmp_path, "raised", ROWS, actions=[{"step": 7, "action": "raise-replay"}])
    write_run(tmp_path, "lowered", ROWS, actions=[{"step": 7, "action": "lower-rate"}])
    phases = [{"until": 0.5, "replay": 0.1}, {"until": 1.0, "replay": None}]
    write_run(tmp_path, "phases", ROWS, config={"mixture": phases})
    write_run(tmp_path, "second", ROWS, config={"start": {"checkpoint": "last"}})
    write_run(tmp_path, "none", ROWS, stages=())
    write_run(tmp_path, "blind", [row.model_copy(update={"tokens": row.tokens + 1}) for row in ROWS])
    with pytest.raises(RecipeError) as caught:
        rows(tmp_path, "raised", "lowered", "phases", "second", "none", "blind")
    found = {problem.key: problem.message for problem in caught.value.problems}
    assert found == {
        "raised": "a gate changed its share of replay at step 7: raise-replay",
        "phases": "the phases of its mixture have different shares of replay",
        "second": "its stage pretrain continues an earlier training, whose tokens count too",
        "none": "it has no finished pretrain stage",
        "blind": "it read neither domain nor general text",
    }


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", ROWS)
    (training,) = folder.glob("pretrain-*/training")
    (training / "summary.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"summary\.json: not of the form"):
        rows(tmp_path, "a")


def seeded(root: Path, name: str, seed: int, heldout: float = 0.1) -> None:
    """Write a run whose corpus, made with a seed, comes before its training."""
    folder = write_run(root, name, ROWS)
    fingerprint = "cd" * 32
    corpus = folder / f"corpus-{fingerprint[:12]}"
    (corpus / "corpus").mkdir(parents=True)
    record = {"name": "corpus", "stage": "corpus", "kinds": ["corpus"], "fingerprint": fingerprint}
    write(corpus / "artifact.json", record | {"config": {"heldout": heldout}, "seed": seed})
    (training,) = folder.glob("pretrain-*/artifact.json")
    training.write_text(training.read_text()[:-1] + f', "seed": {seed}}}')
    state = json.loads((folder / "run.json").read_text())
    made = {"kind": "corpus", "fingerprint": fingerprint, "state": "finished"}
    write(folder / "run.json", state | {"stages": {"corpus": made, **state["stages"]}})


def test_runs_that_differ_in_the_seed_alone_name_their_held_out_documents(tmp_path: Path) -> None:
    """Each seed's corpus holds out others; where settings differ, too, losses cannot be compared so."""
    seeded(tmp_path, "a", 17)
    seeded(tmp_path, "b", 18)
    found = rows(tmp_path, "a", "b")
    assert {(row.run, row.heldout) for row in found} == {("a", "seed 17"), ("b", "seed 18")}
    seeded(tmp_path, "c", 18, heldout=0.2)
    assert {row.heldout for row in rows(tmp_path, "a", "c")} == {""}
