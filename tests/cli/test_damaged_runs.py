"""Damaged files of a run: one message that names the file, and other runs are shown as ever."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Command

RUN_FILES: dict[str, bytes] = {
    "cut off": b'{"name": "medical", "state": "fin',
    "empty": b"",
    "binary": b"\x00\xff\xfe\x80",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "deep inside": b'{"state": "finished", "stages": ' + b'{"a":' * 100_000,
    "no state": b"{}",
    "another state": b'{"state": "\\u001b[31m"}',
    "stages a list": b'{"state": "finished", "stages": [1]}',
    "a stage a number": b'{"state": "finished", "stages": {"corpus": 3}}',
    "a stage without fingerprint": b'{"state": "finished", "stages": {"corpus": {"kind": "corpus"}}}',
    "a stage elsewhere": b'{"state": "finished", "stages": {"../x": '
    b'{"kind": "corpus", "state": "finished", "fingerprint": "00"}}}',
    "a fingerprint elsewhere": b'{"state": "finished", "stages": {"corpus": '
    b'{"kind": "corpus", "state": "finished", "fingerprint": "../../x"}}}',
    "seconds a word": b'{"state": "finished", "stages": {"corpus": '
    b'{"kind": "corpus", "state": "finished", "fingerprint": "00", "seconds": "long"}}}',
    "progress a list": b'{"state": "finished", "progress": [1]}',
    "recipe a list": b'{"state": "finished", "recipe": [1]}',
    "recipe with numbers for stages": b'{"state": "finished", "recipe": {"stages": [1, {}]}}',
}


@pytest.fixture
def runs(recipe_file: Path, two_runs: Path) -> Path:
    """A healthy run, and one to be damaged that is newer."""
    for name in ("runs", "cache"):
        if (two_runs / name).exists():
            shutil.copytree(two_runs / name, recipe_file.parent / name, dirs_exist_ok=True)
    return Path("runs")


def is_one_message(said: str, *names: str) -> bool:
    return said.startswith("error: ") and "mistake in cpt" not in said and all(name in said for name in names)


@pytest.mark.parametrize("content", RUN_FILES.values(), ids=RUN_FILES.keys())
def test_a_damaged_run_is_listed_as_damaged(cpt: Command, runs: Path, content: bytes) -> None:
    (runs / "hurt" / "run.json").write_bytes(content)
    (row,) = (row for row in cpt("ls", "--json").json if row["name"] == "hurt")
    assert row["state"] == "damaged"
    assert row["problem"].startswith("run.json: ")
    assert cpt("status").code == 0
    code, _, said = cpt("status", "hurt")
    assert code == 2
    assert is_one_message(said, "runs/hurt/run.json: "), said


@pytest.mark.parametrize("name", ["empty", "stages a list", "a fingerprint elsewhere"])
def test_a_damaged_run_breaks_no_other_and_can_be_run_again(cpt: Command, runs: Path, name: str) -> None:
    (runs / "hurt" / "run.json").write_bytes(RUN_FILES[name])
    listed = cpt("ls")
    assert listed.code == 0
    assert "medical  finished" in listed.out
    for words in (["status", "medical"], ["report"], ["show", "medical"], ["show", "pretrain"]):
        assert cpt(*words).code == 0, words
    assert cpt("diff", "medical", "recipe.yaml").code == 0
    for words in (["report", "hurt"], ["show", "hurt"], ["status", "runs/hurt"]):
        code, _, said = cpt(*words)
        assert code == 2, words
        assert is_one_message(said, "runs/hurt/run.json: "), said
    for words in (["diff", "hurt", "medical"], ["report", "medical", "hurt"]):
        code, _, said = cpt(*words)
        assert (code, "runs/hurt/run.json: " in said, "Traceback" in said) == (2, True, False)
    assert cpt("run", "recipe.yaml", "name=hurt").code == 0
    assert cpt("status", "hurt").code == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"probes": [1]}', b"\xff", None])
def test_a_damaged_report_is_named(cpt: Command, runs: Path, content: bytes | None) -> None:
    (file,) = (runs / "hurt").glob("report-*/report/report.json")
    file.unlink() if content is None else file.write_bytes(content)
    code, _, said = cpt("report", "hurt")
    assert code == 2
    assert is_one_message(said, str(file), "--force")


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"name": 3}', None])
def test_a_damaged_record_is_named(cpt: Command, runs: Path, content: bytes | None) -> None:
    (file,) = (runs / "hurt").glob("report-*/artifact.json")
    file.unlink() if content is None else file.write_bytes(content)
    for words in (["report", "hurt"], ["show", "hurt", "report"], ["show", "hurt"]):
        code, _, said = cpt(*words)
        assert code == 2, words
        assert is_one_message(said, file.parent.name, "artifact.json", "--force report")
    assert cpt("status", "hurt").code == 0
    assert cpt("ls").code == 0


def test_a_damaged_result_exits_with_2_and_force_makes_it_again(cpt: Command, runs: Path) -> None:
    (file,) = (runs / "medical").glob("pretrain-*/model/content.txt")
    file.write_bytes(bytes([1, *file.read_bytes()[1:]]))
    for command in ("plan", "run"):
        code, _, said = cpt(command, "recipe.yaml")
        assert code == 2
        assert "model/content.txt: the content does not match its checksum" in said
        assert "--force pretrain" in said
    assert cpt("run", "recipe.yaml", "--force", "pretrain").code == 0
    assert cpt("plan", "recipe.yaml").code == 0


def test_results_without_checksums_are_told_of_once(cpt: Command, runs: Path) -> None:
    for stage in ("corpus", "merge"):
        (record,) = (runs / "medical").glob(f"{stage}-*/artifact.json")
        record.write_text(json.dumps(json.loads(record.read_text()) | {"checksums": False}))
        record.with_name("checksums.json").unlink()
    assert "made before results had checksums" in cpt("plan", "recipe.yaml").out
    first, second = (cpt("run", "recipe.yaml") for _ in range(2))
    assert "corpus, merge: made before results had checksums" in first.err
    assert "checksums" not in second.err


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data | {"progress": {"stage": "merge", "done": 1, "total": 2, "unit": "steps",
                                          "facts": {"loss": float("nan")}}},
        lambda data: {key: value for key, value in data.items() if key in ("state", "stages")},
    ],
    ids=["a loss that is no number", "of an older version"],
)  # fmt: skip
def test_a_run_file_that_says_little_or_odd_things_is_shown(
    cpt: Command, runs: Path, change: Callable[[Any], Any]
) -> None:
    file = runs / "hurt" / "run.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    for words in (["ls"], ["status", "hurt"], ["show", "hurt"], ["diff", "hurt", "medical"]):
        assert cpt(*words).code == 0, words
