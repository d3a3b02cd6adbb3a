"""Clusters do the same tasks: Slurm by stand-ins of its commands, Ray by one of its executor."""

from __future__ import annotations

import os
import stat
import sys
import threading
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from corpus_runs import Heard, byte_model, run, write
from pydantic import ValidationError
from toy_work import DOCUMENTS, EXPECTED, done, seen

from cpt.corpus import tasks as tasks_module
from cpt.corpus.clusters import Ray, Slurm
from cpt.corpus.tasks import Tasks
from cpt.errors import DataError, StageFailed


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five documents, tasks of ten or so."""
    monkeypatch.setattr("cpt.corpus.workers._CHUNK_ITEMS", 5)
    monkeypatch.setattr(tasks_module, "TASK_CHARACTERS", 600 + 10 * 256)


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


def test_slurm_makes_the_corpus_that_this_machine_makes(tmp_path: Path, slurm: Path) -> None:
    base = byte_model(tmp_path)
    texts = [f"Header\nfinding {number}  of {number % 7} words" for number in range(80)]
    settings = {
        "domain": [write(tmp_path / "domain.jsonl", *texts, texts[3])],
        "clean": ["whitespace", {"kind": "boilerplate", "share": 0.5}],
        "workers": 1,
    }
    here, counted, _ = run(base, tmp_path, "here", **settings)
    there, counted_there, _ = run(
        base, tmp_path, "there", **settings, executor={"kind": "slurm", "partition": "x"}
    )
    assert counted_there == counted
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert all((here / file).read_bytes() == (there / file).read_bytes() for file in files)
    assert len(list(tmp_path.glob("work-there/**/launch_script.slurm"))) == 3  # cleaning, both sides' tokens


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"partition": "big"}, "partition=big"),
        ({"at_once": 3}, "array=0-1%3"),
        ({"time": "1-00:00:00"}, "time=1-00:00:00"),
        ({"memory": 9}, "mem-per-cpu=9G"),
        ({"qos": "low"}, "qos=low"),
        ({"account": "lab"}, "account=lab"),
    ],
    ids=str,
)
def test_every_setting_of_slurm_reaches_the_script(
    tmp_path: Path, slurm: Path, setting: dict[str, object], line: str
) -> None:
    executable(slurm / "sbatch", "#!/bin/bash\necho Submitted batch job 8\n")
    tasks = Tasks(1, tmp_path / "kept", Slurm.model_validate({"partition": "cpu", **setting}))
    with pytest.raises(StageFailed, match="ended with 2 of 2"):
        done(tasks, tmp_path / "noted", DOCUMENTS[:20])
    assert f"#SBATCH --{line}\n" in next((tmp_path / "kept").rglob("launch_script.slurm")).read_text()


class _RayExecutor:
    """Stands in for datatrove's executor: does the tasks here."""

    asked: ClassVar[dict[str, object]] = {}

    def __init__(self, pipeline: list[Any], tasks: int, workers: int, **settings: object) -> None:
        self.asked.update(settings, tasks=tasks, workers=workers)
        self.pipeline, self.tasks = pipeline, tasks
        self.left, self.looked = list(range(tasks)), threading.Event()

    def run(self) -> None:
        for rank in range(self.tasks):
            self.pipeline[0](None, rank, self.tasks)
            self.left.remove(rank)
            if rank == 3:
                self.looked.clear()
                assert self.looked.wait(20)

    def get_incomplete_ranks(self) -> list[int]:
        self.looked.set()
        return list(self.left)


def test_every_setting_of_ray_reaches_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_address: list[object] = []
    ray = types.ModuleType("ray")
    ray.is_initialized = lambda: False  # type: ignore[attr-defined]
    ray.init = lambda **settings: seen_address.append(settings["address"])  # type: ignore[attr-defined]
    ray.nodes = lambda: [{"Alive": True, "Resources": {"memory": 8 * 2**30}}]  # type: ignore[attr-defined]
    ray.shutdown = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("datatrove.executor.RayPipelineExecutor", _RayExecutor)
    monkeypatch.setattr("cpt.corpus.clusters._ASK_EVERY", 0.01)
    noted, place = tmp_path / "noted", Ray(address="ray://there:10001", at_once=3, memory=5)
    updates: list[tuple[object, ...]] = []
    heard = Heard()
    monkeypatch.setattr(heard, "update", lambda *facts: updates.append(facts))
    assert done(Tasks(1, tmp_path / "kept", place, heard), noted) == EXPECTED
    assert (4, 10, "tasks") in updates
    assert seen_address == ["ray://there:10001"]
    asked = _RayExecutor.asked
    assert (asked["tasks"], asked["workers"], asked["mem_per_cpu_gb"]) == (10, 3, 5)
    with pytest.raises(StageFailed, match="no machine of the cluster has 9 GB for a task, at most 8"):
        done(Tasks(1, tmp_path / "other", Ray(memory=9)), noted)


def test_what_a_cluster_needs_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert Slurm(partition="cpu").problem() == "executor slurm needs the command sbatch, which is not here"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert "from within a job array" in str(Slurm(partition="cpu").problem())
    with pytest.raises(ValidationError):
        Slurm(partition="cpu\ntouch /tmp/x")
    monkeypatch.setattr(Ray, "libraries", {"no_such_module": "ray"})
    assert Ray().problem() == "ray needs no_such_module: pip install 'cpt-workbench[ray]'"
