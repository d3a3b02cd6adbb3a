"""References of hypernetworks: local folders, and repositories on the hub at their commits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from made_hypernetworks import HUB_COMMIT as COMMIT
from made_hypernetworks import hub_snapshot, write_hypernetwork

from cpt import references
from cpt.errors import MissingInput, ReferenceUnavailable
from tokenizer_tools.change import change_vocabulary, check_initialisation
from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork, resolve_training
from tokenizer_tools.settings import EmbeddingsConfig, VocabularyChange


@pytest.fixture
def repository(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hypernetwork in the hub's cache."""
    folder = hub_snapshot(tmp_path / "hub", monkeypatch)
    write_hypernetwork(folder, tiny_model)
    return folder


@pytest.mark.parametrize("reference", ["org/zett", "org/zett@main", f"org/zett@{COMMIT}"])
def test_a_cached_repository_needs_no_network_and_is_known_by_its_commit(
    repository: Path, reference: str
) -> None:
    assert resolve_hypernetwork(reference) == repository
    assert references.fingerprint(reference) == COMMIT


def test_a_local_folder_is_used_in_place(repository: Path, tmp_path: Path) -> None:
    assert resolve_hypernetwork(str(repository)) == repository
    with pytest.raises(MissingInput, match="no such file or folder"):
        resolve_hypernetwork(str(tmp_path / "nowhere"))


def test_an_incomplete_cache_is_completed_by_the_hub(repository: Path) -> None:
    shutil.rmtree(repository / "tokenizer")
    with pytest.raises(
        ReferenceUnavailable, match="cannot get org/zett from the Hugging Face hub: no network"
    ):
        resolve_hypernetwork("org/zett")


def test_what_is_fetched(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network and tokenizer, for a training its checkpoint too, and nothing else."""
    (repository / "checkpoint").mkdir()
    checkpoint = [f"checkpoint/{name}" for name in ("state.json", "checkpoint.json")]
    checkpoint += [f"checkpoint/{name}.safetensors" for name in ("weights", "optimizer")]
    for name in ("steps.jsonl", *checkpoint, "pytorch_model.bin", "code.py"):
        (repository / name).write_text("{}")
    remote = repository.rename(tmp_path / "remote")
    fetched = tmp_path / "fetched"

    def download(_: str, *, local_files_only: bool = False, **patterns: Any) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        patterns.pop("revision")
        files = [path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()]
        for name in filter_repo_objects(files, **patterns):
            (fetched / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(remote / name, fetched / name)
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("cpt.references.hub._remote_commit", lambda _: COMMIT)

    def found() -> set[str]:
        return {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}

    assert resolve_hypernetwork("org/zett") == fetched
    network = {"hypernetwork.safetensors", "config.json", "README.md", "tokenizer/tokenizer.json"}
    assert network <= found()
    assert not found() & {"steps.jsonl", "checkpoint/state.json", "pytorch_model.bin", "code.py"}
    assert resolve_training("org/zett") == fetched
    assert {"steps.jsonl", "checkpoint/state.json", *network} <= found()
    assert not found() & {"pytorch_model.bin", "code.py"}
    (remote / "hypernetwork.safetensors").unlink()
    shutil.rmtree(fetched)
    with pytest.raises(MissingInput, match=r"org/zett lacks hypernetwork\.safetensors"):
        resolve_hypernetwork("org/zett")


def test_a_change_of_vocabulary_takes_a_repository(
    repository: Path, tiny_model: Path, tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    other, rows = another_model("other", vocabulary=330), []
    for name, folder in (("hub", f"org/zett@{COMMIT}"), ("local", str(repository))):
        embeddings = EmbeddingsConfig(method="hypernetwork", folder=folder)
        check_initialisation(embeddings, tiny_model)
        change = VocabularyChange(replace={"tokenizer": str(other)}, embeddings=embeddings)
        facts = change_vocabulary(change, tiny_model, lambda: iter([]), tmp_path / name, seed=0)
        assert facts["initialisation"]["hypernetwork"] == str(repository)
        rows.append((tmp_path / name / "model.safetensors").read_bytes())
    assert rows[0] == rows[1]
    stranger = EmbeddingsConfig(method="hypernetwork", folder="org/another")
    with pytest.raises(ReferenceUnavailable, match="cannot get org/another"):
        check_initialisation(stranger, tiny_model)
