import pytest
import torch
from tiny_training import UNUSUAL, moved, noise

from cpt.errors import StageFailed
from cpt.training.optimizers import AdamW, AdamW8bit, adamw_8bit


def test_comes_close_to_adamw() -> None:
    (start,), gradients = noise(40, 33), noise(40, 33, seed=1, count=10)
    exact = moved(AdamW(**UNUSUAL), start, gradients) - start
    ours = moved(AdamW8bit(**UNUSUAL), start, gradients) - start
    assert not torch.equal(ours, exact)
    assert float((ours - exact).norm() / exact.norm()) < 0.05


def test_first_step_is_that_of_adamw() -> None:
    (start,), gradients = noise(40, 33), noise(40, 33, seed=1)
    torch.testing.assert_close(
        moved(AdamW8bit(**UNUSUAL), start, gradients), moved(AdamW(**UNUSUAL), start, gradients)
    )


@pytest.mark.parametrize("kind", ["embedding", "vector"])
def test_embeddings_and_vectors_move_by_adamw(kind) -> None:
    (start,), gradients = noise(40, 33), noise(40, 33, seed=1, count=5)
    torch.testing.assert_close(
        moved(AdamW8bit(), start, gradients, kind=kind), moved(AdamW(), start, gradients, kind=kind)
    )


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw_8bit, "find_spec", lambda name: None)
    (problem,) = AdamW8bit().problems()
    assert "bitsandbytes" in problem.message
    with pytest.raises(StageFailed, match=r"pip install 'cpt-workbench\[8bit\]'"):
        AdamW8bit().build([])
