"""`cpt merge search`, on tiny models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import write_base_and_adapted
from safetensors.torch import load_file
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.cli import main


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_base_and_adapted(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def plain_points() -> list[Any]:
    """The one point of a search without further flags; the first test measures it."""
    return []


@pytest.fixture
def search(called, monkeypatch, models, tmp_path: Path) -> Callable[..., Any]:
    """Call the command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "domain.jsonl", clinical_texts()[60:80])
    write_jsonl(tmp_path / "general.jsonl", varied_texts(30, "general ")[20:])
    base, adapted = models
    common = ("--base", base, "--add", f"law={adapted}", "--points", 4, "--precision", "fp32")
    texts = ("--text", "domain=domain.jsonl", "--text", "general=general.jsonl")

    def call(*words: object, start: tuple = common, on: tuple = texts) -> tuple[int, str, str]:
        return called("merge", "search", *start, *on, "--out", "out", *words)

    return call


def test_the_chosen_merge_is_written_with_its_log_and_page(search, models, tmp_path: Path) -> None:
    code, out, err = search("--json")
    assert code == 0, err
    facts = json.loads(out)
    weight = facts["search"]["chosen"]["weight of law"]
    log = (tmp_path / "out.search.jsonl").read_text().splitlines()
    assert len(log) == 2 + len(facts["search_points"])
    page = (tmp_path / "out.search.html").read_text()
    assert "Search of merge weights" in page
    assert "<svg" in page
    card = (tmp_path / "out/README.md").read_text()
    assert "Chosen by a search over" in card
    assert f":{weight!r} --method task-arithmetic" in card
    assert (
        main(["merge", "--base", str(models[0]), "--add", f"{models[1]}:{weight!r}", "--out", "again"]) == 0
    )
    found, again = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all(torch.equal(found[name], again[name]) for name in again)


def test_the_front_is_printed_as_a_table(search, tmp_path: Path) -> None:
    code, out, err = search("--limit", "general <= +9")
    assert code == 0, err
    assert "weight of law" in out
    assert "→" in out
    assert "general <= +9: held" in out
    assert "out.search.html" in out


def test_a_broken_limit_is_exit_code_3_and_the_best_compromise_is_kept(search, tmp_path: Path) -> None:
    code, _, err = search("--limit", "general <= 0", "--bounds", 0.9, 1.0)
    assert code == 3
    assert "no weights that were tried are shown to keep the limit: --limit: general <= 0 is broken" in err
    assert "best compromise" in err
    assert (tmp_path / "out/model.safetensors").exists()


def test_a_weight_at_its_bound_is_told_by_command_page_and_card(search, tmp_path: Path) -> None:
    _, out, _ = search("--limit", "general <= 0", "--bounds", 0.9, 1.0)
    said = "eight of law is at its lower bound 0.9: lower that bound to look further"
    assert f"w{said}" in " ".join(out.split())
    assert f"w{said}" in (tmp_path / "out.search.html").read_text()
    assert f"W{said}" in (tmp_path / "out/README.md").read_text()


def test_the_same_command_measures_nothing_again(search, tmp_path: Path, monkeypatch) -> None:
    import shutil

    assert search()[0] == 0
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(
        "cpt.stages.merge.search.MergeEvaluation.merged", lambda *_: pytest.fail("measured again")
    )
    assert search()[0] == 0
    shutil.rmtree(tmp_path / "out")
    code, _, err = search("--seed", 5)
    assert code == 2
    assert "log of another search" in err


def test_texts_beyond_the_two_may_have_limits(search, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "other.jsonl", varied_texts(10, "other "))
    code, out, err = search("--text", "other=other.jsonl", "--limit", "other <= +5", "--json")
    assert code == 0, err
    assert json.loads(out)["gates"][0]["probe"] == "other"


@pytest.mark.parametrize(
    "flags",
    [
        ("--tokens", 60),
        ("--window", 16),
        ("--start-token", "none"),
        ("--bounds", 0.2, 0.6),
        ("--groups", 2),
        ("--method", "dare-linear", "--density", 0.5),
        ("--method", "ties", "--densities", 0.3, 0.9, "--no-normalize"),
    ],
)
def test_flags_change_the_search(flags: tuple, search, plain_points: list[Any], tmp_path: Path) -> None:
    if not plain_points:
        plain_points += json.loads(search("--points", 1, "--json")[1])["search_points"]
    changed = json.loads(search("--points", 1, *flags, "--out", "other", "--json")[1])["search_points"]
    assert changed != plain_points


def test_all_mistakes_are_told_at_once_and_nothing_is_written(search, tmp_path: Path) -> None:
    code, _, err = search(
        "--limit", "generl <= +0.1", "--densities", 0, 1, on=("--text", "domain=nowhere.jsonl")
    )
    assert code == 2
    for message in ("no probe is called `generl`", "has no density", "no general text", "nowhere.jsonl"):
        assert message in err
    assert not list(tmp_path.glob("out*"))


def test_models_that_are_not_there_are_told_with_the_rest(search, models) -> None:
    code, _, err = search("--densities", 0, 1, start=("--base", models[0], "--add", "nowhere/at/all"))
    assert code == 2
    assert "nowhere/at/all" in err
    assert "has no density" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "piqa"), "is not NAME=ITEMS"),
        (("--text", "domain=general.jsonl"), "--text domain is given twice"),
        (("--limit", "general < 1"), "states no limit"),
        (("--budget", "general <= 1"), "--budget is now called --limit"),
        (("--task", "piqa=many"), "must be a whole number"),
        (("--task", "nonsense=10"), "there is no such task"),
        (("--data", "folder"), "no tasks to take data for"),
        (("--precision", "fp8"), "precision"),
        (("--groups", 3), "2 layers cannot be put into 3 groups"),
    ],
)
def test_mistakes_are_exit_code_2(words: tuple, message: str, search, tmp_path: Path) -> None:
    code, _, err = search(*words)
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_given_weights_leave_nothing_to_search(search, models) -> None:
    code, _, err = search(start=("--base", models[0], "--add", f"{models[1]}:0.5"))
    assert code == 2
    assert "every model has a weight" in err
