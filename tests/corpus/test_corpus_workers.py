"""Any number of processes gives the same results in the same order; none stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cpt.corpus.blocks import clean
from cpt.corpus.blocks.whitespace import Whitespace
from cpt.corpus.documents import Document, Removed
from cpt.corpus.examples import Examples
from cpt.corpus.index import SourceCounts
from cpt.corpus.tasks import Tasks
from cpt.corpus.workers import Workers, chunked
from cpt.errors import DamagedFile, DataError, StageFailed

ROOT = Path(__file__).parents[2]


class Unsendable(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def worker(factor: int) -> Callable[[int], tuple[int, int]]:
    """Work that takes longer for early chunks, so that results come out of order."""

    def work(number: int) -> tuple[int, int]:
        time.sleep(0.02 * (number % 3 == 0))
        if number == 99:
            raise DataError("no", hint="mend it")
        if number == 201:
            raise DamagedFile(Path("a.json"), "no", hint="mend it")
        if number == 202:
            raise Unsendable("a", "b")
        if number == 111:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == 230:
            time.sleep(60)
        if number == 77:
            os.kill(os.getpid(), signal.SIGKILL)
        return factor * number, os.getpid()

    return work


def mapped(factor: int, chunks: Iterable[int], count: int) -> Iterator[tuple[int, int]]:
    with Workers(worker, (factor,), count) as pool:
        yield from pool.map(chunks)


def require_gone(processes: Iterable[int]) -> None:
    for process in processes:
        for _ in range(200):
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("a process is still there")


def test_results_keep_their_order_and_are_made_by_several() -> None:
    with Workers(worker, (3,), 2) as pool:
        results = list(pool.map(range(40)))
    assert [result for result, _ in results] == [3 * number for number in range(40)]
    assert os.getpid() == results[0][1]
    assert len(pool._processes) == 2  # of which one may have done all before the other had started
    assert {process for _, process in results[8:]} <= set(pool._processes)


def test_little_work_starts_no_process() -> None:
    assert {process for _, process in mapped(3, range(8), 4)} == {os.getpid()}


def test_processes_are_started_once_for_several_texts() -> None:
    with Workers(worker, (2,), 2) as pool:
        first = [process for _, process in pool.map(range(20))]
        second = [process for _, process in pool.map(range(20))]
    assert len({*first, *second} - {os.getpid()}) <= 2


def test_chunks_are_read_ahead_by_a_few_only() -> None:
    read = []

    def chunks() -> Iterator[int]:
        for number in range(60):
            read.append(number)
            yield number

    for done, _ in enumerate(mapped(1, chunks(), 2)):
        assert len(read) <= done + 1 + 8


def test_errors_of_the_work_keep_their_message_and_hint() -> None:
    with pytest.raises(DataError, match="no") as caught:
        list(mapped(1, range(80, 120), 2))
    assert caught.value.hint == "mend it"


def test_errors_that_cannot_be_sent_are_told_as_others() -> None:
    with pytest.raises(DataError, match=r"a\.json: no") as caught:
        list(mapped(1, [*range(10), 201, 10, 11], 2))
    assert (caught.value.hint, caught.value.exit_code) == ("mend it", 2)
    with pytest.raises(RuntimeError, match=r"Unsendable\('ab'\)"):
        list(mapped(1, [*range(10), 202, 10, 11], 2))


def test_a_scheduler_that_stops_all_processes_leaves_them_to_the_main_one() -> None:
    assert [result for result, _ in mapped(1, range(100, 120), 2)] == list(range(100, 120))


def test_running_work_is_not_waited_for_after_an_error() -> None:
    begin = time.monotonic()
    pool: Workers[int, tuple[int, int]] = Workers(worker, (1,), 2)

    def stopped() -> None:
        with pool:
            for result, _ in pool.map(range(221, 240)):
                if result == 229:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stopped()
    require_gone(pool._processes)
    assert time.monotonic() - begin < 30


def test_a_killed_process_is_told() -> None:
    with pytest.raises(StageFailed, match="2 processes died"):
        list(mapped(1, range(60, 90), 2))


def test_chunks_are_bounded_by_size_and_number() -> None:
    texts = ["a" * 400_000, "b" * 700_000, "c" * 3_000_000, *["d"] * 600]
    assert [len(chunk) for chunk in chunked(texts, len)] == [2, 1, 512, 88]


def lengths() -> Callable[[list[str]], int]:
    return lambda texts: sum(map(len, texts))


def test_what_is_read_ahead_is_bounded_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.corpus.workers._MOST_IN_FLIGHT", 3_000_000)
    read = []

    def texts() -> Iterator[str]:
        for number in range(30):
            read.append(number)
            yield "x" * 2_000_000

    with Workers(lengths, (), 4) as pool:
        for done, length in enumerate(pool.map(chunked(texts(), len))):
            assert length == 2_000_000
            assert len(read) <= done + 1 + 2
    assert len(read) == done + 1 == 30


def test_cleaning_counts_and_shows_the_same_with_any_number() -> None:
    items = [
        Removed(f"f:{n}", "empty") if n % 50 == 0 else Document(f"f:{n}", f"text  {n} " * 3000)
        for n in range(400)
    ]

    def cleaned(workers: int) -> tuple[object, ...]:
        counts, examples = SourceCounts(), Examples("domain")
        result = list(clean(items, [Whitespace()], counts, examples, Tasks(workers)))
        return result, counts, list(examples)

    assert cleaned(2) == cleaned(1)


UNGUARDED = """
print("begins", flush=True)
from test_corpus_workers import mapped
print(sum(result for result, _ in mapped(1, range(12), 2)))
"""


def test_a_script_without_guard_is_executed_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, env=environment, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "begins\n66\n"), done.stderr


SCRIPT = """
import sys, time
from test_corpus_workers import sleeper
from cpt.corpus.workers import Workers
if __name__ == "__main__":
    with Workers(sleeper, (), 2) as pool:
        for result in pool.map(range(100)):
            print(result, flush=True)
"""


def sleeper() -> Callable[[int], int]:
    """Work that tells its process and then takes a minute, beyond the first chunks."""

    def work(number: int) -> int:
        if number >= 8:
            sys.stderr.write(f"{os.getpid()}\n")
            sys.stderr.flush()
            time.sleep(60)
        return number

    return work


def test_processes_end_with_a_killed_main_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    main = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    assert main.stderr is not None
    others = [int(main.stderr.readline()) for _ in range(2)]
    main.kill()
    main.wait()
    require_gone(others)
