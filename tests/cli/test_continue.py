"""`cpt continue`: a recipe with one more training, written and run."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML


def stages(path: str) -> list[Any]:
    return list(YAML(typ="safe").load(Path(path).read_text())["stages"])


def test_one_more_training_is_written_and_run_and_the_rest_is_kept(cpt: Any) -> None:
    assert cpt("run", "recipe.yaml").code == 0
    words = ("--tokens", "500", "--checkpoint", "pre-anneal", "--json")
    shown = cpt("continue", "recipe.yaml", *words, "continued.schedule={kind: constant, peak: 1e-5}")
    assert shown.code == 0, shown.err
    assert "Wrote recipe-continued.yaml; `cpt run recipe-continued.yaml` resumes it." in shown.err
    actions = {stage["stage"]: stage["action"] for stage in shown.json["stages"]}
    assert list(actions) == ["corpus", "vocabulary", "pretrain", "continued", "merge", "evaluate", "report"]
    kept = [name for name, action in actions.items() if action == "cached"]
    assert kept == ["corpus", "vocabulary", "pretrain"]
    assert stages("recipe-continued.yaml")[4]["merge"]["models"] == [{"from": "continued", "weight": 0.9}]
    assert stages("recipe-continued.yaml")[3]["pretrain"] == {
        "name": "continued",
        "from": "pretrain",
        "start": {"checkpoint": "pre-anneal"},
        "tokens": 500,
        "steps": 5,
        "schedule": {"kind": "constant", "peak": 1e-5},
    }
    again = cpt("run", "recipe-continued.yaml", "--json")
    assert {stage["action"] for stage in again.json["stages"]} == {"cached"}


def test_a_continuation_can_be_continued_under_other_names(cpt: Any) -> None:
    cpt("continue", "recipe.yaml", "--tokens", "500")
    words = ("--name", "third", "--out", "third.yaml", "--checkpoint", "40")
    assert cpt("continue", "recipe-continued.yaml", "--tokens", "600", *words).code == 0
    last = stages("third.yaml")[4]["pretrain"]
    assert (last["from"], last["start"], last["tokens"]) == ("continued", {"checkpoint": 40}, 600)
    words = ("--stage", "pretrain", "--name", "fork", "--out", "fork.yaml")
    assert cpt("continue", "recipe-continued.yaml", "--tokens", "600", *words).code == 0
    fork = stages("fork.yaml")[3]["pretrain"]
    assert (fork["name"], fork["from"]) == ("fork", "pretrain")


def test_limits_are_taken_over_and_count_from_the_new_start(cpt: Any) -> None:
    says = "The limits of continued count from where it starts, not from the base."
    plain = cpt("continue", "recipe.yaml", "--tokens", "500", "--out", "plain.yaml")
    assert plain.code == 0
    assert says not in plain.err
    text = Path("recipe.yaml").read_text()
    Path("recipe.yaml").write_text(text.replace("pretrain:", "pretrain:\n      gates: [general <= 0.02]", 1))
    gated = cpt("continue", "recipe.yaml", "--tokens", "500", "--out", "gated.yaml")
    assert gated.code == 0, gated.err
    assert says in " ".join(gated.err.split())
    assert stages("gated.yaml")[3]["pretrain"]["gates"] == ["general <= 0.02"]
    without = cpt("continue", "recipe.yaml", "--tokens", "500", "--out", "without.yaml", "continued.gates=[]")
    assert says not in " ".join(without.err.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--stage", "pretrian"), "no pretrain stage `pretrian`"),
        (("--name", "merge"), "a stage `merge` already"),
        (("--out", "recipe.yaml"), "recipe.yaml exists already"),
        (("continued.nonsense=1",), "nonsense"),
        (("--optimizer", "new"), "neither fresh nor carried"),
    ],
)
def test_mistakes_are_explained_and_leave_no_file(cpt: Any, words: tuple[str, ...], says: str) -> None:
    shown = cpt("continue", "recipe.yaml", "--tokens", "5", *words)
    assert shown.code == 2
    assert says in shown.err
    assert not Path("recipe-continued.yaml").exists()


def test_help_says_what_it_does_and_what_it_does_not(cpt: Any) -> None:
    text = " ".join(cpt("continue", "--help").out.split())
    assert "with a new schedule and, by default, a fresh optimizer" in text
    assert "To resume an interrupted run, use" in text
