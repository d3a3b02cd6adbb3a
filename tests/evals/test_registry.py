"""Suites: how they are written and how they are chosen."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cpt.errors import UsageError
from evals import hub
from evals.preparation import prepare
from evals.registry import Suite, read_suite, select, suites
from evals.sources import sources

FAMILY = """\
name: mine
about: Two subjects.
tasks:
  - {task: "mmlu_{part}", source: "mmlu:{part}", parts: [anatomy, virology], metric: acc, quick: 5}
  - {task: arc_easy, metric: acc, smoke: 2}
"""


def test_the_suites_of_the_package_are_found_by_name() -> None:
    assert {"general", "language-ru", "language-ko"} <= suites().keys()
    assert all(suite.name == name for name, suite in suites().items())


@pytest.mark.parametrize("level", ["smoke", "quick", "full"])
def test_every_level_of_every_suite_has_tasks(level) -> None:
    assert all(suite.at(level) for suite in suites().values())


def test_the_general_suite_has_every_paradigm_of_blimp_and_the_subjects_of_no_domain() -> None:
    full = suites()["general"].at("full")
    groups = [entry.group for entry in full]
    assert (groups.count("blimp"), groups.count("mmlu")) == (67, 41)
    assert not {"mmlu_anatomy", "mmlu_professional_law", "mmlu_marketing"} & {entry.task for entry in full}


def test_every_task_of_every_suite_exists_with_its_metric_and_its_data_set(tmp_path: Path) -> None:
    chosen = [(suite, "full") for suite in suites().values()]
    ready, left_out = prepare(chosen, None, tmp_path)  # raises if not
    needs_an_extra = {"golden_touchstone_edtsum"}
    assert {one.task for one in left_out} <= needs_an_extra
    assert len(ready) + len(left_out) == sum(len(suite.tasks) for suite in suites().values())


def test_no_task_of_any_suite_reads_a_program_of_the_hub(tmp_path: Path) -> None:
    """`datasets` runs none; and the hub gives no data set whose name has no owner."""
    ready, _ = prepare([(suite, "full") for suite in suites().values()], None, tmp_path)
    packaged = {"csv", "json", "parquet"}
    for one in ready:
        path = one.config["dataset_path"]
        assert not hub.is_loading_script(one.config), one.entry.task
        assert "/" in path or path in packaged, one.entry.task
    converted = [one for one in ready if one.config["dataset_path"] in hub.loading_scripts()]
    assert {one.entry.task for one in converted} == {
        "contract_nli",
        "ja_leaderboard_jcommonsenseqa",
        "ja_leaderboard_jnli",
    }


def test_a_task_that_differs_in_a_word_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FAMILY)
    suite = read_suite(tmp_path / "mine.yaml")
    assert [(entry.task, entry.source) for entry in suite.tasks] == [
        ("mmlu_anatomy", "mmlu:anatomy"),
        ("mmlu_virology", "mmlu:virology"),
        ("arc_easy", None),
    ]
    assert [entry.task for entry in suite.at("smoke")] == ["arc_easy"]
    assert [entry.task for entry in suite.at("quick")] == ["mmlu_anatomy", "mmlu_virology"]
    assert [entry.items("quick") for entry in suite.at("full")] == [5, 5, None]
    assert suite.tasks[0].items("full") is None


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([{"task": "a", "metric": "acc"}] * 2, "named twice: a"),
        ([{"task": "{part}", "metric": "acc", "parts": []}], "list of words"),
        ([{"task": "{part}", "metric": "acc", "parts": "anatomy"}], "list of words"),
        ([], "at least 1 item"),
        (3, "valid tuple"),
        ([{"task": "a", "metric": "acc", "few_shot": 5}], "few_shot"),
    ],
)
def test_a_suite_that_is_written_wrongly_is_refused(tasks, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Suite.model_validate({"name": "a", "about": "b", "tasks": tasks})


def test_the_level_is_quick_unless_said() -> None:
    chosen = select(["general:smoke", "language-ru", "language-de:full"])
    assert [(suite.name, level) for suite, level in chosen] == [
        ("general", "smoke"),
        ("language-ru", "quick"),
        ("language-de", "full"),
    ]


def test_a_file_is_a_suite_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FAMILY)
    [(suite, level)] = select([f"{tmp_path / 'mine.yaml'}:smoke"])
    assert (suite.name, level) == ("mine", "smoke")


def test_a_suite_without_a_task_at_the_level_is_told_how_to_get_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nabout: b\ntasks: [{task: t, metric: acc}]")
    with pytest.raises(UsageError, match=r"(?s)`mine` has no task at level quick.*`quick`.*level full"):
        select([str(file)])
    assert select([f"{file}:full"])[0][1] == "full"


def test_all_wrong_names_are_told_at_once() -> None:
    with pytest.raises(UsageError) as error:
        select(["generl", "general:smok", "language-ru", "language-ru:full"])
    text = str(error.value)
    assert "no suite `generl`" in text
    assert "Did you mean `general`?" in text
    assert "no level `smok`" in text
    assert "smoke, quick, full" in text
    assert "`language-ru` is named more than once" in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name: [", "cannot be read as YAML"),
        ("name: a\nabout: b\ntasks: [{task: t}]", "tasks.0.metric"),
        ("- 1", "valid dictionary"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(content: str | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=reason) as error:
        select([str(file)])
    assert str(file) in str(error.value)


def test_every_data_set_says_whence_it_comes_and_what_may_be_done_with_it() -> None:
    for name, source in sources().items():
        assert name == source.name
        assert source.title
        assert source.licence
        assert source.origin
        assert source.files
