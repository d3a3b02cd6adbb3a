"""Where phases begin and end, by counting rows one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest

from cpt.corpus.batch_rows import BatchRows, Phases, PlacedPhase, place
from cpt.corpus.mixture import ONCE, MixturePhase

SIZES = {"a": 23, "b": 11, "c": 40}


def phase(until: float | Literal["once"], weights: Sequence[int], replay_rows: int = 0) -> MixturePhase:
    return MixturePhase(until, dict(zip(SIZES, weights, strict=True)), replay_rows)


def placed(
    phases: Sequence[MixturePhase], steps: int, changes: Phases = (), unread: dict[str, int] = SIZES
) -> tuple[BatchRows, tuple[int, ...]]:
    return place(phases, steps, changes, 8, unread)


def firsts(phases: Sequence[MixturePhase], steps: int, changes: Phases = ()) -> list[int]:
    return [each.first for each in placed(phases, steps, changes)[0].phases]


def test_phases_begin_at_their_shares_of_the_steps() -> None:
    phases = [phase(0.3, [1, 1, 1]), phase(0.85, [1, 0, 0]), phase(1, [0, 0, 1])]
    assert firsts(phases, 100) == [0, 30, 85]
    rows, ends = placed(phases, 2)
    assert [(each.first, each.mixture.until) for each in rows.phases] == [(0, 0.3), (1, 0.85)]
    assert ends == (1, 2, 2)
    assert [each.mixture.until for each in placed(phases, 0)[0].phases] == [0.3]


def test_a_phase_until_once_ends_with_the_step_that_reads_the_last_sequence() -> None:
    alone, rest = phase(ONCE, [0, 1, 0]), phase(1, [1, 0, 1])
    assert placed([alone, rest], 100)[1] == (2, 100)  # 11 sequences in batches of 8
    assert placed([phase(ONCE, [0, 1, 0], 2), rest], 100)[1] == (2, 100)  # of 6
    assert placed([phase(ONCE, [0, 1, 0], 7), rest], 100)[1] == (11, 100)  # of 1
    assert placed([phase(ONCE, [1, 1, 1]), rest], 100)[1] == (15, 100)  # 3 times 40: the largest decides
    assert placed([phase(0.1, [0, 1, 0]), alone, rest], 10)[1] == (1, 2, 10)  # what was read before counts
    assert placed([alone, rest], 100, unread=SIZES | {"b": 3})[1] == (1, 100)
    assert firsts([phase(0.2, [0, 1, 0]), alone, rest], 10) == [0, 2]  # nothing is left to read
    assert firsts([phase(0.2, [1, 0, 0]), alone, rest], 10) == [0, 2, 4]
    assert firsts([alone, rest], 2) == [0]
    assert placed([alone, rest], 1)[1] == (2, 1)  # it would end beyond the run


@pytest.mark.parametrize("seed", range(30))
def test_ends_by_counting_rows(seed: int) -> None:
    chance = random.Random(seed)
    unread = {name: chance.randint(1, size) for name, size in SIZES.items()}
    weights = [chance.choice([0, 1, 3, 200]) for _ in SIZES]
    weights[chance.randrange(3)] = 1
    changes = [(0, 1), (chance.randint(1, 4), chance.randint(0, 7))]
    once = phase(ONCE, weights, 1)
    _, (end, _) = placed([once, phase(1, [1, 1, 1], 3)], 10**6, changes, unread)
    for_ever, read, step = BatchRows([PlacedPhase(0, once)], changes, 8), Counter[str](), 0
    while any(read[name] < unread[name] for name, weight in once.weights.items() if weight):
        read.update(for_ever.of(step))
        step += 1
    assert end == step


def test_a_gate_that_raises_replay_makes_the_phase_longer_and_changes_no_batch_before() -> None:
    phases = [phase(ONCE, [1, 0, 0], 2), phase(0.5, [0, 1, 1], 2), phase(1, [1, 1, 1], 2)]
    plain, raised = (placed(phases, 20, changes) for changes in ((), [(0, 2), (2, 7)]))
    assert [ends for _, ends in (plain, raised)] == [(4, 10, 20), (13, 10, 20)]
    assert [raised[0].of(step) for step in (0, 1)] == [plain[0].of(step) for step in (0, 1)]
    assert [each.first for each in raised[0].phases] == [0, 13]  # the second phase has no step left
    later = placed(phases, 20, [(0, 2), (4, 7)])  # at its end
    assert later[1] == (4, 10, 20)
    assert [later[0].of(step) for step in range(4)] == [plain[0].of(step) for step in range(4)]
