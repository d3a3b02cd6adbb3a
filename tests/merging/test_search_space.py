"""What a search may change, and how a point becomes a merge."""

import pytest
import torch
from landscape import open_weights
from merge_models import input_model, weights, write_model

from cpt.errors import CannotMerge
from merging.plan import plan, read_inputs
from merging.request import MergeRequest
from merging.run import merged_tensors
from merging.search import search_space


def test_weights_that_are_given_are_not_searched(base, other, tmp_path) -> None:
    third = write_model(tmp_path / "third", seed=3)
    request = MergeRequest(
        "task-arithmetic", (input_model(other, 0.3), input_model(third)), input_model(base)
    )
    space = search_space(request, read_inputs(request), bounds=(-1.0, 2.0))
    assert [(dim.name, dim.low, dim.high) for dim in space.dimensions] == [("weight of third", -1.0, 2.0)]
    assert [model.parameters for model in space.request_at((0.5,)).models] == [
        {"weight": 0.3},
        {"weight": 0.5},
    ]


def test_groups_of_layers_have_weights_of_their_own(base, other) -> None:
    space, candidates = open_weights(base, [other], groups=2)
    assert [dim.name for dim in space.dimensions] == [
        "weight of other, layers 0-0",
        "weight of other, layers 1-1",
    ]
    merged = dict(merged_tensors(plan(space.request_at((0.0, 1.0)), candidates)))
    before, after = weights(base), weights(other)
    for name, tensor in merged.items():
        expected = after if ".layers.1." in name else before
        assert torch.equal(tensor, expected[name]), name


def test_the_density_is_shared_by_all_models(base, other) -> None:
    space, candidates = open_weights(base, [other], method="ties", density=(0.1, 0.9))
    request = space.request_at((0.5, 0.25))
    assert request.parameters == {"density": 0.25}
    assert request.models[0].parameters == {"weight": 0.5}
    assert plan(request, candidates)


def test_slerp_has_its_t_searched(base, other) -> None:
    space, candidates = open_weights(base, [other], method="slerp")
    assert [dim.name for dim in space.dimensions] == ["t"]
    half = dict(merged_tensors(plan(space.request_at((1.0,)), candidates)))
    assert torch.allclose(half["model.norm.weight"], weights(other)["model.norm.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": (1.0, 1.0)}, "hold nothing to search"),
        ({"method": "model-stock"}, "nothing is left to search of model-stock: it has no weights"),
        ({"density": (0.1, 0.9)}, "task-arithmetic has no density"),
        ({"method": "ties", "density": (0.5, 0.5)}, "of the density hold nothing"),
        ({"method": "ties", "density": (0.5, 1.5)}, "outside of its range, 0 to 1"),
        ({"method": "slerp", "bounds": (0.0, 2.0)}, "t of slerp is searched outside of its range"),
        ({"groups": 3}, "2 layers cannot be put into 3 groups"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(settings, message, base, other) -> None:
    with pytest.raises(CannotMerge, match=message):
        open_weights(base, [other], **settings)


def test_a_given_weight_or_density_leaves_nothing_to_search(base, other) -> None:
    request = MergeRequest("ties", (input_model(other, 0.5, density=0.5),), input_model(base))
    with pytest.raises(CannotMerge, match="every model has a weight") as raised:
        search_space(request, read_inputs(request), density=(0.1, 0.9))
    assert "density of other is given" in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        ({}, (0.0, 0.4), ["weight of other is at its lower bound 0: other is left out of the merge"]),
        (
            {},
            (0.005, 0.4),
            ["weight of other is at its lower bound 0: other is all but left out of the merge"],
        ),
        ({}, (0.02, 0.98), []),
        (
            {"bounds": (0.2, 1.5)},
            (0.2, 1.5),
            [
                "weight of other is at its lower bound 0.2: lower that bound to look further",
                "weight of third is at its upper bound 1.5: raise that bound to look further",
            ],
        ),
        (
            {"groups": 2},
            (0.0, 0.5, 1.0, 0.5),
            [
                "weight of other, layers 0-0 is at its lower bound 0: other is left out of these layers of "
                "the merge",
                "weight of third, layers 0-0 is at its upper bound 1: raise that bound to look further",
            ],
        ),
        (
            {"method": "ties", "density": (0.1, 1.0)},
            (0.5, 0.5, 0.1),
            ["density is at its lower bound 0.1: lower that bound to look further"],
        ),
        (
            {"method": "ties", "density": (0.1, 1.0)},
            (0.5, 0.5, 1.0),
            ["density is at its upper bound 1, the most that ties takes"],
        ),
    ],
)
def test_a_point_at_a_bound_is_told_in_words(settings, values, expected, base, other, tmp_path) -> None:
    third = write_model(tmp_path / "third", seed=3)
    space, _ = open_weights(base, [other, third], **settings)
    assert [each.says for each in space.at_bounds(values)] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, ["t is at its lower bound 0: other is left out of the merge"]),
        (0.995, ["t is at its upper bound 1: base is all but left out of the merge"]),
        (0.5, []),
    ],
)
def test_a_parent_that_slerp_drops_is_named(value: float, expected: list[str], base, other) -> None:
    space, _ = open_weights(base, [other], method="slerp")
    assert [each.says for each in space.at_bounds((value,))] == expected
