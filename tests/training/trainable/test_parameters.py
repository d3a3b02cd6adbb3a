"""Rows of new tokens: rates of their own, alone at first, and never at the cost of the rows beside them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trains import (
    NEW,
    OLD,
    TOKENS,
    Documents,
    Said,
    backward,
    changed,
    prepared,
    run,
    tiny,
    trainable,
    weights,
)
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from cpt.training.optimizers import AdamW

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
ALWAYS_FIRST = 0.99  # of six steps: all of them


def matrices(tied: bool) -> set[str]:
    return {EMBEDDING} if tied else {EMBEDDING, HEAD}


@TIED
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "settings",
    [{"kind": "all"}, {"kind": "layers", "layers": "1", "embeddings": "all"}],
    ids=lambda settings: settings["kind"],
)
def test_at_first_only_rows_of_new_tokens_move(
    tmp_path: Path, tied: bool, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    before = weights(tiny(tied))
    after = weights(
        run(tmp_path, trainable(**settings, embeddings_first=ALWAYS_FIRST), tiny(tied), dtype=dtype)
    )
    assert changed(before, after) == matrices(tied)
    for name in matrices(tied):
        assert torch.equal(before[name][OLD], after[name][OLD])
        assert (before[name][list(NEW)] != after[name][list(NEW)]).any(1).all()


def test_what_is_frozen_at_first_gets_no_optimizer_state() -> None:
    model = tiny()
    trained = prepared(model, trainable(embeddings_first=0.5))
    optimizer = AdamW().build(trained.groups(model))
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    backward(model, trained, step=0)
    optimizer.step()
    trained.after_step()
    (rows,) = optimizer.state
    assert rows is trained.weights[f"{EMBEDDING}.new_rows"]
    assert rows.shape == (len(NEW), 16)
    assert torch.equal(model.get_input_embeddings().weight[list(NEW)], rows)


def by_hand(tied: bool, steps: int, alone: int, rates: dict[str, float]) -> dict[str, torch.Tensor]:
    """AdamW on a model whose new rows are parameters apart, in the plainest way."""
    model = tiny(tied)
    model.set_attn_implementation("eager")
    parameters = {name: nn.Parameter(p.detach().clone()) for name, p in model.named_parameters()}
    rows = {name: nn.Parameter(parameters[name].detach()[list(NEW)]) for name in matrices(tied)}

    def group(chosen: list[nn.Parameter], rate: float, decay: float) -> dict[str, Any]:
        return {"params": chosen, "lr": 1e-2 * rate, "weight_decay": decay}

    inner = [p for name, p in parameters.items() if name not in rows]
    optimizer = torch.optim.AdamW(
        [
            group([p for p in inner if p.ndim > 1], rates["matrices"], 0.1),
            group([p for p in inner if p.ndim == 1], rates["norms"], 0.0),
            group([parameters[name] for name in rows], rates["embeddings"], 0.1),
            group(list(rows.values()), rates["new_tokens"], 0.1),
        ],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    for step in range(steps):
        optimizer.zero_grad()
        whole = {
            name: p.index_copy(0, torch.tensor(NEW), rows[name]) if name in rows else p
            for name, p in parameters.items()
        }
        if tied:
            whole[HEAD] = whole[EMBEDDING]
        total, count = torch.zeros(()), 0
        for row in Documents().batch(step):
            for document in torch.tensor(row.tokens.astype("int64")).split(row.piece_lengths.tolist()):
                logits = functional_call(model, whole, kwargs={"input_ids": document[None]}).logits[0]
                total = total + cross_entropy(logits[:-1], document[1:], reduction="sum")
                count += len(document) - 1
        (total / count).backward()
        moving = list(rows.values()) if step < alone else [*parameters.values(), *rows.values()]
        for parameter in parameters.values():
            if step < alone:
                parameter.grad = None
        nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
    return {
        name: p.detach().index_copy(0, torch.tensor(NEW), rows[name].detach()) if name in rows else p.detach()
        for name, p in parameters.items()
    }


@TIED
@pytest.mark.parametrize(("first", "alone"), [(0.0, 0), (0.5, 3)])
def test_rates_and_phases_are_those_of_groups_apart(
    tmp_path: Path, tied: bool, first: float, alone: int
) -> None:
    rates = {"matrices": 0.5, "norms": 2.0, "embeddings": 0.1, "new_tokens": 3.0}
    ours = weights(run(tmp_path, trainable(embeddings_first=first, rates=rates), tiny(tied)))
    expected = by_hand(tied, 6, alone, rates)
    for name, weight in expected.items():
        torch.testing.assert_close(ours[name], weight, atol=2e-5, rtol=1e-3)


def test_without_a_rate_of_their_own_new_rows_follow_the_embeddings(tmp_path: Path) -> None:
    rates = {"embeddings": 0.25, "new_tokens": 0.25}
    apart = weights(run(tmp_path / "a", trainable(rates=rates)))
    together = weights(run(tmp_path / "b", trainable(rates={"embeddings": 0.25})))
    for name in apart:
        torch.testing.assert_close(apart[name], together[name])


@pytest.mark.parametrize("part", ["matrices", "norms", "embeddings", "new_tokens"])
def test_every_rate_moves_its_part(tmp_path: Path, part: str) -> None:
    plain = trainable(rates={"new_tokens": 1.0})
    other = trainable(rates={"new_tokens": 1.0, part: 0.5})
    first = weights(run(tmp_path / "a", plain, steps=1))
    second = weights(run(tmp_path / "b", other, steps=1))
    differing = changed(first, second)
    if part == "new_tokens":
        assert differing == {EMBEDDING}
        assert torch.equal(first[EMBEDDING][OLD], second[EMBEDDING][OLD])
    else:
        kind = {"matrices": "_proj", "norms": "norm", "embeddings": "embed"}[part]
        assert differing == {name for name in first if kind in name}
        if part == "embeddings":
            assert torch.equal(first[EMBEDDING][list(NEW)], second[EMBEDDING][list(NEW)])


@TIED
@pytest.mark.parametrize("kills", [[1, 3], [5, 5]])
def test_killed_in_either_phase_it_goes_on_as_if_nothing_had_been(
    tmp_path: Path, tied: bool, kills: list[int]
) -> None:
    chosen = trainable(embeddings_first=0.5, rates={"new_tokens": 2.0})
    whole = weights(run(tmp_path / "whole", chosen, tiny(tied)))
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", chosen, tiny(tied), Said(die_at=step))
    assert not changed(whole, weights(run(tmp_path / "killed", chosen, tiny(tied))))


def test_padding_rows_are_old_rows(tmp_path: Path) -> None:
    before, chosen = weights(tiny()), trainable(kind="layers", layers="0", embeddings="new-tokens")
    after = weights(run(tmp_path, chosen, new_tokens=[TOKENS - 1]))
    assert torch.equal(before[EMBEDDING][:-1], after[EMBEDDING][:-1])
    assert not torch.equal(before[EMBEDDING][-1], after[EMBEDDING][-1])


def test_what_joins_in_late_warms_up() -> None:
    chosen = trainable(embeddings_first=0.5, rates={"new_tokens": 3, "norms": 2})
    trained = prepared(tiny(), chosen, steps=60)
    factors = {}
    for name, multiple in {"new tokens": 3.0, "norms and biases": 2.0}.items():
        group = {"name": name, "multiple": multiple}
        factors[name] = []
        for step in (0, 29, 30, 31, 32, 33, 59):
            trained.begin_step(step)
            factors[name].append(trained.rate(group) / multiple)
    assert factors["new tokens"] == [1] * 7
    assert factors["norms and biases"] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_no_gradient_is_computed_of_what_does_not_move_yet(dtype: torch.dtype) -> None:
    model = tiny()
    trained = prepared(model, trainable(embeddings_first=0.5), dtype=dtype)
    for step, wanted in (
        (0, {EMBEDDING}),
        (2, {EMBEDDING}),
        (3, {name for name, _ in model.named_parameters()}),
    ):
        trained.begin_step(step)
        assert {name for name, p in model.named_parameters() if p.requires_grad} == wanted
