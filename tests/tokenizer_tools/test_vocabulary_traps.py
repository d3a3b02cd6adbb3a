"""Traps that reviews of the vocabulary tools fell into, each once and never again."""

from pathlib import Path

import pytest
from bpe_models import edit, read_json, write_byte_fallback, write_byte_level, write_json
from piece_models import write_toy_unigram, write_toy_wordpiece
from tokenizers import AddedToken, Tokenizer, processors

from cpt.errors import DataError, StageFailed
from cpt.models.token_ids import role_of
from cpt.models.tokenizer import FILE, load_tokenizer, read_data, special_tokens
from cpt.models.weights import link_or_copy
from tokenizer_tools.extension import extend_tokenizer, why_not
from tokenizer_tools.extension.words import count_words
from tokenizer_tools.measure import report
from tokenizer_tools.pruning import prune_tokenizer
from tokenizer_tools.replacement import train_tokenizer


def test_no_merge_makes_a_byte_token_of_text(tmp_path: Path) -> None:
    folder = write_byte_fallback(tmp_path / "old")
    model = read_json(folder)["model"]
    merges = [("<", "0"), ("<0", "x"), ("<0x", "4"), ("1", ">"), ("4", "4")]
    spellings = [*"<0x4>", *(left + right for left, right in merges)]
    vocabulary = dict(model["vocab"])
    for token in spellings:
        vocabulary.setdefault(token, len(vocabulary))
    edit(folder, vocab=vocabulary, merges=[*model["merges"], *map(list, merges)])
    assert load_tokenizer(folder).encode("<0x41>", add_special_tokens=False).tokens[-2:] == ["<0x4", "1>"]
    extend_tokenizer(folder, ["a<0x41>b"] * 50, tmp_path / "new", tokens=1)
    tokenizer = load_tokenizer(tmp_path / "new")
    ids = tokenizer.encode("a<0x41>b", add_special_tokens=False).ids
    assert tokenizer.decode(ids) == "a<0x41>b"
    assert tokenizer.token_to_id("<0x41>") not in ids


def test_an_added_word_that_would_be_looked_up_in_text_is_refused(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / FILE))
    tokenizer.add_special_tokens([AddedToken("EOS", special=True)])
    tokenizer.save(str(folder / FILE))
    assert why_not(folder) is None
    edit(folder, ignore_merges=True)
    assert "'EOS'" in str(why_not(folder))


def test_words_end_at_added_tokens_that_are_sought_in_normalised_text(tmp_path: Path) -> None:
    folder = write_toy_wordpiece(tmp_path, ["[UNK]", *"covidan", *(f"##{c}" for c in "covidan")])
    data = read_json(folder)
    write_json(folder, {**data, "normalizer": {"type": "Lowercase"}})
    tokenizer = Tokenizer.from_file(str(folder / FILE))
    tokenizer.add_tokens([AddedToken("Covid", normalized=True)])
    assert tokenizer.token_to_id("Covid") in tokenizer.encode("a COVID an").ids
    assert "covid" not in count_words(tokenizer, ["a COVID an", "covid"])


def test_a_wordpiece_without_single_pieces_is_not_pruned(tmp_path: Path) -> None:
    pieces = ["[UNK]", "a", "b", "##b", "##c", "ab", "##bc", "##cd"]
    folder = write_toy_wordpiece(tmp_path / "old", pieces)
    assert load_tokenizer(folder).encode("abcd", add_special_tokens=False).tokens == ["ab", "##cd"]
    with pytest.raises(StageFailed, match="no piece for 1 characters in words, such as '##d'"):
        prune_tokenizer(folder, ["bc"], tmp_path / "new", remove=1)


def test_tokens_that_frame_texts_are_kept(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path / "old")
    tokenizer = Tokenizer.from_file(str(folder / FILE))
    word = max(tokenizer.get_vocab(), key=len)
    frame = [(word, tokenizer.token_to_id(word))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{word} $A", special_tokens=frame)
    tokenizer.enable_padding()
    tokenizer.save(str(folder / FILE))
    prune_tokenizer(folder, ["zzz"], tmp_path / "pruned", remove=5)
    train_tokenizer(folder, ["abc abc abd"] * 9, tmp_path / "trained", tokens=264)
    for name in ("pruned", "trained"):
        made = Tokenizer.from_file(str(tmp_path / name / FILE))
        assert made.encode("abc").tokens[0] == word


@pytest.mark.parametrize(
    ("setting", "role"),
    [
        ("eos_token_id", "eos"),
        ("forced_eos_token_id", "eos"),
        ("forced_bos_token_id", "bos"),
        ("decoder_start_token_id", ""),
        ("eos_token", ""),
    ],
)
def test_a_setting_names_the_role_that_its_last_part_names(setting: str, role: str) -> None:
    assert role_of(setting) == role


def test_unknown_tokens_are_counted_without_a_role_for_them(tmp_path: Path) -> None:
    pieces = {"▁the": -1.0, "▁": -2.0, **dict.fromkeys("the", -3.0)}
    folder = write_toy_unigram(tmp_path, pieces)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    assert special_tokens(folder) == {}
    assert report(folder, {"text": ["日本 the 日本"]}).texts["text"].unknown == 2


@pytest.mark.parametrize("content", ["[]", '{"model": {"type": "BPE"}}', "{"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    for read in (why_not, load_tokenizer, read_data):
        if read is read_data and "model" in content:
            continue
        try:
            reason = str(read(tmp_path))
        except DataError as error:
            reason = error.message
        assert FILE in reason


def test_a_link_to_the_same_file_is_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"weights")
    link_or_copy(source, target)
    link_or_copy(source, target)
    assert target.samefile(source)
    assert source.read_bytes() == b"weights"
