"""`cpt publish`: a folder to look at, and the upload."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from cpt.models.packed_model import load_model


class LibraryError(Exception):
    """An error as the HTTP library of the hub's client raises it: no OSError."""


@pytest.fixture
def runs(finished_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return finished_workspace / "runs"


def test_the_folder_holds_model_card_and_recipe_and_no_text(runs: Path, called: Any) -> None:
    found = called(
        "publish", "tiny", "--runs", runs, "--out", "made", "--licence", "mit", "--force", "--json"
    )
    assert found.code == 0, found.err
    facts = found.json
    assert (facts["folder"], facts["address"], facts["stage"]) == ("made", None, "merge")
    assert {each["what"] for each in facts["compatibility"]} == {"transformers", "vLLM", "llama.cpp"}
    files = {path.name for path in Path("made").iterdir()}
    assert {"README.md", "recipe.yaml", "model.safetensors", "tokenizer.json", "config.json"} <= files
    assert "report.html" not in files
    assert "license: mit" in Path("made/README.md").read_text()
    load_model(Path("made"))
    original = next(runs.glob("tiny/merge-*/model/config.json"))
    assert not original.samefile("made/config.json"), "what may be edited is a copy"
    assert called("publish", "tiny", "--runs", runs, "--out", "made", "--force").code == 2


def test_an_upload_goes_to_a_private_repository(
    runs: Path, called: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, repo_id: str, **settings: Any) -> None:
            calls.append((repo_id, settings))

        def upload_folder(self, *, folder_path: Path, repo_id: str, **_: Any) -> None:
            calls.append((repo_id, {"files": sorted(path.name for path in folder_path.iterdir())}))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    found = called("publish", "tiny", "--runs", runs, "--to", "org/tiny", "--force")
    assert found.code == 0, found.err
    assert "https://huggingface.co/org/tiny" in found.out
    assert calls[0] == ("org/tiny", {"private": True, "exist_ok": True})
    assert {"README.md", "model.safetensors"} <= set(calls[1][1]["files"])
    called("publish", "tiny", "--runs", runs, "--to", "org/tiny", "--public", "--force")
    assert calls[2][1]["private"] is False


def test_a_failed_upload_is_one_message(runs: Path, called: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create_repo(self, *_: Any, **__: Any) -> None:
            raise LibraryError("no route to host")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    found = called("publish", "tiny", "--runs", runs, "--to", "org/tiny", "--force")
    assert (found.code, "no route to host" in found.err) == (2, True)
    assert not list(runs.glob(".tmp-publish-*"))
    wrong = called("publish", "tiny", "--runs", runs, "--to", "not an id", "--out", "made", "--force")
    assert "--to not an id" in wrong.err
    assert not Path("made").exists()
    wrong = called("publish", "tiny", "--runs", runs, "--out", "made", "--licence", "a: [b", "--force")
    assert (wrong.code, "no id of a licence" in wrong.err) == (2, True)


def test_what_cannot_be_published(runs: Path, called: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--out DIR" in called("publish", "tiny", "--runs", runs).err
    assert called("publish", "nothing", "--runs", runs, "--out", "x").code == 2
    monkeypatch.setattr("cpt.cli.publish.limits_not_held", lambda _: {"merge": "general <= +0.01 is broken"})
    found = called("publish", "tiny", "--runs", runs, "--out", "x")
    assert (found.code, "general <= +0.01 is broken" in found.err, "--force" in found.err) == (2, True, True)
    state = json.loads((runs / "tiny/run.json").read_text()) | {"state": "interrupted"}
    other = Path("runs/tiny")
    other.mkdir(parents=True)
    (other / "run.json").write_text(json.dumps(state))
    assert "is interrupted" in called("publish", "tiny", "--out", "x").err
    state["state"] = "finished"
    state["stages"]["merge"]["fingerprint"] = "0" * 64
    (other / "run.json").write_text(json.dumps(state))
    assert "merge" in called("publish", "tiny", "--out", "x").err
    assert not Path("x").exists()


def test_no_folder_of_the_user_is_published(runs: Path, called: Any, tmp_path: Path) -> None:
    """Neither the card nor the recipe names the folders of data and base."""
    here = tmp_path / "jane.doe"
    shutil.copytree(runs.parent, here, symlinks=True)
    recipe = here / "recipe.yaml"
    named = recipe.read_text().replace("base: model", f"base: {here}/model")
    recipe.write_text(named.replace("domain.jsonl", f"{here}/domain.jsonl"))
    assert called("run", recipe, "--runs", here / "new").code in (0, 3, 4)
    found = called("publish", "tiny", "--runs", here / "new", "--out", "made", "--force")
    assert found.code == 0, found.err
    for file in Path("made").iterdir():
        if file.suffix != ".safetensors":
            assert "jane.doe" not in file.read_text(), file
    assert "domain.jsonl (domain)" in Path("made/README.md").read_text()


def test_figures_of_another_model_are_left_out(runs: Path, called: Any, tmp_path: Path) -> None:
    """Evaluated before the merge, its figures are not those of the published model."""
    here = tmp_path / "other"
    shutil.copytree(runs.parent, here, symlinks=True)
    recipe = here / "recipe.yaml"
    lines = recipe.read_text().splitlines()
    (merge,) = (line for line in lines if line.startswith("  - merge:"))
    lines.remove(merge)
    lines.insert(next(i for i, line in enumerate(lines) if line.startswith("  - report")), merge)
    recipe.write_text("\n".join(lines) + "\n")
    assert called("run", recipe, "--runs", here / "new").code in (0, 3, 4)
    found = called("publish", "tiny", "--runs", here / "new", "--out", "made", "--force", "--json")
    assert found.code == 0, found.err
    assert (found.json["stage"], found.json["measured"]) == ("merge", False)
    card = Path("made/README.md").read_text()
    assert "there are no figures here" in card
    assert "| domain |" not in card
