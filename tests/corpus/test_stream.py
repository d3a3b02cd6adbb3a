"""The stateless data order: resume, partitions, epochs, exact replay, and the ledger against counting."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cpt.corpus.mixture import replay_rows
from cpt.corpus.shards import ShardWriter
from cpt.corpus.stream import TrainingStream
from cpt.corpus.tokenised_source import TokenisedSource
from cpt.errors import DataError, UsageError


def make_source(folder: Path, sequences: int, first: int, shard_tokens: int = 50) -> TokenisedSource:
    """`sequences` sequences of one piece each, whose first token tells them apart; several shards."""
    writer = ShardWriter(folder, sequence_length=16, shard_tokens=shard_tokens)
    for number in range(sequences):
        writer.add([np.full(9 + number % 8, first + number, dtype=np.uint32)], number)
    writer.close()
    return TokenisedSource(folder)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, TokenisedSource]:
    return {
        "domain": make_source(tmp_path / "domain", 23, 1000),
        "replay": make_source(tmp_path / "replay", 7, 5000),
    }


def ids(rows: list) -> list[int]:
    return [int(row.tokens[0]) for row in rows]


def test_two_runs_and_a_resumed_one_see_the_same(sources: dict[str, TokenisedSource]) -> None:
    whole = [ids(TrainingStream(sources, 0.25, 8, 17).batch(step)) for step in range(12)]
    resumed = TrainingStream(sources, 0.25, 8, 17)
    assert [ids(resumed.batch(step)) for step in range(5, 12)] == whole[5:]
    again = TrainingStream(sources, 0.25, 8, 17)
    assert [ids(again.batch(step)) for step in range(9, 12)] == whole[9:]
    assert [ids(TrainingStream(sources, 0.25, 8, 18).batch(step)) for step in range(12)] != whole


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_any_number_of_processes_sees_the_same_union(
    sources: dict[str, TokenisedSource], processes: int
) -> None:
    for step in range(6):
        parts = [
            ids(TrainingStream(sources, 0.25, 8, 17).batch(step)[rank::processes])
            for rank in range(processes)
        ]
        merged = [parts[row % processes][row // processes] for row in range(8)]
        assert merged == ids(TrainingStream(sources, 0.25, 8, 17).batch(step))


def test_row_is_the_position_in_the_stream(sources: dict[str, TokenisedSource]) -> None:
    stream = TrainingStream(sources, 0.25, 8, 17)
    rows = [stream.row(position) for position in range(32)]
    assert ids(rows) == [id for step in range(4) for id in ids(stream.batch(step))]


def test_every_epoch_visits_every_sequence_once_in_another_order(
    sources: dict[str, TokenisedSource],
) -> None:
    stream = TrainingStream({"domain": sources["domain"]}, 0.0, 4, 17)
    drawn = [id for step in range(23) for id in ids(stream.batch(step))]  # 4 epochs of 23
    drawn_in_order = [
        number for step in range(23) for number in stream._orders["domain"].numbers(step * 4, 4)
    ]
    epochs = [drawn_in_order[epoch * 23 : (epoch + 1) * 23] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert Counter(drawn) == dict.fromkeys(range(1000, 1023), 4)


@pytest.mark.parametrize(
    ("share", "batch"), [(0.0, 8), (0.05, 20), (0.1, 8), (0.25, 8), (0.3, 7), (0.5, 2), (0.9, 8)]
)
def test_every_batch_has_exactly_round_of_x_times_b_replay_rows(
    sources: dict[str, TokenisedSource], share: float, batch: int
) -> None:
    stream = TrainingStream(sources, share, batch, 17)
    places = set()
    for step in range(200):
        replay = [row for row, id in enumerate(ids(stream.batch(step))) if id >= 5000]
        assert len(replay) == round(share * batch)
        places.update(replay)
    if round(share * batch):
        assert places == set(range(batch)), "replay rows must not sit in the same micro-batch always"


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 11, 40])
def test_the_ledger_equals_counting(sources: dict[str, TokenisedSource], steps: int) -> None:
    stream = TrainingStream(sources, 0.25, 8, 17)
    ledger = stream.ledger(steps)
    rows = [row for step in range(steps) for row in stream.batch(step)]
    for name, first, size in (("domain", 1000, 23), ("replay", 5000, 7)):
        own = [row for row in rows if (row.tokens[0] >= 5000) == (first == 5000)]
        assert ledger[name]["sequences"] == len(own)
        assert ledger[name]["tokens"] == sum(len(row.tokens) for row in own)
        assert ledger[name]["epochs"] == pytest.approx(len(own) / size)


def test_available_steps_and_tokens_are_bounded_by_the_domain(
    sources: dict[str, TokenisedSource],
) -> None:
    stream = TrainingStream(sources, 0.25, 8, 17)
    assert stream.available_steps(1) == 23 // 6
    assert stream.available_steps(2) == 46 // 6
    ledger = stream.ledger(7)
    assert stream.available_tokens(2) == ledger["domain"]["tokens"] + ledger["replay"]["tokens"]
    assert ledger["domain"]["epochs"] <= 2 < stream.ledger(8)["domain"]["epochs"]


def test_shares_that_cannot_be_exact_are_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.01 of 8 sequences rounds to none(.|\n)*batch_sequences: 100"):
        replay_rows(0.01, 8)
    with pytest.raises(UsageError, match="leaves none for the domain"):
        replay_rows(0.99, 8)
    with pytest.raises(UsageError, match="leaves none"):
        replay_rows(-0.5, 8)
    assert replay_rows(0.0, 8) == 0


def test_replay_without_replay_text_is_refused(sources: dict[str, TokenisedSource]) -> None:
    with pytest.raises(DataError, match="no replay text"):
        TrainingStream({"domain": sources["domain"]}, 0.25, 8, 17)


def test_replay_text_is_ignored_at_share_zero(sources: dict[str, TokenisedSource]) -> None:
    assert set(TrainingStream(sources, 0.0, 8, 17).ledger(3)) == {"domain"}


def test_a_later_run_goes_on_where_an_earlier_one_ended(sources: dict[str, TokenisedSource]) -> None:
    whole = TrainingStream(sources, 0.25, 8, 17)
    first_steps, seen = 4, Counter()
    for step in range(first_steps):
        seen.update(ids(whole.batch(step)))
    assert whole.consumed(first_steps) == {"domain": 24, "replay": 8}
    later = TrainingStream(sources, 0.5, 4, 17, offset=whole.consumed(first_steps))
    for step in range(11):  # 22 domain rows are what is left of the second epoch
        seen.update(ids(later.batch(step)))
    assert {seen[1000 + number] for number in range(23)} == {2}
    assert later.consumed(11) == {"domain": 46, "replay": 30}
    assert later.epochs(11) == 2.0
    counted = sum(len(row.tokens) for step in range(11) for row in later.batch(step))
    ledger = later.ledger(11)
    assert sum(entry["tokens"] for entry in ledger.values()) == counted
    assert (ledger["domain"]["sequences"], ledger["domain"]["epochs"]) == (22, 22 / 23)
    assert later.available_steps(2) == 11
    assert later.available_steps(1) == 0


PHASES = [(0, 2), (3, 4), (4, 0), (7, 1)]


def test_phases_change_the_rows_from_their_first_step_on(sources: dict[str, TokenisedSource]) -> None:
    stream = TrainingStream(sources, 0.25, 8, 17).with_phases(PHASES)
    counts = [sum(id >= 5000 for id in ids(stream.batch(step))) for step in range(9)]
    assert counts == [2, 2, 2, 4, 0, 0, 0, 1, 1]
    assert [stream.rows(step).get("replay", 0) for step in range(9)] == counts


def test_a_phase_changes_nothing_before_it(sources: dict[str, TokenisedSource]) -> None:
    plain = TrainingStream(sources, 0.25, 8, 17)
    phased = plain.with_phases(PHASES)
    assert [ids(phased.batch(step)) for step in range(3)] == [ids(plain.batch(step)) for step in range(3)]
    longer = phased.with_phases([*PHASES, (9, 5)])
    assert [ids(longer.batch(step)) for step in range(9)] == [ids(phased.batch(step)) for step in range(9)]
    assert [ids(plain.batch(step)) for step in range(9)] == [
        ids(TrainingStream(sources, 0.25, 8, 17).batch(step)) for step in range(9)
    ]


def test_no_sequence_is_passed_over_or_seen_twice_in_an_epoch_across_phases(
    sources: dict[str, TokenisedSource],
) -> None:
    stream = TrainingStream(sources, 0.25, 8, 17).with_phases(PHASES)
    seen: dict[str, list[int]] = {"domain": [], "replay": []}
    for step in range(12):
        for source, number in stream.places(step):
            seen[source].append(number)
    for name, size in (("domain", 23), ("replay", 7)):
        whole = len(seen[name]) // size
        assert Counter(seen[name][: size * whole]).total() == size * whole
        assert max(Counter(seen[name]).values()) - min(Counter(seen[name]).values()) <= 1
        assert len(Counter(seen[name])) == size


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 6, 7, 8, 30])
def test_the_ledger_equals_counting_across_phases(sources: dict[str, TokenisedSource], steps: int) -> None:
    begin = {"domain": 5, "replay": 2}
    stream = TrainingStream(sources, 0.25, 8, 17, begin).with_phases(PHASES)
    ledger, passed = stream.ledger(steps), stream.consumed(steps)
    rows = [row for step in range(steps) for row in stream.batch(step)]
    for name, first, size in (("domain", 1000, 23), ("replay", 5000, 7)):
        own = [row for row in rows if (row.tokens[0] >= 5000) == (first == 5000)]
        assert ledger[name]["sequences"] == len(own)
        assert ledger[name]["tokens"] == sum(len(row.tokens) for row in own)
        assert ledger[name]["epochs"] == pytest.approx(len(own) / size)
        assert passed[name] == begin[name] + len(own)
    assert stream.epochs(steps) == passed["domain"] / 23


@pytest.mark.parametrize("epochs", [0.1, 1, 2, 3.5])
def test_available_steps_across_phases_by_brute_force(
    sources: dict[str, TokenisedSource], epochs: float
) -> None:
    for phases in (PHASES, [(0, 7)], [(0, 0)], [(0, 7), (5, 0)]):
        for begin in ({}, {"domain": 11}, {"domain": 60}):
            stream = TrainingStream(sources, 0.25, 8, 17, begin).with_phases(phases)
            fit = [steps for steps in range(1, 100) if stream.consumed(steps)["domain"] <= int(epochs * 23)]
            assert stream.available_steps(epochs) == max(fit, default=0)


def test_replay_may_begin_later(sources: dict[str, TokenisedSource]) -> None:
    stream = TrainingStream(sources, 0.0, 8, 17).with_phases([(0, 0), (2, 3)])
    assert stream.ledger(2)["replay"]["sequences"] == 0
    assert stream.ledger(4)["replay"]["sequences"] == 6


@pytest.mark.parametrize(
    "phases", [[], [(1, 2)], [(0, 8)], [(0, -1)], [(0, 1), (0, 2)], [(0, 1), (5, 2), (4, 1)]]
)
def test_phases_that_are_none_are_refused(
    sources: dict[str, TokenisedSource], phases: list[tuple[int, int]]
) -> None:
    with pytest.raises(ValueError, match="no phases"):
        TrainingStream(sources, 0.25, 8, 17).with_phases(phases)


def test_phases_without_replay_text_are_refused(sources: dict[str, TokenisedSource]) -> None:
    stream = TrainingStream({"domain": sources["domain"]}, 0.0, 8, 17)
    with pytest.raises(DataError, match=r"0\.25 is wanted, but the corpus has no replay text"):
        stream.with_phases([(0, 0), (4, 2)])


def test_a_share_for_which_no_batch_is_large_enough_is_refused() -> None:
    with pytest.raises(UsageError, match="rounds to none") as caught:
        replay_rows(1e-320, 8)
    assert "larger batches" not in str(caught.value)
