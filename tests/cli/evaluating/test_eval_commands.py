"""`cpt eval run`, `compare` and `leaderboard` on tiny models."""

import json
from pathlib import Path
from typing import Any

import pytest
from eval_words import ON_DATA, Run
from tiny import capability_is_pretended

import evals
from cpt.cli import main, progress_bar
from cpt.errors import Interrupted, UsageError
from cpt.progress import MessageProgress
from evals.result_folders import load_results


def test_run_prints_scores_with_errors_and_averages_and_keeps_them(
    facts: Any, models: tuple[Path, Path]
) -> None:
    found = facts("run", *models, *ON_DATA)
    assert [each["model"] for each in found["models"]] == [str(model) for model in models]
    before = found["models"][0]
    task = before["tasks"]["arc_easy"]
    assert (task["n"], task["metric"]) == (8, "acc_norm")
    assert 0 <= task["score"] <= 1
    assert task["stderr"] >= 0
    assert before["averages"]["toy"]["score"] == task["score"]
    kept = json.loads((Path(before["folder"]) / "results.json").read_text())
    assert kept["tasks"][0]["score"] == task["score"]
    assert Path(before["folder"]).name == f"before-{before['fingerprint'][:8]}"


def test_run_again_is_answered_from_the_cache(
    run: Run, models: tuple[Path, Path], evaluated: list[str]
) -> None:
    code, out, err = run("run", models[0], *ON_DATA)
    assert code == 0
    assert "requests were answered before" in err
    kept = json.loads((Path(evaluated[0]) / "results.json").read_text())
    assert f"{kept['tasks'][0]['score']:.4f}" in out
    assert "macro average" in out


def test_settings_change_what_is_scored(facts: Any, models: tuple[Path, Path], place: Path) -> None:
    def scored(*words: object) -> Any:
        out = ("--out", place / "settings", "--offline", "--precision", "fp32")
        return facts("run", models[0], "--data", "data", *out, *words)

    plain = scored("--suite", "toy.yaml:quick")
    smoke = scored("--suite", "toy.yaml:smoke")
    assert smoke["suites"] == {"toy": "smoke"}
    assert {name: task["n"] for name, task in smoke["tasks"].items()} == {"arc_easy": 4, "openbookqa": 4}
    full = scored("--suite", "toy.yaml:full")
    assert full["tasks"]["arc_easy"]["n"] == 24
    [left_out] = full["left_out"]
    assert left_out["task"] == "winogrande"
    assert "winogrande.jsonl" in left_out["why"]
    precision = (("--precision", "bf16"), "precision", "bfloat16")
    for words, name, value in (
        *([] if capability_is_pretended() else [precision]),
        (("--start-token", "none"), "start_token", None),
        (("--start-token", "<s>"), "start_token", "<s>"),
        (("--seed", 5), "seed", 5),
    ):
        changed = scored("--suite", "toy.yaml:quick", *words)
        assert changed["settings"][name] == value
        assert changed["folder"] != plain["folder"]


def test_batch_size_changes_no_score(
    facts: Any,
    models: tuple[Path, Path],
    place: Path,
    evaluated: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CPT_CACHE", str(place / "no-answers-yet"))
    kept = json.loads((Path(evaluated[1]) / "results.json").read_text())
    plain = {task.pop("task"): task for task in kept["tasks"]}
    again = facts("run", models[1], *ON_DATA, "--batch-tokens", 1, "--out", place / "batches")
    for name, task in again["tasks"].items():
        for measure, found in task.pop("measures").items():  # other batches round otherwise
            assert found == pytest.approx(plain[name]["measures"][measure])
        del plain[name]["measures"]
    assert again["tasks"] == plain


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--suite", "toyy"), "no suite `toyy`"),
        (("--suite", "toy.yaml:slow"), "no level `slow`"),
        (("--suite", "toy.yaml", "--data", "nowhere"), "nowhere is not a folder"),
        (("--suite", "toy.yaml", "--offline"), "none of the tasks can run"),
        (("--suite", "toy.yaml", "--data", "nothing"), "nothing holds the data of none of the tasks"),
        (("--suite", "toy.yaml", "--precision", "fp7"), "--precision fp7"),
        (("--suite", "toy.yaml", "--backend", "abacus"), "--backend abacus"),
        ((*ON_DATA, "--start-token", "<nope>"), "<nope>"),
        ((*ON_DATA, "--chat"), "chat template"),
    ],
)
def test_mistakes_of_run_are_told(
    run: Run, models: tuple[Path, Path], words: tuple[str, ...], told: str
) -> None:
    code, _, err = run("run", models[0], *words)
    assert code == 2
    assert told in err


def test_a_model_that_is_not_there_is_told_before_work(run: Run, models: tuple[Path, Path]) -> None:
    code, out, err = run("run", models[0], "nowhere/at/all", *ON_DATA)
    assert code == 2
    assert out == ""
    assert "nowhere" in err
    assert "requests" not in err


def test_an_evaluation_without_a_score_leaves_earlier_results_alone(
    run: Run, models: tuple[Path, Path], evaluated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (Path(evaluated[0]) / "results.json").read_bytes()

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    code, out, err = run("run", models[0], "--suite", "toy.yaml:quick")
    assert (code, out) == (1, "")
    assert "none of the tasks could be scored" in err
    assert "--data DIR" in err
    assert (Path(evaluated[0]) / "results.json").read_bytes() == kept


def test_offline_the_hub_is_not_asked_for_what_it_gave_before(
    facts: Any, models: tuple[Path, Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    seen: list[bool] = []

    def looking(*_: object, **__: object) -> Any:
        seen.append(huggingface_hub.constants.is_offline_mode())
        raise ValueError

    with monkeypatch.context() as patch:
        patch.setattr("evals.harness.limit_items", looking)
        main(["eval", "run", str(models[0]), *ON_DATA])
        main(["eval", "run", str(models[0]), *ON_DATA[:-1]])
    assert seen == [True, False]


def test_progress_off_a_terminal_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.cli.progress_bar.SECONDS_OF_SILENCE", 0)
    with progress_bar.show_progress(resumable=True) as view:
        view.update(3, 1000, "requests")
        view.update(5, None, "bytes")
    assert capsys.readouterr().err.splitlines() == ["3/1,000 requests", "5 bytes"]


@pytest.mark.parametrize(("kept", "hint"), [(True, "continues"), (False, "None")])
def test_who_stops_a_command_is_told_whether_it_continues(kept: bool, hint: str) -> None:
    with pytest.raises(Interrupted) as stopped, progress_bar.show_progress(resumable=kept):
        raise KeyboardInterrupt
    assert hint in str(stopped.value.hint)


def test_compare_by_folder_name_and_model(
    run: Run, facts: Any, models: tuple[Path, Path], evaluated: list[str], tmp_path: Path
) -> None:
    folders = evaluated
    files = {kind: tmp_path / "new" / f"change.{kind}" for kind in ("csv", "md", "svg")}
    comparison = facts(
        "compare", *folders, "--csv", files["csv"], "--markdown", files["md"], "--plot", files["svg"]
    )
    task = comparison["tasks"]["arc_easy"]
    assert task["difference"] == pytest.approx(task["b"] - task["a"])
    assert task["verdict"] in ("better", "worse", "no change")
    assert 0 <= task["p"] <= 1
    low, high = task["interval"]
    assert low <= task["difference"] <= high
    assert comparison["averages"]["toy"]["verdict"] == task["verdict"]
    assert "arc_easy" in files["csv"].read_text()
    assert "| arc\\_easy |" in files["md"].read_text()
    assert files["svg"].read_text().lstrip().startswith("<?xml")
    assert facts("compare", *models) == comparison
    assert facts("compare", *(Path(folder).name for folder in folders)) == comparison
    code, out, _ = run("compare", *models)
    assert code == 0
    assert "arc_easy" in out
    narrow = facts("compare", *models, "--confidence", "0.6")["tasks"]["arc_easy"]["interval"]
    assert narrow[1] - narrow[0] <= high - low
    assert facts("compare", *models, "--correction", "none")["correction"] == "none"


def test_python_programs_have_the_same_path(
    facts: Any, models: tuple[Path, Path], evaluated: list[str]
) -> None:
    """The calls of the docstrings' examples, on the toy suite."""
    messages: list[str] = []
    results = evals.evaluate(
        models[0],
        suites=["toy.yaml:quick"],
        data="data",
        out="python/evals",
        offline=True,
        progress=MessageProgress(messages.append),
    )
    theirs = load_results(Path(evaluated[0]))
    assert (results.tasks, results.items, results.averages) == (theirs.tasks, theirs.items, theirs.averages)
    assert any("requests were answered before" in message for message in messages)
    [folder] = Path("python/evals").iterdir()
    assert load_results(folder) == results
    comparison = evals.compare(results, Path(evaluated[1]))
    assert comparison == evals.compare(*map(str, models), results="runs/evals")
    assert comparison.tasks[0].difference == facts("compare", *evaluated)["tasks"]["arc_easy"]["difference"]
    assert set(evals.__all__) == {"compare", "evaluate"}
    with pytest.raises(UsageError, match="no suite `toyy`"):
        evals.evaluate(models[0], suites=["toyy"])


def test_a_model_against_itself_has_not_changed(facts: Any, evaluated: list[str]) -> None:
    comparison = facts("compare", evaluated[0], evaluated[0])
    assert {task["verdict"] for task in comparison["tasks"].values()} == {"no change"}
    assert comparison["tasks"]["arc_easy"]["difference"] == 0


def test_retention_needs_a_general_suite(
    run: Run, facts: Any, models: tuple[Path, Path], place: Path
) -> None:
    (place / "wide.yaml").write_text(
        "name: wide\nabout: Books.\ntasks:\n"
        "  - {task: openbookqa, source: openbookqa, metric: acc, quick: 6}\n"
    )
    out = ("--out", place / "two", "--data", "data", "--offline")
    facts("run", *models, "--suite", "toy.yaml:quick", *out)
    both = facts("run", *models, "--suite", "wide.yaml:quick", *out)["models"]
    assert both[0]["suites"] == {"wide": "quick"}
    folders = [each["folder"] for each in both]
    kept = json.loads((Path(folders[0]) / "results.json").read_text())
    assert kept["suites"] == {"toy": "quick", "wide": "quick"}
    assert facts("compare", *folders)["retention"] == {}
    assert facts("compare", *folders, "--general", "wide")["retention"].keys() == {"toy"}
    code, _, err = run("compare", *folders, "--general", "wid")
    assert code == 2
    assert "--general wid: there is none" in err
    assert "wide" in err


def test_results_that_are_not_there_are_told(run: Run, place: Path) -> None:
    code, _, err = run("compare", "nothing", "nothing", "--results", place / "empty")
    assert code == 2
    assert "no results of nothing" in err
    code, _, err = run("leaderboard", place / "empty")
    assert code == 2
    assert "holds no results" in err


def test_leaderboard_ranks_the_models(
    run: Run, facts: Any, models: tuple[Path, Path], evaluated: list[str]
) -> None:
    [ranking] = facts("leaderboard")
    assert (ranking["suite"], ranking["level"]) == ("toy", "quick")
    ranks = [standing["rank"] for standing in ranking["standings"]]
    assert ranks[0] == 1
    assert len(ranks) == 2
    code, out, _ = run("leaderboard", "runs/evals", "--confidence", "0.9")
    assert code == 0
    assert str(models[0]) in out
