from __future__ import annotations

import pytest
import torch
from torch.nn.functional import kl_div

from cpt.models import loss
from cpt.models import loss as accumulating
from cpt.models.loss import accumulate, summed_cross_entropy, summed_divergence, token_cross_entropy


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, requires_grad=True)
    head = torch.randn(50, 8, requires_grad=True)
    labels = torch.randint(0, 50, (23,))
    return hidden, head, labels


@pytest.mark.parametrize(("chunk", "in_cache"), [(1, 10), (7, 150), (7, 10**6), (100, 10), (100, 10**6)])
def test_loss_and_gradients_equal_plain_cross_entropy(monkeypatch, inputs, chunk: int, in_cache: int) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    monkeypatch.setattr(loss, "IN_CACHE", in_cache)
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
    monkeypatch.setattr(loss, "CHUNK", chunk)
    monkeypatch.setattr(loss, "IN_CACHE", 150)
    hidden, head, labels = inputs
    each = token_cross_entropy(hidden, head, labels)
    torch.testing.assert_close(
        each, torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="none").detach()
    )
    assert token_cross_entropy(hidden[:0], head, labels[:0]).shape == (0,)


def test_several_chunks_add_up_in_float32(monkeypatch) -> None:
    """In bfloat16 256 + 1 is 256: the gradient of the second chunk would be lost."""
    monkeypatch.setattr(loss, "CHUNK", 1)
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
    monkeypatch.setattr(loss, "CHUNK", 3)
    torch.manual_seed(0)
    hidden, head = torch.randn(10, 8), torch.randn(20, 8)
    rows = torch.tensor([0, 0, 2, 3, 3, 3, 7, 8, 9])
    labels = torch.tensor([4, 5, 1, 0, 19, 3, 7, 7, 7])
    labels[4] = (hidden @ head.T)[3].argmax()
    nats, likeliest = loss.score_labels(hidden, head, rows, labels)
    logp = (hidden @ head.T).log_softmax(-1)
    assert torch.allclose(nats, logp[rows, labels], atol=1e-6)
    assert likeliest.tolist() == (logp.argmax(-1)[rows] == labels).tolist()
    assert likeliest[4]


@pytest.fixture
def divergence_inputs() -> list[torch.Tensor]:
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
    monkeypatch, divergence_inputs, chunk: int, in_cache: int
) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    monkeypatch.setattr(loss, "IN_CACHE", in_cache)
    ours, plain = summed_divergence(*divergence_inputs), naive(*divergence_inputs)
    torch.testing.assert_close(ours, plain)
    found = torch.autograd.grad(ours * 0.3, divergence_inputs[:2])
    for gradient, expected in zip(
        found, torch.autograd.grad(plain * 0.3, divergence_inputs[:2]), strict=True
    ):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_the_reference_gets_no_gradient(divergence_inputs) -> None:
    summed_divergence(*divergence_inputs).backward()
    assert [tensor.grad is None for tensor in divergence_inputs] == [False, False, True, True]


def test_a_frozen_head_gets_none_either(divergence_inputs) -> None:
    hidden, head, *reference = divergence_inputs
    summed_divergence(hidden, head.detach(), *reference).backward()
    assert hidden.grad is not None
    assert head.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_itself_it_is_nothing_and_moves_nothing(divergence_inputs, dtype: torch.dtype) -> None:
    hidden, head = (tensor.detach().to(dtype).requires_grad_() for tensor in divergence_inputs[:2])
    divergence = summed_divergence(hidden, head, hidden, head)
    divergence.backward()
    assert divergence.item() == 0
    assert hidden.grad.count_nonzero() == head.grad.count_nonzero() == 0


def test_a_tied_matrix_collects_both_gradients(divergence_inputs) -> None:
    _, head, other, other_head = divergence_inputs
    ids = torch.arange(len(other))
    ours, plain = (
        torch.autograd.grad(loss(head[ids] * 2, head, other, other_head), head)[0]
        for loss in (summed_divergence, naive)
    )
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_divergence_in_bfloat16_is_close(divergence_inputs) -> None:
    hidden, head, other, other_head = divergence_inputs
    exact = summed_divergence(*divergence_inputs)
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


def test_of_no_positions_it_is_zero(divergence_inputs) -> None:
    hidden, head, *_ = divergence_inputs
    divergence = summed_divergence(hidden[:0], head, hidden[:0], head)
    divergence.backward()
    assert divergence.item() == 0


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (9, 5), (4, 3, 2)])
def test_sum_is_exact_in_every_part(monkeypatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(accumulating, "_PART", 11)
    total, addend = torch.randn(shape), torch.randn(shape).bfloat16()
    expected = total + addend.float()
    accumulate(total, addend)
    assert torch.equal(total, expected)


@pytest.mark.parametrize("chunk", [7, 100])
def test_weights_multiply_each_position_of_both_losses(monkeypatch, inputs, chunk: int) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    hidden, head, labels = inputs
    weights = torch.rand(len(labels))
    other = (torch.randn_like(hidden), torch.randn_like(head))
    logits = hidden @ head.T
    nats = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    log_q = (other[0] @ other[1].T).log_softmax(-1)
    kl = kl_div(log_q, logits.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    pairs = [
        (summed_cross_entropy(hidden, head, labels, weights), (weights * nats).sum()),
        (summed_divergence(hidden, head, *other, weights), (weights * kl).sum()),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)
        for one, another in zip(
            torch.autograd.grad(ours, (hidden, head)),
            torch.autograd.grad(theirs, (hidden, head), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


def test_without_targets_every_weight_still_has_a_gradient(inputs) -> None:
    """Divided weights are reduced in every process, also in one whose rows are prompts alone."""
    hidden, head, labels = inputs
    summed_cross_entropy(hidden[:0], head, labels[:0], torch.zeros(0)).backward()
    assert head.grad is not None
    assert not head.grad.any()


@pytest.mark.parametrize(("rows", "chunk"), [(49_152, 8192), (128_256, 8192), (262_144, 4096), (2**22, 1024)])
def test_a_gpu_holds_more_logits_at_once_up_to_2_gb(rows: int, chunk: int) -> None:
    assert loss.chunk_of(torch.empty(rows, 8, device="meta")) == chunk
    assert loss.chunk_of(torch.empty(rows, 8)) == 1024


@pytest.mark.parametrize("wide", [True, False])
def test_on_a_gpu_products_add_up_in_the_gradient_itself(monkeypatch, inputs, wide: bool) -> None:
    added = []

    def add(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
        added.append(len(right))
        total += left.float() @ right.float()

    monkeypatch.setattr(loss, "on_gpu", lambda _: True)
    monkeypatch.setattr(loss, "CHUNK", 1)
    monkeypatch.setattr(loss, "_GPU_CHUNK", 7)
    monkeypatch.setattr(loss, "_adds_products", lambda *_: wide)
    monkeypatch.setattr(loss, "_add_wide", add)
    hidden, head, labels = inputs
    exact = torch.autograd.grad(summed_cross_entropy(hidden, head, labels), head)[0]
    rounded = [x.detach().bfloat16().requires_grad_() for x in (hidden, head)]
    found = torch.autograd.grad(summed_cross_entropy(*rounded, labels), rounded[1])[0]
    torch.testing.assert_close(found.float(), exact, atol=0.1, rtol=0.05)
    assert added == ([7, 7, 2] if wide else [])


def test_what_a_gpu_can_add_is_tried_once(monkeypatch) -> None:
    def refuses(*_: torch.Tensor) -> None:
        raise RuntimeError("self and mat2 must have the same dtype")

    monkeypatch.setattr(loss, "_add_wide", refuses)
    monkeypatch.setattr(loss, "_adds_products", loss._adds_products.__wrapped__)
    assert not loss._adds_products(torch.device("cpu"), torch.bfloat16)
    assert loss._adds_products(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(loss, "_add_wide", lambda total, *_: total.add_(16))
    assert loss._adds_products(torch.device("cpu"), torch.bfloat16)


def test_compiled_passes_over_logits_give_the_same_losses_and_gradients(inputs) -> None:
    hidden, head, labels = inputs
    before = dict(loss._passes)
    plain = summed_cross_entropy(hidden, head, labels)
    divergence = summed_divergence(hidden, head, hidden.detach().flip(0), head.detach())
    with loss.compiled_passes("eager"):
        compiled = summed_cross_entropy(hidden, head, labels)
        torch.testing.assert_close(compiled, plain)
        again = summed_divergence(hidden, head, hidden.detach().flip(0), head.detach())
        torch.testing.assert_close(again, divergence)
    for ours, theirs in ((compiled, plain), (again, divergence)):
        for one, other in zip(
            torch.autograd.grad(ours, (hidden, head)),
            torch.autograd.grad(theirs, (hidden, head)),
            strict=True,
        ):
            torch.testing.assert_close(one, other)
    assert loss._passes == before
