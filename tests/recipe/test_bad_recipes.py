"""Every mistake in a recipe: one clear message, at its line and key, with a hint where one is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.errors import RecipeError
from cpt.recipe.load import load

HEAD = "name: medical\nbase: fake:model\n"
CORPUS = "  - corpus: {domain: [{path: notes.txt}]}\n"


def problems_of(path: Path, text: str, *overrides: str) -> list[tuple[int | None, str | None, str, str]]:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load(path, overrides)
    assert "pydantic" not in str(caught.value)
    return [(each.line, each.key, each.message, each.hint or "") for each in caught.value.problems]


CASES = {
    "empty": ("", None, None, "empty", "cpt init"),
    "a list": ("- a\n", 1, None, "name, base, seed, stages", ""),
    "broken yaml": (HEAD + "stages: [\n", 4, None, "not valid YAML", ""),
    "tab": (HEAD + "stages:\n\t- report\n", 4, None, "not valid YAML", "spaces"),
    "colon in text": (HEAD + "seed: a: b\n", 3, None, "not valid YAML", "quotes"),
    "two documents": (HEAD + "---\nname: b\n", 3, None, "not valid YAML", "one YAML document"),
    "control character": (HEAD + "seed: \x00\n", 3, None, "character", ""),
    "duplicate key": (HEAD + "name: b\n", 3, "name", "given twice", "one of the two"),
    "tag": (HEAD + "seed: !!python/name:os.system x\n", 3, "seed", "tag", ""),
    "unknown top-level key": (HEAD + "sead: 1\nstages: [report]\n", 3, "sead", "unknown key", "`seed`"),
    "true for a number": (
        HEAD + "seed: true\nstages: [report]\n",
        3,
        "seed",
        "must be a number, not true",
        "",
    ),
    "false for a number": (
        f"{HEAD}stages:\n{CORPUS}  - pretrain: {{schedule: {{kind: constant, peak: true}}}}\n",
        5,
        "pretrain.schedule.peak",
        "must be a number, not true",
        "",
    ),
    "no name": ("base: b:c\nstages:\n" + CORPUS, None, "name", "is missing", ""),
    "no base": ("name: x\nstages:\n" + CORPUS, None, "base", "is missing", ""),
    "unsafe name": (
        f"name: ../x\nbase: fake:model\nstages:\n{CORPUS}",
        1,
        "name",
        "letters, digits",
        "",
    ),
    "name is a number": (f"name: 7\nbase: fake:model\nstages:\n{CORPUS}", 1, "name", "in quotes", ""),
    "seed is text": (HEAD + "seed: many\nstages:\n" + CORPUS, 3, "seed", "whole number, not `many`", ""),
    "seed is negative": (HEAD + "seed: -1\nstages:\n" + CORPUS, 3, "seed", "at least 0, not `-1`", ""),
    "no stages": (HEAD, None, "stages", "is missing", ""),
    "stages empty": (HEAD + "stages: []\n", 3, "stages", "at least 1", ""),
    "stages a mapping": (HEAD + "stages: {report: }\n", 3, "stages", "a list, not a mapping", ""),
    "a stage is a number": (HEAD + "stages:\n" + CORPUS + "  - 7\n", 5, "stages.1", "kind: settings", ""),
    "unknown stage": (
        HEAD + "stages:\n" + CORPUS + "  - pretrian: {}\n",
        5,
        "pretrian",
        "no such kind",
        "`pretrain`",
    ),
    "unknown bare stage": (HEAD + "stages:\n" + CORPUS + "  - raport\n", 5, "raport", "no such", "`report`"),
    "settings not indented": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain:\n    tokens: 3\n",
        5,
        "stages.1",
        "`tokens` stand beside `pretrain`",
        "Indent",
    ),
    "settings are a list": (HEAD + "stages:\n  - corpus: [a]\n", 4, "corpus", "not a mapping", ""),
    "unknown key": (
        HEAD + "stages:\n  - corpus:\n      domian: [{path: notes.txt}]\n",
        5,
        "corpus.domian",
        "unknown key `domian`",
        "Did you mean `domain`?",
    ),
    "unknown key deep": (
        HEAD
        + "stages:\n"
        + CORPUS
        + "  - pretrain:\n      schedule:\n        kind: constant\n        peek: 3\n",
        8,
        "pretrain.schedule.peek",
        "unknown key",
        "`peak`",
    ),
    "unknown key in a list": (
        HEAD + "stages:\n  - corpus:\n      domain:\n        - path: notes.txt\n          fromat: text\n",
        7,
        "corpus.domain.0.fromat",
        "unknown key",
        "`format`",
    ),
    "key one level too high": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {peak: 3}\n",
        5,
        "pretrain.peak",
        "unknown key",
        "under `schedule`",
    ),
    "unknown value": (
        HEAD + "stages:\n  - corpus: {domain: [{path: notes.txt, format: jsnl}]}\n",
        4,
        "corpus.domain.0.format",
        "unknown value `jsnl`",
        "`jsonl`",
    ),
    "unknown variant": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {schedule: {kind: rewarm-cosin}}\n",
        5,
        "pretrain.schedule.kind",
        "unknown value `rewarm-cosin`",
        "`rewarm-cosine`",
    ),
    "variant not named": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {schedule: {peak: 3e-4}}\n",
        5,
        "pretrain.schedule.kind",
        "is missing",
        "`rewarm-cosine`, `constant`",
    ),
    "wrong type": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {steps: many}\n",
        5,
        "pretrain.steps",
        "must be a whole number, not `many`",
        "",
    ),
    "a fraction": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {steps: 1.5}\n",
        5,
        "pretrain.steps",
        "must be a whole number, not `1.5`",
        "",
    ),
    "nothing": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain:\n      steps:\n",
        6,
        "pretrain.steps",
        "not nothing",
        "",
    ),
    "out of range": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {steps: 5000}\n",
        5,
        "pretrain.steps",
        "must be at most 1000, not `5000`",
        "",
    ),
    "a mapping for a list": (
        HEAD + "stages:\n  - corpus: {domain: {path: notes.txt}}\n",
        4,
        "corpus.domain",
        "must be a list, not a mapping",
        "",
    ),
    "no branch fits": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {tokens: al}\n",
        5,
        "pretrain.tokens",
        "must be a whole number or `all`, not `al`",
        "`all`",
    ),
    "the fitting branch is explained": (
        HEAD + "stages:\n  - corpus: {domain: [{path: notes.txt}], replay: {self_generatd: {tokens: 3}}}\n",
        4,
        "corpus.replay.self_generatd",
        "unknown key",
        "`self_generated`",
    ),
    "the other branch is explained": (
        HEAD + "stages:\n  - corpus: {domain: [{path: notes.txt}], replay: [{paht: x}]}\n",
        4,
        "corpus.replay.0.paht",
        "unknown key",
        "`path`",
    ),
    "missing file": (
        HEAD + "stages:\n  - corpus:\n      domain:\n        - path: nots.txt\n",
        6,
        "corpus.domain.0.path",
        "no file nots.txt",
        "Check the path",
    ),
    "missing base": ("name: x\nbase: nowhere\nstages:\n" + CORPUS, 2, "base", "no file nowhere", ""),
    "a stage's own check": (
        HEAD + "stages:\n  - corpus:\n      domain: [{path: notes.txt}]\n      sequence_length: 9000\n",
        6,
        "corpus.sequence_length",
        "longer than the model's",
        "",
    ),
    "nothing makes a corpus": (
        HEAD + "stages:\n  - pretrain\n",
        4,
        "pretrain",
        "makes a corpus",
        "before it",
    ),
    "two of a name": (HEAD + "stages:\n" + CORPUS + CORPUS, 5, "corpus", "on line 4", "name: corpus-2"),
    "reserved name": (
        HEAD + "stages:\n" + CORPUS + "  - report: {name: seed}\n",
        5,
        "seed.name",
        "cannot be called `seed`",
        "another name",
    ),
    "bad stage name": (
        HEAD + "stages:\n" + CORPUS + "  - report: {name: My Report}\n",
        5,
        "report.name",
        "small letters",
        "",
    ),
    "from nowhere": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {from: corpsu}\n",
        5,
        "pretrain.from",
        "no stage called `corpsu`",
        "`corpus`",
    ),
    "from itself": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {from: pretrain}\n",
        5,
        "pretrain.from",
        "its own input",
        "earlier",
    ),
    "from a later stage": (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {from: vocabulary}\n  - vocabulary\n",
        5,
        "pretrain.from",
        "comes later",
        "Move `vocabulary`",
    ),
    "from useless": (
        HEAD + "stages:\n" + CORPUS + "  - evaluate\n  - pretrain: {from: evaluate}\n",
        6,
        "pretrain.from",
        "makes nothing that this stage uses (model or corpus)",
        "",
    ),
    "from deep inside": (
        HEAD + "stages:\n" + CORPUS + "  - merge:\n      models:\n        - from: pretran\n",
        7,
        "merge.models.0.from",
        "no stage called `pretran`",
        "`corpus`",
    ),
}


@pytest.mark.parametrize(("text", "line", "key", "message", "hint"), CASES.values(), ids=CASES.keys())
def test_one_mistake_one_message(
    recipe_file: Path, text: str, line: int | None, key: str | None, message: str, hint: str
) -> None:
    found = problems_of(recipe_file, text)
    assert len(found) == 1, found
    assert found[0][:2] == (line, key)
    assert message in found[0][2]
    assert hint in found[0][3]


def test_a_circle_is_shown_as_one(recipe_file: Path) -> None:
    text = (
        HEAD + "stages:\n" + CORPUS + "  - pretrain: {from: merge}\n  - merge: {models: [{from: pretrain}]}\n"
    )
    found = problems_of(recipe_file, text)
    assert [(line, key) for line, key, _, _ in found] == [(5, "pretrain.from")]
    assert "circular: pretrain → merge → pretrain" in found[0][2]


def test_all_problems_at_once_in_the_order_of_the_file(recipe_file: Path) -> None:
    text = """\
name: a/b
base: gone
sede: 3
stages:
  - corpus: {domian: [], heldout: 2}
  - pretrain: {steps: 0, from: nobody}
  - evalute
"""
    found = problems_of(recipe_file, text)
    assert [(line, key) for line, key, _, _ in found] == [
        (1, "name"),
        (3, "sede"),
        (5, "corpus.heldout"),
        (5, "corpus.domian"),
        (6, "pretrain.steps"),
        (6, "pretrain.from"),
        (7, "evalute"),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "folder"),
        (lambda path: path.write_bytes(b"name: a\nbase: \xff\xfe\n"), "not UTF-8"),
    ],
)
def test_files_that_cannot_be_read(recipe_file: Path, make: object, message: str) -> None:
    make(recipe_file)  # type: ignore[operator]
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    (problem,) = caught.value.problems
    assert problem.file == str(recipe_file)
    assert message in problem.message
    assert problem.line == (2 if "UTF-8" in message else None)


def test_a_stages_check_points_at_the_item_of_a_list(recipe_file: Path) -> None:
    (recipe_file.parent / "empty.txt").write_text("\n")
    text = (
        HEAD + "stages:\n  - corpus:\n      domain:\n        - path: notes.txt\n        - path: empty.txt\n"
    )
    assert problems_of(recipe_file, text) == [(7, "corpus.domain.1.path", "holds no text", "Choose another.")]
