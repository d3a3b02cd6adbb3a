"""Shards on disk: the documented files, several shards as one source, damage noticed."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from cpt.corpus.shards import ShardWriter
from cpt.corpus.tokenised_source import TokenisedSource
from cpt.errors import DataError


def write(folder: Path, shard_tokens: int, vocabulary: int = 60_000) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    sizes = random.integers(1, 17, 200)
    pieces = [random.integers(0, vocabulary, size=int(size)).astype(np.uint32) for size in sizes]
    pieces[7][0] = vocabulary - 1
    writer = ShardWriter(folder, sequence_length=16, shard_tokens=shard_tokens)
    for at in range(0, 200, 2):
        writer.add(pieces[at : at + 2], at // 2)
    writer.close()
    assert writer.sequences == len(TokenisedSource(folder))
    return pieces


@pytest.mark.parametrize("vocabulary", [60_000, 1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize("shard_tokens", [100, 500, 10**9])
def test_every_piece_comes_back_once_and_no_sequence_is_too_long(
    tmp_path: Path, shard_tokens: int, vocabulary: int
) -> None:
    pieces = write(tmp_path, shard_tokens, vocabulary)
    source = TokenisedSource(tmp_path)
    found: list[tuple[int, ...]] = []
    for number in range(len(source)):
        row = source.sequence(number)
        assert row.tokens.dtype == np.uint16 or vocabulary > 1 << 16
        assert row.source == tmp_path.name
        assert len(row.tokens) == row.piece_lengths.sum() == source.sequence_lengths[number] <= 16
        found += [tuple(part.tolist()) for part in np.split(row.tokens, np.cumsum(row.piece_lengths)[:-1])]
    assert Counter(found) == Counter(tuple(piece.tolist()) for piece in pieces)
    assert source.sequence_lengths.sum() == sum(map(len, pieces))


@pytest.mark.parametrize(("vocabulary", "stored"), [(60_000, np.uint16), (1 << 17, np.uint32)])
def test_files_are_as_documented(tmp_path: Path, vocabulary: int, stored: type) -> None:
    written = write(tmp_path, 500, vocabulary)
    stems = sorted({path.name.split(".")[0] for path in tmp_path.glob("shard-*")})
    assert stems == [f"shard-{number:05d}" for number in range(len(stems))]
    assert len(stems) > 1
    for stem in stems:
        tokens = np.load(tmp_path / f"{stem}.tokens.npy", allow_pickle=False)
        pieces = np.load(tmp_path / f"{stem}.pieces.npy", allow_pickle=False)
        sequences = np.load(tmp_path / f"{stem}.sequences.npy", allow_pickle=False)
        documents = np.load(tmp_path / f"{stem}.documents.npy", allow_pickle=False)
        assert (tokens.dtype, pieces.dtype, sequences.dtype) == (stored, np.int64, np.int64)
        for at, document in enumerate(documents.tolist()):
            piece = tokens[pieces[at] : pieces[at + 1]].tolist()
            assert piece in [each.tolist() for each in written[2 * document : 2 * document + 2]]
        assert pieces[0] == sequences[0] == 0
        assert pieces[-1] == len(tokens)
        assert sequences[-1] == len(pieces) - 1


def test_numbers_outside_are_errors(tmp_path: Path) -> None:
    write(tmp_path, 500)
    source = TokenisedSource(tmp_path)
    for number in (-1, len(source)):
        with pytest.raises(IndexError):
            source.sequence(number)


def test_missing_and_damaged_shards_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no token shards"):
        TokenisedSource(tmp_path)
    write(tmp_path, 500)
    file = tmp_path / "shard-00000.tokens.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="shard-00000"):
        TokenisedSource(tmp_path).sequence(0)
    np.save(file, np.zeros(3, dtype=np.uint32))
    with pytest.raises(DataError, match="do not fit together"):
        TokenisedSource(tmp_path).sequence(0)
    for odd in (np.zeros(0, np.uint32), np.zeros((2, 2), np.uint32), np.array([None]), np.zeros(3)):
        np.save(file, odd)
        with pytest.raises(DataError, match=r"shard-00000\.tokens\.npy: damaged shard"):
            TokenisedSource(tmp_path).sequence(0)


def test_open_shards_hold_no_file_descriptors(tmp_path: Path) -> None:
    write(tmp_path, 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = TokenisedSource(tmp_path)
    rows = [source.sequence(number) for number in range(len(source))]
    assert len(list(tmp_path.glob("*.tokens.npy"))) > 10
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(len(row.tokens) for row in rows)


def test_rows_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, 500)
    row = TokenisedSource(tmp_path).sequence(0)
    with pytest.raises(ValueError, match="read-only"):
        row.tokens[0] = 1


@pytest.mark.parametrize(("number", "advice"), [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "fs.file-max")])
def test_too_many_open_files_are_no_damaged_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    write(tmp_path, 500)

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    source = TokenisedSource(tmp_path)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError) as caught:
        source.sequence(0)
    assert os.strerror(number) in str(caught.value)
    assert "damaged" not in str(caught.value)
    assert advice in str(caught.value.hint)


def test_too_many_memory_maps_are_no_damaged_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 500)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Memory mapping file failed")

    source = TokenisedSource(tmp_path)
    monkeypatch.setattr(pyarrow, "memory_map", refuse)
    with pytest.raises(DataError, match="maps no more files") as caught:
        source.sequence(0)
    assert "vm.max_map_count" in str(caught.value.hint)
