import numpy as np
import pytest
import torch

from cpt.models.sampling import draw


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.0, 0.25]])).repeat(20_000, 1)
    drawn = draw(torch.Generator().manual_seed(0), 1.0, None, logits).argmax(-1).numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx([0.5, 0.25, 0.0, 0.25], abs=0.015)
    assert shares[2] == 0
