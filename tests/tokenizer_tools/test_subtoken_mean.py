"""Rows of new tokens: closed form, convexity, precision."""

import torch

from tokenizer_tools.embeddings import NAMES, method


def test_a_row_is_the_mean_of_its_pieces() -> None:
    source = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]])
    rows = method("subtoken-mean").rows(source, [[0, 1], [2], [0, 0, 1]])
    assert torch.allclose(rows, torch.tensor([[2.0, 1.0], [5.0, 4.0], [5 / 3, 2 / 3]]))


def test_rows_are_convex_and_none_is_zero() -> None:
    source = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    pieces = [[i % 50, (7 * i + 1) % 50, (3 * i + 2) % 50] for i in range(40)]
    rows = method("subtoken-mean").rows(source, pieces)
    assert (rows.norm(dim=1) <= source.norm(dim=1).max()).all()
    assert (rows.norm(dim=1) > 0).all()


def test_the_mean_of_half_precision_rows_is_taken_in_single() -> None:
    source = torch.tensor([[256.0], [1.0]], dtype=torch.bfloat16)
    rows = method("subtoken-mean").rows(source, [[0] * 3 + [1]])
    assert rows.dtype == torch.bfloat16
    assert rows.item() == torch.tensor((256 * 3 + 1) / 4).bfloat16().item()


def test_every_registered_method_is_there_under_its_name() -> None:
    for name in NAMES:
        found = method(name)
        assert found.name == name
        assert found.reference.startswith("https://")
