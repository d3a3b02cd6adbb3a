"""The report on online mixing: the weights of parts over time."""

from __future__ import annotations

import dataclasses

from cpt.report import page
from cpt.report.facts import RunRecord, gather
from cpt.report.tables import MOST_UPDATES, mixture_rows


def mixed(run: RunRecord, updates: int) -> RunRecord:
    rows = [
        {
            "step": 5 * number,
            "tokens": 500 * number,
            "losses": {"notes": 1.25 - number / 1000},
            "shares": {"notes": 0.625, "papers": 0.375},
            "weights": {"domain.notes": 5, "domain.papers": 3},
        }
        for number in range(updates)
    ]
    assert run.training is not None
    return dataclasses.replace(run, training=dataclasses.replace(run.training, mixture=rows))


def test_weights_and_losses_are_shown_by_update(run: RunRecord) -> None:
    facts = gather(mixed(run, 3))
    assert facts.training is not None
    assert [each.step for each in facts.training.mixture] == [0, 5, 10]
    shown = page.render(facts)
    assert "Online mixing: share of" in shown
    assert "62.5%" in shown
    assert "Loss of notes" in shown
    assert "1.2480" in shown
    assert "Online mixing" not in page.render(gather(run))


def test_of_many_updates_some_are_shown_with_the_first_and_the_last(run: RunRecord) -> None:
    rows = mixture_rows(gather(mixed(run, 200)).training)
    assert len(rows) == MOST_UPDATES
    assert (rows[0].step, rows[-1].step) == (0, 995)
    assert len({row.step for row in rows}) == MOST_UPDATES
    assert mixture_rows(None) == []
