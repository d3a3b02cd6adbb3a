"""Averages along a run: their weights, and the models that they make."""

from pathlib import Path

import pytest
import torch
from adapter_folders import write_adapter
from merge_models import weights, write_model

from cpt.training.schedules import curves
from merging.averaging import FALLS, average, exponential, instead_of_annealing, uniform
from merging.plan import plan
from merging.request import InputModel
from merging.run import run


def averaged(
    folders: list[Path], factors: list[float], output: Path, **settings: str
) -> dict[str, torch.Tensor]:
    parents = [
        InputModel(f"step {number}", folder, f"print {number}") for number, folder in enumerate(folders)
    ]
    run(plan(average(parents, factors, "Of a run", **settings)), output)
    return weights(output)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_model(tmp_path / f"m{seed}", seed) for seed in range(4)]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_all_weights_sum_to_one(count: int) -> None:
    for found in (
        uniform(count),
        exponential(count, 0.9),
        *(instead_of_annealing(count, name) for name in FALLS),
    ):
        assert len(found) == count
        assert sum(found) == pytest.approx(1, abs=1e-12)
        assert min(found) > 0


def test_exponential_weights_are_the_recursion_without_its_bias() -> None:
    mean, decay = 0.0, 0.7
    values = [3.0, -1.0, 4.0, 1.5, 9.0]
    for value in values:
        mean = decay * mean + (1 - decay) * value
    expected = mean / (1 - decay ** len(values))
    found = sum(weight * value for weight, value in zip(exponential(5, decay), values, strict=True))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("decay", FALLS)
def test_updates_count_as_under_the_rate_of_the_decay(decay: str) -> None:
    """θ_j = θ_0 + Σ_{i<=j} g_i, so in the average g_i counts r(i/n) times."""
    count = 8
    found = instead_of_annealing(count, decay)
    for update in range(1, count):
        counted = sum(found[update:])
        assert counted == pytest.approx(curves.FALLS[decay](update / count, 1.0, 0.0))


def test_in_place_of_a_linear_decay_all_count_alike() -> None:
    assert instead_of_annealing(5, "linear") == pytest.approx(uniform(5))
    assert instead_of_annealing(2, "1-sqrt") == pytest.approx([0.5**0.5, 1 - 0.5**0.5])


def test_the_average_is_the_weighted_sum(folders: list[Path], tmp_path: Path) -> None:
    factors = exponential(4, 0.6)
    read = [weights(folder) for folder in folders]
    for name, ours in averaged(folders, factors, tmp_path / "out").items():
        expected = sum(factor * each[name].double() for factor, each in zip(factors, read, strict=True))
        torch.testing.assert_close(
            ours, expected.float(), rtol=1.2e-7, atol=1e-12
        )  # one bit, where it is a tie


def test_models_that_are_the_same_average_to_themselves(folders: list[Path], tmp_path: Path) -> None:
    before = weights(folders[0])
    for name, ours in averaged([folders[0]] * 3, uniform(3), tmp_path / "out").items():
        assert torch.equal(ours, before[name])


def test_bfloat16_is_rounded_once(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / f"m{seed}", seed, dtype=torch.bfloat16) for seed in range(3)]
    read = [weights(folder) for folder in folders]
    for name, ours in averaged(folders, uniform(3), tmp_path / "out").items():
        expected = sum(each[name].double() for each in read) / 3
        assert ours.dtype == torch.bfloat16
        assert float((ours.double() - expected).abs().max()) <= 2**-8 * float(expected.abs().max())
    wide = averaged(folders, uniform(3), tmp_path / "wide", dtype="float32")
    assert {tensor.dtype for tensor in wide.values()} == {torch.float32}


def test_the_card_states_the_weights(folders: list[Path], tmp_path: Path) -> None:
    averaged(folders[:2], [0.25, 0.75], tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "Of a run." in card
    assert "| step 0 | 0.25 | `print 0` |" in card
    assert "| step 1 | 0.75 | `print 1` |" in card


def test_adapters_are_averaged_with_models(folders: list[Path], tmp_path: Path) -> None:
    adapter = write_adapter(folders[0], tmp_path / "adapter", r=2, target_modules=["q_proj"])
    alone = averaged([adapter], [1.0], tmp_path / "alone")
    both = averaged([adapter, folders[1]], uniform(2), tmp_path / "both")
    other = weights(folders[1])
    for name, ours in both.items():
        torch.testing.assert_close(ours, (alone[name] + other[name]) / 2)
