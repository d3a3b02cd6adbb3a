"""Unigram extension against the `tokenizers` library, all segmentations, and a learner that starts over."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from piece_models import (
    NEW_TEXTS,
    OLD_TEXTS,
    UNIGRAMS,
    encode,
    load,
    random_words,
    segmentations,
    write_toy_unigram,
    write_unigram,
    write_wordpiece,
)
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from cpt.errors import DataError, StageFailed
from cpt.models.tokenizer import load_tokenizer
from cpt.references import resolve_file
from tokenizer_tools.extension.pair_merging import learn_unigram
from tokenizer_tools.unigram_file import UNKNOWN_PENALTY, UnigramFile, read_unigram

TEXTS = [
    *OLD_TEXTS[:3],
    *NEW_TEXTS[:4],
    "unseen: cardiopathy mattress hypertext",
    "ÄÖ <mask> <a>x <s> 漢字 ☃",
]

MON = (
    "wheel:mon-tokenizer==1.0.1/mon_tokenizer/data/mon_tokenizer.json"
    "#sha256=34d181532eee7e6754bfbad693753ee4660bdda00eb36a2ccc7cd2f372c71282"
)


def random_pieces(seed: int) -> dict[str, float]:
    """Pieces over "abc" and "▁" with rounded scores, so that there are ties; "d" is unknown."""
    draw = random.Random(seed)
    words = {*"abc▁", *random_words("abc▁d", count=25, longest=4, seed=seed)} - {"d"}
    return {piece: -float(draw.randint(2, 12)) for piece in sorted(words)}


# The best path


@pytest.mark.parametrize("seed", range(6))
def test_the_best_path_is_the_librarys(seed: int, tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path, random_pieces(seed))
    path, model = read_unigram(folder).best_path(), load_tokenizer(folder).model
    for word in random_words("abc▁dd", count=300, longest=9, seed=seed):
        ids = [token.id for token in model.tokenize(word)]
        assert [model.token_to_id(piece) for piece in path.segment(word)] == ids, word


@pytest.mark.parametrize("seed", range(3))
def test_the_best_path_has_the_highest_sum_of_all(seed: int, tmp_path: Path) -> None:
    scores = random_pieces(seed)
    path = read_unigram(write_toy_unigram(tmp_path, scores)).best_path()
    unknown = min(scores.values()) - UNKNOWN_PENALTY

    def total(cut: list[str]) -> float:
        return sum(scores.get(piece, unknown if len(piece) == 1 else -math.inf) for piece in cut)

    for word in random_words("abc▁d", count=40, longest=8, seed=seed):
        assert path.best(word)[1] == pytest.approx(max(map(total, segmentations(word))))


# Learning


def brute_force(folder: Path, texts: list[str], tokens: int) -> dict[str, float]:
    """Cut the whole corpus anew with the library for every piece that is tried."""
    file = read_unigram(folder)
    one_use = one_use_score(file, texts)
    new: dict[str, float] = {}
    barred: set[tuple[str, str]] = set()
    while len(new) < tokens:
        cut = words(file, new, texts)
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces in cut:
            pairs.update(pairwise(pieces))
        pair = min(pairs.keys() - barred, key=lambda pair: (-pairs[pair], pair))
        piece = "".join(pair)
        if piece in file.scores or piece in new or {*pair, piece} & file.barred():
            barred.add(pair)
            continue
        model = load(file.extended(new.items())).model
        path = sum({**file.scores, **new}[token.value] for token in model.tokenize(piece))
        tried = {**new, piece: max(one_use + math.log(pairs[pair]), path + 1e-3, file.lowest)}
        after = words(file, tried, texts)
        if sum(map(len, after)) >= sum(map(len, cut)):
            barred.add(pair)
            continue
        used = {piece for pieces in after for piece in pieces}
        new = {piece: score for piece, score in tried.items() if piece in used}
    return new


def words(file: UnigramFile, new: dict[str, float], texts: list[str]) -> list[list[str]]:
    """The pieces of every word; what is unknown as the unknown token."""
    tokenizer = load(file.extended(new.items()))
    cut: list[list[str]] = []
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        last = None
        for token_id, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if word != last:
                cut.append([])
            cut[-1].append(tokenizer.id_to_token(token_id))
            last = word
    return cut


def one_use_score(file: UnigramFile, texts: list[str]) -> float:
    uses = Counter(piece for pieces in words(file, {}, texts) for piece in pieces)
    known = {piece: count for piece, count in uses.items() if piece not in file.barred()}
    sums = sum(count * (file.scores[piece] - math.log(count)) for piece, count in known.items())
    return sums / sum(known.values())


@pytest.mark.parametrize("kind", UNIGRAMS)
def test_pieces_and_scores_are_those_of_the_brute_force_learner(kind: str, tmp_path: Path) -> None:
    folder = UNIGRAMS[kind](tmp_path)
    learnt = learn_unigram(folder, NEW_TEXTS, tokens=14, min_frequency=2)
    expected = brute_force(folder, NEW_TEXTS, tokens=14)
    assert [token.token for token in learnt.tokens] == list(expected)
    scores = dict(learnt.data["model"]["vocab"])
    assert [scores[piece] for piece in expected] == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_those_of_the_brute_force_learner_on_random_corpora(seed: int, tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path, random_pieces(seed))
    texts = [" ".join(random_words("abcd", count=30, longest=7, seed=seed))]
    learnt = learn_unigram(folder, texts, tokens=8, min_frequency=1)
    assert [token.token for token in learnt.tokens] == list(brute_force(folder, texts, tokens=8))


def test_a_score_is_the_log_share_on_the_old_scores_scale(tmp_path: Path) -> None:
    """Corpus: 4 "a", 4 "b", 4 "▁"; the old scores are their log-shares less 1, so is the new one's."""
    third = math.log(1 / 3) - 1
    folder = write_toy_unigram(tmp_path, {"▁": third, "a": third, "b": third, "c": -50.0})
    (token,) = learn_unigram(folder, ["ab ab ab ab"], tokens=1, min_frequency=2).tokens
    data = learn_unigram(folder, ["ab ab ab ab"], tokens=1, min_frequency=2).data
    assert (token.token, token.count) == ("ab", 4)
    assert data["model"]["vocab"][-1] == ["ab", pytest.approx(math.log(4 / 12) - 1)]


def test_a_rare_piece_scores_just_more_than_the_path_it_replaces(tmp_path: Path) -> None:
    """ "▁cb" is a piece out of reach, so its parts stay two."""
    folder = write_toy_unigram(tmp_path, {"▁a": -0.1, "▁c": -0.1, "b": -0.1, "▁cb": -50.0})
    data = learn_unigram(folder, ["a cb"] * 100 + ["ab"], tokens=1, min_frequency=1).data
    assert data["model"]["vocab"][-1] == ["▁ab", pytest.approx(-0.2 + 1e-3)]


def test_no_score_is_below_the_lowest(tmp_path: Path) -> None:
    """Else unknown characters would cost more than before."""
    pieces = {"▁c": -5.0, "b": -5.0, "▁cb": -10.1, "▁d": -9.0, "e": -9.0}
    data = learn_unigram(
        write_toy_unigram(tmp_path, pieces), ["cb " * 20_000 + "de"], 1, min_frequency=1
    ).data
    assert data["model"]["vocab"][-1] == ["▁de", -10.1]


# What must hold of every extension


@pytest.mark.parametrize("kind", UNIGRAMS)
def test_new_pieces_are_reached_and_nothing_else_changes(kind: str, tmp_path: Path) -> None:
    folder = UNIGRAMS[kind](tmp_path)
    learnt = learn_unigram(folder, NEW_TEXTS, tokens=14, min_frequency=2)
    before, after = load_tokenizer(folder), load(learnt.data)
    new = {token.token: token.token_id for token in learnt.tokens}
    old_ids = before.get_vocab(with_added_tokens=True)
    assert list(new.values()) == list(range(max(old_ids.values()) + 1, len(old_ids) + 14))
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
    for text in [*TEXTS, *(token.token for token in learnt.tokens)]:
        decoded = [each.decode(each.encode(text).ids, skip_special_tokens=False) for each in (before, after)]
        assert decoded[0] == decoded[1]


def read_words(tokenizer: Tokenizer, texts: list[str]) -> list[list[str]]:
    """Tokens by word; unknown ones as they are spelt in the text."""
    cut = []
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        by_word: dict[int, list[str]] = {}
        for token, word in zip(encoding.tokens, encoding.word_ids, strict=True):
            by_word.setdefault(word, []).append(token)
        cut += by_word.values()
    return cut


def test_transformers_loads_what_was_learnt(tmp_path: Path) -> None:
    folder = write_unigram(tmp_path / "old", behind=["<mask>"])
    new = write_unigram(tmp_path / "new", behind=["<mask>"])
    data = learn_unigram(folder, NEW_TEXTS, tokens=10, min_frequency=2).data
    (new / "tokenizer.json").write_text(json.dumps(data))
    loaded = AutoTokenizer.from_pretrained(new)
    loaded.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in TEXTS:
        ids = Tokenizer.from_str(json.dumps(data)).encode(text).ids
        assert loaded(text)["input_ids"] == again(text)["input_ids"] == ids
    assert loaded.convert_tokens_to_ids("<mask>") == read_unigram(folder).added["<mask>"]


@pytest.mark.real
def test_a_real_unigram_is_extended(tmp_path: Path) -> None:
    """Mon, Burmese and English, with tokens for single bytes."""
    (tmp_path / "tokenizer.json").write_bytes(resolve_file(MON).read_bytes())
    learnt = learn_unigram(tmp_path, NEW_TEXTS, tokens=10, min_frequency=2)
    assert "▁cardiomyopathy" in {token.token for token in learnt.tokens}
    assert [token.token_id for token in learnt.tokens] == list(range(64256, 64266))
    before, after = load_tokenizer(tmp_path), load(learnt.data)
    new = {token.token for token in learnt.tokens}
    for text in [*TEXTS, *(token.token for token in learnt.tokens)]:
        old, now = encode(before, text), encode(after, text)
        assert len(now) <= len(old)
        assert old == now or not new.isdisjoint(now)
        assert before.decode(before.encode(text).ids) == after.decode(after.encode(text).ids)
    for token in learnt.tokens:
        assert [piece.id for piece in after.model.tokenize(token.token)] == [token.token_id]


# Added tokens that are no pieces


@pytest.mark.parametrize("text", ["<m>", "a<m>b", "<m><m>", "d<m>d", "ab<m", "dab", "adbd<m>"])
def test_added_tokens_behind_the_pieces_are_not_cut_out_of_text(text: str, tmp_path: Path) -> None:
    pieces = {"▁": -2.0, "a": -3.0, "b": -3.0, "<": -4.0, "m": -4.0, ">": -4.0, "m>": -5.0}
    file = read_unigram(write_toy_unigram(tmp_path, pieces, behind=["<m>", "<m><m>"]))
    before, after = load(file.data), load(file.extended([("ab", -4.0)]))
    assert after.token_to_id("<m>") == before.token_to_id("<m>") == len(pieces) + 1
    assert after.token_to_id("ab") == len(pieces) + 3
    halves = [piece for token in encode(after, text) for piece in (("a", "b") if token == "ab" else (token,))]
    assert halves == encode(before, text)


def test_unknown_characters_are_cut_as_before_beside_added_tokens(tmp_path: Path) -> None:
    folder = write_unigram(tmp_path, behind=["<mask>"])
    file = read_unigram(folder)
    before, after = load(file.data), load(file.extended([]))
    for word in random_words("catsmk<>☃心 ", count=200, longest=12, seed=0):
        assert encode(before, word) == encode(after, word)


@pytest.mark.parametrize(
    ("pieces", "behind", "message"),
    [
        ({"▁": -2.0, "m": -3.0}, "<m>", "characters that are no pieces"),
        ({"▁": -2.0, "m": -3.0, "ab": -4.0}, "mm", "characters such as 'a' are in pieces but are none"),
    ],
)
def test_added_tokens_that_cannot_be_kept_out_of_text_are_refused(
    pieces: dict[str, float], behind: str, message: str, tmp_path: Path
) -> None:
    file = read_unigram(write_toy_unigram(tmp_path, pieces, behind=[behind]))
    with pytest.raises(DataError, match=message):
        file.extended([("▁m", -3.0)])


# Limits


def test_a_corpus_with_too_few_pairs_says_how_many_tokens_it_yields(tmp_path: Path) -> None:
    folder = write_toy_unigram(tmp_path, {"▁": -2.0, "a": -3.0, "b": -3.0})
    with pytest.raises(StageFailed, match="yields 1 new tokens, 9 were asked for"):
        learn_unigram(folder, ["ab", "ab"], tokens=9, min_frequency=2)


def test_text_that_spells_a_special_token_never_becomes_one(tmp_path: Path) -> None:
    pieces = {"▁": -2.0, "<": -3.0, "m": -3.0, ">": -3.0, "<m": -3.5}
    folder = write_toy_unigram(tmp_path, pieces, behind=["<m>"])
    learnt = learn_unigram(folder, ["<m>"] * 5, tokens=1, min_frequency=2)
    assert "<m>" not in {token.token for token in learnt.tokens}


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is WordPiece, not Unigram"):
        learn_unigram(write_wordpiece(tmp_path / "wordpiece"), NEW_TEXTS, tokens=1, min_frequency=1)
    folder = write_unigram(tmp_path / "whole")
    data = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**data, "pre_tokenizer": None}))
    with pytest.raises(DataError, match="no pre-tokenizer that cuts text into words"):
        learn_unigram(folder, NEW_TEXTS, tokens=1, min_frequency=1)
