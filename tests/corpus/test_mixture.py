"""Rows by weight: every beginning of the order, the stream against a simulation of it, phases, and gates."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from cpt.corpus.mixture import (
    ONCE,
    RESOLUTION,
    Interleaving,
    MixturePhase,
    weights_of_sizes,
    whole_weights,
)
from cpt.corpus.permutation import Permutation
from cpt.corpus.stream import TrainingStream
from cpt.errors import DataError

PARTS = ("domain.a", "domain.b", "domain.c")


class Source:
    """Sequences without text: number n of a source has 5 + n % 7 tokens."""

    def __init__(self, name: str, sequences: int) -> None:
        self.name, self.parts = name, {name: sequences}
        self.sequence_lengths = 5 + np.arange(sequences) % 7
        self.has_weights = False
        self.sums = self.count(np.arange(sequences))

    def __len__(self) -> int:
        return len(self.sequence_lengths)

    def sequence(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(source=self.name, number=number, tokens=range(self.sequence_lengths[number]))

    def rows(self, numbers: np.ndarray) -> list[SimpleNamespace]:
        return [self.sequence(number) for number in numbers.tolist()]

    def count(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([[len(numbers), self.sequence_lengths[numbers].sum(), 0]])


def sources(**sizes: int) -> dict[str, Source]:
    named = {"replay" if name == "replay" else f"domain.{name}": size for name, size in sizes.items()}
    return {name: Source(name, size) for name, size in named.items()}


OPENED = sources(a=23, b=11, c=40, replay=7)


def mixed(phases: Sequence[MixturePhase], batch: int = 8, seed: int = 17, **offset: int) -> TrainingStream:
    begin = {"replay" if name == "replay" else f"domain.{name}": count for name, count in offset.items()}
    return TrainingStream(OPENED, 0, batch, seed, begin, phases)  # type: ignore[arg-type]


def phase(until: float | Literal["once"], weights: Sequence[int], replay_rows: int = 0) -> MixturePhase:
    return MixturePhase(until, dict(zip(PARTS, weights, strict=True)), replay_rows)


def random_weights(chance: random.Random, parts: int) -> list[int]:
    weights = [chance.choice([0, 1, 2, chance.randint(1, 300)]) for _ in range(parts)]
    return weights if any(weights) else [1] * parts


@pytest.mark.parametrize("seed", range(40))
def test_every_beginning_holds_every_share_to_less_than_one_row(seed: int) -> None:
    chance = random.Random(seed)
    weights = random_weights(chance, chance.randint(1, 12))
    order, total = Interleaving(weights), sum(weights)
    before = np.zeros(len(weights), dtype=int)
    for rows in range(total + 3):
        counts = order.counts(rows)
        assert counts.sum() == rows
        assert all(
            abs(int(count) * total - weight * rows) < total
            for count, weight in zip(counts, weights, strict=True)
        )
        assert (counts >= before).all(), "a row that was read is never taken back"
        before = counts
    far = 10**12 + 7
    assert order.counts(far).sum() == far
    assert order.counts(7 * total).tolist() == [7 * weight for weight in weights]


def test_weights_as_written_are_exact_if_they_can_be() -> None:
    assert whole_weights({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert whole_weights({"a": 0.1, "b": 0.2, "c": 0}) == {"a": 1, "b": 2, "c": 0}
    assert whole_weights({"a": 0.37, "b": 0.63}) == {"a": 37, "b": 63}
    assert whole_weights({"a": 1e300, "b": 3e300}) == {"a": 1, "b": 3}


@pytest.mark.parametrize("seed", range(20))
def test_other_weights_are_rounded_and_no_part_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    weights = {str(number): chance.choice([0.0, chance.random(), 1e-9]) for number in range(9)} | {"x": 1}
    whole, total = whole_weights(weights), sum(map(Fraction, map(str, weights.values())))
    assert sum(whole.values()) == RESOLUTION
    for name, weight in weights.items():
        assert (whole[name] > 0) == (weight > 0)
        tiny = sum(0 < weight < 1e-6 for weight in weights.values())
        assert abs(whole[name] - Fraction(str(weight)) / total * RESOLUTION) < 1 + tiny


def test_temperature_goes_from_sizes_to_equal_weights() -> None:
    sizes = {"a": 100, "b": 400, "c": 1600}
    assert whole_weights(weights_of_sizes(sizes, 1)) == {"a": 1, "b": 4, "c": 16}
    assert whole_weights(weights_of_sizes(sizes, 2)) == {"a": 1, "b": 2, "c": 4}
    flat = whole_weights(weights_of_sizes(sizes, 1e9))
    assert max(flat.values()) - min(flat.values()) <= 1
    assert weights_of_sizes({"a": 10**9, "b": 1}, 0.01) == {"a": 1.0, "b": 0.0}


def simulated(
    phases: Sequence[MixturePhase],
    batch: int,
    steps: int,
    seed: int,
    changes: Sequence[tuple[int, int]],
    begin: Mapping[str, int],
) -> list[list[tuple[str, int]]]:
    """Return every batch of a run, row by row, with counters instead of closed forms."""
    read, batches, plan, left, in_phase = Counter(begin), [], [], list(phases), Counter()

    def is_over(each: MixturePhase, step: int) -> bool:
        if each.until == ONCE:
            return all(read[name] >= len(OPENED[name]) for name, weight in each.weights.items() if weight)
        return step >= round(each.until * steps)

    for step in range(steps):
        while is_over(left[0], step):
            left.pop(0)
            in_phase = Counter()
        mixture = left[0]
        plan.append(mixture)
        replay = mixture.replay_rows
        for first, rows in changes:
            if first <= step:
                then = plan[first].replay_rows
                replay = mixture.replay_rows
                if rows > then:
                    replay = max(rows, mixture.replay_rows)
                if rows < then:
                    replay = min(rows, mixture.replay_rows)
        total, drawn = sum(mixture.weights.values()), Counter()
        for _ in range(batch - replay):  # the part that is due first, of those that may come
            now = in_phase.total()
            able = {
                name: -(-(in_phase[name] + 1) * total // weight)
                for name, weight in mixture.weights.items()
                if weight and in_phase[name] * total // weight <= now
            }
            chosen = min(able, key=lambda name: (able[name], list(mixture.weights).index(name)))
            in_phase[chosen] += 1
            drawn[chosen] += 1
        drawn["replay"] = replay
        rows = []
        for name in (*mixture.weights, "replay"):
            for _ in range(drawn[name]):
                epoch, at = divmod(read[name], len(OPENED[name]))
                order = Permutation(len(OPENED[name]), seed, name, epoch)
                rows.append((name, int(order(np.array([at]))[0])))
                read[name] += 1
        order = Permutation(batch, seed, "rows", step)
        batches.append([rows[int(at)] for at in order(np.arange(batch))])
    return batches


def random_run(seed: int) -> tuple[TrainingStream, int, list[list[tuple[str, int]]]]:
    """A stream with random phases, weights, gates and earlier reading, and its simulation."""
    chance = random.Random(seed)
    batch, steps = chance.randint(2, 9), chance.randint(4, 25)
    ends = [*sorted(chance.sample(range(1, 20), chance.randint(0, 3))), 20]
    phases = [phase(end / 20, random_weights(chance, 3), chance.randint(0, batch - 1)) for end in ends]
    for _ in range(chance.choice([0, 0, 1, 2])):
        once = phase(ONCE, random_weights(chance, 3), chance.randint(0, batch - 1))
        phases.insert(chance.randrange(len(phases)), once)
    begin = {name.removeprefix("domain."): chance.randint(0, 60) for name in OPENED}
    stream = mixed(phases, batch, seed, **begin).for_steps(steps)
    changes: list[tuple[int, int]] = []
    if chance.random() < 0.7:
        at = sorted(chance.sample(range(1, steps), chance.randint(0, 3)))
        changes = [(first, chance.randint(0, batch - 1)) for first in (0, *at)]
        stream = stream.with_phases(changes)
    offset = {name: begin[name.removeprefix("domain.")] for name in OPENED}
    return stream, steps, simulated(phases, batch, steps, seed, changes, offset)


@pytest.mark.parametrize("seed", range(30))
def test_the_stream_is_its_simulation(seed: int) -> None:
    stream, steps, batches = random_run(seed)
    for step in random.Random(seed).sample(range(steps), steps):  # resumed anywhere, in any order
        assert stream.places(step) == batches[step]
        assert stream.rows(step) == Counter(name for name, _ in batches[step])


@pytest.mark.parametrize("seed", range(30))
def test_ledger_and_phases_equal_counting(seed: int) -> None:
    stream, steps, batches = random_run(seed)
    dropped = random.Random(seed).sample(range(steps), 2)

    def counted(places: list[tuple[str, int]], name: str) -> tuple[int, int]:
        own = [number for source, number in places if source == name]
        return len(own), int(OPENED[name].sequence_lengths[own].sum())

    for until in (0, steps // 2, steps):
        places = [place for batch in batches[:until] for place in batch]
        for name, row in stream.ledger(until).items():
            assert (row["sequences"], row["tokens"]) == counted(places, name)
            assert row["epochs"] == pytest.approx(row["sequences"] / len(OPENED[name]))
    found = stream.by_phase(steps, dropped)
    assert sum(each["steps"] for each in found) == steps
    for each in found:
        trained = [
            place
            for step in range(each["first"], each["first"] + each["steps"])
            if step not in dropped
            for place in batches[step]
        ]
        for name, row in each["sources"].items():
            assert (row["sequences"], row["tokens"]) == counted(trained, name)


@pytest.mark.parametrize("seed", range(30))
def test_no_part_is_ever_a_row_from_its_share_in_a_phase_whatever_gates_do(seed: int) -> None:
    stream, steps, _ = random_run(seed)
    for each in stream.by_phase(steps):
        weights = next(p.mixture.weights for p in stream._rows.phases if p.first == each["first"])
        counts: Counter[str] = Counter()
        for step in range(each["first"], each["first"] + each["steps"]):
            counts.update({name: rows for name, rows in stream.rows(step).items() if name != "replay"})
            for name, weight in weights.items():
                exact = Fraction(weight * counts.total(), sum(weights.values()))
                assert abs(counts[name] - exact) < 1


def test_no_sequence_of_a_part_is_read_twice_before_all_are_read_once() -> None:
    stream = mixed([phase(0.5, [3, 1, 2], 2), phase(1, [1, 3, 0], 1)]).for_steps(60)
    seen = Counter(place for step in range(60) for place in stream.places(step))
    for name, source in OPENED.items():
        times = [seen[name, number] for number in range(len(source))]
        assert max(times) - min(times) <= 1


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_take_slices_of_the_same_batch(processes: int) -> None:
    stream = mixed([phase(1, [3, 1, 2], 2)])
    for step in range(5):
        batch = [(row.source, row.number) for row in stream.batch(step)]
        parts = [batch[rank::processes] for rank in range(processes)]
        assert sorted(place for part in parts for place in part) == sorted(stream.places(step))
        assert [(row.source, row.number) for row in map(stream.row, range(step * 8, step * 8 + 8))] == batch


def test_a_domain_without_parts_is_read_in_the_same_order_with_a_mixture() -> None:
    opened = {"domain": Source("domain", 23), "replay": OPENED["replay"]}
    plain = TrainingStream(opened, 0.25, 8, 17, {"domain": 5})  # type: ignore[arg-type]
    phases = [MixturePhase(1.0, {"domain": 1}, 2)]
    other = TrainingStream(opened, 0, 8, 17, {"domain": 5}, phases)  # type: ignore[arg-type]
    assert [other.places(step) for step in range(30)] == [plain.places(step) for step in range(30)]
    assert other.ledger(30) == plain.ledger(30)
    assert other.available_steps(9) == plain.available_steps(9)


def test_the_order_without_parts_never_changes() -> None:
    """Golden value: a changed order would silently change every run."""
    opened = {"domain": Source("domain", 23), "replay": Source("replay", 7)}
    begin = {"domain": 5, "replay": 2}
    plain = TrainingStream(opened, 0.25, 8, 17, begin)  # type: ignore[arg-type]
    gated = plain.with_phases([(0, 2), (3, 4), (4, 0), (7, 1)])
    places = [stream.places(step) for stream in (plain, gated) for step in range(40)]
    assert sha256(repr(places).encode()).hexdigest()[:16] == "6b4d5e17c7941815"


def test_a_gate_is_a_floor_or_a_ceiling_for_later_phases_until_it_gives_back() -> None:
    stream = mixed([phase(0.25, [1, 1, 1], 2), phase(0.5, [1, 1, 1], 5), phase(1, [1, 1, 1], 1)])
    stream = stream.for_steps(12)  # phases begin at 0, 3 and 6

    def replay(*changes: tuple[int, int]) -> list[int]:
        return [stream.with_phases(changes).rows(step).get("replay", 0) for step in range(12)]

    assert [stream.rows(step)["replay"] for step in range(12)] == [2] * 3 + [5] * 3 + [1] * 6
    assert replay((0, 2), (1, 4)) == [2] + [4] * 2 + [5] * 3 + [4] * 6
    assert replay((0, 2), (1, 4), (8, 1)) == [2] + [4] * 2 + [5] * 3 + [4] * 2 + [1] * 4
    assert replay((0, 2), (4, 3)) == [2] * 3 + [5] + [3] * 2 + [1] * 6
    assert replay((0, 2), (1, 0)) == [2] + [0] * 11


@pytest.mark.parametrize("seed", range(20))
def test_available_steps_are_the_most_that_no_part_exceeds(seed: int) -> None:
    chance = random.Random(seed)
    weights = random_weights(chance, 3)
    caps = {name: chance.choice([0.5, 1, 2, 4.5]) for name in PARTS}
    stream = mixed([phase(1, weights, chance.randint(0, 7))], a=chance.randint(0, 30))

    def fits(steps: int) -> bool:
        before, after = stream.consumed(0), stream.consumed(steps)
        return all(after[n] in (before[n], *range(int(caps[n] * len(OPENED[n])) + 1)) for n in PARTS)

    fit = [steps for steps in range(1, 400) if fits(steps)]
    assert stream.available_steps(caps) == max(fit, default=0)


def test_available_steps_with_phases_exceed_no_part() -> None:
    stream = mixed([phase(0.8, [1, 0, 9], 1), phase(1, [3, 5, 1], 3)])
    for caps in ({"domain.a": 1, "domain.b": 1, "domain.c": 2}, dict.fromkeys(PARTS, 4), 1):
        steps = stream.available_steps(caps)
        epochs = [caps if isinstance(caps, int) else caps[name] for name in PARTS]
        bounds = [len(OPENED[name]) * most for name, most in zip(PARTS, epochs, strict=True)]

        def within(steps: int, bounds: list[int] = bounds) -> bool:
            read = stream.for_steps(steps).consumed(steps)
            return all(read[name] <= bound for name, bound in zip(PARTS, bounds, strict=True))

        assert steps
        assert within(steps)
        assert not within(steps + 2)


@pytest.mark.parametrize("seed", range(10))
def test_updates_of_the_weights_are_phases_of_the_same_weights(seed: int) -> None:
    """Whatever gates do to replay, and wherever an earlier run has ended."""
    chance = random.Random(seed)
    steps, batch = 20, chance.randint(2, 9)
    begins = [0, *sorted(chance.sample(range(1, steps), 3))]
    rows, weights = chance.randint(0, batch - 2), [random_weights(chance, 3) for _ in begins]
    ends = [*begins[1:], steps]
    changes = [(0, rows), (7, chance.randint(0, batch - 1))]
    begin = {name: chance.randint(0, 60) for name in ("a", "b", "c", "replay")}
    planned = [phase(end / steps, own, rows) for end, own in zip(ends, weights, strict=True)]
    expected = mixed(planned, batch, seed, **begin).for_steps(steps).with_phases(changes)
    plain = mixed([phase(1.0, [3, 1, 1], rows)], batch, seed, **begin).for_steps(steps).with_phases(changes)
    updates = [
        (first, dict(zip(PARTS, own, strict=True))) for first, own in zip(begins, weights, strict=True)
    ]
    found = plain.with_updates(updates)
    assert [found.places(step) for step in range(steps)] == [expected.places(step) for step in range(steps)]
    assert found.ledger(steps) == expected.ledger(steps)
    without = [{**each, "until": None} for each in expected.by_phase(steps)]
    assert [{**each, "until": None} for each in found.by_phase(steps)] == without
    for count in range(len(updates)):  # nothing before an update depends on it
        shorter = plain.with_updates(updates[:count])
        assert all(shorter.places(step) == found.places(step) for step in range(begins[count]))
    assert found.weights == {"domain.a": 3, "domain.b": 1, "domain.c": 1}


@pytest.mark.parametrize(
    "updates",
    [
        [(3, dict.fromkeys(PARTS, 1)), (3, dict.fromkeys(PARTS, 2))],
        [(-1, dict.fromkeys(PARTS, 1))],
        [(3, {"domain.a": 1})],
    ],
)
def test_updates_out_of_order_or_of_other_sources_are_refused(updates: list[tuple[int, dict]]) -> None:
    with pytest.raises(ValueError, match="are no updates of"):
        mixed([phase(1.0, [1, 1, 1])]).with_updates(updates)


def test_a_place_in_replay_outlasts_a_training_without_replay() -> None:
    stream = mixed([phase(1, [1, 1, 1])], a=3, replay=5)
    assert stream.consumed(10)["replay"] == 5
    assert "replay" not in stream.ledger(10)
    assert stream.parts(10) == {}
    assert mixed([phase(1, [1, 1, 1], 2)], replay=5).consumed(10)["replay"] == 25


def test_replay_in_a_later_phase_needs_replay_text() -> None:
    opened = {name: OPENED[name] for name in PARTS}
    phases = [phase(0.5, [1, 1, 1]), phase(1, [1, 1, 1], 2)]
    stream = TrainingStream(opened, 0, 8, 17, None, phases)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no replay text"):
        stream.for_steps(10)
