"""Methods that draw rows: their distribution, seeds, what each parameter does."""

import math
from pathlib import Path

import pytest
import torch
from made_transfers import made_rows, made_transfer, matrix
from tiny import write_tiny_model
from transformers import AutoModelForCausalLM

MANY = [[0]] * 20_000


def test_random_rows_are_centred_and_as_spread_as_the_used_rows() -> None:
    source = torch.cat([3 * matrix() + 5, torch.full((2, 4), 1000.0)])
    rows = made_rows("random", made_transfer(MANY), source)
    assert rows.std().item() == pytest.approx(source[:6].std().item(), rel=0.02)
    assert rows.mean().item() == pytest.approx(0, abs=0.1)


def test_random_takes_another_deviation() -> None:
    assert made_rows("random", made_transfer(MANY), matrix(), std=0.02).std().item() == pytest.approx(
        0.02, rel=0.02
    )


def test_seeds() -> None:
    first, again, other = (made_rows("random", made_transfer(seed=seed), matrix()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == len(first)


@pytest.mark.parametrize("count", [1, 30, 300])
def test_mean_rows_take_little_from_the_old_tokens(count: int, tmp_path: Path) -> None:
    """KL(before || after) <= log(1 + n/V) at every position, by Jensen's inequality."""
    model = AutoModelForCausalLM.from_pretrained(write_tiny_model(tmp_path)).eval()
    head = model.get_output_embeddings().weight.detach() * 4
    source = [str(i) for i in range(len(head))]
    new = made_rows("mean", made_transfer([[0]] * count, source=source), head, "output")
    with torch.no_grad():
        states = model.model(torch.arange(60)[None]).last_hidden_state[0]
    before = states @ head.T
    after = torch.cat([before, states @ new.T], dim=1)
    kl = after.logsumexp(1) - before.logsumexp(1)
    assert (kl >= 0).all()
    assert kl.max() > 0
    assert (kl <= math.log(1 + count / len(head)) + 1e-5).all()
