"""Continued BPE against a brute-force learner that re-tokenises the whole corpus after every merge."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from bpe_models import NEW_TEXTS, WRITERS, edit, read_json, write_byte_level
from tokenizers import Tokenizer

from cpt.errors import StageFailed
from tokenizer_tools.bpe_file import load_tokenizer, read
from tokenizer_tools.continued_bpe import Merge, count_words, learn


def numbered(*tokens: str) -> dict[str, int]:
    """Ids after those of the special tokens."""
    return {token: index for index, token in enumerate(tokens, start=2)}


def learnt(folder: Path, texts: list[str], tokens: int, min_frequency: int = 2) -> list[Merge]:
    return learn(read(folder), count_words(load_tokenizer(folder), texts), tokens, min_frequency)


def brute_force(folder: Path, texts: list[str], tokens: int) -> list[tuple[str, str]]:
    """Count pairs anew in the corpus as the `tokenizers` library segments it with the merges so far."""
    file = read(folder)
    spelling = {token_id: token for token, token_id in file.ids.items()}
    barred = {spelling[token_id] for token_id in file.barred()}
    merges: list[tuple[str, str]] = []
    new: dict[str, int] = {}
    while len(new) < tokens:
        data = file.extended(merges, new)
        data["model"]["merges"] = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in data["model"]["merges"]
        ]
        tokenizer = Tokenizer.from_str(json.dumps(data))
        tokenizer.encode_special_tokens = True
        counts: Counter[tuple[str, str]] = Counter()
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            for (left, word), (right, other) in pairwise(
                zip(encoding.tokens, encoding.word_ids, strict=True)
            ):
                if word == other and not {left, right} & barred and left + right not in file.added:
                    counts[left, right] += 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        if "".join(best) not in file.ids and "".join(best) not in new:
            new["".join(best)] = file.next_id + len(new)
    return merges


@pytest.mark.parametrize("kind", WRITERS)
def test_merges_are_those_of_the_brute_force_learner(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path)
    found = learnt(folder, NEW_TEXTS, tokens=25)
    assert [(merge.left, merge.right) for merge in found] == brute_force(folder, NEW_TEXTS, tokens=25)


def test_new_tokens_are_numbered_after_every_used_id(tmp_path: Path) -> None:
    folder = WRITERS["added tokens beyond"](tmp_path)
    file = read(folder)
    found = learnt(folder, NEW_TEXTS, tokens=10)
    first = max(file.added.values()) + 1
    assert [merge.token_id for merge in found if merge.new] == list(range(first, first + 10))


def test_of_equally_frequent_pairs_the_lexicographically_first_is_merged(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path, merges=[], vocab=numbered("b", "a", "c", "d", "Ġ"))
    found = learnt(folder, ["cd ab", "cd ab"], tokens=2)
    assert [(merge.left, merge.right, merge.count) for merge in found] == [("a", "b", 2), ("c", "d", 2)]


def test_a_product_that_is_a_token_already_gets_a_merge_but_no_id(tmp_path: Path) -> None:
    """ "ab" is out of reach until (a, b) is a merge; then the old merge (ab, c) applies as well."""
    vocabulary = numbered("a", "b", "c", "ab", "abc", "x")
    folder = write_byte_level(tmp_path, merges=[["ab", "c"]], vocab=vocabulary)
    found = learnt(folder, ["abcx"] * 3, tokens=1)
    assert [(merge.token, merge.token_id, merge.new) for merge in found] == [
        ("ab", vocabulary["ab"], False),
        ("abcx", vocabulary["x"] + 1, True),
    ]
    assert [(merge.left, merge.right) for merge in found] == [("a", "b"), ("abc", "x")]


def test_text_that_spells_a_special_token_never_becomes_one(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path)
    data = read_json(folder)
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(data))
    found = learnt(folder, ["x<s>y"] * 9, tokens=3)
    assert "<s>" not in {merge.token for merge in found}


def test_bytes_that_stand_for_themselves_are_not_merged(tmp_path: Path) -> None:
    folder = WRITERS["byte_fallback"](tmp_path)
    with pytest.raises(StageFailed):
        learnt(folder, ["ÄÖÜ ÄÖÜ"] * 3, tokens=1)


@pytest.mark.parametrize(("min_frequency", "available"), [(2, "3"), (5, "0")])
def test_a_corpus_with_too_few_pairs_says_how_many_tokens_it_yields(
    min_frequency: int, available: str, tmp_path: Path
) -> None:
    folder = write_byte_level(tmp_path, merges=[], vocab=numbered(*"abcdefgh"))
    with pytest.raises(StageFailed, match=f"yields {available} new tokens, 9 were asked for"):
        learnt(folder, ["abcd", "abcd", "efgh"], tokens=9, min_frequency=min_frequency)


def test_words_are_those_of_the_pre_tokenizer(tmp_path: Path) -> None:
    folder = edit(write_byte_level(tmp_path), merges=[])
    counts = count_words(load_tokenizer(folder), ["aa bb aa", "aa"])
    ids = read(folder).ids
    assert counts == {
        (ids["a"], ids["a"]): 2,
        (ids["Ġ"], ids["b"], ids["b"]): 1,
        (ids["Ġ"], ids["a"], ids["a"]): 1,
    }
