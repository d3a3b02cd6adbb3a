"""A training whose result is chosen by the p_gold of a task, on one half of its items."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from stage_runs import make_corpus, model_artifact, run_stage
from task_files import write_piqa

from cpt.cli.views.metric_lines import reading_lines
from cpt.stages.base import Artifact
from cpt.stages.evaluate.stage import STAGE as EVALUATE
from cpt.stages.pretrain.config import PretrainConfig
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from evals.result_folders import load_results
from evals.scorer import make_scorer

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

from general_files import write_lines

NOTHING_MORE = {"probe_share": None, "samples": None, "weights": None, "early_end": None}
TASK = {"items": 99, "measure": "p_gold", "every": 1}
STOP = {"limit": "general <= +9", "action": "stop", "after": 0, "by": "piqa"}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("chosen")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder / "made")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_piqa(tmp_path_factory.mktemp("tasks"), 80)


def config(data: str | None, task: dict[str, Any] = TASK, *gates: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokens": 900,
        "batch_sequences": 4,
        "precision": "fp32",
        "schedule": {"peak": 2e-2, "warmup": 0},
        "monitor": NOTHING_MORE | {"tasks": {"piqa": task}, "data": data, "every": 1},
        "gates": list(gates),
    }


def readings(folder: Path, probe: str = "piqa") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "output/training/probes.jsonl").read_text().splitlines()]
    return [row for row in rows if row["probe"] == probe]


def test_p_gold_is_read_on_one_half_with_the_accuracy_beside_it(
    inputs, data: str, tiny_model: Path, tmp_path: Path
) -> None:
    from cpt.models.packed_model import PackedLanguageModel, load_model

    metrics = run_stage(PRETRAIN, config(data), inputs, tmp_path / "half")
    rows = readings(tmp_path / "half")
    scorer = make_scorer("piqa", None, data, tiny_model, "<s>", 17, "search")
    answers = scorer.score(PackedLanguageModel(load_model(tiny_model)), scorer.items)
    assert {(row["unit"], row["items"]) for row in rows} == {("p_gold", scorer.items)}
    assert scorer.items < 80
    assert rows[0]["value"] == pytest.approx(sum(answers.p_gold) / scorer.items, abs=1e-6)
    assert rows[0]["detail"] == {"accuracy": pytest.approx(sum(answers.accuracy) / scorer.items)}
    assert " p_gold  " in str(reading_lines(rows[-1:], [])[0])
    assert " points" in str(reading_lines(rows[-1:], [])[0])
    assert "piqa" not in metrics["continual"]
    assert "chosen_by" not in metrics
    run_stage(PRETRAIN, config(data, {"items": 99, "every": 1}), inputs, tmp_path / "all")
    for row in readings(tmp_path / "all"):
        assert (row["unit"], row["items"], row["detail"].keys()) == ("accuracy", 80, {"p_gold"})


def test_the_result_is_the_best_point_by_the_task_and_evaluate_reports_the_other_half(
    inputs, data: str, tmp_path: Path
) -> None:
    metrics = run_stage(PRETRAIN, config(data, TASK, STOP), inputs, tmp_path / "run")
    rows = readings(tmp_path / "run")
    best = max(rows, key=lambda row: row["rise"])
    ended = metrics["ended"]
    assert (ended["result_step"] if ended else rows[-1]["step"]) == best["step"]
    assert metrics["chosen_by"]["measure"] == "p_gold"
    assert list(metrics["chosen_by"]["tasks"]) == ["piqa"]
    more = {"kinds": ("model",), "fingerprint": "t", "folder": tmp_path / "run/output", "metrics": metrics}
    trained = Artifact(name="pretrain", stage="pretrain", **more)
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "name: own\nabout: Toys.\ntasks:\n  - {task: piqa, source: piqa, metric: acc, quick: 99}\n"
    )
    asked = {"heldout_tokens": 200, "precision": "fp32", "suites": [str(suite)], "data": data}
    given = {"before": inputs["model"], "corpus": inputs["corpus"], "after": trained}
    run_stage(EVALUATE, asked, given, tmp_path / "evaluated")
    scores = json.loads((tmp_path / "evaluated/output/scores/scores.json").read_text())
    (task,) = load_results(tmp_path / "evaluated/output/scores/after").tasks
    assert (task.left_out, task.n) == (rows[0]["items"], 80 - rows[0]["items"])
    assert scores["suites"]["chosen"].startswith("a model was chosen by half of the items of piqa: these ")
    assert "heldout" not in scores  # all of the held-out text is read


def test_only_gates_that_act_choose_by_a_task() -> None:
    ways = {
        (): [],
        ("piqa >= -9 points", "warn"): [],
        ("piqa >= -9 points", "fail"): ["piqa"],
    }
    for gate, chosen in ways.items():
        gates = [dict(zip(("limit", "action"), gate, strict=True))] if gate else []
        made = PretrainConfig.model_validate(config(None, TASK, *gates))
        assert made.choosing_tasks == chosen
        assert PRETRAIN.selects_by_tasks(made) == bool(chosen)
    accuracy = PretrainConfig.model_validate(
        config(None, {}, {"limit": "piqa >= -9 points", "action": "fail"})
    )
    assert accuracy.choosing_tasks == []
    assert PretrainConfig.model_validate(config(None, TASK, STOP)).choosing_tasks == ["piqa"]


def problems(settings: dict[str, Any]) -> dict[str | None, str]:
    found = PRETRAIN.check(PretrainConfig.model_validate(settings), {})
    return {problem.key: problem.message for problem in found}


def test_what_cannot_be_chosen_by_is_found_before_anything_runs(data: str, tmp_path: Path) -> None:
    assert problems(config(data, TASK, STOP)) == {}
    assert problems(config(data, {}, STOP)) == {
        "gates.0.by": "the result cannot be chosen by the accuracy of piqa"
    }
    assert "15 items" in problems(config(data, TASK | {"items": 15}, STOP))["monitor.tasks.piqa.items"]
    small = write_piqa(tmp_path / "small", 24)
    assert "of the 16 that each needs" in problems(config(small))["monitor.tasks.piqa"]
    assert problems(config(small, {"items": 24})) == {}
    lambada = config(data)
    lambada["monitor"]["tasks"] = {"lambada_openai": TASK, "no-such-task": TASK}
    write_lines(tmp_path / "lambada_openai.jsonl", [{"context": "The dog", "continuation": "runs"}])
    lambada["monitor"]["data"] = str(tmp_path)
    found = problems(lambada)
    assert "no choice by likelihood" in found["monitor.tasks.lambada_openai"]
    assert "there is no such task" in found["monitor.tasks.no-such-task"]
