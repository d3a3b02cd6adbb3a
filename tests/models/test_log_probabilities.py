"""Log probabilities of labels and of a set, and their gradients, against plain torch."""

from __future__ import annotations

import pytest
import torch

from cpt.models import log_probabilities, loss
from cpt.models.log_probabilities import label_log_probabilities


def inputs(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(count)
    hidden, head = (torch.randn(size, 8, generator=draw).to(dtype).requires_grad_() for size in (count, 30))
    labels = torch.randint(30, (count,), generator=draw)
    return hidden, head, labels, torch.tensor([2, 3, 11, 29])


def plain(
    hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor, some: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    log_p = (hidden @ head.T).float().log_softmax(-1)
    return log_p.gather(1, labels[:, None]).squeeze(1), log_p[:, some].logsumexp(-1)


@pytest.mark.parametrize("chunk", [3, 7, 1024])
@pytest.mark.parametrize("at_once", [1, 2**20])
def test_values_and_gradients_are_those_of_plain_torch(
    monkeypatch: pytest.MonkeyPatch, chunk: int, at_once: int
) -> None:
    monkeypatch.setattr(log_probabilities, "CHUNK", chunk)
    monkeypatch.setattr(loss, "IN_CACHE", at_once)
    given = inputs(10)
    weights = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(label_log_probabilities(*given), plain(*given), strict=True):
        torch.testing.assert_close(found, expected)
    sums = (
        sum((each * weight).sum() for each, weight in zip(function(*given), weights, strict=True))
        for function in (label_log_probabilities, plain)
    )
    ours, theirs = (torch.autograd.grad(total, given[:2]) for total in sums)
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_bfloat16_products_have_float32_sums() -> None:
    given = inputs(6, torch.bfloat16)
    for found, expected in zip(label_log_probabilities(*given), plain(*given), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
    ours, theirs = (
        torch.autograd.grad(sum(each.sum() for each in function(*given)), given[:2])
        for function in (label_log_probabilities, plain)
    )
    for gradient, expected in zip(ours, theirs, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient, expected, rtol=0.05, atol=0.05)


def test_all_tokens_are_certain_and_none_impossible() -> None:
    hidden, head, labels, _ = inputs(5)
    _, certain = label_log_probabilities(hidden, head, labels, torch.arange(30))
    torch.testing.assert_close(certain, torch.zeros(5), atol=1e-6, rtol=0)
    label, impossible = label_log_probabilities(hidden, head, labels, torch.arange(0))
    assert impossible.tolist() == [-torch.inf] * 5
    label.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_a_set_of_next_to_no_probability_has_a_finite_gradient() -> None:
    hidden = torch.ones(1, 1, requires_grad=True)
    head = torch.tensor([[200.0], [0.0], [-100.0]], requires_grad=True)
    _, found = label_log_probabilities(hidden, head, torch.tensor([0]), torch.tensor([2]))
    assert found.item() == -300
    found.sum().backward()
    assert head.grad is not None
    assert head.grad.isfinite().all()


def test_without_positions_there_is_a_gradient_of_zero() -> None:
    _, head, _, some = inputs(3)
    hidden = torch.zeros(0, 8, requires_grad=True)
    label, in_set = label_log_probabilities(hidden, head, torch.zeros(0, dtype=torch.long), some)
    (label.sum() + in_set.sum()).backward()
    assert head.grad is not None
    assert head.grad.count_nonzero() == 0


def test_only_what_needs_a_gradient_gets_one() -> None:
    hidden, head, labels, some = inputs(4)
    label, _ = label_log_probabilities(hidden, head.detach(), labels, some)
    label.sum().backward()
    assert hidden.grad is not None
    with torch.no_grad():
        assert not label_log_probabilities(hidden, head, labels, some)[0].requires_grad
