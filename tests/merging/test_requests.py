"""Methods, parameters and their problems."""

from pathlib import Path

import pytest
import torch
from merge_models import INPUT, input_model, merge, refused, weights
from transformers import AutoModelForCausalLM

from merging.methods import find_method, methods
from merging.plan import plan
from merging.request import MergeRequest
from merging.run import merged_tensors

WEIGHTS = "model.safetensors"


def test_everything_that_is_wrong_with_a_request_is_said_at_once(base: Path, other: Path) -> None:
    request = MergeRequest(
        "slerp",
        (input_model(other, 0.5), input_model(other)),
        parameters={"t": 1.5, "tt": 1},
        tokenizer="nobody",
        settings="no one",
        dtype="int8",
        compute_dtype="float8",
    )
    message = refused(request, "two models of the merge are called other")
    for part in (
        "slerp needs a base",
        "slerp takes exactly 1 models apart from the base; there are 2",
        "tokenizer: there is no model called 'nobody'",
        "settings: there is no model called 'no one'",
        "dtype is 'int8'",
        "compute_dtype is 'float8'",
        "t is 1.5; it must be a finite number between 0 and 1",
        "tt is no parameter of slerp",
        "other: weight is no parameter of slerp",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("method", "each", "shared", "message"),
    [
        ("ties", {}, {}, "weight of other is not given"),
        ("ties", {"weight": "much"}, {}, "'much', not a value of type float"),
        ("ties", {"weight": 1.0, "normalize": True}, {}, "normalize of ties is one value for all models"),
        ("ties", {"weight": 1.0, "density": 1.5}, {}, "density of other is 1.5"),
        ("ties", {"weight": [{"value": 1, "part": "x"}]}, {}, "is not {value, filter, layers}"),
        ("ties", {"weight": [{"value": 1, "layers": 3}]}, {}, "not a pair"),
        ("ties", {"weight": [{"value": 1, "filter": "mlp"}]}, {}, "weight of other is not given for model"),
        ("ties", {"weight": []}, {}, "not a list of numbers"),
        ("ties", {"weight": True}, {}, "not a value of type float"),
        ("della", {"weight": 1.0, "density": 0.9}, {}, "density 0.9 ± epsilon 0.15"),
        ("nearswap", {}, {}, "t is not given"),
        ("soup", {}, {}, "there is no merge method 'soup'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    method: str, each: dict, shared: dict, message: str, base: Path, other: Path
) -> None:
    refused(MergeRequest(method, (input_model(other, **each),), input_model(base), shared), message)


def test_parameters_may_differ_by_layer_and_by_kind_of_weight(
    base: Path, other: Path, tmp_path: Path
) -> None:
    setting = [
        {"layers": [1, 2], "filter": "mlp", "value": 1.0},
        {"layers": [0, 1], "value": 1.0},
        {"value": 0.0},
    ]
    merge("task-arithmetic", base, [input_model(other, weight=setting)], tmp_path / "merged")
    b, o, result = weights(base), weights(other), weights(tmp_path / "merged")
    for name, tensor in result.items():
        moved = "layers.0." in name or ("layers.1." in name and "mlp" in name)
        assert torch.equal(tensor, o[name] if moved else b[name]), name


def test_the_data_type_is_as_asked(base: Path, other: Path, tmp_path: Path) -> None:
    report = merge("task-arithmetic", base, [input_model(other, 1.0)], tmp_path / "merged", dtype="bfloat16")
    assert report.dtype == "bfloat16"
    expected, found = weights(other), weights(tmp_path / "merged")
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in expected.items())
    assert (
        str(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").dtype) == "torch.bfloat16"
    )


def test_the_seed_decides_random_methods(base: Path, other: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    request = MergeRequest("dare-linear", (input_model(other, 1.0, density=0.5),), input_model(base), seed=1)
    one, again = (dict(merged_tensors(plan(request))) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    second = dict(merged_tensors(plan(MergeRequest(request.method, request.models, request.base, seed=2))))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[INPUT], second[INPUT])
    name = INPUT  # a tensor alone draws as it does among the others
    assert torch.equal(next(t for t in plan(request).tensors if t.name == name).merged(), one[name])


def test_methods_are_described() -> None:
    assert len(methods()) >= 20
    for method in methods().values():
        assert method.line
        assert method.when
        assert method.reference
        assert method.line != method.title
    assert find_method("task_arithmetic") is find_method("task-arithmetic")
    density = find_method("ties").parameter("density")
    assert density is not None
    assert (density.per_model, density.low, density.high, density.default) == (True, 0.0, 1.0, 1.0)
