"""Weights chosen by the rank of their magnitude, against sorting."""

import pytest
import torch

from merging import topk_threshold
from merging.topk_threshold import Ranks, magnitude_ranks, outlier_ranks, selector


def masked(values: torch.Tensor, ranks: Ranks, size: int = 7) -> torch.Tensor:
    chunks = values.split(size)
    choose = selector(lambda: chunks, len(values), ranks)
    return torch.cat([choose(chunk) for chunk in chunks])


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(("first", "stop"), [(0, 40), (13, 60), (50, 100), (99, 100), (0, 0), (0, 100)])
def test_different_magnitudes_are_chosen_as_by_sorting(first: int, stop: int, descending: bool) -> None:
    values = torch.randn(100, generator=torch.Generator().manual_seed(3))
    expected = torch.zeros(100, dtype=torch.bool)
    expected[values.abs().sort(descending=descending).indices[first:stop]] = True
    assert torch.equal(masked(values, Ranks(first, stop, descending)), expected)


@pytest.mark.parametrize("sorted_up_to", [0, 2**25])
def test_among_equal_magnitudes_the_right_number_is_kept(
    sorted_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk_threshold, "SORTED", sorted_up_to)
    values = torch.tensor([3.0] * 5 + [-1.0] * 20 + [1.0] * 20 + [0.0] * 5)
    for first, stop in ((0, 15), (8, 30), (2, 48), (6, 7)):
        for descending in (True, False):
            mask = masked(values, Ranks(first, stop, descending))
            magnitudes = values.abs().sort(descending=descending).values
            assert torch.equal(values[mask].abs().sort(descending=descending).values, magnitudes[first:stop])


def test_in_large_tensors_the_choice_among_equals_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk_threshold, "SORTED", 0)
    mask = masked(torch.ones(30), Ranks(0, 10, descending=True))
    assert mask.view(10, 3).sum(1).tolist() == [1] * 10


def test_ties_keeps_at_least_one() -> None:
    assert magnitude_ranks(1000, 0.0001) == Ranks(0, 1, descending=True)
    assert magnitude_ranks(1000, 0.0) == Ranks(0, 0, descending=True)


def test_breadcrumbs_drops_fewer_of_the_largest_where_too_few_would_be_left() -> None:
    assert outlier_ranks(100, 0.5, 0.1) == Ranks(40, 90, descending=False)
    assert outlier_ranks(100, 0.95, 0.1) == Ranks(0, 95, descending=False)
