"""Extended tokenizers: what is new, what must not change, and what is refused."""

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from bpe_models import NEW_TEXTS, OLD_TEXTS, WRITERS, edit, read_json, write_byte_level, write_json
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from cpt.errors import DataError, StageFailed
from tokenizer_tools.bpe_file import load_tokenizer, read
from tokenizer_tools.continued_bpe import words_of
from tokenizer_tools.extend import extend_tokenizer
from tokenizer_tools.guards import ADVERSARIAL, check_extension
from tokenizer_tools.measure import bytes_per_token


@pytest.fixture(params=list(WRITERS))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / "old")


def test_new_tokens_are_in_use_and_everything_else_is_as_before(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    extension = extend_tokenizer(old, NEW_TEXTS, new, tokens=20, samples=OLD_TEXTS)
    before, after = load_tokenizer(old), load_tokenizer(new)
    assert extension.guards.reachable == len(extension.new_tokens) == 20
    for merge in extension.new_tokens:
        assert after.token_to_id(merge.token) == merge.token_id
        assert before.token_to_id(merge.token) is None
        pieces = [before.id_to_token(piece) for piece in extension.pieces[merge.token_id]]
        assert "".join(pieces) == merge.token
        assert len(pieces) > 1
    for token, token_id in read(old).ids.items():
        assert after.token_to_id(token) == token_id
    assert bytes_per_token(after, NEW_TEXTS) > 1.2 * bytes_per_token(before, NEW_TEXTS)
    loaded = AutoTokenizer.from_pretrained(new)
    assert loaded(NEW_TEXTS[0], add_special_tokens=False)["input_ids"] == after.encode(NEW_TEXTS[0]).ids
    assert loaded.special_tokens_map == AutoTokenizer.from_pretrained(old).special_tokens_map


def test_words_without_a_new_merge_are_tokenised_as_before(old: Path, tmp_path: Path) -> None:
    extension = extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=20)
    before, after = load_tokenizer(old), load_tokenizer(tmp_path / "new")
    pairs = {(merge.left, merge.right) for merge in extension.merges}
    generator = random.Random(0)
    letters = sorted({letter for text in [*NEW_TEXTS, *ADVERSARIAL] for letter in text})
    texts = [*OLD_TEXTS, *ADVERSARIAL, *("".join(generator.choices(letters, k=60)) for _ in range(200))]
    unchanged = 0
    for old_words, new_words in zip(words_of(before, texts), words_of(after, texts), strict=True):
        for word, other in zip(old_words, new_words, strict=True):
            tokens = [before.id_to_token(token_id) for token_id in word]
            if not pairs & set(pairwise(tokens)):
                assert word == other
                unchanged += 1
            assert len(other) <= len(word)
    assert unchanged > 500


@pytest.mark.parametrize("text", [*ADVERSARIAL, *NEW_TEXTS[:4]])
def test_byte_level_text_comes_back_whole(text: str, tmp_path: Path) -> None:
    extend_tokenizer(write_byte_level(tmp_path / "old"), NEW_TEXTS, tmp_path / "new", tokens=20)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "new")
    ids = loaded.encode(text, add_special_tokens=False)
    assert loaded.decode(ids, clean_up_tokenization_spaces=False) == text


def test_settings_are_copied_and_files_that_would_contradict_are_not(tmp_path: Path) -> None:
    old, new = write_byte_level(tmp_path / "old"), tmp_path / "new"
    (old / "chat_template.jinja").write_text("{{ messages }}")
    (old / "vocab.json").write_text("{}")
    (old / "merges.txt").write_text("")
    extend_tokenizer(old, NEW_TEXTS, new, tokens=5)
    assert AutoTokenizer.from_pretrained(new).chat_template == "{{ messages }}"
    assert not (new / "vocab.json").exists()
    assert not (new / "merges.txt").exists()


def test_merges_keep_the_format_of_the_file(tmp_path: Path) -> None:
    for kind, form in (("merges as text", str), ("byte-level", list)):
        old, new = WRITERS[kind](tmp_path / kind), tmp_path / f"new {kind}"
        extend_tokenizer(old, NEW_TEXTS, new, tokens=5)
        assert {type(merge) for merge in read_json(new)["model"]["merges"]} == {form}


def test_added_tokens_stay_where_they_are_though_the_vocabulary_grows_past_them(tmp_path: Path) -> None:
    old = WRITERS["added tokens beyond"](tmp_path / "old")
    extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=20)
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (old, tmp_path / "new"))
    assert before("<s>a</s>")["input_ids"] == after("<s>a</s>")["input_ids"]


def test_an_extension_can_be_extended_again(tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=10)
    extend_tokenizer(tmp_path / "new", NEW_TEXTS, tmp_path / "newer", tokens=10)
    extend_tokenizer(old, NEW_TEXTS, tmp_path / "at once", tokens=20)
    twice, once = (read_json(tmp_path / name)["model"] for name in ("newer", "at once"))
    assert twice == once


def test_guards_refuse_a_tokenizer_that_lost_a_merge_or_moved_a_special_token(tmp_path: Path) -> None:
    old, new = write_byte_level(tmp_path / "old"), tmp_path / "new"
    extension = extend_tokenizer(old, NEW_TEXTS, new, tokens=10)
    data = read_json(new)
    edit(new, merges=data["model"]["merges"][:-1])
    with pytest.raises(StageFailed, match="is encoded as"):
        check_extension(old, new, extension.before, extension.merges, [])
    data["added_tokens"][0]["id"], data["model"]["vocab"]["<s>"] = 900, 900
    write_json(new, data)
    with pytest.raises(StageFailed, match="'<s>' moved from id 0 to 900"):
        check_extension(old, new, extension.before, extension.merges, [])


def test_guards_refuse_a_segmentation_that_the_merges_do_not_explain(tmp_path: Path) -> None:
    old, new = write_byte_level(tmp_path / "old"), tmp_path / "new"
    extension = extend_tokenizer(old, NEW_TEXTS, new, tokens=10)
    last = replace(extension.merges[-1], new=False)
    with pytest.raises(StageFailed, match="the merges make it"):
        check_extension(old, new, extension.before, [*extension.merges[1:-1], last], NEW_TEXTS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}}, "WordPiece, not BPE"),
        ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}, "Unigram, not BPE"),
        ({"pre_tokenizer": None}, "no pre-tokenizer"),
        (
            {
                "pre_tokenizer": {
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": "always",
                    "split": False,
                }
            },
            "no pre-tokenizer that splits",
        ),
    ],
)
def test_other_tokenizers_are_refused(change: dict, reason: str, tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    write_json(old, {**read_json(old), **change})
    with pytest.raises(DataError, match=reason):
        extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=5)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"dropout": 0.1}, "at random"),
        ({"end_of_word_suffix": "</w>"}, "suffix"),
        ({"continuing_subword_prefix": "##"}, "prefix"),
    ],
)
def test_models_with_other_rules_are_refused(setting: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        read(edit(write_byte_level(tmp_path), **setting))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        read(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read(tmp_path)


def test_bytes_per_token_counts_bytes_and_no_special_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(edit(write_byte_level(tmp_path), merges=[]) / "tokenizer.json"))
    assert bytes_per_token(tokenizer, ["aé", "bcd"]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no text"):
        bytes_per_token(tokenizer, [""])
