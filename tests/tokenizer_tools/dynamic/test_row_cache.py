"""The cache of predicted rows against rows predicted anew, and against the mean of pieces' rows."""

from pathlib import Path

import pytest
import torch
from made_hypernetworks import write_hypernetwork

from tokenizer_tools.dynamic.rows import RowCache
from tokenizer_tools.hypernetwork.folder import load_hypernetwork, source_vocabulary

SURFACES = [b" kidney", b"dneys", b"qzq", b"abcdefghij", b"\xc3\xc3", b" xyz"]


def cache(model: Path, folder: Path, most: int = 100, **settings: object) -> RowCache:
    write_hypernetwork(folder, model, **settings)
    return RowCache(load_hypernetwork(folder, model), source_vocabulary(folder), most)


def test_kept_rows_are_those_predicted_anew(tiny_model: Path, tmp_path: Path) -> None:
    one = cache(tiny_model, tmp_path / "one")
    first = one.rows(SURFACES[:4])["tied"]
    again = one.rows([SURFACES[5], *SURFACES[2::-1]])["tied"]
    assert one.predicted == 5
    assert torch.equal(again[1:], first[[2, 1, 0]])
    anew = cache(tiny_model, tmp_path / "anew").rows([SURFACES[5], *SURFACES[2::-1]])["tied"]
    torch.testing.assert_close(again, anew)
    assert len(first.unique(dim=0)) == 4
    assert one.rows([])["tied"].shape == (0, first.shape[1])


def test_rows_used_longest_ago_are_forgotten(tiny_model: Path, tmp_path: Path) -> None:
    few = cache(tiny_model, tmp_path / "few", most=2)
    rows = few.rows(SURFACES[:3])["tied"]  # more than are kept: still all of them
    assert len(rows) == 3
    few.rows(SURFACES[1:3])
    assert few.predicted == 3
    few.rows(SURFACES[1:2])
    few.rows(SURFACES[:1])  # in place of the third
    assert few.predicted == 4
    few.rows(SURFACES[1:2])
    assert few.predicted == 4
    few.rows(SURFACES[2:3])
    assert few.predicted == 5


def test_before_training_a_row_is_the_mean_of_its_pieces(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mean"
    made = cache(tiny_model, folder, changed=False, residual="mean", pieces=12)
    vocabulary = source_vocabulary(folder)
    [own] = [load_hypernetwork(folder, tiny_model).source.get_buffer("tied")]
    for surface, row in zip(SURFACES, made.rows(SURFACES)["tied"], strict=True):
        [pieces] = vocabulary.segment_all([surface], one_word=True)
        assert len(pieces) > 1 or surface == b" kidney"
        torch.testing.assert_close(row, own[pieces].mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("most", [1, 50])
def test_repeated_surfaces_share_a_row(tiny_model: Path, tmp_path: Path, most: int) -> None:
    rows = cache(tiny_model, tmp_path / "twice", most).rows([b"qzq", b"xyz", b"qzq"])["tied"]
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
