"""`cpt eval` on tiny models: a suite of one's own over data sets in their original form."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import varied_texts, write_jsonl, write_tiny_model

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))
sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

from general_files import write_lines
from stage_runs import artifact, run_stage
from toy_suite import arc, write_toy

from cpt.cli import main
from cpt.cli.evaluating import progress, running
from cpt.errors import Interrupted
from cpt.stages.corpus import STAGE
from evals import harness


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return write_tiny_model(folder / "before"), write_tiny_model(folder / "after", seed=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite, the data, and texts; results and caches gather in it."""
    folder = write_toy(tmp_path_factory.mktemp("evaluations"))
    write_jsonl(folder / "text.jsonl", [*varied_texts(12), "x"])
    (folder / "nothing").mkdir()
    return folder


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> Run:
    """Call the command in that folder: exit code, standard output, standard error."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("CPT_CACHE", str(place / "cache"))
    monkeypatch.setattr("cpt.cli.quiet_libraries", lambda: None)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["eval", *map(str, words)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def facts(run: Run) -> Callable[..., Any]:
    """Call the command with --json, which must succeed."""

    def call(*words: object) -> Any:
        code, out, err = run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


ON_DATA = ("--suite", "toy.yaml:quick", "--data", "data", "--offline")


@pytest.fixture
def evaluated(facts: Any, models: tuple[Path, Path], place: Path) -> list[str]:
    """Folders of the results of both models, evaluated for the first test that wants them."""
    kept = place / "evaluated.json"
    if not kept.exists():
        kept.write_text(json.dumps([each["folder"] for each in facts("run", *models, *ON_DATA)["models"]]))
    return json.loads(kept.read_text())


def test_run_prints_scores_with_errors_and_averages_and_keeps_them(
    facts: Any, models: tuple[Path, Path]
) -> None:
    found = facts("run", *models, *ON_DATA)
    assert [each["model"] for each in found["models"]] == [str(model) for model in models]
    before = found["models"][0]
    task = before["tasks"]["arc_easy"]
    assert (task["n"], task["metric"], task["chance"]) == (8, "acc_norm", 0.25)
    assert 0 <= task["score"] <= 1
    assert task["stderr"] >= 0
    assert before["averages"]["toy"]["score"] == task["score"]
    kept = json.loads((Path(before["folder"]) / "results.json").read_text())
    assert kept["tasks"][0]["score"] == task["score"]
    assert Path(before["folder"]).name == f"before-{before['fingerprint'][:8]}"


def test_run_again_is_answered_from_the_cache(run: Run, facts: Any, models: tuple[Path, Path]) -> None:
    first = facts("run", models[0], *ON_DATA)
    code, out, err = run("run", models[0], *ON_DATA)
    assert code == 0
    assert "requests were answered before" in err
    assert f"{first['tasks']['arc_easy']['score']:.4f}" in out
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
    for words, name, value in (
        (("--precision", "bf16"), "precision", "bfloat16"),
        (("--start-token", "none"), "start_token", None),
        (("--start-token", "<s>"), "start_token", "<s>"),
        (("--seed", 5), "seed", 5),
    ):
        changed = scored("--suite", "toy.yaml:quick", *words)
        assert changed["settings"][name] == value
        assert changed["folder"] != plain["folder"]


def test_batch_size_changes_no_score(facts: Any, models: tuple[Path, Path], place: Path) -> None:
    plain = facts("run", models[1], *ON_DATA)
    again = facts("run", models[1], *ON_DATA, "--batch-tokens", 1, "--out", place / "batches")
    assert again["tasks"] == plain["tasks"]


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
    assert code == 1
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
        patch.setattr("evals.harness.choose_items", looking)
        main(["eval", "run", str(models[0]), *ON_DATA])
        main(["eval", "run", str(models[0]), *ON_DATA[:-1]])
    assert seen == [True, False]


def test_the_seed_is_that_of_evaluations() -> None:
    assert running.SEED == harness.SEED


def test_progress_off_a_terminal_is_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpt.cli.evaluating.progress.SECONDS_BETWEEN_LINES", 0)
    with progress.shown(kept=True) as view:
        view.update(3, 1000, "requests")
        view.update(5, None, "bytes")
    assert capsys.readouterr().err.splitlines() == ["3/1,000 requests", "5 bytes"]


@pytest.mark.parametrize(("kept", "hint"), [(True, "continues"), (False, "None")])
def test_who_stops_a_command_is_told_whether_it_continues(kept: bool, hint: str) -> None:
    with pytest.raises(Interrupted) as stopped, progress.shown(kept=kept):
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


def test_a_model_against_itself_has_not_changed(facts: Any, evaluated: list[str]) -> None:
    comparison = facts("compare", evaluated[0], evaluated[0])
    assert {task["verdict"] for task in comparison["tasks"].values()} == {"no change"}
    assert comparison["tasks"]["arc_easy"]["difference"] == 0


def test_retention_needs_a_general_suite(facts: Any, models: tuple[Path, Path], place: Path) -> None:
    (place / "wide.yaml").write_text(
        "name: wide\nabout: Books.\ntasks:\n"
        "  - {task: openbookqa, source: openbookqa, metric: acc, chance: 0.25, quick: 6}\n"
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


def test_contamination_finds_the_items_of_a_text(
    run: Run, facts: Any, models: tuple[Path, Path], evaluated: list[str], place: Path
) -> None:
    results = evaluated[0]
    seen = arc(24)[:12]
    write_jsonl(place / "seen.jsonl", [f"As they say: {each['query']}" for each in seen])
    words = ("contamination", results, "--text", "seen.jsonl", "--data", "data", "--suite", "toy.yaml")
    found = facts(*words)
    [task] = found["tasks"]
    assert found["text"] == {"seen.jsonl": 12}
    assert task["dirty"]["n"] + task["clean"]["n"] == 8
    assert 0 < task["dirty"]["n"] < 8
    assert len(task["items"]) == task["dirty"]["n"]
    code, out, _ = run(*words)
    assert code == 0
    assert "seen.jsonl" in out
    clean = facts("compare", *models, "--clean", Path(results) / "contamination.json")
    assert clean["tasks"]["arc_easy"]["n"] == task["clean"]["n"]
    assert facts(*words, "--ngram", 40)["tasks"][0]["short"]["n"] == 8


def test_contamination_of_a_corpus_artifact(
    facts: Any, run: Run, models: tuple[Path, Path], evaluated: list[str], tmp_path: Path
) -> None:
    documents = write_jsonl(tmp_path / "seen.jsonl", [each["query"] for each in arc(24)])
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model").symlink_to(models[0])
    config = {"domain": [{"path": str(documents)}], "heldout": 0.2, "sequence_length": 64}
    base = artifact("base", tmp_path / "base", "model")
    run_stage(STAGE, config, {"model": base}, tmp_path / "run")
    words = ("contamination", evaluated[0], "--data", "data", "--suite", "toy.yaml")
    found = facts(*words, "--corpus", tmp_path / "run/output")
    assert found["text"].keys() == {"domain"}
    assert 0 < found["text"]["domain"] < 24
    assert found["tasks"][0]["dirty"]["n"] > 0
    code, _, err = run(*words, "--corpus", tmp_path)
    assert (code, "holds no corpus" in err) == (2, True)
    code, _, err = run(*words)
    assert (code, "no text to look in" in err) == (2, True)


def test_contamination_of_other_data_is_refused_task_by_task(
    facts: Any, evaluated: list[str], tmp_path: Path
) -> None:
    write_lines(tmp_path / "arc_easy.jsonl", arc(3))
    write_jsonl(tmp_path / "seen.jsonl", ["something"])
    found = facts(
        "contamination",
        evaluated[0],
        *("--text", tmp_path / "seen.jsonl", "--data", tmp_path, "--suite", "toy.yaml"),
    )
    assert found["tasks"] == []
    assert "other data" in found["not_searched"]["arc_easy"]


def test_text_compares_models_on_the_same_bytes(
    run: Run, facts: Any, models: tuple[Path, Path], tmp_path: Path
) -> None:
    documents = tmp_path / "documents.jsonl"
    found = facts("text", *models, "--text", "text.jsonl", "--documents", documents)
    first, second = found["texts"]
    assert first["bytes"] == second["bytes"]
    assert first["documents"] == 13
    assert "difference" not in first
    assert second["difference"] == pytest.approx(second["bits_per_byte"] - first["bits_per_byte"])
    assert second["interval"][0] < second["difference"] < second["interval"][1]
    lines = [json.loads(line) for line in documents.read_text().splitlines()]
    assert len(lines) == 26
    of_first = [line for line in lines if line["model"] == str(models[0])]
    assert sum(line["bytes"] for line in of_first) == first["bytes"]
    code, out, _ = run("text", *models, "--text", "text.jsonl")
    assert code == 0
    assert f"{first['bits_per_byte']:.4f}" in out


def test_a_text_that_is_not_there_is_told_before_work(run: Run, models: tuple[Path, Path]) -> None:
    code, _, err = run("text", models[0], "--text", "text.jsonl", "--text", "nowhere.jsonl", "--window", 4096)
    assert code == 1
    assert "nowhere.jsonl" in err
    assert "--window" not in err


def test_settings_of_text(facts: Any, run: Run, models: tuple[Path, Path], place: Path) -> None:
    write_jsonl(place / "long.jsonl", [" ".join(varied_texts(30)), "x"])

    def measured(*words: object) -> Any:
        return facts("text", models[0], "--text", "long.jsonl", *words)["texts"][0]

    plain = measured("--window", 64, "--overlap", 16)
    assert measured("--window", 64, "--overlap", 16, "--batch-tokens", 1)["bits_per_byte"] == pytest.approx(
        plain["bits_per_byte"], rel=1e-5
    )
    for words in (
        ("--window", 48, "--overlap", 16),
        ("--window", 64, "--overlap", 32),
        ("--window", 64, "--overlap", 16, "--precision", "bf16"),
        ("--window", 64, "--overlap", 16, "--start-token", "none"),
    ):
        assert measured(*words)["bits_per_byte"] != plain["bits_per_byte"]
    bare = measured("--start-token", "none", "--overlap", 16)
    assert bare["documents_scored"] == 1
    assert bare["bytes_not_scored"] == 2
    assert bare["window"] == 128
    code, _, err = run("text", models[0], "--text", "long.jsonl", "--window", 16, "--overlap", 15)
    assert (code, "no room" in err) == (1, True)


def test_suites_are_listed_and_say_what_can_run(run: Run, facts: Any) -> None:
    code, out, _ = run("suites")
    assert code == 0
    for name in ("general", "medical", "legal", "finance"):
        assert name in out
    [toy] = facts("suites", "toy.yaml", "--data", "data", "--offline")
    assert toy["levels"]["smoke"] == {"tasks": 2, "items": 8}
    tasks = {task["task"]: task for task in toy["tasks"]}
    assert tasks["arc_easy"]["runs"]
    assert tasks["arc_easy"]["licence"] == "CC BY-SA 4.0"
    [(file, checksum)] = tasks["arc_easy"]["files"].items()
    assert file.endswith("arc_easy.jsonl")
    assert len(checksum) == 64
    assert not tasks["winogrande"]["runs"]
    assert "winogrande.jsonl" in tasks["winogrande"]["why_not"]
    code, out, _ = run("suites", "toy.yaml", "--data", "data", "--offline")
    assert code == 0
    assert "left out" in out
