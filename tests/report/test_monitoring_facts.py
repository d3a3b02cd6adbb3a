"""Facts of what was watched and bounded during training."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from full_run import LAYERS, RAISED, SPARSE, STEPS, TOKENS_PER_STEP, full_run, piqa, update

from cpt.report.facts import RunRecord, gather
from cpt.report.schema import Facts, Monitoring


def training_with(run: RunRecord, **changes: Any) -> RunRecord:
    assert run.training is not None
    return dataclasses.replace(run, training=dataclasses.replace(run.training, **changes))


def test_facts_survive_json(full: Facts) -> None:
    assert Facts.model_validate_json(full.model_dump_json()) == full


def test_probes_of_other_kinds_are_not_texts(full: Facts) -> None:
    assert list(full.probes) == ["domain", "general", "instruction"]
    assert list(full.watched.tasks) == ["piqa", "arc-easy"]


def test_texts_without_evaluate_have_the_interval_of_their_paired_change() -> None:
    general = gather(dataclasses.replace(full_run(), scores=None)).probes["general"]
    assert general.difference is not None
    assert general.training is not None
    assert general.difference.value == general.training.permanent == pytest.approx(0.0021, abs=1e-4)
    assert general.difference.high == pytest.approx(general.difference.value + 1.96 * 0.0011)
    assert general.difference.is_noise


def test_a_paired_change_counts_even_where_the_summary_has_none() -> None:
    run = dataclasses.replace(full_run(), scores=None)
    general = gather(training_with(run, summary={})).probes["general"]
    last = general.curve[-1]
    assert general.permanent == last.rise
    assert general.difference is not None
    assert general.difference.low == pytest.approx(last.rise - 1.96 * last.rise_error)


def test_changes_of_accuracies_are_negative_when_worse(full: Facts) -> None:
    task = full.watched.tasks["piqa"]
    assert task.depth == pytest.approx(0.034, abs=0.001)
    assert task.permanent == pytest.approx(piqa(STEPS) - piqa(0))
    assert task.permanent < 0
    assert task.continual is not None
    assert task.continual.min_acc == 0.63


def test_layers_by_reading(full: Facts) -> None:
    layers = full.watched.layers
    assert layers is not None
    assert layers.layers == list(range(LAYERS))
    assert layers.steps == SPARSE
    assert layers.updates[3][-1] == update(3, STEPS)
    assert len(layers.bottom_top) == len(layers.head) == len(layers.embeddings) == len(SPARSE)
    assert layers.bottom_top[0] is None


def test_a_layer_that_a_reading_lacks_is_a_gap() -> None:
    run = full_run()
    assert run.training is not None
    weights = [row for row in run.training.probes if row["kind"] == "weights"]
    short = {**weights[1], "detail": {"layers": [{"layer": 0, "update": 0.5}], "bottom_top": 1.0}}
    layers = gather(training_with(run, probes=[weights[0], short])).watched.layers
    assert layers is not None
    assert [row[1] for row in layers.updates] == [0.5, *[None] * (LAYERS - 1)]


def test_the_controller_is_followed_where_it_changes_something(full: Facts) -> None:
    control = full.watched.control
    assert [(point.step, point.replay_share) for point in control] == [
        (1, RAISED[0][1]),
        (RAISED[1][0], RAISED[1][1]),
        (RAISED[2][0], RAISED[2][1]),
        (41, RAISED[2][1]),
        (STEPS, RAISED[2][1]),
    ]
    assert [point.rate_factor for point in control] == [1.0, 1.0, 1.0, 0.7, 0.7]
    assert [(action.before, action.after) for action in full.watched.actions] == [
        (0.125, 0.25),
        (0.25, 0.375),
        (1.0, 0.7),
    ]


def test_tokens_by_source_begin_at_nothing_and_end_at_the_ledger(full: Facts) -> None:
    sources = full.watched.sources
    assert sources is not None
    assert (sources.tokens[0], sources.tokens[-1]) == (0, STEPS * TOKENS_PER_STEP)
    assert {name: tokens[-1] for name, tokens in sources.sources.items()} == full.tokens
    assert len(sources.tokens) <= 201


def test_gates_know_what_they_bound_and_how_much_is_used(full: Facts) -> None:
    limit, _, points, recovery = full.watched.gates
    assert limit.limits_change_of("general")
    assert not limit.limits_change_of("domain")
    assert recovery.limits_recovery_of("general")
    assert not recovery.limits_change_of("general")
    assert limit.used == pytest.approx(0.1)
    assert points.used == pytest.approx(0.41)
    assert limit.model_copy(update={"allowed": 0.0}).used is None


def test_nothing_watched_is_nothing_shown(run: RunRecord) -> None:
    facts = gather(run)
    assert facts.watched == Monitoring()
    assert json.loads(facts.model_dump_json())["watched"]["layers"] is None


def test_the_verdict_counts_limits(full: Facts) -> None:
    assert full.verdict.endswith("; 1 of 4 limits broken: instruction ≤ +0.02.")
