"""AdaLoRA's allocation of ranks against peft's own, and against the number of ranks that is to be left."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trains import (
    NEW,
    Documents,
    Weights,
    backward,
    changed,
    llama,
    prepared,
    run,
    tiny,
    trainable,
    weights,
)

from cpt.errors import RecipeError
from cpt.training.master_weights import MasterWeights
from cpt.training.optimizers import AdamW
from cpt.training.trainable import Lora, Setup
from cpt.training.trainable.parameters import TrainableParameters

STEPS = 12


def adalora(**allocation: Any) -> Any:
    plain = {"initial_rank": 4, "initial": 0.2, "final": 0.25, "every": 2}
    return trainable(
        kind="lora", variant="adalora", rank=2, embeddings="frozen", allocation=plain | allocation
    )


def steps(model: Any, trained: Any, after: Any) -> None:
    optimizer = AdamW().build(trained.groups(model))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        backward(model, trained, step)
        optimizer.step()
        after(step + 1)
        optimizer.zero_grad()


def test_ranks_go_where_peft_sends_them() -> None:
    ours, theirs = tiny(), tiny()
    trained = prepared(ours, adalora(), STEPS)
    spec = adalora().apply(theirs, Setup(STEPS, NEW, seed=5))
    other = TrainableParameters(spec, MasterWeights(theirs, torch.float32))
    tuner = spec.adapter._wrapped.base_model
    tuner.rankallocator.reset_ipt()
    steps(ours, trained, lambda step: trained.after_step())
    steps(theirs, other, tuner.update_and_allocate)
    assert not changed(weights(ours), weights(theirs))
    assert trained._ranks is not None
    assert trained._ranks.pattern() == tuner.peft_config["default"].rank_pattern


def test_at_the_end_the_number_of_ranks_is_met() -> None:
    model = tiny()
    trained = prepared(model, adalora(), STEPS)
    steps(model, trained, lambda step: trained.after_step())
    values = {name: weight for name, weight in trained.weights.items() if ".lora_E." in name}
    assert sum(int((value != 0).sum()) for value in values.values()) == 2 * len(values)
    assert trained._ranks is not None
    for name, kept in trained._ranks.pattern().items():
        assert ((values[name].flatten() != 0) == torch.tensor(kept)).all()


def test_the_penalty_is_that_of_peft() -> None:
    def ours(weight: float) -> dict[str, torch.Tensor]:
        model = tiny()
        trained = prepared(model, adalora(orthogonality=weight), STEPS)
        backward(model, trained, 0)
        return {name: p.grad for name, p in trained.weights.items() if p.grad is not None}

    def theirs(weight: float) -> dict[str, torch.Tensor]:
        model = llama()
        spec = adalora(orthogonality=weight).apply(model, Setup(STEPS, NEW, seed=5))
        ids = torch.from_numpy(Documents().batch(0)[0].tokens.astype("int64"))[None]
        spec.adapter._wrapped(input_ids=ids, labels=ids).loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    for given in (ours, theirs):
        assert given(0.5).keys() == given(0.0).keys()
    differences = [
        {name: with_penalty[name] - without[name] for name in without}
        for with_penalty, without in ((ours(0.5), ours(0.0)), (theirs(0.5), theirs(0.0)))
    ]
    for name, difference in differences[0].items():
        torch.testing.assert_close(difference, differences[1][name], atol=1e-5, rtol=1e-3)
        assert difference.any() == (".lora_E." not in name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return weights(run(tmp_path_factory.mktemp("plain"), adalora(), steps=STEPS))


@pytest.mark.parametrize(
    "allocation",
    [{"initial_rank": 3}, {"initial": 0.5}, {"final": 0.5}, {"every": 1}, {"orthogonality": 0.0}],
)
def test_every_setting_of_the_allocation_changes_the_training(
    tmp_path: Path, plain: Weights, allocation: Any
) -> None:
    assert changed(plain, weights(run(tmp_path / "other", adalora(**allocation), steps=STEPS)))


def test_a_run_too_short_to_allocate_anything() -> None:
    for chosen, steps_of_run in ((adalora(), 2), (adalora(initial=0.6, final=0.5), 100)):
        with pytest.raises(RecipeError, match="the allocation of ranks leave none of") as raised:
            chosen.apply(tiny(), Setup(steps_of_run))
        assert raised.value.problems[0].key == "allocation"


def test_first_ranks_are_numbers_of_bfloat16() -> None:
    for rank in (*range(1, 20), 171, 255, 256, 257, 400, 1001):
        first = Lora(kind="lora", variant="adalora", rank=rank).initial_rank
        assert float(torch.tensor(float(first)).bfloat16()) == first
        assert 0 <= first - 1.5 * rank < 1.02 * max(1, rank / 80)
