"""Merges of models with different vocabularies: every row against what it must be."""

import json
from pathlib import Path

import pytest
import torch
from merge_models import INPUT, OUTPUT, WORDS, input_model, merge, weights, write_model
from tiny import add_merges
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from cpt.errors import CannotMerge
from merging.run import ROWS


def extended(folder: Path, seed: int, *words: str, **options) -> Path:
    return write_model(folder, seed, words=(*WORDS, *words), **options)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return extended(tmp_path / "one", 2, "nephron", "aorta")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return extended(tmp_path / "two", 3, "tort", "aorta")


def rows(folder: Path, name: str = INPUT) -> dict[str, torch.Tensor]:
    """Rows of the embedding by token."""
    ids = AutoTokenizer.from_pretrained(folder).get_vocab()
    tensor = weights(folder)[name].double()
    return {token: tensor[token_id] for token, token_id in ids.items()}


def test_the_union_has_every_token_and_every_row_is_right(
    base: Path, one: Path, two: Path, tmp_path: Path
) -> None:
    report = merge(
        "task-arithmetic", base, [input_model(one, 0.5), input_model(two, 0.25)], tmp_path / "merged"
    )
    b, x, y, result = (rows(folder) for folder in (base, one, two, tmp_path / "merged"))
    assert result.keys() == {*WORDS, "nephron", "aorta", "tort"}
    for word in WORDS:
        expected = b[word] + 0.25 * (y[word] - b[word]) + 0.5 * (x[word] - b[word])
        assert torch.equal(result[word], expected.float().double())
    assert torch.equal(result["nephron"], x["nephron"])
    assert torch.equal(result["tort"], y["tort"])
    assert torch.allclose(result["aorta"], (0.5 * x["aorta"] + 0.25 * y["aorta"]) / 0.75, atol=1e-7)
    assert (report.vocabulary_of, report.rows, report.rows_from_models) == ("union", 9, 3)
    assert sum(report.rows_by_case.values()) == 9
    listing = json.loads((tmp_path / "merged" / ROWS).read_text())
    assert listing["counts"] == dict(report.rows_by_case)
    listed = {token for group in listing["groups"] for token in group["rows"].values()}
    assert listed == {"nephron", "aorta", "tort"}


def test_the_unions_tokenizer_and_model_agree(base: Path, one: Path, two: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    merge("linear", None, [input_model(one, 1.0), input_model(two, 1.0)], output, tokenizer="union")
    tokenizer, model = AutoTokenizer.from_pretrained(output), AutoModelForCausalLM.from_pretrained(output)
    ids = tokenizer("tort aorta heart")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["tort", "aorta", "heart"]
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model(torch.tensor([ids])).logits.isfinite().all()


@pytest.mark.parametrize("method", ["ties", "slerp", "model-stock", "dare-ties", "karcher"])
def test_a_row_that_only_one_model_has_is_its_row_by_any_method(
    method: str, base: Path, one: Path, two: Path, tmp_path: Path
) -> None:
    each = {"ties": {"weight": 0.5, "density": 0.5}, "dare-ties": {"weight": 0.5, "density": 0.5}}.get(
        method, {}
    )
    parents = [input_model(one, **each)] + ([] if method == "slerp" else [input_model(two, **each)])
    shared = {"t": 0.5} if method == "slerp" else {}
    merge(
        method, None if method == "karcher" else base, parents, tmp_path / "merged", parameters=shared,
        tokenizer="union",
    )  # fmt: skip
    assert torch.equal(rows(tmp_path / "merged")["nephron"], rows(one)["nephron"])


def test_the_bases_vocabulary_drops_what_it_lacks(base: Path, one: Path, tmp_path: Path) -> None:
    report = merge("task-arithmetic", base, [input_model(one, 1.0)], tmp_path / "merged", tokenizer="base")
    assert report.rows == 6
    assert report.dropped == {"one": 2}
    result, theirs = rows(tmp_path / "merged"), rows(one)
    assert all(torch.equal(result[word], theirs[word]) for word in WORDS)


def test_a_named_parents_vocabulary_is_taken(base: Path, one: Path, two: Path, tmp_path: Path) -> None:
    parents = [input_model(one, 0.5), input_model(two, 0.5)]
    report = merge("task-arithmetic", base, parents, tmp_path / "merged", tokenizer="two")
    assert report.vocabulary_of == "two"
    assert rows(tmp_path / "merged").keys() == {*WORDS, "tort", "aorta"}
    assert report.dropped == {"one": 1}


def test_a_row_that_the_base_has_and_one_model_lacks_leaves_that_model_out(
    base: Path, tmp_path: Path
) -> None:
    pruned = write_model(tmp_path / "pruned", 2, words=WORDS[:5])
    whole = write_model(tmp_path / "whole", 3)
    parents = [input_model(pruned, 0.5), input_model(whole, 0.5)]
    merge("linear", None, [*parents, input_model(base, 1.0)], tmp_path / "merged", tokenizer="whole")
    result, w, b = rows(tmp_path / "merged")["skin"], rows(whole)["skin"], rows(base)["skin"]
    assert torch.allclose(result, (0.5 * w + 1.0 * b) / 1.5, atol=1e-7)


@pytest.mark.parametrize("tokenizer", ["base", "untied"])
def test_tied_and_untied_models_make_an_untied_one(tokenizer: str, base: Path, tmp_path: Path) -> None:
    untied = extended(tmp_path / "untied", 2, "tort", tie_word_embeddings=False)
    merge("task-arithmetic", base, [input_model(untied, 0.5)], tmp_path / "merged", tokenizer=tokenizer)
    b, u, result = weights(base), weights(untied), weights(tmp_path / "merged")
    for name in (INPUT, OUTPUT):
        expected = (b[INPUT].double() + 0.5 * (u[name][:6].double() - b[INPUT].double())).float()
        assert torch.equal(result[name][:6], expected)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(model.get_output_embeddings().weight, result[OUTPUT])


def test_padding_stays_the_anchors(base: Path, tmp_path: Path) -> None:
    padded = extended(tmp_path / "padded", 2, "tort", rows=64)
    other = extended(tmp_path / "other", 3, "aorta", rows=16)
    report = merge(
        "task-arithmetic", padded, [input_model(other, 1.0)], tmp_path / "merged", tokenizer="union"
    )
    result, source = weights(tmp_path / "merged")[INPUT], weights(padded)[INPUT]
    assert report.rows == 64
    assert torch.equal(result[8:], source[8:])
    assert torch.equal(rows(tmp_path / "merged")["aorta"], rows(other)["aorta"])


def test_generation_settings_of_another_parent_have_the_results_token_ids(base: Path, tmp_path: Path) -> None:
    moved = write_model(tmp_path / "moved", 2, words=("heart", "</s>", "<s>", "lung", "kidney", "skin"))
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    GenerationConfig(bos_token_id=2, eos_token_id=[1, 3]).save_pretrained(moved)
    merge(
        "task-arithmetic",
        base,
        [input_model(moved, 1.0)],
        tmp_path / "merged",
        tokenizer="base",
        settings="moved",
    )
    found = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert (found.bos_token_id, found.eos_token_id) == (0, [1, WORDS.index("lung")])
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == "{{ messages }}"


def test_tokenizers_that_contradict_each_other_have_no_union(
    base: Path, another_model, tmp_path: Path
) -> None:
    one = another_model("bpe", seed=1)
    two = another_model("bigger", seed=2, vocabulary=320)
    settings = json.loads((two / "tokenizer.json").read_text())
    settings["model"]["merges"][:2] = settings["model"]["merges"][1::-1]
    settings["normalizer"] = {"type": "NFC"}
    (two / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(
        CannotMerge, match=r"different normalizers(.|\n)*merges in different orders"
    ) as raised:
        merge(
            "linear",
            None,
            [input_model(one, 1.0), input_model(two, 1.0)],
            tmp_path / "merged",
            tokenizer="union",
        )
    assert "Choose one model's vocabulary" in str(raised.value)
    assert not (tmp_path / "merged").exists()


def test_the_union_of_bpe_tokenizers_applies_all_merges(another_model, tmp_path: Path) -> None:
    small, large = (
        another_model("small", seed=1, vocabulary=280),
        another_model("large", seed=2, vocabulary=310),
    )
    merge(
        "linear",
        None,
        [input_model(small, 1.0), input_model(large, 1.0)],
        tmp_path / "merged",
        tokenizer="union",
    )
    text = "The heart of the matter, kidneys and muscle contracts"
    tokens = [AutoTokenizer.from_pretrained(folder).tokenize(text) for folder in (large, tmp_path / "merged")]
    assert tokens[0] == tokens[1]


def test_tokens_of_a_union_that_its_tokenizer_never_makes_are_told(another_model, tmp_path: Path) -> None:
    """After the first model's merge of q and z the second's q and zx never meet."""
    one = add_merges(another_model("one", seed=1), ("q", "z"), ("j", "q"))
    two = add_merges(another_model("two", seed=2), ("z", "x"), ("q", "zx"), ("w", "x"))
    output = tmp_path / "merged"
    report = merge("linear", None, [input_model(one, 1.0), input_model(two, 1.0)], output, tokenizer="union")
    tokenizers = {name: AutoTokenizer.from_pretrained(tmp_path / name) for name in ("two", "merged")}
    assert [each.tokenize("qzx") for each in tokenizers.values()] == [["qzx"], ["qz", "x"]]
    assert tokenizers["merged"].tokenize("azx wx") == tokenizers["two"].tokenize("azx wx")
    listing = json.loads((output / ROWS).read_text())
    assert (listing["added tokens"], listing["out of reach"]) == (3, ["qzx"])
    assert report.out_of_reach == 1
    said = "1 of 3 tokens that the union adds is out of reach: its tokenizer cuts text otherwise"
    assert report.notes[-1].startswith(said)
    assert said in (output / "README.md").read_text()


def test_a_union_whose_tokens_are_all_in_reach_says_nothing(another_model, tmp_path: Path) -> None:
    one = add_merges(another_model("one", seed=1), ("q", "z"))
    two = add_merges(another_model("two", seed=2), ("w", "x"))
    report = merge(
        "linear", None, [input_model(one, 1.0), input_model(two, 1.0)], tmp_path / "merged", tokenizer="union"
    )
    assert (report.out_of_reach, report.notes) == (0, ())
    listing = json.loads((tmp_path / "merged" / ROWS).read_text())
    assert (listing["added tokens"], listing["out of reach"]) == (1, [])
