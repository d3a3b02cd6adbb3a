"""Every method against mergekit's own result, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import input_model, merge, weights, write_model
from mergekit.common import ModelPath, ModelReference
from mergekit.config import InputModelDefinition, MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions

from merging.kernels import seed_of
from merging.methods import methods

EACH: dict[str, list[dict[str, Any]]] = {
    "weights": [{"weight": 0.7}, {"weight": -0.2}, {"weight": 0.4}],
    "density": [{"weight": 0.7, "density": 0.5}, {"weight": -0.2, "density": 0.3}, {"weight": 1.0}],
    "low": [{"weight": 0.7, "density": 0.5}, {"weight": 0.6, "density": 0.3}],
}
CASES: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
    ("linear", EACH["weights"], {}),
    ("linear", EACH["weights"], {"normalize": False}),
    ("slerp", [{}], {"t": 0.3}),
    ("task-arithmetic", EACH["weights"], {}),
    ("task-arithmetic", EACH["weights"], {"normalize": True, "lambda": 0.5}),
    ("ties", EACH["density"], {}),
    ("ties", EACH["density"], {"normalize": False, "lambda": 0.5}),
    ("ties", EACH["density"], {"rescale": True}),
    ("ties", [{"weight": 1.0, "density": 0.0}, {"weight": 0.5, "density": 0.001}], {}),
    ("dare-linear", EACH["low"], {}),
    ("dare-ties", EACH["low"], {"rescale": False}),
    ("breadcrumbs", EACH["density"], {}),
    ("breadcrumbs", EACH["low"], {"gamma": 0.4}),
    ("breadcrumbs-ties", EACH["density"], {"gamma": 0.05}),
    ("della", EACH["low"], {}),
    ("della-linear", EACH["low"], {"epsilon": 0.1}),
    ("model-stock", [{}, {}], {}),
    ("model-stock", [{}, {}, {}], {"filter_wise": True}),
    ("karcher", [{}, {}, {}], {"max_iter": 5}),
    ("multislerp", EACH["weights"], {}),
    ("nuslerp", EACH["weights"][:2], {"nuslerp_row_wise": True, "nuslerp_flatten": False}),
    ("nearswap", [{}], {"t": 0.01}),
    ("sce", [{}, {}], {"select_topk": 0.4}),
    ("arcee-fusion", [{}], {}),
    ("ram", [{}, {}], {"epsilon": 0.05}),
    ("ramplus-tl", [{}, {}], {"epsilon": 0.05, "r": 0.3}),
    ("passthrough", [{"scale": 1.5}], {}),
]
F32, BF16 = (torch.float32, "float32", None), (torch.bfloat16, "stored", "bfloat16")
MIXED = (torch.bfloat16, "float32", "bfloat16")
RUNS = [(*case, BF16) for case in CASES] + [(*case, F32) for case in CASES[:20:2]] + [(*CASES[5], MIXED)]
"""bfloat16 has many equal magnitudes, among which mergekit's sort chooses as it likes."""


def models(folder: Path, count: int, dtype: torch.dtype) -> list[Path]:
    folder = folder / str(dtype)
    paths = [folder / f"m{seed}" for seed in range(count)]
    return [
        path if path.exists() else write_model(path, seed, dtype=dtype) for seed, path in enumerate(paths)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


def by_mergekit(
    method: str, base: Path | None, parents: list, output: Path, parameters: dict, dtypes: tuple, seed: int
) -> dict[str, torch.Tensor]:
    """mergekit's result, its random numbers drawn per tensor as ours are."""
    compute, result = dtypes
    references = {path: ModelReference(model=ModelPath(path=str(path))) for path in parents_of(base, parents)}
    configuration = MergeConfiguration(
        merge_method=method.replace("-", "_"),
        base_model=None if base is None else references[base],
        models=[
            InputModelDefinition(model=references[each.folder], parameters=dict(each.parameters))
            for each in parents
        ],
        parameters=parameters or None,
        dtype=None if compute == "stored" else compute,
        out_dtype=result,
    )
    original = ExecuteMergeMethodTask.execute

    def reseeded(self: Any, *args: Any, **named: Any) -> Any:
        torch.manual_seed(seed_of(seed, self.output_weight.name, 0))
        return original(self, *args, **named)

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(ExecuteMergeMethodTask, "execute", reseeded)
        run_merge(configuration, str(output), MergeOptions(device="cpu", quiet=True, write_model_card=False))
    LoaderCache().loaders.clear()
    return weights(output)


def parents_of(base: Path | None, parents: list) -> list[Path]:
    return [*([] if base is None else [base]), *(each.folder for each in parents)]


def test_every_method_that_mergekit_has_is_compared() -> None:
    assert {method for method, _, _ in CASES} == set(methods())


@pytest.mark.parametrize(
    ("method", "each", "shared", "dtypes"),
    RUNS,
    ids=[f"{place}-{run[0]}-{run[3][1]}" for place, run in enumerate(RUNS)],
)
def test_the_result_is_mergekits_to_the_bit(
    method: str, each: list, shared: dict, dtypes: tuple, folder: Path, tmp_path: Path
) -> None:
    stored, compute, result = dtypes
    first, *others = models(folder, len(each) + 1, stored)
    base = None if methods()[method].base == "none" else first
    parents = [input_model(path, **parameters) for path, parameters in zip(others, each, strict=True)]
    merge(
        method,
        base,
        parents,
        tmp_path / "ours",
        parameters=shared,
        compute_dtype=compute,
        dtype=result,
        seed=5,
    )
    expected = by_mergekit(method, base, parents, tmp_path / "theirs", shared, (compute, result), seed=5)
    ours = weights(tmp_path / "ours")
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name].view(torch.uint8), tensor.view(torch.uint8)), name


def test_methods_with_an_optional_base_do_without(folder: Path, tmp_path: Path) -> None:
    parents = [
        input_model(path, weight)
        for path, weight in zip(models(folder, 2, torch.float32), (0.6, 0.3), strict=True)
    ]
    for method in ("multislerp", "nuslerp"):
        merge(method, None, parents, tmp_path / method)
        expected = by_mergekit(method, None, parents, tmp_path / f"their-{method}", {}, ("float32", None), 0)
        ours = weights(tmp_path / method)
        assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_parameters_by_layer_are_mergekits(folder: Path, tmp_path: Path) -> None:
    base, one, two = models(folder, 3, torch.float32)
    parents = [
        input_model(one, weight=[0.2, 0.8], density=0.5),
        input_model(two, weight=[{"filter": "mlp", "value": [1.0, 0.0]}, {"value": 0.3}], density=0.7),
    ]
    merge("ties", base, parents, tmp_path / "ours")
    expected = by_mergekit("ties", base, parents, tmp_path / "theirs", {}, ("float32", None), 0)
    ours = weights(tmp_path / "ours")
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())
