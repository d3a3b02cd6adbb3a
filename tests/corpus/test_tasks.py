"""Tasks give the same results wherever they are done, and finished ones are not done again."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_work import DOCUMENTS, EXPECTED, done, seen, work

from cpt.corpus import tasks as tasks_module
from cpt.corpus.documents import Document, Item, Removed
from cpt.corpus.items import read_items_and_facts, write_items
from cpt.corpus.tasks import Tasks
from cpt.errors import DataError


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five documents, tasks of ten or so."""
    monkeypatch.setattr("cpt.corpus.workers._CHUNK_ITEMS", 5)
    monkeypatch.setattr(tasks_module, "TASK_CHARACTERS", 600 + 10 * 256)


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
