"""Tasks give the same results wherever they are done, and finished ones are not done again."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cpt.corpus import tasks as tasks_module
from cpt.corpus.clusters import Ray, Slurm
from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.items import read_items, read_items_and_facts, write_items
from cpt.corpus.tasks import Tasks, Work
from cpt.errors import DataError, StageFailed

DOCUMENTS = [Document(f"d{number}", f"text {number} " * 9, source="a") for number in range(100)]
EXPECTED = [(document.id, document.text.upper()) for document in DOCUMENTS]


def shouter(noted: Path, _: str = "") -> Callable[[list[Document]], list[tuple[str, str]]]:
    """Work that notes the documents it sees, and fails at one that is named in a file beside."""
    failing = noted.with_name("fail")

    def shout(documents: list[Document]) -> list[tuple[str, str]]:
        with noted.open("a") as file:
            file.writelines(f"{document.id}\n" for document in documents)
        if failing.exists() and any(document.id == failing.read_text() for document in documents):
            raise DataError(f"cannot read {failing.read_text()}", hint="mend it")
        return [(document.id, document.text.upper()) for document in documents]

    return shout


def write_results(path: Path, key: str, results: list[list[tuple[str, str]]]) -> None:
    path.write_text(json.dumps([key, [pair for result in results for pair in result]]))


def read_results(path: Path) -> tuple[str, list[list[tuple[str, str]]]]:
    key, pairs = json.loads(path.read_text())
    return key, [[(id, text) for id, text in pairs]]


def work(noted: Path, setting: str = "") -> Work[Document, list[tuple[str, str]]]:
    return Work(
        shouter,
        (noted, setting),
        lambda document: len(document.text),
        repr,
        write_items,
        read_items,
        write_results,
        read_results,
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five documents, tasks of ten or so."""
    monkeypatch.setattr("cpt.corpus.workers._CHUNK_ITEMS", 5)
    monkeypatch.setattr(tasks_module, "TASK_CHARACTERS", 600 + 10 * 256)


def seen(noted: Path) -> list[str]:
    found = noted.read_text().split() if noted.exists() else []
    noted.unlink(missing_ok=True)
    return found


def done(tasks: Tasks, noted: Path, documents: list[Document] = DOCUMENTS) -> list[tuple[str, str]]:
    return [pair for result in tasks.map(work(noted), documents) for pair in result]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_those_of_the_documents_in_order(tmp_path: Path, workers: int) -> None:
    assert done(Tasks(workers), tmp_path / "noted") == EXPECTED
    assert done(Tasks(workers, tmp_path / "kept"), tmp_path / "noted") == EXPECTED


def test_finished_tasks_are_not_done_again(tmp_path: Path) -> None:
    noted, tasks = tmp_path / "noted", Tasks(1, tmp_path / "kept")
    assert done(tasks, noted) == EXPECTED
    assert len(seen(noted)) == len(DOCUMENTS)
    assert done(tasks, noted) == EXPECTED
    assert seen(noted) == []  # the last task is whole here
    more = [*DOCUMENTS, Document("last", "a short text")]
    assert done(tasks, noted, more)[-1] == ("last", "A SHORT TEXT")
    assert seen(noted) == ["last"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_attempt_loses_one_task(tmp_path: Path, workers: int) -> None:
    noted, tasks = tmp_path / "noted", Tasks(workers, tmp_path / "kept")
    (tmp_path / "fail").write_text("d57")
    with pytest.raises(DataError, match="cannot read d57"):
        done(tasks, noted)
    (tmp_path / "fail").unlink()
    seen(noted)
    assert done(tasks, noted) == EXPECTED
    assert 43 <= len(seen(noted)) < 57


def test_results_of_other_documents_or_settings_are_not_used(tmp_path: Path) -> None:
    noted, tasks = tmp_path / "noted", Tasks(1, tmp_path / "kept")
    done(tasks, noted)
    seen(noted)
    changed = Document("d35", DOCUMENTS[35].text.replace("text", "cost"), source="a")  # as long as it was
    others = [*DOCUMENTS[:35], changed, *DOCUMENTS[36:]]
    assert done(tasks, noted, others) == [(each.id, each.text.upper()) for each in others]
    assert seen(noted) == [f"d{number}" for number in range(30, 100)]
    list(tasks.map(work(noted, "other"), others))
    assert len(seen(noted)) == len(DOCUMENTS)


def test_damaged_results_are_made_again(tmp_path: Path) -> None:
    noted, tasks = tmp_path / "noted", Tasks(1, tmp_path / "kept")
    done(tasks, noted)
    seen(noted)
    (tmp_path / "kept" / "result-000009").write_text('["torn')
    assert done(tasks, noted) == EXPECTED
    assert seen(noted) == [f"d{number}" for number in range(90, 100)]


def test_entries_without_text_do_not_make_one_task(tmp_path: Path) -> None:
    empty = [Document(str(number), "") for number in range(100)]
    done(Tasks(1, tmp_path / "kept"), tmp_path / "noted", empty)
    assert len(list((tmp_path / "kept").glob("result-*"))) > 3


def test_entries_of_every_kind_come_back_from_a_file(tmp_path: Path) -> None:
    items: list[Item] = [
        Document("a", "é", ended=False, part="p", source="s", marked=True, metadata={"x": [1, "\ud800"]}),
        Document("b", "plain"),
        Removed("c", "empty"),
        Removed("d", "gopher", "text", "why", "s"),
    ]
    write_items(tmp_path / "items", items, {"key": 1})
    assert read_items_and_facts(tmp_path / "items") == (items, {"key": 1})


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
last = re.search(r"--array=0-(\\d+)", script)
for number in range(int(last[1]) + 1) if last and "--dependency" not in " ".join(sys.argv) else []:
    place = {{"SLURM_ARRAY_TASK_ID": str(number), "SLURM_NODELIST": "here", "RUN_OFFSET": "0"}}
    subprocess.run(["bash", "-c", script], env=os.environ | place, stdout=2)
print("Submitted batch job 7")
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of Slurm, which run every job at once here; returns their folder."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    executable(folder / "sbatch", SBATCH.format(python=sys.executable))
    executable(
        folder / "srun",
        '#!/bin/bash\nwhile [[ "$1" == -* || "$1" =~ ^[0-9]+$ ]]; do shift; done\nexec "$@"\n',
    )
    executable(folder / "scontrol", "#!/bin/bash\necho here\n")
    executable(folder / "squeue", "#!/bin/bash\n")
    executable(folder / "scancel", f"#!/bin/bash\necho $* >> {folder}/cancelled\n")
    paths = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(paths))
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(Path(__file__).parent)]))
    monkeypatch.setattr("cpt.corpus.clusters._ASK_EVERY", 0.01)
    return folder


def test_slurm_does_the_tasks_and_what_is_missing_the_next_time(tmp_path: Path, slurm: Path) -> None:
    noted = tmp_path / "noted"
    documents = DOCUMENTS[:20]
    tasks = Tasks(1, tmp_path / "kept", Slurm(partition="cpu", account="lab", qos=None))
    assert done(tasks, noted, documents) == EXPECTED[:20]
    assert sorted(seen(noted)) == sorted(document.id for document in documents)
    script = next((tmp_path / "kept").rglob("launch_script.slurm")).read_text()
    for wanted in (
        "--partition=cpu",
        "--account=lab",
        "--array=0-1%64",
        "--mem-per-cpu=4G",
        "--time=04:00:00",
    ):
        assert f"#SBATCH {wanted}\n" in script
    next((tmp_path / "kept").glob("result-000001")).unlink()
    (tmp_path / "fail").write_text("d13")
    with pytest.raises(DataError, match="cannot read d13") as refused:
        done(tasks, noted, documents)
    assert refused.value.hint == "mend it"
    (tmp_path / "fail").unlink()
    executable(slurm / "sbatch", "#!/bin/bash\necho Submitted batch job 8\n")
    looks = tmp_path / "looks"  # twice without an answer, then gone
    executable(slurm / "squeue", f"#!/bin/bash\necho x >> {looks}\n[ $(wc -l < {looks}) -gt 2 ]\n")
    with pytest.raises(StageFailed, match=r"jobs cpt-cluster-\w+ ended with 1 of 1 tasks not done") as caught:
        done(tasks, noted, documents)
    assert "The same command does what is missing" in str(caught.value.hint)
    assert len(looks.read_text().split()) == 5
    assert "--name=cpt-cluster-" in (slurm / "cancelled").read_text()
    executable(slurm / "sbatch", "#!/bin/bash\nexit 1\n")
    with pytest.raises(StageFailed, match="sbatch did not take the jobs"):
        done(tasks, noted, documents)


def test_what_a_cluster_needs_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert Slurm(partition="cpu").problem() == "executor slurm needs the command sbatch, which is not here"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert "from within a job array" in str(Slurm(partition="cpu").problem())
    with pytest.raises(ValidationError):
        Slurm(partition="cpu\ntouch /tmp/x")
    monkeypatch.setattr(Ray, "libraries", {"no_such_module": "ray"})
    assert Ray().problem() == "ray needs no_such_module: pip install 'cpt-workbench[ray]'"
