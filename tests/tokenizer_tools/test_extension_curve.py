"""The curve against extensions that are really built, and its costs against counted parameters."""

from pathlib import Path

import pytest
from bpe_models import NEW_TEXTS, OLD_TEXTS, WRITERS, edit, read_json, write_byte_level, write_json
from transformers import AutoModelForCausalLM, LlamaConfig

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools import bpe_file
from tokenizer_tools.extension.continued_bpe import count_segmented_words, learn_merges
from tokenizer_tools.extension_curve import extension_curve
from tokenizer_tools.measure import bytes_per_token

HELDOUT = ["hypertrophic cardiomyopathies of the heart", "the cat has a cardiac septum; ödematös"]
SIZES = [20, 5, 12]


def extended_bytes_per_token(folder: Path, tokens: int, min_frequency: int = 2) -> float:
    """Learn that many tokens, write the tokenizer, load it, measure."""
    file, tokenizer = bpe_file.read_bpe(folder), load_tokenizer(folder)
    merges = learn_merges(file, count_segmented_words(tokenizer, NEW_TEXTS), tokens, min_frequency)
    data = file.extended(
        [(merge.left, merge.right) for merge in merges],
        {merge.token: merge.token_id for merge in merges if merge.new},
    )
    edit(folder, **data["model"])
    found = bytes_per_token(load_tokenizer(folder), HELDOUT)
    edit(folder, **file.data["model"])
    return found


def write_model(folder: Path, tied: bool) -> Path:
    config = LlamaConfig(
        vocab_size=290,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", WRITERS)
def test_points_are_those_of_extensions_that_are_built(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path)
    points = extension_curve(folder, NEW_TEXTS, HELDOUT, SIZES)
    assert [point.tokens for point in points] == [0, 5, 12, 20]
    for point in points:
        assert point.bytes_per_token == pytest.approx(extended_bytes_per_token(folder, point.tokens))
        assert point.tokens_saved == pytest.approx(1 - points[0].bytes_per_token / point.bytes_per_token)
        assert (point.added_parameters, point.compute_per_byte) == (None, None)
    assert [point.tokens_saved for point in points] == sorted(point.tokens_saved for point in points)


def test_a_merge_without_a_new_token_belongs_to_the_next_one(tmp_path: Path) -> None:
    """ "ab" is a token that no merge reaches: one is learnt for it, and no id spent."""
    tokens = ["a", "b", "c", "ab", "abc", "x"]
    folder = write_byte_level(
        tmp_path, merges=[["ab", "c"]], vocab={token: i for i, token in enumerate(tokens, start=2)}
    )
    points = extension_curve(folder, ["abcx"] * 3, ["abcx"], [1])
    assert [point.bytes_per_token for point in points] == [1.0, 4.0]


def test_the_rarest_token_is_told(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    merges = learn_merges(
        bpe_file.read_bpe(folder),
        count_segmented_words(load_tokenizer(folder), NEW_TEXTS),
        20,
        min_frequency=2,
    )
    counts = [merge.count for merge in merges if merge.new]
    points = extension_curve(folder, NEW_TEXTS, HELDOUT, SIZES)
    assert [point.rarest for point in points] == [None, min(counts[:5]), min(counts[:12]), min(counts)]


@pytest.mark.parametrize("tied", [True, False])
def test_costs_are_those_of_the_parameters(tied: bool, tmp_path: Path) -> None:
    """P counts every parameter once but the input rows of an untied model."""
    folder, model = write_byte_level(tmp_path / "tokenizer"), write_model(tmp_path / "model", tied)
    parameters = AutoModelForCausalLM.from_pretrained(model).num_parameters() - (0 if tied else 290 * 16)
    points = extension_curve(folder, NEW_TEXTS, HELDOUT, SIZES, model=model)
    now = 6 * parameters / points[0].bytes_per_token
    for point in points:
        after = 6 * (parameters + point.tokens * 16) / point.bytes_per_token
        assert point.added_parameters == point.tokens * 16 * (1 if tied else 2)
        assert point.compute_per_byte == pytest.approx(after / now)


def test_the_curve_ends_where_the_text_has_no_more_frequent_pairs(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    *_, last = extension_curve(folder, NEW_TEXTS, HELDOUT, [5, 5_000, 6_000], min_frequency=3)
    assert 5 < last.tokens < 5_000
    assert last.rarest >= 3
    assert last.bytes_per_token == pytest.approx(extended_bytes_per_token(folder, last.tokens))
    with pytest.raises(StageFailed):
        extended_bytes_per_token(folder, last.tokens + 1, min_frequency=3)
    assert [point.tokens for point in extension_curve(folder, [], HELDOUT, [5])] == [0]


def test_added_tokens_in_the_text_count_as_they_are(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    data = read_json(folder)
    added = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data["added_tokens"].append({"id": len(data["model"]["vocab"]), "content": "cardio", **added})
    write_json(folder, data)
    for point in extension_curve(folder, NEW_TEXTS, HELDOUT, [5, 10]):
        assert point.bytes_per_token == pytest.approx(extended_bytes_per_token(folder, point.tokens))


def test_inputs_that_cannot_be_measured(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    with pytest.raises(DataError, match="nothing to measure"):
        extension_curve(folder, OLD_TEXTS, [""], [])
    with pytest.raises(DataError, match="not BPE"):
        extension_curve(edit(folder, type="Unigram"), OLD_TEXTS, HELDOUT, [])
