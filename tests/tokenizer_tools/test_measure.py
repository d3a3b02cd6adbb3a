"""Compression, tokens out of reach, unused tokens, splits of terms."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bpe_models import NEW_TEXTS, OLD_TEXTS, WRITERS, edit, read_json, write_byte_level, write_json
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.measure import TokenizerReport, bytes_per_token, count, report, split
from tokenizer_tools.vocabulary import read_vocabulary


@pytest.fixture
def bytewise(tmp_path: Path) -> Tokenizer:
    """One token per byte."""
    return load_tokenizer(edit(write_byte_level(tmp_path), merges=[]))


def test_counts_are_those_of_one_text_at_a_time(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_byte_level(tmp_path))
    texts = [f"{number} {text}" for number in range(400) for text in NEW_TEXTS[:3] + OLD_TEXTS[:2]]
    counts = count(tokenizer, iter(texts))
    uses = np.zeros(len(counts.uses), int)
    for text in texts:
        np.add.at(uses, tokenizer.encode(text).ids, 1)
    assert (counts.uses == uses).all()
    assert counts.tokens == uses.sum()
    assert counts.bytes == sum(len(text.encode()) for text in texts)
    assert counts.words == sum(len(text.split()) for text in texts)


def test_bytes_are_counted_not_characters(bytewise: Tokenizer) -> None:
    assert count(bytewise, ["aé", "bcd"]).tokens == count(bytewise, ["aé", "bcd"]).bytes == 6
    assert bytes_per_token(bytewise, ["aé", "bcd"]) == pytest.approx(1.0)


def test_a_special_token_in_a_text_is_text(bytewise: Tokenizer) -> None:
    assert count(bytewise, ["<s>"]).tokens == 3


def test_no_text_has_no_bytes_per_token(bytewise: Tokenizer) -> None:
    assert count(bytewise, [""]).tokens == count(bytewise, []).tokens == 0
    with pytest.raises(ValueError, match="no text"):
        bytes_per_token(bytewise, [""])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two\nthree", 3),
        ("한국어 텍스트 예문", 3),
        ("mostly English words beside 漢字", 5),
        ("这是一个句子。 另一个", None),
        ("ภาษาไทยไม่มีช่องว่าง ระหว่างคำ", None),
        ("かな交じり文 PCR", None),
    ],
)
def test_words_are_counted_only_where_spaces_separate_them(
    bytewise: Tokenizer, text: str, words: int | None
) -> None:
    assert count(bytewise, [text]).words == words


TEXTS = {"cats": ["the cat sat on the mat", "what is that"], "more": ["the hat"]}


def write(folder: Path, tokenizer: Tokenizer, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def write_unigram(folder: Path) -> Path:
    """Two pieces score more than "▁abc", which they spell; "<0x41>" is a byte."""
    pieces = [
        ("<unk>", 0.0),
        ("▁ab", -1.0),
        ("c", -1.0),
        ("▁abc", -9.0),
        ("▁", -2.0),
        ("a", -3.0),
        ("b", -3.0),
    ]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return write(folder, tokenizer, unk_token="<unk>")


def write_word_piece(folder: Path) -> Path:
    """Text is lower-cased, and cut at hyphens."""
    tokens = ["[UNK]", "heart", "##s", "##beat", "Heart", "x-ray", "x", "-", "ray", "h", "b"]
    tokenizer = Tokenizer(
        models.WordPiece({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return write(folder, tokenizer, unk_token="[UNK]")


def found(folder: Path, **options: Any) -> TokenizerReport:
    return report(folder, options.pop("texts", TEXTS), **options)


def test_text_figures(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    tokenizer = load_tokenizer(folder)
    made = found(folder)
    assert list(made.texts) == ["cats", "more"]
    for name, texts in TEXTS.items():
        measured, ids = made.texts[name], [i for text in texts for i in tokenizer.encode(text).ids]
        assert measured.tokens == len(ids)
        assert measured.bytes_per_token == measured.bytes / len(ids)
        assert measured.fertility == len(ids) / sum(len(text.split()) for text in texts)
        ordinary = made.size - made.special
        assert measured.unused.count == ordinary - len(set(ids))
        assert measured.unused.share == measured.unused.count / ordinary


def test_texts_are_passed_over_once(tmp_path: Path) -> None:
    assert found(write_byte_level(tmp_path), texts={"one": iter(["a b"])}).texts["one"].words == 2


@pytest.mark.parametrize("kind", WRITERS)
def test_tokens_that_merges_lead_to_are_in_reach(kind: str, tmp_path: Path) -> None:
    """But for the word that `ignore_merges` looks up, and two that an earlier merge takes apart."""
    made = found(WRITERS[kind](tmp_path))
    expected = {"ignore_merges": {"Ġcardiac"}, "byte_level": set()}.get(kind, {"▁▁the", "the"})
    assert set(made.unreachable.examples) <= expected
    assert set(made.split_by_pre_tokenizer.examples) <= {"▁▁", "▁▁▁▁"}  # runs of spaces are cut otherwise


def test_a_bpe_token_without_merges_is_out_of_reach(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    vocabulary = read_json(folder)["model"]["vocab"]
    size = len(vocabulary)
    edit(folder, vocab={**vocabulary, "Ġzebra": size, "æ¼¢": size + 1, "æ¼": size + 2})
    made = found(folder)
    assert made.unreachable.examples == ["Ġzebra", "æ¼¢", "æ¼"]
    assert made.unreachable.count == 3
    assert made.unreachable.share == pytest.approx(3 / (made.size - made.special))


def test_a_bpe_token_that_no_word_holds_is_split_by_the_pre_tokenizer(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    model = read_json(folder)["model"]
    tokens = ["cĠ", "cĠc", "æ¼", "ĠĠ"]
    edit(
        folder,
        vocab={**model["vocab"], **{token: len(model["vocab"]) + i for i, token in enumerate(tokens)}},
        merges=[*model["merges"], ["c", "Ġ"], ["cĠ", "c"], ["æ", "¼"], ["Ġ", "Ġ"]],
    )
    made = found(folder)
    assert made.unreachable.count == 0
    assert made.split_by_pre_tokenizer.examples == ["cĠ", "cĠc"]


def test_a_unigram_piece_that_other_pieces_beat_is_out_of_reach(tmp_path: Path) -> None:
    made = found(write_unigram(tmp_path), texts={"one": ["ab c ab"]})
    assert made.kind == "Unigram"
    assert made.unreachable.examples == ["▁abc"]
    assert made.split_by_pre_tokenizer.count == 0
    assert made.unreachable.share == 1 / 6
    assert made.texts["one"].unused.examples == ["▁abc", "a", "b"]


def test_a_word_piece_that_text_never_becomes(tmp_path: Path) -> None:
    made = found(write_word_piece(tmp_path), texts={"one": ["heartbeat Q"]})
    assert made.unreachable.count == 0
    assert made.split_by_pre_tokenizer.examples == ["Heart", "x-ray"]
    assert made.texts["one"].unknown == 1


def test_splits_of_terms_are_those_in_a_sentence(tmp_path: Path) -> None:
    made = found(write_byte_level(tmp_path), terms=["cat", "the hat", "Ä"])
    assert [(each.term, each.tokens) for each in made.terms] == [
        ("cat", [" cat"]),
        ("the hat", [" the", " hat"]),
        ("Ä", [" ", "\\xc3", "\\x84"]),
    ]


def test_a_term_that_cannot_be_spelt_has_no_tokens(tmp_path: Path) -> None:
    assert split(read_vocabulary(write_word_piece(tmp_path)), "Q").tokens == []


def test_added_tokens_are_not_ordinary(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    plain = found(folder).unreachable
    data = read_json(folder)
    added = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    data["added_tokens"].append({"id": len(data["model"]["vocab"]), "content": "zebra", **added})
    write_json(folder, data)
    assert found(folder).unreachable == plain


def test_a_report_is_plain_json(tmp_path: Path) -> None:
    made = asdict(found(write_byte_level(tmp_path), terms=["cat"]))
    assert json.loads(json.dumps(made)) == made


def test_a_text_without_content_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty holds no text"):
        found(write_byte_level(tmp_path), texts={"empty": [""]})
