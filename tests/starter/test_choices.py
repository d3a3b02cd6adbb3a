"""Settings of a first recipe."""

import math
from dataclasses import replace

import pytest

from cpt.errors import UsageError
from cpt.starter.choices import (
    EPOCHS,
    FEWEST_STEPS,
    BaseFacts,
    Choices,
    Training,
    Wishes,
    choose,
    chunk_length,
    is_far,
    probe_tokens,
    sequence_length,
)
from cpt.starter.text_facts import TextFacts

FACTS = TextFacts(
    documents=20_000,
    bytes=40_000_000,
    characters=39_000_000,
    duplicates=0,
    unread=0,
    median_tokens=300,
    bytes_per_token=4.0,
    continuable=1.0,
    languages={"en": 1.0},
)
BASE = BaseFacts(general_bytes_per_token=4.2, positions=None)
LAPTOP = Training("a laptop", tokens_per_second=400, micro_batch=8, checkpointing=False)
GPU = Training("a GPU", tokens_per_second=100_000, micro_batch=48, checkpointing=True)


def chosen(
    facts: TextFacts = FACTS, hours: float = 2, training: Training = LAPTOP, **wishes: object
) -> Choices:
    return choose(facts, BASE, Wishes(hours=hours, **wishes), training)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("documents", "share", "asked"), [(80, 1.0, True), (80, 0.9, False), (20_000, 0.01, False)]
)
def test_continuations_are_asked_where_enough_documents_are_long(
    documents: int, share: float, asked: bool
) -> None:
    facts = replace(FACTS, documents=documents, continuable=share)
    assert chosen(facts).continuation is asked


def test_time_bounds_the_tokens_of_a_slow_machine() -> None:
    two, four = chosen(hours=2), chosen(hours=4)
    assert 0.5 < two.tokens / (2 * 3600 * 400) < 0.65
    assert four.tokens == pytest.approx(2 * two.tokens, rel=0.06)
    assert "2 hours" in two.reasons["tokens"]
    assert two.epochs == 1


@pytest.mark.parametrize(
    ("documents", "characters", "chunk"),
    [
        (80, 10_000_000, None),
        (79, 10_000_000, 8_000),
        (3, 480_000, 3_000),
        (3, 160_000, 1_000),
        (3, 150_000, None),
    ],
)
def test_a_few_long_documents_are_cut(documents: int, characters: int, chunk: int | None) -> None:
    facts = replace(FACTS, documents=documents, characters=characters)
    assert chunk_length(facts) == chunk


@pytest.mark.parametrize(
    ("tokens", "read"), [(10_000, 2_048), (52_000, 3_072), (131_072, 8_192), (10**9, 8_192)]
)
def test_readings_of_a_short_run_are_short(tokens: int, read: int) -> None:
    assert probe_tokens(tokens) == read
    assert tokens < 32_768 or 4 * read / 3 < 0.1 * tokens


def test_replay_that_need_not_be_sampled_leaves_time_for_training() -> None:
    assert chosen(replay=True).tokens > chosen().tokens
    assert chosen(replay=True).sampled == 0
    assert chosen().sampled == pytest.approx(chosen().replay * chosen().tokens, rel=0.1)


def test_the_text_bounds_the_tokens_of_a_fast_machine() -> None:
    found = chosen(training=GPU)
    fresh = FACTS.tokens * (1 - found.heldout)
    assert found.tokens * (1 - found.replay) == pytest.approx(EPOCHS * fresh, rel=0.06)
    assert found.epochs == EPOCHS
    assert "passes" in found.reasons["tokens"]
    assert chosen(replace(FACTS, complete=False), training=GPU).tokens > 4 * found.tokens


def test_steps_grow_before_batches() -> None:
    assert (chosen().batch, chosen(training=GPU).batch) == (8, 64)
    assert chosen().steps >= FEWEST_STEPS
    assert chosen(training=GPU).micro_batch == 32  # the largest divisor of 64 up to 48


@pytest.mark.parametrize("hours", [0.2, 0.5, 8])
def test_a_run_warms_up_for_four_steps_or_a_hundredth(hours: float) -> None:
    found = chosen(hours=hours)
    assert round(found.warmup * found.steps) >= 4
    assert found.warmup == max(0.01, math.ceil(400 / found.steps) / 100)


def test_sequences_follow_the_documents_unless_the_run_is_short() -> None:
    lengths = [
        sequence_length(replace(FACTS, median_tokens=size), 10**9, None) for size in (20, 129, 300, 5_000)
    ]
    assert lengths == [256, 512, 1024, 1024]
    assert sequence_length(FACTS, 100_000, None) == 256
    assert sequence_length(FACTS, 2 * FEWEST_STEPS * 8 * 512, None) == 512
    assert sequence_length(FACTS, 10**9, 128) == 128  # no more than the model has


@pytest.mark.parametrize(
    ("per_token", "language", "far"),
    [(4.0, "en", False), (3.0, "en", True), (3.5, "pt", True), (4.1, "de", False), (3.5, None, False)],
)
def test_a_text_is_far_by_its_tokens(per_token: float, language: str | None, far: bool) -> None:
    assert is_far(replace(FACTS, bytes_per_token=per_token), BASE, language) == far


def test_a_far_text_gets_more_replay_a_wider_limit_and_more_new_tokens() -> None:
    korean = replace(FACTS, bytes_per_token=1.9, languages={"ko": 1.0})
    near, far = chosen(training=GPU), chosen(korean, training=GPU)
    assert (near.replay, far.replay) == (0.05, 0.25)
    assert (near.limit, far.limit) == (0.01, 0.02)
    assert (near.new_tokens, far.new_tokens) == (0, 8192)
    assert chosen(FACTS, training=GPU, language="ko").replay == 0.05  # the tokenizer knows it well
    assert "another language" in far.reasons["replay"]
    domain = chosen(replace(FACTS, bytes_per_token=3.5), training=GPU)
    assert (domain.new_tokens, domain.distil) == (2048, True)
    assert chosen(replace(FACTS, bytes_per_token=3.5), hours=0.5).new_tokens in (0, 256)


def test_one_row_of_a_batch_is_the_least_replay() -> None:
    assert chosen().replay == 1 / 8
    assert "one row of 8" in chosen().reasons["replay"]


def test_little_text_holds_more_out() -> None:
    shares = [chosen(replace(FACTS, documents=count)).heldout for count in (80, 100, 150, 500, 5_000, 50_000)]
    assert shares == [0.2, 0.16, 0.107, 0.1, 0.04, 0.01]


@pytest.mark.parametrize("documents", [80, 81, 97, 159, 161, 1_000, 1_599])
def test_at_least_sixteen_documents_are_held_out(documents: int) -> None:
    share = chosen(replace(FACTS, documents=documents)).heldout
    assert share * documents >= 16
    assert share <= 0.2


@pytest.mark.parametrize("documents", [1, 79])
def test_fewer_than_eighty_documents_are_refused(documents: int) -> None:
    with pytest.raises(UsageError, match=f"the text has {documents} document") as caught:
        chosen(replace(FACTS, documents=documents))
    assert "Give at least 80" in str(caught.value.hint)


@pytest.mark.parametrize(("hours", "peak"), [(0.08, 3e-4), (0.3, 1e-4)])
def test_a_run_of_some_ten_thousand_tokens_has_a_higher_rate(hours: float, peak: float) -> None:
    found = chosen(hours=hours, replay=True)
    assert (found.tokens < 100_000) == (peak > 1e-4)
    assert found.peak == peak


def test_too_little_time_or_text_is_said_with_what_would_be_enough() -> None:
    with pytest.raises(UsageError, match="fewer than 20 steps") as caught:
        chosen(hours=0.02)
    assert "at least" in str(caught.value.hint)
    with pytest.raises(UsageError, match="the text has"):
        chosen(replace(FACTS, documents=100, bytes=20_000))
