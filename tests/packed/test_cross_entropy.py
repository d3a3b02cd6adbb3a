import pytest
import torch

from cpt.packed import cross_entropy
from cpt.packed.batch import IGNORED
from cpt.packed.cross_entropy import summed_cross_entropy, token_cross_entropy


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, requires_grad=True)
    head = torch.randn(50, 8, requires_grad=True)
    labels = torch.randint(0, 50, (23,))
    labels[[4, 22]] = IGNORED
    return hidden, head, labels


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_loss_and_gradients_equal_plain_cross_entropy(monkeypatch, inputs, chunk: int) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK", chunk)
    hidden, head, labels = inputs
    plain = torch.nn.functional.cross_entropy(hidden @ head.T, labels, ignore_index=IGNORED, reduction="sum")
    chunked = summed_cross_entropy(hidden, head, labels)
    torch.testing.assert_close(chunked, plain)
    for ours, theirs in zip(
        torch.autograd.grad(chunked * 0.3, (hidden, head)),
        torch.autograd.grad(plain * 0.3, (hidden, head)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_frozen_head_gets_no_gradient(inputs) -> None:
    hidden, head, labels = inputs
    summed_cross_entropy(hidden, head.detach(), labels).backward()
    assert hidden.grad is not None
    assert head.grad is None


def test_tied_weights_collect_both_gradients(inputs) -> None:
    _, head, labels = inputs
    ids = torch.arange(len(labels))

    def loss(total) -> torch.Tensor:
        return total(head[ids] * 2)

    ours = torch.autograd.grad(loss(lambda h: summed_cross_entropy(h, head, labels)), head)[0]
    plain = torch.autograd.grad(
        loss(lambda h: torch.nn.functional.cross_entropy(h @ head.T, labels, reduction="sum")), head
    )[0]
    torch.testing.assert_close(ours, plain)


def test_token_losses_sum_to_the_loss_and_are_zero_without_label(inputs) -> None:
    hidden, head, labels = inputs
    each = token_cross_entropy(hidden, head, labels)
    torch.testing.assert_close(each.sum(), summed_cross_entropy(hidden, head, labels))
    assert each[4] == each[22] == 0


def test_bfloat16_is_close(inputs) -> None:
    hidden, head, labels = inputs
    exact = summed_cross_entropy(hidden, head, labels)
    rough = summed_cross_entropy(hidden, head.bfloat16(), labels)
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    assert rough.item() != exact.item()
