import pytest
import torch
from torch.nn.functional import kl_div

from cpt.models import fused
from cpt.models.divergence import summed_divergence


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    """Hidden states and head of a model and of its reference; fresh chance in every test."""
    torch.manual_seed(0)
    shapes = ((23, 8), (50, 8), (23, 8), (50, 8))
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def naive(
    hidden: torch.Tensor, head: torch.Tensor, other: torch.Tensor, other_head: torch.Tensor
) -> torch.Tensor:
    """All logits at once, by torch's own functions."""
    ours, theirs = (hidden @ head.T).log_softmax(-1), (other @ other_head.T).log_softmax(-1).detach()
    return kl_div(theirs, ours, reduction="sum", log_target=True)


@pytest.mark.parametrize(("chunk", "in_cache"), [(1, 10), (7, 150), (7, 10**6), (100, 10), (100, 10**6)])
def test_divergence_and_gradients_equal_the_naive_ones(
    monkeypatch, inputs, chunk: int, in_cache: int
) -> None:
    monkeypatch.setattr(fused, "CHUNK", chunk)
    monkeypatch.setattr(fused, "IN_CACHE", in_cache)
    ours, plain = summed_divergence(*inputs), naive(*inputs)
    torch.testing.assert_close(ours, plain)
    found = torch.autograd.grad(ours * 0.3, inputs[:2])
    for gradient, expected in zip(found, torch.autograd.grad(plain * 0.3, inputs[:2]), strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_the_reference_gets_no_gradient(inputs) -> None:
    summed_divergence(*inputs).backward()
    assert [tensor.grad is None for tensor in inputs] == [False, False, True, True]


def test_a_frozen_head_gets_none_either(inputs) -> None:
    hidden, head, *reference = inputs
    summed_divergence(hidden, head.detach(), *reference).backward()
    assert hidden.grad is not None
    assert head.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_itself_it_is_nothing_and_moves_nothing(inputs, dtype: torch.dtype) -> None:
    hidden, head = (tensor.detach().to(dtype).requires_grad_() for tensor in inputs[:2])
    divergence = summed_divergence(hidden, head, hidden, head)
    divergence.backward()
    assert divergence.item() == 0
    assert hidden.grad.count_nonzero() == head.grad.count_nonzero() == 0


def test_a_tied_matrix_collects_both_gradients(inputs) -> None:
    _, head, other, other_head = inputs
    ids = torch.arange(len(other))
    ours, plain = (
        torch.autograd.grad(loss(head[ids] * 2, head, other, other_head), head)[0]
        for loss in (summed_divergence, naive)
    )
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_bfloat16_is_close(inputs) -> None:
    hidden, head, other, other_head = inputs
    exact = summed_divergence(*inputs)
    rough = summed_divergence(hidden, head.bfloat16(), other, other_head.bfloat16())
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    assert rough.item() != exact.item()


def test_hopeless_distributions_have_a_finite_divergence() -> None:
    """One is sure of the first token, the other of the second: ln p - ln q is the logits' distance."""
    head = torch.tensor([[1.0], [-1.0]])
    hidden = torch.tensor([[300.0]], requires_grad=True)
    divergence = summed_divergence(hidden, head, -hidden, head)
    divergence.backward()
    assert divergence.item() == pytest.approx(600)
    assert hidden.grad.isfinite().all()


def test_of_no_positions_it_is_zero(inputs) -> None:
    hidden, head, *_ = inputs
    divergence = summed_divergence(hidden[:0], head, hidden[:0], head)
    divergence.backward()
    assert divergence.item() == 0
