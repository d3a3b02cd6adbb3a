"""What follows from the order of a merge's models, and what must not: ids, settings, bits."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from merge_models import INPUT, WORDS, input_model, merge, weights, write_model
from transformers import AutoTokenizer

from merging.plan import plan, read_inputs
from merging.request import MergeRequest
from merging.search import search_space
from merging.search.run import grid

WEIGHTS = [(0.0, 0.5), (0.3, 0.6), (0.5, 0.5), (0.6, 0.3), (1.0, 0.05), (0.1, 1.0)]


@pytest.fixture
def extended(tmp_path: Path) -> list[Path]:
    """Two models, each with two tokens of its own and a chat template."""
    found = []
    for seed, (name, words) in enumerate({"med": ("nephron", "aorta"), "law": ("tort", "lien")}.items(), 2):
        folder = write_model(tmp_path / name, seed, words=(*WORDS, *words))
        (folder / "chat_template.jinja").write_text(name)
        found.append(folder)
    return found


def test_ids_of_a_union_are_the_same_at_every_point_of_a_search(base: Path, extended: list[Path]) -> None:
    request = MergeRequest("task-arithmetic", tuple(map(input_model, extended)), input_model(base))
    candidates = read_inputs(request)
    space = search_space(request, candidates)
    found = [plan(space.request_at(values), candidates) for values in WEIGHTS]
    ids = found[0].alignment.target.ids
    assert [ids[token] for token in ("nephron", "aorta", "tort", "lien")] == [6, 7, 8, 9]
    assert all(each.alignment.target.ids == ids for each in found)
    assert all(each.tokenizer == found[0].tokenizer for each in found)


@pytest.mark.parametrize("own_words", [True, False])
def test_template_and_settings_are_the_first_models_whatever_the_weights(
    own_words: bool, base: Path, extended: list[Path], tmp_path: Path
) -> None:
    if not own_words:
        for seed, folder in enumerate(extended, 2):
            template = (folder / "chat_template.jinja").read_text()
            write_model(folder, seed, rms_norm_eps=seed / 1e6)
            (folder / "chat_template.jinja").write_text(template)
    tokenizer = {"tokenizer": "union"} if own_words else {}
    said = []
    for number, each in enumerate(WEIGHTS):
        models = [input_model(folder, weight) for folder, weight in zip(extended, each, strict=True)]
        output = tmp_path / f"merged {number}"
        merge("task-arithmetic", base, models, output, settings="med" if own_words else None, **tokenizer)
        files = ("chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json")
        said.append([(output / file).read_text() for file in files])
    assert said[0][0] == "med"
    assert all(each == said[0] for each in said)
    if not own_words:
        assert json.loads(said[0][1])["rms_norm_eps"] == 2e-6


def test_permuted_models_give_the_same_rows_token_by_token(
    base: Path, extended: list[Path], tmp_path: Path
) -> None:
    """To the bit, those included that are averaged over the models which have them."""
    third = write_model(tmp_path / "third", 4, words=(*WORDS, "aorta", "lien", "nephron"))
    models = [
        input_model(folder, weight)
        for folder, weight in zip([*extended, third], (0.7, 0.2, 0.4), strict=True)
    ]
    rows, others = [], []
    for number, order in enumerate(permutations(models)):
        output = tmp_path / f"merged {number}"
        merge("task-arithmetic", base, list(order), output)
        tensors = weights(output)
        embedding = tensors.pop(INPUT)
        ids = AutoTokenizer.from_pretrained(output).get_vocab()
        rows.append({token: embedding[token_id].tolist() for token, token_id in ids.items()})
        others.append(tensors)
    assert all(each == rows[0] for each in rows)
    assert all(torch.equal(each[name], tensor) for each in others for name, tensor in others[0].items())


def test_with_new_tokens_weight_0_is_a_merge_of_its_own(base: Path, extended: list[Path]) -> None:
    """The rows of new tokens are the model's at every weight, so a line search must not begin at the base."""
    request = MergeRequest("task-arithmetic", (input_model(extended[0]),), input_model(base))
    candidates = read_inputs(request)
    space = search_space(request, candidates)
    assert space.new_rows
    assert not space.from_base
    assert grid(space, 6)[0] == (0.0,)
    assert len(plan(space.request_at((0.0,)), candidates).alignment.target.ids) > len(
        candidates[0].vocabulary.ids
    )
    (said,) = space.at_bounds((0.0,))
    assert said.says.endswith("left out of the merge, but for the rows of new tokens")
    onto_base = search_space(replace(request, tokenizer="base"), candidates)
    assert not onto_base.new_rows
    assert onto_base.from_base
