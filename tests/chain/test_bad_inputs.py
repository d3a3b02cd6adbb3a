"""Bad inputs, each with one clear message, the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl, write_tiny_model

from cpt.cli import main
from cpt.corpus import read_documents
from cpt.errors import StageFailed
from cpt.recipe.store import Store
from cpt.references import require_read

RECIPE = """\
name: bad
base: model
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      heldout: 0.2
      sequence_length: 48
  - pretrain: {tokens: 500, batch_sequences: 4}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which everything is right."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    write_tiny_model(tmp_path / "model")
    write_jsonl(tmp_path / "domain.jsonl", varied_texts(60))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Change the recipe."""

    def change(folder: Path) -> None:
        text = (folder / "recipe.yaml").read_text()
        assert old in text
        (folder / "recipe.yaml").write_text(text.replace(old, new))

    return change


def data(content: bytes) -> Callable[[Path], None]:
    """Change the domain file."""
    return lambda folder: (folder / "domain.jsonl").write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).rename(folder / f"{name}.away") and None


def break_model(folder: Path) -> None:
    (folder / "model" / "model.safetensors").write_bytes(b"not a model")


def pickled_model(folder: Path) -> None:
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")


def pipe(folder: Path) -> None:
    (folder / "domain.jsonl").unlink()
    os.mkfifo(folder / "domain.jsonl")


GOOD = b'{"text": "one document"}\n'
CASES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "unknown key": (edit("sequence_length", "sequence_lenght"), 2, "Did you mean `sequence_length`"),
    "unknown top-level key": (edit("name: bad", "name: bad\nsed: 3"), 2, "Did you mean `seed`"),
    "wrong type": (edit("tokens: 500", "tokens: many"), 2, "pretrain.tokens"),
    "number out of range": (edit("heldout: 0.2", "heldout: 0.9"), 2, "corpus.heldout"),
    "unknown stage": (edit("pretrain:", "pretrian:"), 2, "Did you mean `pretrain`"),
    "circular from": (
        edit("batch_sequences: 4", "batch_sequences: 4, from: pretrain"),
        2,
        "would be its own input",
    ),
    "unknown from": (edit("batch_sequences: 4", "batch_sequences: 4, from: corpse"), 2, "corpse"),
    "broken YAML": (edit("stages:", "stages: ["), 2, "recipe.yaml:"),
    "duplicate key": (edit("base: model", "base: model\nbase: model"), 2, "base"),
    "missing data file": (remove("domain.jsonl"), 2, "domain.jsonl"),
    "missing model": (remove("model"), 2, "model"),
    "sequence longer than the model's": (edit("sequence_length: 48", "sequence_length: 500"), 2, "128"),
    "unknown start token": (edit("heldout: 0.2", "start_token: <nope>"), 2, "<nope>"),
    "replay rounds to no row": (edit("tokens: 500", "replay: 0.05, tokens: 500"), 2, "rounds to none"),
    "replay without text": (edit("tokens: 500", "replay: 0.25, tokens: 500"), 2, "no replay text"),
    "more tokens than the corpus has": (edit("tokens: 500", "tokens: 900_000"), 2, "epochs:"),
    "floor above peak": (edit("tokens: 500", "schedule: {peak: 1e-6}, tokens: 500"), 2, "above peak"),
    "empty corpus": (data(b""), 1, "domain: no documents"),
    "not UTF-8": (data(GOOD + b'{"text": "caf\xe9"}\n'), 2, "domain.jsonl:2"),
    "broken JSON line": (data(GOOD * 2 + b'{"text": "a"\n'), 2, "domain.jsonl:3"),
    "no text field": (data(GOOD + b'{"body": "a"}\n'), 2, "'text'"),
    "text is not a text": (data(GOOD + b'{"text": 7}\n'), 2, "domain.jsonl:2"),
    "a pipe": (pipe, 2, "domain.jsonl is a named pipe, not a file or folder"),
    "a device": (edit("domain.jsonl", "/dev/zero"), 2, "/dev/zero is a device, not a file or folder"),
    "all documents equal": (data(GOOD * 30), 1, "held"),
    "damaged weights": (break_model, 2, "model.safetensors is not a readable safetensors file"),
    "pickled weights": (pickled_model, 2, "safetensors"),
}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["run", "recipe.yaml", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("case", CASES)
def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    spoil, expected, words = CASES[case]
    spoil(folder)
    code, err = run(capsys)
    assert (code, words in err) == (expected, True), err
    assert "Traceback" not in err
    assert "error.log" not in err  # an unexpected exception is not a clear message
    assert_nothing_half_written(folder)


def assert_nothing_half_written(folder: Path) -> None:
    runs = folder / "runs" / "bad"
    if not runs.exists():
        return
    assert not [path for path in runs.iterdir() if path.name.startswith(".tmp")]
    for path in runs.glob("pretrain-*"):
        assert path.name.endswith(".partial"), f"{path} looks finished"
    for path in runs.glob("*-*/artifact.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize("words", [["pretrain.tokens=0"], ["pretrain.toknes=5"], ["nonsense"], ["seed=-1"]])
def test_bad_override(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code, err = run(capsys, *words)
    assert code == 2
    assert "Traceback" not in err
    assert not (folder / "runs").exists()


def test_all_problems_are_reported_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit("heldout: 0.2", "heldout: 2")(folder)
    edit("tokens: 500", "tokns: 500")(folder)
    code, err = run(capsys)
    assert code == 2
    assert "corpus.heldout" in err
    assert "`tokens`" in err


def test_a_document_longer_than_the_sequence_is_cut_and_nothing_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(folder / "domain.jsonl", [*varied_texts(60), "a very long document " * 100])
    code, err = run(capsys)
    assert code == 0, err
    (index,) = (folder / "runs/bad").glob("corpus-*/corpus/corpus.json")
    domain = json.loads(index.read_text())["sources"]["domain"]
    kept = sum(split["documents"] for split in domain["splits"].values())
    assert (
        domain["documents_in"]
        == kept + sum(amount["documents"] for amount in domain["removed"].values())
        == 61
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.chmod(0o555)
    code, err = run(capsys)
    assert code == 2
    assert "runs" in err


def test_runs_folder_that_is_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs").write_text("in the way")
    code, err = run(capsys)
    assert code == 2
    assert "runs" in err


@pytest.mark.parametrize(("number", "words"), [(28, "space"), (30, "read-only")])
def test_disk_that_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    from cpt.training.checkpoint.store import Store

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(Store, "save", full)
    code, err = run(capsys, "pretrain.checkpoint.every=1")
    assert code == 1
    assert words in err.lower()
    assert "Traceback" not in err
    assert_nothing_half_written(folder)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CPT_CACHE", str(folder / "cache"))
    assert main(["run", "recipe.yaml"]) == 0


def test_a_stage_that_fails_says_so_and_is_not_finished(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cpt.training.loop as loop

    def broken(*_: object) -> None:
        raise StageFailed("the loss is nan at step 3", hint="Lower the peak learning rate.")

    monkeypatch.setattr(loop, "train", broken)
    code, err = run(capsys)
    assert code == 1
    assert "the loss is nan at step 3" in err
    assert "Lower the peak" in err
    assert_nothing_half_written(folder)


ONE_SOURCE = """\
name: bad
base: model
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      SOURCES
      heldout: 0.2
      heldout_min: {documents: 1, bytes: 1}
      sequence_length: 48
"""
PLACES = {
    "domain": ("", "domain.jsonl"),
    "general": ("general: [{path: other.jsonl}]", "other.jsonl"),
    "replay": ("replay: [{path: other.jsonl}]", "other.jsonl"),
    "reference": (
        "select: {tokens: 20, by: {kind: n-gram, reference: [{path: other.jsonl}]}, min_tokens: 8}",
        "other.jsonl",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_source_that_is_other_text_while_it_is_read_is_not_cached(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings, name = PLACES[place]
    (folder / "recipe.yaml").write_text(ONE_SOURCE.replace("SOURCES", settings))
    write_jsonl(folder / "other.jsonl", varied_texts(30, "other "))
    right = (folder / name).read_bytes()
    begin = Store.begin

    def swapped(*arguments: object) -> None:
        begin(*arguments)  # type: ignore[arg-type]
        write_jsonl(folder / name, varied_texts(50, "wrong "))

    def put_back(reference: str, *arguments: object) -> None:
        if reference.endswith(name):
            (folder / name).write_bytes(right)
        require_read(reference, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "begin", swapped)
    monkeypatch.setattr("cpt.stages.corpus.sources.require_read", put_back)
    code, err = run(capsys)
    assert (code, f"{name} changed while it was read" in err) == (1, True), err
    assert "Traceback" not in err
    assert not list((folder / "runs" / "bad").glob("corpus-*/artifact.json"))
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CPT_CACHE", str(folder / "cache"))
    code, err = run(capsys)
    assert code == 0, err
    [made] = (folder / "runs" / "bad").glob("corpus-*")
    texts = [document.text for document in read_documents(made / "corpus", "domain", "train")]
    assert not any(text.startswith("wrong") for text in texts)
