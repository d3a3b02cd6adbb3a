"""`cpt merge PLAN`: the short YAML of our own."""

from pathlib import Path
from typing import Any

import pytest
from merge_models import weights

PLAN = """\
base: base
method: ties
models:
  - {model: law, weight: 0.8, parameters: {density: 0.3}}
  - {model: med, name: medicine, weight: 0.5}
parameters: {density: 0.6}
"""


def contents(folder: str) -> dict[str, bytes]:
    """The files that do not tell how they were made."""
    told = {"README.md", "SHA256SUMS"}
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in told}


def test_a_plan_is_what_its_flags_are(merge: Any) -> None:
    Path("plan.yaml").write_text(
        PLAN + "settings: medicine\ntokenizer: law\ndtype: bfloat16\ncompute_dtype: float64\n"
        "seed: 3\nshard_size: 8kB\nchat_template: chatml\n"
    )
    assert merge("plan.yaml", "--out", "O").code == 0
    flags = ("--base", "base", "--add", "law:0.8", "--add", "medicine=med:0.5", "--method", "ties")
    flags += (
        "--density",
        "0.6",
        "--set",
        "law.density=0.3",
        "--settings-of",
        "medicine",
        "--tokenizer",
        "law",
    )
    flags += ("--dtype", "bfloat16", "--compute-dtype", "float64", "--shard-size", "8kB", "--seed", "3")
    assert merge(*flags, "--chat-template", "chatml", "--out", "P").code == 0
    assert contents("O") == contents("P")
    command = Path("O/README.md").read_text().partition("cpt merge ")[2]
    for part in ("medicine=med:0.5", "--settings-of medicine", "--compute-dtype float64", "--seed 3"):
        assert part in command


@pytest.mark.parametrize(
    "line",
    [
        "dtype: bfloat16",
        "compute_dtype: bfloat16",
        "shard_size: 8000",
        "chat_template: chatml",
        "settings: medicine",
    ],
)
def test_every_key_changes_the_result(merge: Any, line: str) -> None:
    Path("before.yaml").write_text(PLAN)
    Path("after.yaml").write_text(PLAN + line + "\n")
    assert merge("before.yaml", "--out", "before").code == 0
    assert merge("after.yaml", "--out", "after").code == 0
    assert contents("before") != contents("after")


def test_the_seed_of_the_command_line_holds(merge: Any) -> None:
    Path("plan.yaml").write_text(PLAN.replace("ties", "dare_ties") + "seed: 1\n")
    for name, words in {"a": (), "b": ("--seed", "2"), "c": ("--seed", "1")}.items():
        assert merge("plan.yaml", *words, "--out", name).code == 0
    a, b, c = (contents(name) for name in "abc")
    assert a == c != b


def test_paths_begin_at_the_plan(merge: Any) -> None:
    Path("plans").mkdir()
    Path("plans/plan.yaml").write_text(
        PLAN.replace("model: ", "model: ../").replace("base: base", "base: ../base")
    )
    shown = merge("plans/plan.yaml", "--out", "O")
    assert shown.code == 0, shown.err
    assert weights(Path("O"))


def test_everything_wrong_is_told_at_once_with_its_line(merge: Any) -> None:
    Path("plan.yaml").write_text(
        PLAN.replace("base: base", "base: bsae")
        .replace("density: 0.3", "densty: 0.3")
        .replace("{density: 0.6}", "{densities: 0.6, lambda: many}")
        + "dtype: int3\n"
    )
    shown = merge("plan.yaml", "--out", "O")
    assert shown.code == 2
    for message in (
        "plan.yaml:1: base: no such file or folder",
        "plan.yaml:4: models.0.parameters.densty: `densty` is no parameter of ties",
        "Did you mean `density`?",
        "plan.yaml:6: parameters.densities:",
        "lambda is 'many', not a value of type float",
        "plan.yaml:7: dtype: unknown value `int3`",
    ):
        assert message in shown.err, shown.err
    assert not Path("O").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAN + "tokeniser: base\n", "plan.yaml:7: tokeniser: unknown key `tokeniser`"),
        (
            PLAN.replace("method: ties", "method: tise"),
            "plan.yaml:2: method: there is no merge method 'tise'",
        ),
        (PLAN.replace("weight: 0.8", "wieght: 0.8"), "plan.yaml:4: models.0.wieght: unknown key"),
        (PLAN + "seed: true\n", "plan.yaml:7: seed: must be a number"),
        (PLAN.replace("weight: 0.8, ", ""), "weight of law is not given"),
        (PLAN.replace("name: medicine", "name: union"), "a model cannot be called union"),
        (PLAN.replace("name: medicine", "name: a b"), "plan.yaml:5: models.1.name"),
        (PLAN.replace("model: law", "from: law"), "plan.yaml:4: models.0.from: unknown key `from`"),
        (PLAN + "search: {}\n", "plan.yaml:7: search: unknown key `search`"),
        ("base: base\nmodels: []\n", "plan.yaml:2: models"),
        ("- base\n", "a plan is a list of `key: value` lines"),
        ("", "a plan is a list of `key: value` lines"),
        ("base: [\n", "not valid YAML"),
    ],
)
def test_mistakes(merge: Any, text: str, message: str) -> None:
    Path("plan.yaml").write_text(text)
    shown = merge("plan.yaml", "--out", "O")
    assert shown.code == 2
    assert message in shown.err, shown.err
    assert not Path("O").exists()


def test_flags_that_a_plan_has_are_refused(merge: Any) -> None:
    Path("plan.yaml").write_text(PLAN)
    shown = merge("plan.yaml", "--base", "base", "--density", "0.5", "--out", "O")
    assert shown.code == 2
    assert "--base, --density cannot be given with a file" in shown.err
