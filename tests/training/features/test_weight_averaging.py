"""Averages against the means of the weights that checkpoints hold; they do not touch the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import several
import torch
from safetensors.torch import load_file
from tiny_runs import SETTINGS, PlainRun, equal, records, run, tiny_probes

from cpt.errors import StageFailed
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.monitor.probes.base import ModelView
from cpt.training.features.anomalies import Anomalies
from cpt.training.features.checkpoints import Checkpoints
from cpt.training.features.l2_sp import L2SPConfig
from cpt.training.features.weight_averaging import EmaConfig, LawaConfig
from cpt.training.objectives import SelfConstraint
from cpt.training.settings import Settings
from cpt.training.trainable import All, Layers

EMA, LAWA = EmaConfig(kind="ema", decay=0.7), LawaConfig(kind="lawa", every=2, last=2)
EVERY_STEP = Checkpoints(every=1, keep=100, mode="blocking")


def averaged(average: Any, **more: Any) -> Settings:
    return SETTINGS.with_changes(average=average, **more)


def passed(work: Path, last: dict[str, torch.Tensor], steps: int = 6) -> list[dict[str, torch.Tensor]]:
    """The weights after every step: of checkpoints, and of an unaveraged run in the end."""
    folders = [work / f"step-{step:09d}" for step in range(1, steps)]
    return [*(load_file(folder / "weights.safetensors") for folder in folders), last]


@pytest.mark.parametrize(
    ("average", "counts"),
    [
        (EMA, [0.7 ** (5 - step) for step in range(6)]),
        (LAWA, [0, 0, 0, 1, 0, 1]),
        (LawaConfig(kind="lawa", every=2, last=3), [0, 1, 0, 1, 0, 1]),
        (LawaConfig(kind="lawa", every=2, last=9), [0, 1, 0, 1, 0, 1]),
        (LawaConfig(kind="lawa", every=4, last=2), [0, 0, 0, 1, 0, 0]),
    ],
    ids=["ema", "lawa", "lawa-3", "lawa-fewer", "lawa-one"],
)
def test_the_result_is_the_mean_of_the_weights_passed_through(
    tiny_model: Path, tmp_path: Path, average: Any, counts: list[float], plain_run: PlainRun
) -> None:
    last = plain_run.weights
    settings = averaged(average, checkpoint=EVERY_STEP)
    result, _, _ = run(tiny_model, tmp_path / "averaged", settings)
    weights = passed(tmp_path / "averaged", last)
    for name, found in result.items():
        mean = sum(count * each[name] for count, each in zip(counts, weights, strict=True)) / sum(counts)
        torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_does_not_see_the_average(
    tiny_model: Path, tmp_path: Path, average: Any, dtype: torch.dtype
) -> None:
    """Though probes read it on the way."""
    plain, _, _ = run(tiny_model, tmp_path / "plain", SETTINGS.with_changes(dtype=dtype))
    result, _, _ = run(tiny_model, tmp_path / "averaged", averaged(average, dtype=dtype))
    logs = [[r["loss_nats"] for r in records(tmp_path / name)] for name in ("plain", "averaged")]
    assert logs[0] == logs[1]
    assert not equal(plain, result)


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
def test_probes_read_what_the_result_would_be(tiny_model: Path, tmp_path: Path, average: Any) -> None:
    result, told, _ = run(tiny_model, tmp_path, averaged(average))
    model = load_model(tiny_model)
    model.load_state_dict(result, strict=False)
    model.tie_weights()
    (probe,) = tiny_probes(tiny_model)
    items = probe.read(ModelView(PackedLanguageModel(model), dict(model.named_parameters())), 1.0)
    assert told.readings[-1].value == pytest.approx(items.value, rel=1e-6)
    assert told.readings[0].step == 0


@pytest.mark.parametrize(("average", "mode"), [(EMA, "blocking"), (LAWA, "async")], ids=["ema", "lawa"])
def test_killed_and_continued_equals_uninterrupted(
    tiny_model: Path, tmp_path: Path, average: Any, mode: Any
) -> None:
    settings = averaged(average, checkpoint=Checkpoints(every=3, mode=mode), dtype=torch.bfloat16)
    whole, expected, _ = run(tiny_model, tmp_path / "whole", settings)
    for step in (4, 5):
        with pytest.raises(KeyboardInterrupt):
            run(tiny_model, tmp_path / "killed", settings, die_at=step)
    again, result, _ = run(tiny_model, tmp_path / "killed", settings)
    assert equal(whole, again)
    assert [r.value for r in result.readings] == [r.value for r in expected.readings]


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
def test_steps_that_are_rolled_back_are_in_no_average(tiny_model: Path, tmp_path: Path, average: Any) -> None:
    """Rolled back to step 4, the average is of the steps until there, and of step 6."""
    anomalies = Anomalies(not_finite="roll-back", snapshot_every=2)
    settings = averaged(average, anomalies=anomalies, checkpoint=EVERY_STEP)
    with several.spoilt(5):
        result, _, _ = run(tiny_model, tmp_path / "spoilt", settings)
    plain = settings.with_changes(average=None)
    with several.spoilt(5):
        last, _, _ = run(tiny_model, tmp_path / "plain", plain)
    first, second, third, fourth = passed(tmp_path / "spoilt", last)[:4]
    steps = [first, second, third, fourth, last] if average is EMA else [fourth, last]
    decay = 0.7 if average is EMA else 1.0
    counts = [decay ** (len(steps) - 1 - place) for place in range(len(steps))]
    for name, found in result.items():
        mean = sum(count * each[name] for count, each in zip(counts, steps, strict=True)) / sum(counts)
        torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "trainable",
    [All(embeddings_first=0.4), Layers(kind="layers", layers="0", embeddings="new-tokens")],
    ids=["embeddings-first", "layers"],
)
def test_rows_of_new_tokens_are_averaged_with_their_matrix(
    tiny_model: Path, tmp_path: Path, trainable: Any
) -> None:
    settings = averaged(EMA, trainable=trainable, new_tokens=[5, 290], checkpoint=EVERY_STEP)
    last, _, _ = run(tiny_model, tmp_path / "plain", settings.with_changes(average=None))
    result, _, _ = run(tiny_model, tmp_path / "averaged", settings)
    name = "model.embed_tokens.weight"
    rows = [each[f"{name}.new_rows"] for each in passed(tmp_path / "averaged", last, 6)[:-1]]
    rows.append(last[name][[5, 290]])
    counts = [0.7 ** (5 - step) for step in range(6)]
    mean = sum(count * each for count, each in zip(counts, rows, strict=True)) / sum(counts)
    torch.testing.assert_close(result[name][[5, 290]], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("average", "other"),
    [
        (EMA, EmaConfig(kind="ema", decay=0.9)),
        (LAWA, LawaConfig(kind="lawa", every=3, last=2)),
        (LAWA, LawaConfig(kind="lawa", every=2, last=3)),
        (EMA, LAWA),
    ],
    ids=["decay", "every", "last", "kind"],
)
def test_every_setting_changes_the_result(tiny_model: Path, tmp_path: Path, average: Any, other: Any) -> None:
    first, _, _ = run(tiny_model, tmp_path / "first", averaged(average))
    second, _, _ = run(tiny_model, tmp_path / "second", averaged(other))
    assert not equal(first, second)


def test_a_long_memory_is_the_plain_mean_and_not_the_start(
    tiny_model: Path, tmp_path: Path, plain_run: PlainRun
) -> None:
    """With a decay of almost 1 every step counts alike, and the starting weights not at all."""
    settings = averaged(EmaConfig(kind="ema", decay=1 - 1e-9), checkpoint=EVERY_STEP)
    last = plain_run.weights
    result, _, _ = run(tiny_model, tmp_path / "averaged", settings)
    weights = passed(tmp_path / "averaged", last)
    for name, found in result.items():
        mean = sum(each[name] for each in weights) / 6
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("begun", "other", "says"),
    [
        ({"average": EMA}, {"average": EmaConfig(kind="ema", decay=0.5)}, "average.decay was 0.7 and is 0.5"),
        (
            {"l2_sp": L2SPConfig(strength=2)},
            {"l2_sp": L2SPConfig(strength=3)},
            "l2_sp.strength was 2.0 and is 3.0",
        ),
        (
            {"objective": SelfConstraint(kind="self-constraint")},
            {"objective": SelfConstraint(kind="self-constraint", weight=2)},
            "objective.weight was 1.0 and is 2.0",
        ),
    ],
    ids=["average", "l2_sp", "objective"],
)
def test_a_run_goes_on_with_the_settings_that_it_began_with(
    tiny_model: Path, tmp_path: Path, begun: dict[str, Any], other: dict[str, Any], says: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, SETTINGS.with_changes(**begun), die_at=3)
    with pytest.raises(StageFailed, match=says):
        run(tiny_model, tmp_path, SETTINGS.with_changes(**other))
