"""Compact digests against Python's own lists and sets."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cpt.corpus import digests
from cpt.corpus.digests import Digests, DigestSet


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs after fifty digests, merged 64 at a time."""
    monkeypatch.setattr(digests, "_NEWEST", 50)
    monkeypatch.setattr(digests, "_AT_ONCE", 64)


def keys(seed: int, count: int) -> list[bytes]:
    """Digests that come again, some of which share their first half."""
    chance = random.Random(seed)
    halves = [(bytes(8), 99), (b"ab" * 4, 99), (b"", 700)]
    chosen = (chance.choice(halves) for _ in range(count))
    return [half + chance.randrange(most).to_bytes(16 - len(half)) for half, most in chosen]


@pytest.mark.parametrize("in_files", [False, True])
def test_it_is_a_set(tmp_path: Path, in_files: bool) -> None:
    ours, theirs = DigestSet(tmp_path if in_files else None), set[bytes]()
    chance = random.Random(7)
    for key in keys(1, 4000):
        act = chance.choice(["add", "add", "add", "discard", "look"])
        if act != "look":
            getattr(ours, act)(key)
            getattr(theirs, act)(key)
        assert (key in ours) == (key in theirs)
        assert len(ours) == len(theirs)
    assert all(key in ours for key in theirs)
    assert "no digest" not in ours
    assert len(ours._runs) > 1


@pytest.mark.parametrize("in_files", [False, True])
def test_it_goes_on_where_it_was_saved(tmp_path: Path, in_files: bool) -> None:
    kept, later = DigestSet(tmp_path / "a" if in_files else None), keys(3, 700)
    for key in keys(2, 700):
        kept.add(key)
    for key in keys(2, 40):
        kept.discard(key)
    kept.save(tmp_path / "saved")
    expected = {key for key in [*keys(2, 700), *later] if key in kept}
    for key in later:
        kept.add(key)  # which changes nothing that was saved
    again = DigestSet(tmp_path / "saved")
    assert len(again) == len({key for key in keys(2, 700) if key in again})
    assert {key for key in [*keys(2, 700), *later] if key in again} == expected


def test_runs_are_few_and_their_files_are_theirs_alone(tmp_path: Path) -> None:
    ours = DigestSet(tmp_path)
    for number in range(50 * 64):
        ours.add(number.to_bytes(16))
    assert [len(run) for run in ours._runs] == [50 * 64]
    for number in range(50 * 64, 50 * 71):
        ours.add(number.to_bytes(16))
    assert [len(run) for run in ours._runs] == [50 * 64, 200, 100, 50]
    assert sorted(tmp_path.glob("*.npy")) == [run.file for run in ours._runs]
    assert sum(file.stat().st_size for file in tmp_path.glob("*.npy")) == 16 * len(ours) + 4 * 128


def test_a_list_of_digests_is_a_list() -> None:
    written = keys(4, 30)
    found = Digests(written)
    assert list(found) == written
    assert (found[-1], found[3], list(found[2:9:3])) == (written[-1], written[3], written[2:9:3])
    high, low = found.halves()
    assert np.lexsort((low, high)).tolist() == sorted(range(30), key=lambda at: written[at])
    with pytest.raises(IndexError):
        found[30]
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        found.append(b"abc")
