"""Tokens that span words: those of a brute-force learner, reached from text, and nothing else touched."""

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from bpe_models import OLD_TEXTS, WRITERS, read_json, write_byte_level, write_json
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaTokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.bpe_file import BpeFile, cut_words, pieces, read_bpe
from tokenizer_tools.extension import extend_tokenizer, why_not
from tokenizer_tools.extension.continued_bpe import Merge, learn_up_to, segment_words
from tokenizer_tools.extension.ngram_pre_tokenizer import GPT2_PATTERN, is_joined, leave_whole, trie_pattern
from tokenizer_tools.extension.ngrams import NGramIndex, choose
from tokenizer_tools.extension.words import WordSequence, count_words, counted_sequences
from tokenizer_tools.validation import ADVERSARIAL

GPT4 = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def steps(*parts: dict) -> dict:
    return {"type": "Sequence", "pretokenizers": list(parts)}


PRE_TOKENIZERS = {
    "GPT-2": {**BYTES, "use_regex": True},
    "SmolLM": steps({"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}),
    "Llama 3": steps(split(LLAMA3), BYTES),
    "Llama 3, older": steps(split(LLAMA3, "Removed", invert=True), BYTES),
    "GPT-4o": steps(split(GPT4), BYTES),
    "Falcon": steps(
        {"type": "Punctuation", "behavior": "Contiguous"},
        {**BYTES, "use_regex": True},
        {"type": "Digits", "individual_digits": False},
        split("[0-9][0-9][0-9]"),
    ),
    "DeepSeek": steps(
        split(r"\p{N}{1,3}"),
        split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        split(
            r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        BYTES,
    ),
}
SPACED = [" of the", " of the heart", " the heart", " in the", " à la"]
WORDS = ["of", "the", "heart", "hearts", "in", "then", "The", "OfThe", "à", "la", "las", "x", "1", "of_the"]
GAPS = [*"    \n\t_-漢", "", "  ", " \n", "\u00a0", "\u0301", "'s ", "\u2019s ", "' ", ". ", " 12 "]
TEXTS = [
    "a study of the heart of the matter in the end of the heart",
    "the heart of the matter in the heart of the city\nof the heart and of then",
    "in the heart, of the in the of the heart of the x1 of the",
] * 4


def random_texts(count: int) -> list[str]:
    generator = random.Random(0)
    return [
        "".join(generator.choice(WORDS) + generator.choice(GAPS) for _ in range(generator.randint(1, 15)))
        for _ in range(count)
    ]


@pytest.fixture(params=list(WRITERS))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / "old")


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_all_other_text_is_cut_as_before(name: str, tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    write_json(folder, {**read_json(folder), "pre_tokenizer": PRE_TOKENIZERS[name]})
    before = load_tokenizer(folder)
    changed = json.dumps({**read_json(folder), "pre_tokenizer": leave_whole(read_bpe(folder), SPACED)})
    after = Tokenizer.from_str(changed)
    ngrams = [text.replace(" ", "Ġ").replace("à", "Ãł") for text in SPACED]
    joined = Counter[str]()
    for text in [*ADVERSARIAL, *TEXTS, *random_texts(3000)]:
        old, new = pieces(before, text), pieces(after, text)
        assert is_joined(old, new, ngrams), text
        joined.update(set(new) & set(ngrams))
        assert_longest_matches(old, new, ngrams)
    assert set(joined) == set(ngrams)


def assert_longest_matches(old: list[str], new: list[str], ngrams: list[str]) -> None:
    """The longest n-gram of old pieces is one new piece where a space, a line or a sentence ends it."""
    at = 0
    for piece in new:
        longest = next((n for n in (3, 2) if "".join(old[at : at + n]) in ngrams), 1)
        if longest == 1 or [*old, "Ġ"][min(at + longest, len(old))][0] in "ĠĊĉ.":
            assert piece == "".join(old[at : at + longest])
        at += next(n for n in (1, 2, 3) if "".join(old[at : at + n]) == piece)


def test_a_trie_finds_what_a_list_of_alternatives_finds() -> None:
    texts = ["ab", "abc", "abcd", "b", "ba", "c.d", "cxd"]
    listed = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    generator = random.Random(0)
    for _ in range(500):
        text = "".join(generator.choices("abcd.x", k=12))
        assert re.findall(trie_pattern(texts), text) == re.findall(listed, text)


@pytest.mark.parametrize("longest", [2, 3])
def test_n_grams_are_reached_from_text_and_the_rest_is_as_before(
    old: Path, longest: int, tmp_path: Path
) -> None:
    extension = extend_tokenizer(old, TEXTS, tmp_path / "new", tokens=8, ngrams=longest, samples=OLD_TEXTS)
    before, after = load_tokenizer(old), load_tokenizer(tmp_path / "new")
    mark = "▁" if "▁" in read_bpe(old).vocabulary else "Ġ"
    assert [token.token_id for token in extension.tokens] == list(
        range(read_bpe(old).next_id, read_bpe(old).next_id + 8)
    )
    spanning = [token for token in extension.tokens if mark in token.token[1:]]
    assert 2 <= max(token.token.count(mark) for token in spanning) <= longest
    for token in spanning:
        text = token.token.replace(mark, " ")
        assert after.encode(f"x{text}").ids[-1] == token.token_id
        assert after.encode(f"x{text} x").tokens.count(token.token) == 1
        if mark == "Ġ":
            assert after.encode(text).ids == [token.token_id]
        for inside in (f"x{text}n", f"x{text}é"):
            assert token.token not in after.encode(inside).tokens
    for text in [*TEXTS, *ADVERSARIAL, *random_texts(300)]:
        assert len(after.encode(text).ids) <= len(before.encode(text).ids)
    assert count_tokens(after, TEXTS) < 0.8 * count_tokens(before, TEXTS)


def count_tokens(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))


def longest_from_left(words: tuple[str, ...], chosen: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    cut = []
    while words:
        fitting = [ngram for ngram in chosen if words[: len(ngram)] == ngram]
        cut.append(max([*fitting, words[:1]], key=len))
        words = words[len(cut[-1]) :]
    return cut


def brute_force(
    runs: list[tuple[str, ...]], inside: list[int], tokens: int, longest: int
) -> list[tuple[tuple[str, ...], int]]:
    """Count anew in the whole corpus after every choice; `inside` are the counts of tokens inside words."""
    chosen: dict[tuple[str, ...], int] = {}
    while len(chosen) < tokens:
        savings = Counter(
            left + right
            for words in runs
            for left, right in pairwise(longest_from_left(words, list(chosen)))
            if len(left + right) <= longest
        )
        best = min(savings, key=lambda ngram: (-savings[ngram], "".join(ngram)), default=())
        kept = tokens - len(chosen)
        if savings[best] < 2 or (len(inside) >= kept and savings[best] <= inside[kept - 1]):
            break
        chosen[best] = savings[best]
    return list(chosen.items())


@pytest.mark.parametrize("kind", ["byte-level", "ignore_merges", "unsplit", "normalized"])
@pytest.mark.parametrize("longest", [2, 3])
@pytest.mark.parametrize("tokens", [3, 12, 40])
def test_choices_are_those_of_the_brute_force_learner(
    kind: str, longest: int, tokens: int, tmp_path: Path
) -> None:
    folder = WRITERS[kind](tmp_path)
    file, tokenizer = read_bpe(folder), cut_words(load_tokenizer(folder))
    texts = [*TEXTS, *random_texts(200)]
    with WordSequence() as sequence:
        words = count_words(tokenizer, texts, sequence=sequence)
        inside = learn_up_to(file, segment_words(tokenizer, words), tokens, 2)
        choice = choose(file, inside, words, sequence, tokens=tokens, min_frequency=2, longest=longest)
    merged = with_merges(file, inside)
    runs = [run for text in texts for run in fitting_runs(pieces(tokenizer, text), merged)]
    counts = [merge.count for merge in inside if merge.new]
    assert counts == sorted(counts, reverse=True)
    expected = brute_force(runs, counts, tokens, longest)
    found = [(merge.token, merge.count) for merge in choice.merges if merge.token in choice.ngrams]
    assert found == [("".join(ngram), count) for ngram, count in expected]
    kept = [merge.token for merge in choice.merges if merge.new and merge.token not in choice.ngrams]
    assert kept == [merge.token for merge in inside if merge.new][: tokens - len(expected)]


def with_merges(file: BpeFile, inside: list[Merge]) -> Tokenizer:
    """The tokenizer with these merges, without any pre-tokenizer."""
    data = file.extended(
        [(merge.left, merge.right) for merge in inside],
        {merge.token: merge.token_id for merge in inside if merge.new},
    )
    data["model"]["ignore_merges"] = False
    return Tokenizer.from_str(json.dumps({**data, "normalizer": None, "pre_tokenizer": None}))


def fitting_runs(words: list[str], tokenizer: Tokenizer) -> list[tuple[str, ...]]:
    """Runs of words that n-grams may hold."""
    runs: list[tuple[str, ...]] = [()]
    for word in words:
        text = word.replace("Ãł", "à")
        fits = text[0] in "▁Ġ" and text[1:].isalpha() and not set("▁Ġ") & set(text[1:])
        if fits and len(tokenizer.model.tokenize(word)) == 1:
            runs[-1] += (word,)
        else:
            runs.append(())
    return [run for run in runs if len(run) > 1]


def test_sequences_are_the_runs_of_frequent_pairs() -> None:
    generator = random.Random(0)
    texts = [generator.choices(range(5), k=generator.randint(1, 30)) for _ in range(40)]
    tokens = np.array([30, -1, 10, 20, 40])
    known = [tuple(int(tokens[word]) for word in words) for words in texts]
    pairs = Counter(pair for words in known for pair in pairwise(words) if -1 not in pair)
    expected: Counter[tuple[int, ...]] = Counter()
    for words in known:
        run = words[:1]
        for left, right in pairwise(words):
            if pairs[left, right] >= 30:
                run += (right,)
            else:
                expected[run] += len(run) > 1
                run = (right,)
        expected[run] += len(run) > 1
    with WordSequence() as sequence:
        for some in (texts[:7], texts[7:]):
            sequence.append(np.array([n for words in some for n in (*words, -1)], dtype=np.int32))
        assert counted_sequences(sequence, tokens, 30) == {run: n for run, n in expected.items() if n}
    assert sum(n > 0 for n in expected.values()) > 0


def test_a_barred_n_gram_is_not_offered() -> None:
    index = NGramIndex({(1, 2): 5, (2, 3): 4}, longest=2, least=2, spelled=str)
    assert index.most_saving() == ((1, 2), 5)
    index.bar((1, 2))
    assert index.most_saving() == ((2, 3), 4)


def test_transformers_loads_the_changed_pre_tokenizer(tmp_path: Path) -> None:
    """LlamaTokenizer would put its own in place of the one in tokenizer.json."""
    old, new = WRITERS["unsplit"](tmp_path / "old"), tmp_path / "new"
    config = old / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": "LlamaTokenizer"}))
    assert isinstance(AutoTokenizer.from_pretrained(old), LlamaTokenizer)
    extend_tokenizer(old, TEXTS, new, tokens=5, ngrams=2)
    text = TEXTS[0]
    loaded = AutoTokenizer.from_pretrained(new)
    assert loaded.encode(text, add_special_tokens=False) == load_tokenizer(new).encode(text).ids
    plain = tmp_path / "plain"
    extend_tokenizer(old, TEXTS, plain, tokens=5)
    assert isinstance(AutoTokenizer.from_pretrained(plain), LlamaTokenizer)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pre_tokenizer": {**BYTES, "use_regex": True, "add_prefix_space": True}}, "ByteLevel cuts"),
        ({"pre_tokenizer": steps({"type": "WhitespaceSplit"}, BYTES)}, "WhitespaceSplit cuts"),
        ({"pre_tokenizer": steps(split(" ?[a-z]+", "MergedWithNext"), BYTES)}, "Split cuts"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}}, "WordPiece"),
        ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}}, "Unigram"),
    ],
)
def test_tokenizers_that_cannot_have_n_grams_are_refused(change: dict, reason: str, tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    write_json(old, {**read_json(old), **change})
    assert reason in (why_not(old, ngrams=2) or "")
    with pytest.raises(DataError, match=reason) as raised:
        extend_tokenizer(old, TEXTS, tmp_path / "new", tokens=5, ngrams=2)
    assert raised.value.hint == "Set ngrams to 1."


def test_n_grams_cannot_be_added_twice_but_words_can_be_after_them(tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    extend_tokenizer(old, TEXTS, tmp_path / "new", tokens=8, ngrams=2)
    with pytest.raises(DataError, match="tokens of several words already"):
        extend_tokenizer(tmp_path / "new", TEXTS, tmp_path / "newer", tokens=8, ngrams=2)
    extend_tokenizer(tmp_path / "new", ["matter matters of the city"] * 3, tmp_path / "newer", tokens=8)
    after = load_tokenizer(tmp_path / "newer")
    assert after.encode(" of the").tokens == ["ĠofĠthe"]
    before = load_tokenizer(tmp_path / "new")
    assert len(after.encode(" matters").ids) < len(before.encode(" matters").ids)


def test_where_no_n_gram_is_worth_it_nothing_but_merges_is_new(tmp_path: Path) -> None:
    old = write_byte_level(tmp_path / "old")
    for name, ngrams in (("one", 1), ("three", 3)):
        extend_tokenizer(old, ["heartbeat", "heartbeats"] * 5, tmp_path / name, tokens=5, ngrams=ngrams)
    assert read_json(tmp_path / "one") == read_json(tmp_path / "three")
    assert GPT2_PATTERN not in json.dumps(read_json(tmp_path / "three"))
