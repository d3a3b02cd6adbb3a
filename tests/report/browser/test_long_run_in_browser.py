"""A run of 50,000 logged steps has a page that is as small and as quick to open as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Visit
from full_run import full_run
from long_run import SPIKE, long_training

from cpt.report.curves import CURVE_POINTS
from cpt.report.facts import gather
from cpt.report.page import render
from cpt.report.schema import Facts

POINTS = 50_000


@pytest.fixture(scope="module")
def long() -> Facts:
    return gather(dataclasses.replace(full_run(), training=long_training(POINTS)))


def test_curves_are_thinned_and_keep_their_ends_and_spikes(long: Facts) -> None:
    assert long.training is not None
    points = long.training.points
    assert len(points) <= CURVE_POINTS
    assert (points[0].step, points[-1].step) == (1, POINTS)
    assert max(point.loss_nats or 0 for point in points) == SPIKE
    for probe in long.probes.values():
        assert len(probe.curve) <= CURVE_POINTS


def test_the_page_is_small_and_has_few_elements(
    long: Facts, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(long), encoding="utf-8")
    assert page.stat().st_size < 1_000_000
    visited = visit(page)
    assert visited.complaints == []
    assert visited.ask("() => document.querySelectorAll('*').length") < 8_000
    longest = (
        "() => Math.max(...[...document.querySelectorAll('path')].map((p) => p.getAttribute('d').length))"
    )
    assert visited.ask(longest) < 60_000
