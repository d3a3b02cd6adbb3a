"""Every command: what it prints, as text and as JSON, and its exit code."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import fake_stages
import pytest

from cpt.errors import GateFailed, GateNotShown
from cpt.recipe.store import Store

STAGES = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]


def stop_at(kind: str, error: BaseException) -> None:
    def hook(_context: object, _step: int) -> None:
        raise error

    fake_stages.HOOKS[kind] = hook


def test_help_shows_every_command(cpt: Any) -> None:
    shown = cpt("--help")
    assert shown.code == 0
    for command in ("init", "validate", "plan", "run", "status", "report", "diff", "show", "ls"):
        assert command in shown.out
        assert "Example: cpt" in cpt(command, "--help").out


def test_version(cpt: Any) -> None:
    assert cpt("--version").out.startswith("cpt ")


def test_validate(cpt: Any) -> None:
    assert "is valid: 6 stages" in cpt("validate", "recipe.yaml").out
    assert cpt("validate", "recipe.yaml", "--json").json["stages"] == STAGES


def test_problems_are_listed_on_stderr(cpt: Any) -> None:
    shown = cpt("validate", "recipe.yaml", "pretrain.tokns=3", "corpus.heldout=2")
    assert shown.code == 2
    assert shown.out == ""
    assert "2 problems" in shown.err
    assert "command line: pretrain.tokns: unknown key `tokns`" in shown.err
    assert "Did you mean `tokens`?" in shown.err


def test_problems_as_json(cpt: Any, recipe_file: Path) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("seed: 17", "sead: 17"))
    shown = cpt("validate", "recipe.yaml", "--json")
    assert shown.code == 2
    assert shown.json["error"] == "1 problem"
    assert shown.json["problems"] == [
        {
            "message": "unknown key `sead`",
            "file": "recipe.yaml",
            "line": 4,
            "key": "sead",
            "hint": "Did you mean `seed`?",
        }
    ]


def test_plan(cpt: Any) -> None:
    shown = cpt("plan", "recipe.yaml")
    assert shown.code == 0
    assert "1000 tokens in 5 steps" in shown.out
    assert "6 stages to run." in shown.out
    cpt("run", "recipe.yaml")
    assert "Nothing to run." in cpt("plan", "recipe.yaml").out
    changed = cpt("plan", "recipe.yaml", "merge.models.0.weight=0.5", "--json").json
    assert [stage["action"] for stage in changed["stages"]] == ["cached"] * 3 + ["stale"] * 3
    assert changed["stages"][3]["why"] == "models.0.weight 0.9 → 0.5"


def test_run_prints_lines_on_stderr_and_the_result_on_stdout(cpt: Any) -> None:
    shown = cpt("run", "recipe.yaml")
    assert shown.code == 0
    assert "pretrain: 5/5 steps, loss" in shown.err
    assert "done in" in shown.out
    assert "report.html" in shown.out
    assert "nothing to run" in cpt("run", "recipe.yaml").out


def test_run_as_json(cpt: Any) -> None:
    shown = cpt("run", "recipe.yaml", "--until", "pretrain", "--json")
    assert [stage["action"] for stage in shown.json["stages"]] == ["run"] * 3 + ["skipped"] * 3
    assert shown.json["report"] is None
    again = cpt("run", "recipe.yaml", "--json").json
    assert [stage["action"] for stage in again["stages"]] == ["cached"] * 3 + ["run"] * 3
    assert Path(again["report"]).is_file()


def test_what_a_stage_prints_does_not_reach_stdout(cpt: Any) -> None:
    fake_stages.HOOKS["merge"] = lambda _context, _step: print("noise")
    shown = cpt("run", "recipe.yaml", "--json")
    assert shown.json["run"] == "medical"
    assert "noise" in shown.err


def test_warnings_of_libraries_go_to_a_file(cpt: Any) -> None:
    import logging
    import warnings

    def hook(_context: object, _step: int) -> None:
        logging.getLogger("somelib").warning("careful")
        warnings.warn("old-fashioned", stacklevel=1)

    fake_stages.HOOKS["merge"] = hook
    shown = cpt("run", "recipe.yaml")
    assert "careful" not in shown.err + shown.out
    log = Path("runs/medical/libraries.log").read_text()
    assert "careful" in log
    assert "old-fashioned" in log


def test_runs_may_lie_elsewhere(cpt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpt("run", "recipe.yaml", "--runs", str(tmp_path / "one"))
    monkeypatch.setenv("CPT_RUNS", str(tmp_path / "two"))
    cpt("run", "recipe.yaml")
    assert (tmp_path / "one" / "medical").is_dir()
    assert (tmp_path / "two" / "medical").is_dir()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("boom"), 1, "unexpected RuntimeError: boom"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "no space left on the disk of"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "The same command continues"),
    ],
)
def test_exit_codes_of_a_run_that_stops(cpt: Any, error: BaseException, code: int, message: str) -> None:
    stop_at("merge", error)
    shown = cpt("run", "recipe.yaml", "--json")
    assert shown.code == code
    assert message in shown.err
    assert shown.json.keys() == {"error", "hint", "problems"}
    fake_stages.HOOKS.clear()
    assert cpt("run", "recipe.yaml").code == 0


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_wait_briefly_unless_the_user_says_how(
    cpt: Any, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: str | None
) -> None:
    unset = {
        name: each for name, each in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    monkeypatch.setattr(os, "environ", unset | given)
    cpt("--version")
    assert os.environ.get("GOMP_SPINCOUNT") == found


def test_debug_shows_the_traceback(cpt: Any) -> None:
    stop_at("merge", RuntimeError("boom"))
    shown = cpt("run", "recipe.yaml", "--debug")
    assert shown.code == 1
    assert "Traceback" in shown.err
    assert "RuntimeError: boom" in shown.err


def test_a_broken_gate_is_exit_code_3(cpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_stages.Fake.run

    def gated(*args: Any) -> None:
        raise GateFailed("general rose too much", metrics=made(*args))

    monkeypatch.setattr(fake_stages.Evaluate, "run", gated)
    shown = cpt("run", "recipe.yaml")
    assert shown.code == 3
    assert "evaluate: general rose too much" in shown.err
    assert "report.html" in shown.out
    again = cpt("run", "recipe.yaml", "--json")
    assert again.code == 3
    assert again.json["gates"] == {"evaluate": "general rose too much"}
    assert again.json["verdicts"] == {"evaluate": "broken"}
    assert "general rose too much" in cpt("status").out


def test_a_gate_that_is_not_shown_is_exit_code_4_and_a_broken_one_wins(
    cpt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_stages.Fake.run

    def not_shown(*args: Any) -> None:
        raise GateNotShown("evaluate.gates.0: general may have risen too much", metrics=made(*args))

    def broken(*args: Any) -> None:
        raise GateFailed("domain rose", metrics=made(*args))

    monkeypatch.setattr(fake_stages.Evaluate, "run", not_shown)
    shown = cpt("run", "recipe.yaml")
    assert shown.code == 4
    assert "gate not shown: evaluate.gates.0: general may have risen" in shown.err
    assert "a limit is not shown to be held" in shown.err
    assert "report.html" in shown.out
    again = cpt("run", "recipe.yaml", "--json")
    assert (again.code, again.json["verdicts"]) == (4, {"evaluate": "not shown"})
    assert "general may have risen" in cpt("status").out
    stages = cpt("status", "--json").json["stages"]
    assert {name: stage["gate_verdict"] for name, stage in stages.items() if stage["gate"]} == {
        "evaluate": "not shown"
    }
    monkeypatch.setattr(fake_stages.Merge, "run", broken)
    both = cpt("run", "recipe.yaml", "--force", "merge", "--json")
    assert both.code == 3
    assert both.json["verdicts"] == {"merge": "broken", "evaluate": "not shown"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Missing argument"),
        (["run", "recipe.yaml", "--frm", "merge"], "--frm"),
        (["walk"], "walk"),
        (["run", "gone.yaml"], "no such file"),
        (["run", "recipe.yaml", "--from", "merg"], "Did you mean `merge`?"),
        (["run", "recipe.yaml", "--only", "merge"], "needs the result of pretrain"),
        (["run", "recipe.yaml", "--runs", "notes.txt"], "--runs"),
        (["plan", "recipe.yaml", "--until", "nothing"], "no stage `nothing`"),
        (["status"], "there is no run in runs"),
        (["report"], "there is no run in runs"),
        (["show", "medical"], "there is no run `medical`"),
        (["init", "--template", "nothing"], "there is no template `nothing`"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_mistakes_on_the_command_line(cpt: Any, words: list[str], message: str, as_json: bool) -> None:
    shown = cpt(*words, *(["--json"] if as_json else []))
    assert shown.code == 2
    assert message in shown.err
    if as_json:
        assert shown.json["error"]
    assert not Path("runs").exists()


def test_a_run_held_by_another_process(cpt: Any) -> None:
    store = Store(Path("runs/medical"))
    store.prepare()
    with store.lock():
        shown = cpt("run", "recipe.yaml")
    assert shown.code == 2
    assert "another process" in shown.err


def test_status_ls_and_report(cpt: Any) -> None:
    cpt("run", "recipe.yaml", "--until", "merge")
    assert cpt("report").code == 2
    assert "no report yet" in cpt("report").err
    assert "skipped" in cpt("status").out
    cpt("run", "recipe.yaml")
    cpt("run", "recipe.yaml", "name=second")
    assert cpt("status", "medical", "--json").json["state"] == "finished"
    assert "second" in cpt("status").out
    listed = cpt("ls", "--json").json
    assert [run["name"] for run in listed] == ["second", "medical"]
    assert listed[0]["stages_done"] == 6
    assert "medical" in cpt("ls").out
    assert cpt("report", "--json").json == {
        "probes": {"domain": {"before": 1.1, "after": 0.8, "depth": 0.01}}
    }
    assert "-0.3000" in cpt("report", "runs/medical").out


def test_ls_without_runs(cpt: Any) -> None:
    assert cpt("ls").code == 0
    assert cpt("ls", "--json").json == []


def test_status_after_a_failure(cpt: Any) -> None:
    stop_at("merge", RuntimeError("boom"))
    cpt("run", "recipe.yaml")
    shown = cpt("status").out
    assert "failed" in shown
    assert "boom" in shown


def test_show(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    listed = cpt("show", "--json").json
    assert [artifact["name"] for artifact in listed] == STAGES
    one = cpt("show", "medical", "pretrain", "--json").json
    assert one == cpt("show", "pretrain", "--json").json
    assert one["config"]["schedule"]["peak"] == 3e-4
    assert one["metrics"]["steps"] == 5
    assert {"path": "model/content.txt", "bytes": 64} in one["files"]
    shown = cpt("show", "pretrain").out
    assert "schedule.peak" in shown
    assert "from vocabulary" in shown
    assert "model/content.txt" in shown
    assert "vocabulary" in cpt("show", "medical").out
    missing = cpt("show", "medical", "pretran")
    assert missing.code == 2
    assert "`pretrain`" in missing.err


def test_show_and_report_follow_the_last_recipe(cpt: Any) -> None:
    cpt("run", "recipe.yaml")
    cpt("run", "recipe.yaml", "pretrain.schedule.peak=1e-4")
    assert cpt("show", "pretrain", "--json").json["config"]["schedule"]["peak"] == 1e-4
    cpt("run", "recipe.yaml")
    assert cpt("show", "pretrain", "--json").json["config"]["schedule"]["peak"] == 3e-4


def test_init(cpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "quickstart": "# Ten minutes on two cores.\nname: q\nbase: b\nstages: []\n",
        "legal": "# Law.\nname: l\nbase: b\nstages: []\n",
    }
    monkeypatch.setattr("cpt.recipe.authoring.templates", lambda: texts)
    monkeypatch.setattr("cpt.recipe.presets.templates", lambda: texts)
    listed = cpt("init", "--list", "--json").json
    assert [(each["name"], each["about"]) for each in listed] == [
        ("quickstart", "Ten minutes on two cores."),
        ("legal", "Law."),
    ]
    assert "Ten minutes on two cores." in cpt("init", "--list").out
    assert "cpt run quickstart.yaml" in cpt("init").out
    assert Path("quickstart.yaml").read_text() == texts["quickstart"]
    assert cpt("init").code == 2
    assert cpt("init", "--force").code == 0
    assert cpt("init", "mine.yaml", "--template", "legal").code == 0
    assert Path("mine.yaml").read_text() == texts["legal"]
    Path("folder").mkdir()
    assert cpt("init", "folder", "--json").json["recipe"] == "folder/quickstart.yaml"
    assert cpt("init", "nowhere/x.yaml").code == 2
