"""The number of weights that carry a share of the squared norm, against sorting."""

import pytest
import torch

from merging.analysis.gram_sums import Concentration


def counted(vector: torch.Tensor, share: float, part: int = 97) -> int:
    """Both passes, part by part."""
    counter = Concentration(share)
    for chunk in vector.split(part):
        counter.count(chunk)
    for chunk in vector.split(part):
        counter.refine(chunk)
    return counter.weights()


def by_sorting(vector: torch.Tensor, share: float) -> int:
    sums = vector.double().square().sort(descending=True).values.cumsum(0)
    return int((sums < share * sums[-1] * (1 - 1e-12)).sum()) + 1


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["normal", "heavy", "alike", "bfloat16"])
def test_as_sorting_finds(kind: str, share: float) -> None:
    vector = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    vector = {
        "normal": vector,
        "heavy": vector**5,
        "alike": 1.0 + vector / 1000,  # all within a few bins of the first pass
        "bfloat16": vector.bfloat16().float(),  # many equal magnitudes
    }[kind]
    assert counted(vector, share) == by_sorting(vector, share)


def test_equal_weights_and_none() -> None:
    assert counted(torch.tensor([1.0, -1.0] * 5), 0.9) == 9
    assert counted(torch.tensor([3.0, 0.0, 0.0, 0.0]), 0.9) == 1
    assert counted(torch.zeros(5), 0.9) == 0
