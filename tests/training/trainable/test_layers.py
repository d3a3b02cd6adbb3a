"""Chosen layers train, and what else is said; what does not go together is refused in words."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_trains import NEW, TOKENS, Said, changed, run, tiny, trainable, weights

from cpt.errors import RecipeError
from cpt.training.trainable import All, Setup
from cpt.training.trainable.layers import parse_layers

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,28-29", [0, 1, 2, 3, 28, 29]),
        ("-2--1", [28, 29]),
        ("-1", [29]),
        ("28--1", [28, 29]),
        ("5,3-4,4", [3, 4, 5]),
        ("-30", [0]),
        ("none", []),
    ],
)
def test_ranges(text: str, expected: list[int]) -> None:
    assert parse_layers(text, 30) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30", "30 is not within the model's 30 layers, 0 to 29"),
        ("-31-2", "-31-2 is not within"),
        ("4-2", "4-2 ends before it begins: layer 4 to layer 2"),
    ],
)
def test_ranges_that_are_not_there(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as raised:
        parse_layers(text, 30)
    assert raised.value.problems[0].key == "layers"


@pytest.mark.parametrize("text", ["", "a", "1-", "1,,2", "1-2-3"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ValidationError, match="is none of: a layer"):
        trainable(kind="layers", layers=text)


def test_something_must_train() -> None:
    with pytest.raises(ValidationError, match="nothing trains"):
        trainable(kind="layers", layers="none")
    assert trainable(kind="layers", layers="none", norms=True)


def test_ranges_as_yaml_reads_them() -> None:
    assert [trainable(kind="layers", layers=given).layers for given in (5, -1, " 0-3, -1 ")] == [
        "5",
        "-1",
        "0-3,-1",
    ]


def moved(tmp_path: Path, tied: bool = True, **settings: Any) -> set[str]:
    """What training moves, layers by number and the rest by name."""
    before = weights(tiny(tied, layers=3))
    chosen = trainable(**{"kind": "layers", "embeddings": "frozen"} | settings)
    after = weights(run(tmp_path, chosen, tiny(tied, layers=3), steps=2))
    names = {name.removesuffix(".weight").removeprefix("model.") for name in changed(before, after)}
    return {".".join(name.split(".")[:2]) if name.startswith("layers.") else name for name in names}


def test_only_chosen_layers_move(tmp_path: Path) -> None:
    assert moved(tmp_path, layers="0,-1") == {"layers.0", "layers.2"}


def test_the_vocabulary_alone_trains_on_request(tmp_path: Path) -> None:
    assert moved(tmp_path, layers="none", embeddings="all") == {"embed_tokens"}


def test_norms_of_the_rest_train_on_request(tmp_path: Path) -> None:
    assert moved(tmp_path, layers="1", norms=True) == {"layers.0", "layers.1", "layers.2", "norm"}


@pytest.mark.parametrize(
    ("tied", "settings", "expected"),
    [
        (True, {"embeddings": "all"}, {"embed_tokens"}),
        (False, {"embeddings": "all"}, {"embed_tokens", "lm_head"}),
        (False, {"head": "all"}, {"lm_head"}),
        (False, {"embeddings": "all", "head": "frozen"}, {"embed_tokens"}),
        (False, {"embeddings": "new-tokens"}, {"embed_tokens", "lm_head"}),
    ],
)
def test_embeddings_and_head(
    tmp_path: Path, tied: bool, settings: dict[str, Any], expected: set[str]
) -> None:
    assert moved(tmp_path, tied, layers="0", **settings) == {"layers.0", *expected}


def test_rows_of_new_tokens_alone(tmp_path: Path) -> None:
    before = weights(tiny())
    after = weights(run(tmp_path, trainable(kind="layers", layers="0", embeddings="new-tokens")))
    differing = (before[EMBEDDING] != after[EMBEDDING]).any(1).nonzero().flatten()
    assert tuple(differing.tolist()) == NEW


@pytest.mark.parametrize("kills", [[1], [3, 5]])
def test_kill_and_resume(tmp_path: Path, kills: list[int]) -> None:
    chosen = trainable(kind="layers", layers="-1", embeddings="new-tokens", norms=True)
    whole = weights(run(tmp_path / "whole", chosen))
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", chosen, said=Said(die_at=step))
    assert not changed(whole, weights(run(tmp_path / "killed", chosen)))


def problems(settings: dict[str, Any], tied: bool = True, **setup: Any) -> dict[str, str]:
    """What is wrong with settings, by key; the same with and without weights."""
    found = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = tiny(tied)
        with pytest.raises(RecipeError) as raised:
            trainable(**settings).apply(model, Setup(**({"steps": 100, "new_tokens": NEW} | setup)))
        found.append({str(problem.key): problem.message for problem in raised.value.problems})
    assert found[0] == found[1]
    return found[0]


def test_new_tokens_are_needed_where_they_are_spoken_of() -> None:
    settings = {"embeddings_first": 0.1, "rates": {"new_tokens": 2.0}}
    found = problems(settings, new_tokens=())
    assert found.keys() == {"embeddings_first", "rates.new_tokens"}
    assert set(found.values()) == {"the model has no new tokens: no vocabulary stage has brought any"}
    settings = {"kind": "layers", "layers": "0", "embeddings": "new-tokens"}
    assert problems(settings, new_tokens=()).keys() == {"embeddings"}
    settings = {"kind": "layers", "layers": "0", "head": "new-tokens"}
    assert problems(settings, tied=False, new_tokens=()).keys() == {"head"}


def test_a_new_token_without_a_row() -> None:
    found = problems({"embeddings_first": 0.1}, new_tokens=(TOKENS,))
    assert found["embeddings_first"] == "new token 40 has no row: the embedding has 40"


def test_a_first_phase_of_no_step() -> None:
    found = problems({"embeddings_first": 0.004})
    assert found["embeddings_first"] == "0.004 of 100 steps is less than one step"


def test_a_first_phase_of_frozen_rows() -> None:
    found = problems({"kind": "layers", "layers": "0", "embeddings": "frozen", "embeddings_first": 0.1})
    assert found["embeddings_first"] == "the embeddings are frozen: there is nothing to train first"


def test_a_tied_head_has_no_settings_of_its_own() -> None:
    found = problems({"kind": "layers", "layers": "0", "embeddings": "all", "head": "frozen"})
    assert found["head"].startswith("the input and the output embedding are one matrix in this model")


def test_a_rate_of_what_does_not_train() -> None:
    found = problems({"kind": "layers", "layers": "0", "rates": {"embeddings": 0.1, "matrices": 0.5}})
    assert found == {
        "rates.embeddings": "nothing trains that is part of the embeddings: their rate has no effect"
    }


def test_everything_trains_if_nothing_is_said() -> None:
    assert trainable() == All()
    assert trainable(rates={"norms": 2}).kind == "all"


@pytest.mark.parametrize("rates", [{"adapters": 2.0}, {"norms": 0}, {"embeddings": -1}])
def test_rates_that_make_no_sense(rates: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        trainable(rates=rates)
