"""Suites in the evaluate stage: found wrong before it runs, scored on both models, compared."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stage_runs import Heard, make_corpus, model_artifact, run_stage
from tiny import write_tiny_model

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

from toy_suite import write_toy

from cpt.errors import StageFailed
from cpt.report.schema import Suites
from cpt.stages.base import Artifact
from cpt.stages.evaluate.stage import STAGE
from evals.comparing.comparison import compare
from evals.result_folders import load_results

PLAIN = {"heldout_tokens": 200, "precision": "fp32"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("artifacts")
    models = [
        model_artifact(name, write_tiny_model(folder / f"{name}-model", seed=seed), folder)
        for seed, name in enumerate(("before", "after"))
    ]
    return {"before": models[0], "after": models[1], "corpus": make_corpus(models[0], folder)}


def config(toy: Path, **changes: Any) -> dict[str, Any]:
    return {**PLAIN, "suites": [str(toy / "toy.yaml")], "data": str(toy / "data"), **changes}


def test_all_models_are_compared_on_the_suites(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """With the base, and with an earlier stage's model, here the final one once more."""
    heard = Heard()
    settings = config(write_toy(tmp_path), against=["base", "early"])
    given = inputs | {"against:1": inputs["after"]}
    metrics = run_stage(STAGE, settings, given, tmp_path / "run", progress=heard)
    folder = tmp_path / "run/output/scores"
    scores = json.loads((folder / "scores.json").read_text())
    suites = Suites(**scores["suites"])  # the report's form
    task = suites.tasks["arc_easy"]
    before, after = (load_results(folder / role) for role in ("before", "after"))
    assert (before.model, after.model) == ("before", "after")
    assert (task.a, task.b) == (before.tasks[0].score, after.tasks[0].score)
    assert task.difference == pytest.approx(task.b - task.a)
    assert task.n == 8
    assert suites.levels == {"toy": "quick"}
    likely = [*suites.measures["p_gold"].tasks.values()]
    assert [(each.task, each.metric) for each in likely] == [("arc_easy", "p_gold")]
    assert task.p_gold is not None
    assert (task.p_gold.a, task.p_gold.b) == (likely[0].a, likely[0].b)
    assert metrics["suites"]["toy"]["difference"] == pytest.approx(suites.averages["toy"].difference)
    assert metrics["suites"]["toy"]["of"] == 1
    assert scores["bits_per_byte"].keys() == {"domain", "general"}
    assert any("measuring the model after" in message for message in heard.messages)
    # a model against itself has not changed
    early = Suites(**scores["against"]["early"]["suites"])
    assert (early.averages["toy"].verdict, early.averages["toy"].difference) == ("no change", 0)
    assert metrics["against"]["early"]["suites"]["toy"]["verdict"] == "no change"
    assert load_results(folder / "against-1").tasks == after.tasks
    # one score has one error in every output: the results, a comparison with another seed, the report
    compared = {row.task: row for row in compare(before, after, seed=7, signal_only=False).tasks}
    for first, second in zip(before.tasks, after.tasks, strict=True):
        assert first.stderr
        row = compared[first.task]
        assert (row.a_stderr, row.b_stderr) == (first.stderr, second.stderr)
        reported = {**suites.tasks, **{each.task: each for each in suites.no_signal}}[first.task]
        assert (reported.a_stderr, reported.b_stderr) == (first.stderr, second.stderr)


def test_a_suite_in_which_both_models_guess_has_no_average(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    toy = write_toy(tmp_path)
    kept = "name: toy\nabout: Toys.\ntasks:\n"
    kept += '  - {task: arc_easy, source: "arc:easy", metric: acc_norm, chance: 0.9, quick: 8}\n'
    (toy / "toy.yaml").write_text(kept)
    heard = Heard()
    metrics = run_stage(STAGE, config(toy), inputs, tmp_path / "run", progress=heard)
    assert metrics["suites"] == {"toy": {"verdict": "no signal"}}
    scores = json.loads((tmp_path / "run/output/scores/scores.json").read_text())
    suites = Suites(**scores["suites"])
    assert (suites.averages, suites.tasks, suites.without_average) == ({}, {}, ["toy"])
    assert [(row.task, row.guessing) for row in suites.no_signal] == [("arc_easy", 0.9)]
    [silent], likely = suites.no_signal, suites.measures["p_gold"].tasks["arc_easy"]
    assert silent.p_gold is not None
    assert (silent.p_gold.difference, silent.p_gold.verdict) == (likely.difference, likely.verdict)
    assert any("the suite has no average" in message for message in heard.messages)


def test_when_no_task_can_run_the_stage_fails(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    heard = Heard()
    settings = config(write_toy(tmp_path), data=None)
    with pytest.raises(StageFailed, match="none of the suites' tasks can run"):
        run_stage(STAGE, settings, inputs, tmp_path / "run", progress=heard)
    assert any("arc_easy is left out" in message for message in heard.messages)


def problems(**settings: Any) -> dict[str | None, str]:
    found = STAGE.check(STAGE.Config.model_validate(settings), {})
    return {problem.key: problem.message for problem in found}


def test_what_is_wrong_with_suites_is_found_before_anything_runs(tmp_path: Path) -> None:
    toy = write_toy(tmp_path)
    assert problems(suites=["general:smoke", str(toy / "toy.yaml")], data=str(toy / "data")) == {}
    assert "no suite `medcal`" in problems(suites=["general", "medcal"])["suites.1"]
    assert "no level `slow`" in problems(suites=["general:slow"])["suites.0"]
    assert "more than once" in problems(suites=["general", "general:smoke"])["suites"]
    assert "level quick" in problems(suites=[f"{toy / 'toy.yaml'}:smoke"])["suites.0"]
    (tmp_path / "empty").mkdir()
    assert "none of the tasks" in problems(suites=["general"], data=str(tmp_path / "empty"))["suites.0"]
    assert "no suites" in problems(data=str(toy / "data"))["data"]


def test_suite_files_and_data_are_part_of_the_fingerprint() -> None:
    settings = STAGE.Config.model_validate({"suites": ["general", "mine.yaml"], "data": "sets"})
    assert STAGE.references(settings) == ["mine.yaml", "sets"]
