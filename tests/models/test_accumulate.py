import pytest
import torch

from cpt.models import accumulate as accumulating
from cpt.models.accumulate import accumulate


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (9, 5), (4, 3, 2)])
def test_sum_is_exact_in_every_part(monkeypatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(accumulating, "_PART", 11)
    total, addend = torch.randn(shape), torch.randn(shape).bfloat16()
    expected = total + addend.float()
    accumulate(total, addend)
    assert torch.equal(total, expected)
