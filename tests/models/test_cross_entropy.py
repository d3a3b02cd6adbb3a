import pytest
import torch

from cpt.models import cross_entropy, fused
from cpt.models.cross_entropy import summed_cross_entropy, token_cross_entropy


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, requires_grad=True)
    head = torch.randn(50, 8, requires_grad=True)
    labels = torch.randint(0, 50, (23,))
    return hidden, head, labels


@pytest.mark.parametrize(("chunk", "in_cache"), [(1, 10), (7, 150), (7, 10**6), (100, 10), (100, 10**6)])
def test_loss_and_gradients_equal_plain_cross_entropy(monkeypatch, inputs, chunk: int, in_cache: int) -> None:
    monkeypatch.setattr(fused, "CHUNK", chunk)
    monkeypatch.setattr(fused, "IN_CACHE", in_cache)
    hidden, head, labels = inputs
    plain = torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="sum")
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


@pytest.mark.parametrize("chunk", [7, 100])
def test_token_losses_are_those_of_plain_cross_entropy(monkeypatch, inputs, chunk: int) -> None:
    monkeypatch.setattr(fused, "CHUNK", chunk)
    monkeypatch.setattr(fused, "IN_CACHE", 150)
    hidden, head, labels = inputs
    each = token_cross_entropy(hidden, head, labels)
    torch.testing.assert_close(
        each, torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="none").detach()
    )
    assert token_cross_entropy(hidden[:0], head, labels[:0]).shape == (0,)


def test_several_chunks_add_up_in_float32(monkeypatch) -> None:
    """In bfloat16 256 + 1 is 256: the gradient of the second chunk would be lost."""
    monkeypatch.setattr(fused, "CHUNK", 1)
    head = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    hidden = torch.tensor([[512.0], [2.0], [2.0]], dtype=torch.bfloat16)
    summed_cross_entropy(hidden, head, torch.zeros(3, dtype=torch.long)).backward()
    assert head.grad.tolist() == [[-258.0], [258.0]]


def test_a_hopeless_label_has_a_finite_loss() -> None:
    head = torch.tensor([[1.0], [-1.0]])
    assert token_cross_entropy(torch.tensor([[300.0]]), head, torch.tensor([1])).tolist() == [600.0]


def test_bfloat16_is_close(inputs) -> None:
    hidden, head, labels = inputs
    exact = summed_cross_entropy(hidden, head, labels)
    rough = summed_cross_entropy(hidden, head.bfloat16(), labels)
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    assert rough.item() != exact.item()


def test_several_labels_of_a_position_are_scored_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "CHUNK", 3)
    torch.manual_seed(0)
    hidden, head = torch.randn(10, 8), torch.randn(20, 8)
    rows = torch.tensor([0, 0, 2, 3, 3, 3, 7, 8, 9])
    labels = torch.tensor([4, 5, 1, 0, 19, 3, 7, 7, 7])
    labels[4] = (hidden @ head.T)[3].argmax()
    nats, likeliest = cross_entropy.score_labels(hidden, head, rows, labels)
    logp = (hidden @ head.T).log_softmax(-1)
    assert torch.allclose(nats, logp[rows, labels], atol=1e-6)
    assert likeliest.tolist() == (logp.argmax(-1)[rows] == labels).tolist()
    assert likeliest[4]
