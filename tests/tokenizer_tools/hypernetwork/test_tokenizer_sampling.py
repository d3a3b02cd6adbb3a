"""Sampled tokenizers: counts against brute force, the distribution of their noise, and the same one again."""

import math
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError
from tiny import SENTENCES
from tokenizers import pre_tokenizers

from cpt.references.tiktoken import spell
from tokenizer_tools.hypernetwork.sampling import (
    TokenizerSampler,
    substring_scores,
    whitespace_runs,
)
from tokenizer_tools.hypernetwork.training.settings import SamplingConfig

TEXTS = [*SENTENCES, "naïve 日本語のテキスト\n\n\n  42 tabs\t\t😀😀😀", "don't  stop,\r\nit's 1999!!!"]
ROOM = 256 + len(whitespace_runs(15))


def words_of(texts: list[str]) -> Counter[str]:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    return Counter(word for text in texts for word, _ in split(text))


def brute_force(texts: list[str], longest: int, stride: int) -> dict[bytes, int]:
    """Every substring of every word, one after the other."""
    alphabet = {spell(bytes([byte])): byte for byte in range(256)}
    scores: Counter[bytes] = Counter()
    for word, count in words_of(texts).items():
        characters = bytes(alphabet[character] for character in word).decode()
        for start in range(0, len(characters), stride):
            rest = characters[start:].encode()
            for end in range(1, min(longest, len(rest)) + 1):
                scores[rest[:end]] += count * end
    return scores


def found_scores(texts: list[str], longest: int, stride: int) -> dict[bytes, int]:
    keys, scores = substring_scores(words_of(texts), longest, stride)
    rows = keys.astype(">u8").tobytes()
    substrings = [rows[16 * i : 16 * i + rows[16 * i + 15]] for i in range(len(keys))]
    assert substrings == sorted(substrings)
    return dict(zip(substrings, scores.tolist(), strict=True))


@pytest.mark.parametrize(("longest", "stride"), [(15, 4), (15, 1), (3, 4), (7, 2)])
def test_substrings_are_those_of_brute_force(longest: int, stride: int) -> None:
    assert found_scores(TEXTS * 2, longest, stride) == brute_force(TEXTS * 2, longest, stride)


def sampler(seed: int = 17, **settings: float) -> TokenizerSampler:
    made = TokenizerSampler(SamplingConfig(**{"vocabulary": ROOM + 40, **settings}), seed)
    made.push(TEXTS)
    return made


def test_without_noise_a_tokenizer_has_the_highest_scores() -> None:
    sampled = sampler(noise=0).sample(3)
    scores = brute_force(TEXTS, 15, 4)
    total, lowest = sum(scores.values()), min(scores.values())
    tokens = dict(zip(sampled.tokens, sampled.log_probabilities, strict=True))
    assert len(tokens) == len(sampled.tokens) == ROOM + 40
    candidates = {
        token: score
        for token, score in scores.items()
        if len(token) > 1 and sum(byte in b" \n\t" for byte in token) < 2
    }
    kept = set(sampled.tokens[ROOM:])
    worst = min(candidates[token] for token in kept)
    assert all(score <= worst for token, score in candidates.items() if token not in kept)
    for token in kept:
        assert tokens[token] == pytest.approx(math.log(candidates[token] / total))
    for byte in range(256):
        assert tokens[bytes([byte])] == pytest.approx(math.log(lowest / total))
    for run in (b"  ", b"\n\n", b"\t\t\t", b" \n\n\n", b"\n" + b" " * 14):
        assert tokens[run] == 0
    assert sampled.noise == 0


def test_probabilities_have_normal_noise_of_the_steps_own_scale() -> None:
    plain = sampler(noise=0, vocabulary=ROOM + 10_000).sample(0)
    noisy = sampler(noise=1.0, noise_spread=0.0, vocabulary=ROOM + 10_000).sample(0)
    before = dict(zip(plain.tokens[ROOM:], np.exp(plain.log_probabilities[ROOM:]), strict=True))
    after = dict(zip(noisy.tokens[ROOM:], noisy.log_probabilities[ROOM:], strict=True))
    assert before.keys() == after.keys()
    positive = {token: math.exp(log_p) for token, log_p in after.items() if log_p > -1e5}
    noise = np.array([p - before[token] for token, p in positive.items()])
    # with z = 1 every other token is impossible, and the others' probabilities are half a normal distribution
    assert noisy.noise == 1
    assert len(positive) / len(after) == pytest.approx(0.5, abs=0.1)
    assert np.sqrt((noise**2).mean()) == pytest.approx(1, abs=0.15)
    values = noisy.log_probabilities[ROOM:]
    assert (np.diff(values) <= 0).all()


def test_the_scale_of_the_noise_is_log_normal() -> None:
    made = TokenizerSampler(SamplingConfig(), seed=1)
    logs = np.log([made.noise(step) for step in range(4_000)])
    assert logs.mean() == pytest.approx(math.log(1e-5), abs=0.2)
    assert logs.std() == pytest.approx(4, abs=0.15)
    quantiles = np.quantile((logs - math.log(1e-5)) / 4, [0.025, 0.16, 0.5, 0.84, 0.975])
    assert quantiles == pytest.approx([-1.96, -0.99, 0, 0.99, 1.96], abs=0.15)


def same(one: object, other: object) -> bool:
    return (
        list(one.tokens) == list(other.tokens)
        and one.noise == other.noise
        and one.log_probabilities.tobytes() == other.log_probabilities.tobytes()
        and one.tokenizer.to_str() == other.tokenizer.to_str()
    )


def test_seed_step_and_queue_decide_alone() -> None:
    """A run that begins again fills its queue in another way: none of the texts that have left it."""
    texts = [f"{text} {number}" for number in range(9) for text in SENTENCES]
    running, resumed = (TokenizerSampler(SamplingConfig(vocabulary=ROOM + 90, queue=8), 5) for _ in range(2))
    for begin in range(0, len(texts), 2):
        running.push(texts[begin : begin + 2])
        running.sample(begin)
    resumed.push(texts[-8:])
    sampled = running.sample(7)
    assert same(sampled, resumed.sample(7))
    assert same(sampled, running.sample(7))
    assert not same(sampled, running.sample(8))
    assert not same(TokenizerSampler(SamplingConfig(vocabulary=ROOM + 90, queue=8), 6).sample(7), sampled)


def test_a_queue_forgets_its_oldest_texts() -> None:
    made = TokenizerSampler(SamplingConfig(vocabulary=ROOM + 500, queue=2, noise=0), 5)
    made.push(["Hippopotamus", "Rhinoceros"])
    assert b"Hippo" in made.sample(0).tokens
    made.push(["Giraffe"])
    later = made.sample(0).tokens
    assert b"Hippo" not in later
    assert {b"Rhino", b"Giraffe"} <= set(later)


def test_any_text_and_all_bytes_come_back() -> None:
    for step in range(6):
        sampled = sampler().sample(step)
        for text in (
            *TEXTS,
            "".join(map(chr, range(0x250))),
            "  \n\n \t x",
            "\r\n\x00\x7f\u2028",
            "Zürich 東京 🎈",
        ):
            ids = sampled.tokenizer.encode(text).ids
            assert b"".join(sampled.tokens[token_id] for token_id in ids) == text.encode()
            assert sampled.tokenizer.decode(ids) == text
        every_byte = sampled.tokenizer.model.tokenize(spell(bytes(range(256))))
        assert b"".join(sampled.tokens[token.id] for token in every_byte) == bytes(range(256))


def test_text_is_cut_into_likely_tokens() -> None:
    sampled = sampler(noise=0, vocabulary=ROOM + 2_000).sample(0)
    longest = sampled.tokenizer.encode(TEXTS[0]).ids
    few = sampler(noise=0, vocabulary=ROOM + 5).sample(0).tokenizer.encode(TEXTS[0]).ids
    assert len(longest) < len(few) < len(TEXTS[0])
    assert sampled.tokens[sampled.tokenizer.encode("\n\n\n").ids[0]] == b"\n\n\n"


def test_an_empty_queue_leaves_bytes_and_whitespace() -> None:
    sampled = TokenizerSampler(SamplingConfig(), 1).sample(0)
    assert len(sampled.tokens) == ROOM
    assert sampled.tokenizer.decode(sampled.tokenizer.encode("Hä?").ids) == "Hä?"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary": ROOM}, f"vocabulary {ROOM} has no room"),
        ({"longest": 16}, "less than or equal to 15"),
        ({"noise": -1}, "greater than or equal to 0"),
        ({"noise": math.inf}, "finite"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SamplingConfig(**settings)


def test_settings_change_the_tokenizer() -> None:
    plain = sampler(noise=0, vocabulary=ROOM + 400).sample(0).tokens
    assert max(map(len, plain[256:])) == 15
    short = sampler(noise=0, longest=4).sample(0).tokens
    assert max(map(len, short)) == 4
    assert (b"    " in short, b"     " in short) == (True, False)
    assert len(sampler(noise=0, vocabulary=ROOM + 7).sample(0).tokens) == ROOM + 7
    dense = sampler(noise=0, stride=1, vocabulary=ROOM + 10_000).sample(0).tokens
    assert len(dense) > len(sampler(noise=0, vocabulary=ROOM + 10_000).sample(0).tokens)
