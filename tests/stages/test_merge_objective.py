"""A search for merge weights by tasks: on one half of their items, and evaluate reports the other."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted import write_base_and_adapted
from pydantic import ValidationError
from stage_runs import Heard, make_corpus, model_artifact, run_stage
from task_files import write_mmlu, write_piqa
from tiny import write_jsonl

from cpt.recipe.load import load
from cpt.report.schema import Suites
from cpt.stages.base import Artifact
from cpt.stages.evaluate.stage import STAGE as EVALUATE
from cpt.stages.merge.objective import OBJECTIVE
from cpt.stages.merge.search import LOG
from cpt.stages.merge.stage import STAGE
from evals.evaluation import evaluate_tasks
from evals.halves import half_of_item
from evals.preparation import prepare
from evals.registry import Suite
from evals.result_folders import load_results
from evals.scorer import find_choice_task

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

from general_files import write_lines

MODEL = [{"from": "one"}]
PIQA = {"tasks": ["piqa"]}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tasks")
    write_piqa(folder, 80)
    return write_mmlu(folder, "anatomy", 60)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("adapted")
    base, adapted = write_base_and_adapted(folder)
    base_artifact = model_artifact("base", base, folder / "artifacts")
    return {
        "base": base_artifact,
        "model:0": model_artifact("one", adapted, folder / "artifacts"),
        "corpus": make_corpus(base_artifact, folder / "corpus"),
    }


def settings(data: str, objective: dict[str, Any] | None, **search: Any) -> dict[str, Any]:
    found = {"points": 1, "precision": "fp32", "tokens": 400, "data": data, **search}
    return {"models": MODEL, "search": found | ({} if objective is None else {"objective": objective})}


def searched(inputs, folder: Path, data: str, objective: Any, **search: Any) -> dict[str, Any]:
    return run_stage(STAGE, settings(data, objective, **search), inputs, folder)


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "output/model" / LOG).read_text().splitlines()
    return [json.loads(line) for line in lines]


def p_gold_of_half(model: Path, data: str, cache: Path, measure: str = "p_gold") -> float:
    """The mean over the items of PIQA that are searched, as an evaluation of all items has it."""
    from evals.harness import load_tasks, silence_lm_eval
    from evals.task_scores import item_ids

    entry = find_choice_task("piqa")
    assert entry is not None
    ready, _ = prepare([(Suite(name="one", about="", tasks=(entry,)), "full")], Path(data), cache)
    results = evaluate_tasks(model, ready, cache=cache / "answers", precision="fp32", start_token="<s>")
    found = results.items["piqa"]
    values = found.measures["p_gold"] if measure == "p_gold" else found.values
    with silence_lm_eval():
        documents = list(load_tasks(ready, 1, {})["piqa"].eval_docs)
    halves = dict(zip(item_ids(documents), map(half_of_item, documents), strict=True))
    chosen = [value for name, value in zip(found.ids, values, strict=True) if halves[name] == "search"]
    assert 0 < len(chosen) < len(found.ids)
    return float(np.mean(np.array(chosen, float)))


@pytest.mark.parametrize("measure", ["p_gold", "accuracy"])
def test_the_gain_is_that_of_the_half_that_is_not_reported(
    inputs, data: str, tmp_path: Path, measure: str
) -> None:
    objective = PIQA | {"measure": measure, "items": 99}
    metrics = searched(inputs, tmp_path / "run", data, objective)
    (point,) = metrics["search_points"]
    assert point["weight"] == 1.0
    base, adapted = (
        p_gold_of_half(inputs[role].path("model"), data, tmp_path, measure) for role in ("base", "model:0")
    )
    assert point["objective_gain"] == pytest.approx(adapted - base, abs=1e-5)
    assert point["changes"][OBJECTIVE]["change"] == -point["objective_gain"]
    assert point["domain_gain"] == -point["changes"]["domain"]["change"]
    if measure == "p_gold":
        assert abs(point["objective_gain"]) > 1e-4
    tasks = {"piqa": {"source": "piqa", "data": metrics["chosen_by"]["tasks"]["piqa"]["data"]}}
    assert metrics["chosen_by"] == {"measure": measure, "tasks": tasks}
    card = (tmp_path / "run/output/model/README.md").read_text()
    assert f"merges by {measure} of piqa, on one half of the items (" in card


def test_without_an_objective_nothing_is_chosen_by_tasks(inputs, data: str, tmp_path: Path) -> None:
    plain = settings(data, None, tasks={"piqa": {"items": 16}})
    metrics = run_stage(STAGE, plain, inputs, tmp_path)
    assert "chosen_by" not in metrics
    assert "objective_gain" not in metrics["search_points"][0]
    assert OBJECTIVE not in metrics["search_points"][0]["changes"]


def test_the_objective_decides_which_merge_is_the_best(
    inputs, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a limit that all weights keep, the domain asks for all of the model, this task for the least."""
    from cpt.monitor.reading import Items
    from cpt.stages.merge.objective import Objective

    seen: list[Any] = []  # the base is read first

    def worse_and_worse(self: Objective, view: Any) -> Items:
        seen.append(next(iter(view.module.model.parameters())).detach().double().clone())
        return Items(np.full(40, float((seen[-1] - seen[0]).abs().sum())), np.ones(40))

    gate = [{"limit": "general <= +9"}]
    kept = {}
    for name, objective in (("domain", None), ("task", PIQA)):
        if name == "task":
            monkeypatch.setattr(Objective, "read", worse_and_worse)
        search = settings(data, objective, points=3) | {"gates": gate}
        search["search"] |= {} if objective else {"data": None}
        metrics = run_stage(STAGE, search, inputs, tmp_path / name)
        points = metrics["search_points"]
        gain = "objective_gain" if objective else "domain_gain"
        assert metrics["weights"]["one"] == max(points, key=lambda point: point[gain])["weight"]
        kept[name] = metrics["weights"]["one"]
    assert kept["domain"] != kept["task"]


def test_settings_of_the_objective_change_what_is_read(inputs, data: str, tmp_path: Path) -> None:
    ways: dict[str, dict[str, Any]] = {
        "plain": PIQA,
        "accuracy": PIQA | {"measure": "accuracy"},
        "few": PIQA | {"items": 16},
        "two": {"tasks": ["piqa", "mmlu_anatomy_continuation"]},
    }
    read = {}
    for name, objective in ways.items():
        searched(inputs, tmp_path / name, data, objective)
        read[name] = logged(tmp_path / name)[1]["readings"][OBJECTIVE]["numerators"]
    assert len(read["few"]) == 16 < len(read["plain"])
    assert len(read["accuracy"]) == len(read["plain"])
    assert read["accuracy"] != read["plain"]
    assert {round(value * len(read["accuracy"]), 9) for value in read["accuracy"]} <= {0.0, 1.0}
    # two tasks of different groups count the same, however many items they have
    two = logged(tmp_path / "two")[1]["readings"][OBJECTIVE]["denominators"]
    first = len(read["plain"])
    assert sum(two[:first]) == pytest.approx(0.5)
    assert sum(two) == pytest.approx(1)
    assert logged(tmp_path / "few")[0]["search"]["evaluation"]["objective"]["items"] == 16


def test_a_limit_on_a_task_that_is_maximised_is_read_on_the_same_half(
    inputs, data: str, tmp_path: Path
) -> None:
    tasks = {"piqa": {"items": 99}}
    searched(inputs, tmp_path / "both", data, PIQA, tasks=tasks)
    searched(inputs, tmp_path / "alone", data, None, tasks=tasks)
    both, alone = (logged(tmp_path / name)[1]["readings"] for name in ("both", "alone"))
    assert len(alone["piqa"]["numerators"]) == 80
    assert len(both["piqa"]["numerators"]) == len(both[OBJECTIVE]["numerators"]) < 80


SUITE = """\
name: own
about: Toys.
tasks:
  - {task: piqa, source: piqa, metric: acc_norm, quick: 30}
  - {task: mmlu_anatomy, source: "mmlu:anatomy", metric: acc, quick: 40}
  - {task: lambada_openai, source: lambada, metric: acc, quick: 20}
"""


def test_a_suite_counts_its_choices_by_likelihood(inputs, data: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(SUITE)
    objective = {"suite": str(file)}
    config = STAGE.Config.model_validate(settings(data, objective))
    assert STAGE.references(config) == [str(file), data]
    assert STAGE.check(config, {}) == []
    assert STAGE.forecast(config, {}, {}) == f"weights of at most 1 merges by p_gold of {file}"
    metrics = searched(inputs, tmp_path / "run", data, objective)
    assert set(metrics["chosen_by"]["tasks"]) == {"piqa", "mmlu_anatomy"}
    read = logged(tmp_path / "run")[1]["readings"][OBJECTIVE]["numerators"]
    assert 30 + 16 <= len(read) <= 30 + 40


def test_evaluate_reports_the_other_half_and_says_so(inputs, data: str, tmp_path: Path) -> None:
    metrics = searched(inputs, tmp_path / "merge", data, {"tasks": ["piqa", "mmlu_anatomy_continuation"]})
    folder = tmp_path / "merge/output"
    more = {"kinds": ("model",), "fingerprint": "m", "folder": folder, "metrics": metrics}
    merged = Artifact(name="merge", stage="merge", **more)
    file = tmp_path / "own.yaml"
    file.write_text(SUITE)
    write_lines(Path(data) / "lambada_openai.jsonl", [{"context": "The dog", "continuation": "runs"}] * 2)
    asked = {"heldout_tokens": 200, "precision": "fp32", "suites": [str(file)], "data": data}
    runs = {"halved": {"after": merged}, "later": {"after": inputs["model:0"], "chosen:0": merged}}
    for name, roles in (runs | {"whole": {"after": inputs["model:0"]}}).items():
        heard = Heard()
        given = {"before": inputs["base"], "corpus": inputs["corpus"], **roles}
        run_stage(EVALUATE, asked, given, tmp_path / name, progress=heard)
        scores = json.loads((tmp_path / name / "output/scores/scores.json").read_text())
        found = {each.task: each for each in load_results(tmp_path / name / "output/scores/after").tasks}
        said = Suites(**scores["suites"]).chosen
        if name == "whole":
            assert said == ""
            assert [found[task].left_out for task in found] == [0, 0, 0]
            continue
        assert found["lambada_openai"].left_out == 0
        assert found["piqa"].n == min(30, 80 - found["piqa"].left_out)
        assert 16 <= found["mmlu_anatomy"].left_out <= 44  # the same questions in another form
        left = found["piqa"].left_out + found["mmlu_anatomy"].left_out
        assert said.startswith("a model was chosen by half of the items of piqa, mmlu_anatomy: these ")
        assert f"these {left} items are left out" in said
        assert any(said in message for message in heard.messages)
        assert not any("other data" in message for message in heard.messages)
    other = write_piqa(tmp_path / "other", 70)
    heard = Heard()
    given = {"before": inputs["base"], "corpus": inputs["corpus"], "after": merged}
    run_stage(EVALUATE, asked | {"data": other}, given, tmp_path / "moved", progress=heard)
    assert any("chosen by items of other data" in message for message in heard.messages)


def test_evaluate_takes_every_stage_that_chose_by_tasks(tiny_model: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts.jsonl", ["a"])
    (tmp_path / "recipe.yaml").write_text(
        f"""\
name: tiny
base: {tiny_model}
stages:
  - corpus: {{domain: [{{path: texts.jsonl}}], sequence_length: 64}}
  - pretrain:
      name: first
      tokens: 1000
      monitor: {{tasks: {{piqa: {{measure: p_gold}}}}}}
      gates: [{{limit: domain <= +1, action: stop, by: piqa}}]
  - merge: {{name: fixed, models: [{{from: first, weight: 0.5}}]}}
  - merge: {{name: searched, models: [{{from: first}}], search: {{objective: {{tasks: [piqa]}}}}}}
  - evaluate: {{name: of-first, from: first}}
  - evaluate: {{name: of-fixed, from: fixed}}
  - evaluate: {{name: of-searched, from: searched}}
"""
    )
    chosen = {
        step.name: [name for role, name in step.inputs.items() if role.startswith("chosen")]
        for step in load(tmp_path / "recipe.yaml").steps
        if step.kind == "evaluate"
    }
    assert chosen == {"of-first": [], "of-fixed": ["first"], "of-searched": ["first"]}


@pytest.mark.parametrize(
    ("objective", "key", "message"),
    [
        ({"tasks": ["nonsense"]}, "search.objective.tasks", "there is no such task"),
        ({"tasks": ["medquad"]}, "search.objective.tasks", "its score is no accuracy of choices"),
        ({"tasks": ["lambada_openai"]}, "search.objective.tasks", "it is no choice by likelihood"),
        ({"tasks": ["arc_easy"]}, "search.data", "does not hold the data of arc_easy"),
        ({"tasks": ["piqa"], "items": 15}, "search.objective.tasks", "15 items of piqa are too few"),
        ({"suite": "medcal"}, "search.objective.suite", "no suite `medcal`"),
        ({"suite": "general:smoke"}, "search.objective.suite", "items of arc_easy are too few"),
        ({"suite": "general:quick"}, "search.data", "does not hold the data of"),
    ],
)
def test_an_objective_that_cannot_be_is_found_before_any_stage_runs(
    objective: dict, key: str, message: str, data: str
) -> None:
    found = STAGE.check(STAGE.Config.model_validate(settings(data, objective)), {})
    assert any(message in problem.message and problem.key == key for problem in found), found


def test_too_few_items_in_a_half_are_found_before_any_stage_runs(tmp_path: Path) -> None:
    small = write_piqa(tmp_path, 24)
    (problem,) = STAGE.check(STAGE.Config.model_validate(settings(small, PIQA)), {})
    assert problem.key == "search.objective.tasks"
    assert "of the 16 that each needs" in problem.message


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({}, "name either `tasks` or a `suite`"),
        ({"tasks": ["piqa"], "suite": "medical"}, "name either `tasks` or a `suite`"),
        ({"tasks": ["piqa", "piqa"]}, "piqa is named twice"),
        ({"tasks": ["piqa"], "measure": "margin"}, "p_gold"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(objective: dict, message: str, data: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate(settings(data, objective))
