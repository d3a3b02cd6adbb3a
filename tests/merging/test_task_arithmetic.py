"""Merges against the formula, computed here by hand, and against what must not change."""

from pathlib import Path

import pytest
import torch
from merge_models import INPUT, OUTPUT, WORDS, input_model, merge, weights, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from cpt.errors import CannotMerge
from merging.request import InputModel
from merging.run import MergeReport


def merged(base: Path, models: list[InputModel], folder: Path) -> MergeReport:
    return merge("task-arithmetic", base, models, folder / "merged")


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    return write_model(tmp_path / "adapted", seed=2)


@pytest.mark.parametrize("tied", [True, False])
def test_a_merge_is_the_base_plus_weighted_differences(tied: bool, tmp_path: Path) -> None:
    base, one, two = (
        write_model(tmp_path / name, seed, tie_word_embeddings=tied)
        for seed, name in enumerate(["base", "one", "two"])
    )
    merged(base, [input_model(one, 0.7), input_model(two, -0.2)], tmp_path)
    source, first, second = weights(base), weights(one), weights(two)
    result = weights(tmp_path / "merged")
    assert result.keys() == source.keys()
    for name, tensor in result.items():
        b, x, y = (each[name].double() for each in (source, first, second))
        assert torch.equal(tensor, (b + (-0.2 * (y - b) + 0.7 * (x - b))).float())


@pytest.mark.parametrize(("weight", "which"), [(0.0, "base"), (1.0, "adapted")])
def test_weight_zero_is_the_base_and_weight_one_the_model(
    weight: float, which: str, base: Path, adapted: Path, tmp_path: Path
) -> None:
    merged(base, [input_model(adapted, weight)], tmp_path)
    result, expected = weights(tmp_path / "merged"), weights(tmp_path / which)
    assert all(torch.equal(result[name], expected[name]) for name in expected)


def test_the_order_of_models_does_not_matter(base: Path, tmp_path: Path) -> None:
    models = [input_model(write_model(tmp_path / f"m{seed}", seed), 0.1 * seed) for seed in (2, 3, 4)]
    for name, order in (("a", models), ("b", models[::-1])):
        merged(base, order, tmp_path / name)
    one, two = (tmp_path / name / "merged" / "model.safetensors" for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_rows_that_the_base_lacks_are_the_models_in_full(base: Path, tmp_path: Path) -> None:
    words = (*WORDS, "myocardium", "nephron")
    adapted = write_model(tmp_path / "adapted", 2, words=words, rows=12)
    report = merged(base, [input_model(adapted, 0.5)], tmp_path)
    assert (report.rows, report.rows_from_models, report.vocabulary_of) == (12, 6, "adapted")
    source, model, result = (weights(tmp_path / name)[INPUT] for name in ("base", "adapted", "merged"))
    assert torch.equal(result[6:], model[6:])
    expected = source.double() + 0.5 * (model[:6].double() - source.double())
    assert torch.equal(result[:6], expected.float())


@pytest.mark.parametrize("tied", [True, False])
def test_rows_follow_tokens_not_ids(tied: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", 1, tie_word_embeddings=tied)
    shuffled = ("<s>", "</s>", "skin", "new", "kidney", "lung", "heart")
    adapted = write_model(tmp_path / "adapted", 2, words=shuffled, tie_word_embeddings=tied)
    merged(base, [input_model(adapted, 0.0)], tmp_path)
    for name in (INPUT, *([] if tied else [OUTPUT])):
        source, model, result = (weights(tmp_path / f)[name] for f in ("base", "adapted", "merged"))
        for row, word in enumerate(shuffled):
            expected = model[row] if word == "new" else source[WORDS.index(word)]
            assert torch.equal(result[row], expected)


def test_models_of_which_one_has_more_tokens_are_merged_in_the_larger_vocabulary(
    base: Path, tmp_path: Path
) -> None:
    small = write_model(tmp_path / "small", 2)
    large = write_model(tmp_path / "large", 3, words=(*WORDS, "nephron"))
    merged(base, [input_model(small, 0.5), input_model(large, 0.25)], tmp_path)
    source, one, two, result = (weights(tmp_path / n)[INPUT] for n in ("base", "small", "large", "merged"))
    assert torch.equal(result[6], two[6])
    expected = (
        source.double() + 0.25 * (two[:6].double() - source.double()) + 0.5 * (one.double() - source.double())
    )
    assert torch.allclose(result[:6].double(), expected, atol=1e-8)


def test_the_result_loads_and_carries_the_models_settings(base: Path, tmp_path: Path) -> None:
    adapted = write_model(tmp_path / "adapted", 2, words=(*WORDS, "nephron"), rows=64)
    (adapted / "chat_template.jinja").write_text("{{ messages }}")
    merged(base, [input_model(adapted, 0.5)], tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert OUTPUT not in weights(tmp_path / "merged")
    assert model.config.vocab_size == 64
    assert tokenizer.convert_tokens_to_ids("nephron") == 6
    assert tokenizer.chat_template == "{{ messages }}"
    assert GenerationConfig.from_pretrained(tmp_path / "merged").max_new_tokens == 12
    assert not list(tmp_path.glob(".*"))


def test_a_tied_output_that_is_stored_twice_does_not_disturb(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapted = write_model(tmp_path / "adapted", 2, words=(*WORDS, "nephron"))
    tensors = load_file(base / "model.safetensors")
    save_file({**tensors, OUTPUT: tensors[INPUT].clone()}, base / "model.safetensors", {"format": "pt"})
    merged(base, [input_model(adapted, 0.5)], tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight[6], weights(adapted)[INPUT][6])


def test_the_widest_data_type_is_kept(base: Path, tmp_path: Path) -> None:
    half = write_model(tmp_path / "half", 2, dtype=torch.bfloat16)
    other = write_model(tmp_path / "other", 3, words=(*WORDS, "nephron"), dtype=torch.bfloat16)
    merged(half, [input_model(other, 0.5)], tmp_path / "a")
    merged(base, [input_model(other, 0.5)], tmp_path / "b")
    for name, dtype in (("a", "bfloat16"), ("b", "float32")):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name / "merged", dtype="auto")
        assert str(loaded.dtype) == f"torch.{dtype}"


def test_the_card_names_parents_and_no_folder(base: Path, adapted: Path, tmp_path: Path) -> None:
    merged(base, [input_model(adapted, 0.9)], tmp_path)
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "| adapted | 0.9 | `fingerprint of adapted` |" in card
    assert "| base | base | `fingerprint of base` |" in card
    for file in (tmp_path / "merged").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()


def test_models_that_do_not_fit_are_refused_with_the_tensors_that_differ(base: Path, tmp_path: Path) -> None:
    wide = write_model(tmp_path / "wide", 2, hidden_size=32)
    deep = write_model(tmp_path / "deep", 2, num_hidden_layers=3)
    more_heads = write_model(tmp_path / "more_heads", 2, num_attention_heads=4)
    for model, message in (
        (wide, r"model\.embed_tokens\.weight is \[16\] in base, \[32\] in wide.*and \d+ more"),
        (deep, r"layers\.2\.\S+ is missing in base"),
        (more_heads, "num_attention_heads is 2 in base, 4 in more_heads"),
    ):
        with pytest.raises(CannotMerge, match=message):
            merged(base, [input_model(model, 0.5)], tmp_path)
        assert not (tmp_path / "merged").exists()


def test_the_same_path_with_other_weights_gives_another_result(
    base: Path, adapted: Path, tmp_path: Path
) -> None:
    merged(base, [input_model(adapted, 1.0)], tmp_path / "a")
    write_model(adapted, seed=9)
    merged(base, [input_model(adapted, 1.0)], tmp_path / "b")
    one, two = (weights(tmp_path / name / "merged")[INPUT] for name in ("a", "b"))
    assert torch.equal(two, weights(adapted)[INPUT])
    assert not torch.equal(one, two)
