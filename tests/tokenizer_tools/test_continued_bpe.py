"""Continued BPE against a brute-force learner that re-tokenises the whole corpus after every merge."""

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path

import pytest
from bpe_models import NEW_TEXTS, WRITERS, edit, read_json, write_byte_level, write_json
from tokenizers import Regex, Tokenizer, pre_tokenizers

from cpt.errors import StageFailed
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.bpe_file import cut_words, joined_kinds, pieces, read_bpe, word_pattern
from tokenizer_tools.extension import words
from tokenizer_tools.extension.continued_bpe import Merge, count_segmented_words, learn_merges
from tokenizer_tools.extension.words import WordSequence
from tokenizer_tools.validation import ADVERSARIAL

MARKED = ("byte_fallback", "unsplit", "normalized")


def numbered(*tokens: str) -> dict[str, int]:
    """Ids after those of the special tokens."""
    return {token: index for index, token in enumerate(tokens, start=2)}


def learnt(folder: Path, texts: list[str], tokens: int, min_frequency: int = 2) -> list[Merge]:
    return learn_merges(
        read_bpe(folder), count_segmented_words(load_tokenizer(folder), texts), tokens, min_frequency
    )


def random_texts(seed: int, count: int = 200) -> list[str]:
    """Texts of few words, many of them repeated, with runs of spaces and other things between them."""
    generator = random.Random(seed)
    words = ["".join(generator.choices("aabtheo", k=generator.randint(1, 6))) for _ in range(30)]
    gaps = [" "] * 6 + ["  ", "   ", "\n", ", ", " - ", "1", "é", " 漢字 "]
    return [
        "".join(generator.choice(words) + generator.choice(gaps) for _ in range(generator.randint(1, 12)))
        for _ in range(count)
    ]


def may_join(left: str, right: str) -> bool:
    """The rule for tokenizers with "▁" in this module: their tokens join letters, and "▁" to what follows."""
    if "▁" in (left[-1], right[0]):
        return left[-1] == "▁" and (right[0] == "▁" or right[0].isalpha())
    return left[-1].isalpha() and right[0].isalpha()


def anything_goes(left: str, right: str) -> bool:
    """The rule for byte-level tokenizers, whose pre-tokenizer cuts words."""
    return True


def brute_force(
    folder: Path, texts: list[str], tokens: int, may_join: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Count pairs anew in the corpus as the `tokenizers` library segments it with the merges so far."""
    file = read_bpe(folder)
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
                is_pair = word == other and may_join(left, right) and not {left, right} & barred
                if is_pair and left + right not in file.added:
                    counts[left, right] += 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        if "".join(best) not in file.ids and "".join(best) not in new:
            new["".join(best)] = file.next_id + len(new)
    return merges


@pytest.mark.parametrize("kind", WRITERS)
def test_merges_are_those_of_the_brute_force_learner(kind: str, tmp_path: Path) -> None:
    folder = WRITERS[kind](tmp_path)
    rule = may_join if kind in MARKED else anything_goes
    for texts in (NEW_TEXTS, random_texts(0)):
        found = learnt(folder, texts, tokens=25)
        assert [(merge.left, merge.right) for merge in found] == brute_force(folder, texts, 25, rule)


def test_new_tokens_are_numbered_after_every_used_id(tmp_path: Path) -> None:
    folder = WRITERS["added tokens beyond"](tmp_path)
    file = read_bpe(folder)
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
    write_json(folder, data)
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
    counts = count_segmented_words(load_tokenizer(folder), ["aa bb aa", "aa"])
    ids = read_bpe(folder).ids
    assert counts == {
        (ids["a"], ids["a"]): 2,
        (ids["Ġ"], ids["b"], ids["b"]): 1,
        (ids["Ġ"], ids["a"], ids["a"]): 1,
    }


@pytest.mark.parametrize("kind", MARKED)
def test_cutting_words_leaves_a_texts_tokens_as_they_are(kind: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(WRITERS[kind](tmp_path))
    before = tokenizer.to_str()
    cutting = cut_words(tokenizer)
    for text in [*NEW_TEXTS, *ADVERSARIAL, *random_texts(1), "", "   ", "▁ ▁", "\n the", "100 ,.,é, 7b"]:
        assert cutting.encode(text).ids == tokenizer.encode(text).ids
    assert tokenizer.to_str() == before


def test_words_end_where_no_token_joins_the_characters(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(WRITERS["unsplit"](tmp_path))
    assert pieces(cut_words(tokenizer), "the cat,  sat 10") == ["▁the", "▁cat", ",", "▁▁sat", "▁", "1", "0"]
    byte_level = load_tokenizer(write_byte_level(tmp_path / "byte-level"))
    assert cut_words(byte_level) is byte_level


@pytest.mark.parametrize("seed", range(20))
def test_a_word_pattern_cuts_between_kinds_that_are_not_joined(seed: int) -> None:
    """Every text against a loop over its characters, for random sets of joined kinds."""
    generator = random.Random(seed)
    kinds = {"mark": "▁", "letter": "aé\u0301漢", "digit": "1٣", "other": " .²\n😀"}
    of = {character: kind for kind, characters in kinds.items() for character in characters}
    joined = {(left, right) for left in kinds for right in kinds if generator.random() < 0.5}
    cut = pre_tokenizers.Split(Regex(word_pattern(joined)), "isolated")
    for length in range(1, 60):
        text = "".join(generator.choices(list(of), k=length))
        words = text[0]
        for left, right in pairwise(text):
            words += right if (of[left], of[right]) in joined else f"|{right}"
        assert "|".join(word for word, _ in cut.pre_tokenize_str(text)) == words


@pytest.mark.parametrize("unknown", [False, True])
def test_joined_kinds_are_those_of_the_merges(unknown: bool) -> None:
    found = joined_kinds([("▁", "▁"), ("▁▁", "a"), (".", "²")], fuses_unknown=unknown)
    of_merges = {("mark", "mark"), ("mark", "letter"), ("other", "other")}
    assert found - of_merges == set() if not unknown else ("letter", "digit") in found
    assert of_merges <= found


def test_counts_do_not_depend_on_batches_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(write_byte_level(tmp_path))
    texts = random_texts(2, 300)
    pieces = [piece for text in texts for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    expected = list(Counter(pieces).items())
    assert list(words.count_words(tokenizer, iter(texts)).items()) == expected
    monkeypatch.setattr(words, "_BATCH", 200)
    for processes in (1, 2):
        counts = words.count_words(tokenizer, iter(texts), processes=processes)
        assert list(counts.items()) == expected


def test_counting_goes_on_when_processes_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(write_byte_level(tmp_path))
    texts = random_texts(3, 100)
    expected = words.count_words(tokenizer, texts, processes=1)
    monkeypatch.setattr(words, "_BATCH", 200)

    def submit(pool: ProcessPoolExecutor, *task: object) -> Future:
        if len(submitted := pool.__dict__.setdefault("submitted", [])) > 5:
            raise BrokenProcessPool
        submitted.append(future := Future())
        future.set_exception(BrokenProcessPool())
        return future

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    assert words.count_words(tokenizer, texts, processes=2) == expected


def test_added_tokens_are_no_words_and_special_ones_are_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_byte_level(tmp_path))
    tokenizer.add_tokens(["abc"])
    with WordSequence() as sequence:
        counts = words.count_words(tokenizer, ["xabc y", "<s>"], sequence=sequence)
        assert counts == {"x": 1, "Ġy": 1, "<": 1, "s": 1, ">": 1}
        assert [numbers.tolist() for numbers in sequence] == [[0, -1, 1, -1, 2, 3, 4, -1]]
