"""Charts of what was watched and bounded, and where labels go."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cpt.formatting import MINUS
from cpt.report import charts
from cpt.report.charts.heatmap import SHADES, _runs
from cpt.report.charts.labels import MARKER, Labels, text_width
from cpt.report.charts.line import source_shares
from cpt.report.charts.scatter import measured_apart, run_path
from cpt.report.schema import (
    ControlPoint,
    CurvePoint,
    Facts,
    Gate,
    Interval,
    LayerUpdates,
    Merge,
    NewTokens,
    Probe,
    SourceTokens,
    TrialPoint,
)
from cpt.report.theme import canvas


def words(svg: str | None) -> list[str]:
    assert svg is not None
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def described(svg: str | None) -> str:
    assert svg is not None
    return ET.fromstring(svg).findtext("desc") or ""


def gap_of(facts: Facts, name: str, gates: list[Gate] | None = None) -> str | None:
    found = facts.watched.gates if gates is None else gates
    return charts.stability_gap(name, facts.probes[name], "merged", found, facts.watched.actions)


def test_limits_and_actions_are_drawn_into_the_gap_of_their_probe(full: Facts) -> None:
    general = gap_of(full, "general")
    assert {"limit +0.020", "back by 80%", "trough +0.025, step 30", "base 0.991"} <= set(words(general))
    assert "Limit +0.020. The controller acted 2 times." in described(general)
    domain = gap_of(full, "domain")
    assert not any("limit" in text or "back by" in text for text in words(domain))
    assert "controller" not in described(domain)


def test_a_limit_far_above_the_curve_does_not_flatten_it(full: Facts) -> None:
    far = full.watched.gates[0].model_copy(update={"allowed": 5.0})
    assert not any("limit" in text for text in words(gap_of(full, "general", [far])))


def test_the_curve_is_the_paired_change_not_the_level() -> None:
    rises = [(0, 1.0, 0.0), (10, 1.4, 0.1), (20, 1.3, 0.05)]  # levels on smaller and smaller samples
    curve = [CurvePoint(step=t, tokens=t, value=v, rise=r, rise_error=0.01) for t, v, r in rises]
    from cpt.report.charts.gap import readings

    assert [reading.level for reading in readings(curve, base=1.0)] == pytest.approx([1.0, 1.1, 1.05])


def test_tasks_fall_downwards(full: Facts) -> None:
    svg = charts.task_curve("piqa", full.watched.tasks["piqa"], full.watched.gates, full.watched.actions)
    assert {"trough −3.4 pts, step 30", "limit −1.0 pts", "end −0.4 pts", "base 66.4%"} <= set(words(svg))


def test_a_task_may_be_drawn_by_the_likelihood_of_its_right_choices(full: Facts) -> None:
    task = full.watched.tasks["piqa"]
    svg = charts.task_curve("piqa", task.model_copy(update={"unit": "p_gold"}))
    assert "p_gold" in words(svg)
    assert "accuracy" in words(charts.task_curve("piqa", task))
    assert "accuracy" not in words(svg)


def test_the_path_is_made_of_moments_at_which_both_were_read() -> None:
    domain = [CurvePoint(step=s, tokens=s, value=1 - s / 10) for s in (0, 1, 2, 4)]
    general = [CurvePoint(step=s, tokens=s, value=9.0, rise=s / 100) for s in (0, 2, 3, 4)]
    assert [tuple(place) for place in run_path(domain, general)] == [
        pytest.approx((0.0, 0.0)),
        pytest.approx((0.2, 0.02)),
        pytest.approx((0.4, 0.04)),
    ]


def test_the_path_names_base_end_merge_and_limit(full: Facts) -> None:
    svg = charts.domain_against_general(full.probes, full.watched.gates, full.merge)
    assert {"base", "trained", "merged", "limit +0.020"} <= set(words(svg))
    assert "merged: domain gain +0.309, general rise −0.001." in described(svg)
    bare = {"domain": full.probes["domain"], "general": Probe()}
    assert charts.domain_against_general(bare) is None
    assert charts.domain_against_general({}) is None


def test_the_merges_that_a_search_tried_are_rings(full: Facts) -> None:
    def rings(search: list[TrialPoint]) -> int:
        svg = charts.domain_against_general(full.probes, (), Merge(stage="m", method="x", search=search))
        assert svg is not None
        return svg.count("<use")

    tries = [TrialPoint(domain_gain=0.1 * n, general_rise=0.001 * n) for n in (1, 2, 3)]
    assert rings(tries) - rings([]) == 3


def test_without_evaluate_there_is_no_final_model_beside_the_path(full: Facts) -> None:
    trained = full.probes["general"].model_copy(update={"measured_by": "training"})
    assert measured_apart(full.probes["domain"], trained) is None


def test_a_setting_that_never_moved_has_no_chart(full: Facts) -> None:
    points = full.watched.control
    assert charts.replay_share(points, full.watched.actions) is not None
    assert "From 1.00 to 0.70" in described(charts.rate_factor(points, full.watched.actions))
    still = [ControlPoint(step=n, tokens=n, rate_factor=1.0, replay_share=0.1) for n in (1, 2)]
    assert charts.rate_factor(still, ()) is None
    assert charts.replay_share(still, ()) is None


def test_the_heat_map_has_one_shape_per_shade_and_every_cell_once(full: Facts) -> None:
    assert full.watched.layers is not None
    svg = charts.layer_updates(full.watched.layers)
    assert svg is not None
    assert len(svg) < 30_000
    assert "At the last reading: layer 0 1.89%" in described(svg)
    assert list(_runs([(0, 0), (2, 0), (1, 0), (1, 1), (3, 1)])) == [(0, 3, 0), (1, 2, 1), (3, 4, 1)]
    still = full.watched.layers.model_copy(update={"updates": [[0.0, None]] * 3})
    assert charts.layer_updates(still) is None
    assert SHADES >= 8


def test_a_ratio_that_is_never_known_has_no_chart() -> None:
    layers = LayerUpdates(steps=[0, 1], tokens=[0, 9], layers=[0], updates=[[0, 0.1]], bottom_top=[None, 1.2])
    assert charts.bottom_top(layers) is None


def test_drift_and_its_limit(full: Facts) -> None:
    gate = Gate(
        limit="drift <= 0.1", probe="drift", allowed=0.1, unit="nats per token", action="warn", verdict="held"
    )
    assert "limit 0.100" in words(charts.drift(full.watched.drift, [gate]))
    assert "limit 0.100" not in words(charts.drift(full.watched.drift))
    assert charts.drift(full.watched.drift[:1]) is None


def test_ends_in_mid_sentence_are_drawn_from_the_base_on(full: Facts) -> None:
    svg = charts.early_end(full.watched.early_end)
    assert svg is not None
    assert f"From 5.0e{MINUS}6 to 1.2e{MINUS}5" in svg
    assert charts.early_end(full.watched.early_end[:1]) is None
    assert charts.early_end([]) is None
    narrow = [
        point.model_copy(update={"value": value})
        for point, value in zip(full.watched.early_end, (5.15e-6, 6e-6, 7.27e-6), strict=False)
    ]
    drawn = charts.early_end(narrow)
    assert drawn is not None
    assert sum(f"e{MINUS}6" in word for word in words(drawn)) >= 2  # ticks, within one power of ten too


def test_norms_of_new_tokens_by_side(full: Facts) -> None:
    assert {"input 0.91", "output 0.96"} <= set(words(charts.new_token_norms(full.watched.new_tokens)))
    tied = [NewTokens(step=n, tokens=n, input=0.5 + n) for n in (0, 1)]
    assert any("input" in text for text in words(charts.new_token_norms(tied)))
    assert charts.new_token_norms([]) is None


def test_shares_of_sources_sum_to_one() -> None:
    found = SourceTokens(tokens=[0, 10, 30], sources={"domain": [0, 9, 24], "replay": [0, 1, 6]})
    assert source_shares(found) == {
        "domain": pytest.approx([0.9, 0.75]),
        "replay": pytest.approx([0.1, 0.25]),
    }
    assert {"domain 24", "replay 6"} <= set(words(charts.tokens_over_time(found)))
    assert charts.tokens_over_time(SourceTokens(tokens=[0], sources={})) is None


def test_labels_keep_off_each_other_and_the_curve() -> None:
    with canvas(200) as (_, axes):
        axes.set(xlim=(0, 100), ylim=(0, 10))
        labels = Labels(axes, [(0.0, 5.5), (100.0, 5.5)])
        for _ in range(4):
            labels.write("a name", (50, 5))
        boxes = labels._taken
        for index, (left, right, bottom, top) in enumerate(boxes):
            for other in boxes[:index]:
                assert right <= other[0] or left >= other[1] or top <= other[2] or bottom >= other[3]
        curve = axes.transData.transform((0, 5.5))[1]
        assert not boxes[0][2] < curve < boxes[0][3]


def test_labels_keep_off_the_markers_of_other_points() -> None:
    close = [(50.0, 5.0), (53.0, 4.8), (51.0, 4.2), (48.0, 5.4)]
    with canvas(200) as (_, axes):
        axes.set(xlim=(0, 100), ylim=(0, 10))
        labels = Labels(axes, [], close)
        for at in close:
            labels.write("a name", at, weight="bold")
        for own, (left, right, bottom, top) in enumerate(labels._taken):
            for other, (x, y) in enumerate(axes.transData.transform(close)):
                assert other == own or not (left - 5 < x < right + 5 and bottom - 5 < y < top + 5)


def test_a_line_leads_to_a_label_that_had_to_go_away_from_its_point() -> None:
    at = (50.0, 5.0)
    with canvas(200) as (_, axes):
        axes.set(xlim=(0, 100), ylim=(0, 10))
        labels = Labels(axes, [], [at])
        for _ in range(4):
            labels.write("name", at)
        assert not axes.lines
        labels.write("name", at)
        (leader,) = axes.lines
        start, end = leader.get_xydata()
        assert np.hypot(*(start - axes.transData.transform(at))) == pytest.approx(MARKER)
        *others, (left, right, bottom, top) = labels._taken
        assert left - 3 < end[0] < right + 3
        assert bottom <= end[1] <= top
        for x, y in np.linspace(start, end, 20):
            assert not any(box.left < x < box.right and box.bottom < y < box.top for box in others)


def test_labels_lie_where_the_points_are_drawn_though_nobody_has_set_the_limits() -> None:
    with canvas(200) as (figure, axes):
        axes.plot([0, 30], [5.0, 5.2])
        labels = Labels(axes, [], [(15.0, 5.1)])
        labels.write("name", (15.0, 5.1))
        figure.draw_without_rendering()
        x, y = axes.transData.transform((15.0, 5.1))
        (box,) = labels._taken
        assert (box.left, box.bottom) == pytest.approx((x, y + 5))


def test_bold_text_is_wider() -> None:
    assert text_width("merged", "bold") > 1.05 * text_width("merged", "normal")
    with canvas(200) as (_, axes):
        axes.set(xlim=(0, 100), ylim=(0, 10))
        labels = Labels(axes, [])
        for weight in ("normal", "bold"):
            labels.write("merged", (50, 5), weight=weight)
        normal, bold = (box.right - box.left for box in labels._taken)
        assert bold > 1.05 * normal


def test_names_from_data_do_not_escape_their_charts(full: Facts) -> None:
    name = "<script>$x$</script>"
    level = Interval(value=0.5)
    probe = full.probes["general"].model_copy(update={"difference": level})
    for svg in (
        charts.stability_gap(name, probe, "final"),
        charts.task_curve(name, full.watched.tasks["piqa"]),
        charts.time_by_probe({name: 2.0}),
        charts.tokens_over_time(SourceTokens(tokens=[0, 2], sources={name: [0, 2]})),
    ):
        assert svg is not None
        assert "<script" not in svg
        ET.fromstring(svg)
