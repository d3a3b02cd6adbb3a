"""Charts as inline SVG: what they say, and that they fit into any page."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from cpt.report import charts
from cpt.report.schema import (
    CurvePoint,
    Facts,
    Interval,
    Probe,
    ProbeTraining,
    SchedulePhase,
    Task,
    Training,
    TrainingStep,
)
from cpt.report.theme import PALETTE, canvas, to_svg


def words(svg: str | None) -> list[str]:
    assert svg is not None
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def every_chart(facts: Facts) -> list[str]:
    assert facts.training is not None
    drawn = [
        *(charts.stability_gap(name, probe, "merged") for name, probe in facts.probes.items()),
        charts.training_loss(facts.training),
        charts.learning_rate(facts.training),
        charts.tokens_by_source(facts.tokens),
        charts.time_by_stage(facts.seconds),
        charts.bits_before_after(facts.probes),
        charts.tasks_before_after(facts.tasks),
    ]
    assert all(drawn)
    return [svg for svg in drawn if svg]


def curve_of(levels: list[float], **gap: object) -> Probe:
    points = [CurvePoint(step=i, tokens=100 * i, value=level) for i, level in enumerate(levels)]
    training = ProbeTraining(before=levels[0], end=levels[-1], permanent=levels[-1] - levels[0])
    return Probe(curve=points, training=training, permanent=training.permanent, **gap)  # type: ignore[arg-type]


def test_the_gap_is_named_where_there_is_one(facts: Facts) -> None:
    general = words(charts.stability_gap("general", facts.probes["general"], "merged"))
    assert {"trough +0.034, step 6", "back at base, step 40", "base 0.991", "merged −0.001"} <= set(general)
    domain = words(charts.stability_gap("domain", facts.probes["domain"], "merged"))
    assert {"base 1.100", "merged −0.309"} <= set(domain)
    assert not any("trough" in text or "back at" in text for text in domain)


def test_a_gap_too_small_to_see_is_not_labelled() -> None:
    probe = curve_of([1.1, 1.101, 0.9, 0.8], depth=0.001, trough_step=1, trough_tokens=100)
    assert not any("trough" in text for text in words(charts.stability_gap("domain", probe, "final")))


def test_a_curve_that_never_comes_back_has_a_trough_and_no_recovery() -> None:
    probe = curve_of([1.0, 1.1, 1.2], depth=0.2, trough_step=2, trough_tokens=200)
    found = words(charts.stability_gap("general", probe, "final"))
    assert {"trough +0.200, step 2", "final +0.200"} <= set(found)
    assert not any("back at" in text for text in found)


@pytest.mark.parametrize("levels", [[1.0], [1.0, math.nan]])
def test_less_than_two_readings_make_no_curve(levels: list[float]) -> None:
    assert charts.stability_gap("general", curve_of(levels), "final") is None


def test_a_flat_curve_can_be_drawn() -> None:
    assert charts.stability_gap("general", curve_of([1.0, 1.0, 1.0], depth=0.0), "final")


def test_the_band_is_that_of_the_change_and_is_left_out_where_that_is_not_known() -> None:
    def drawn(error: float | None) -> str:
        probe = curve_of([1.0, 0.9, 0.8])
        points = [
            point.model_copy(update={"rise_error": error, "standard_error": 0.5}) for point in probe.curve
        ]
        svg = charts.stability_gap("domain", probe.model_copy(update={"curve": points}), "final")
        assert svg is not None
        return svg

    assert "fill-opacity: 0.2" in drawn(0.01)
    assert "fill-opacity: 0.2" not in drawn(None)


def test_a_loss_that_broke_is_drawn_as_far_as_it_goes() -> None:
    points = [
        TrainingStep(step=n, tokens=n, loss_nats=loss, smoothed=2.0, lr=1e-4)
        for n, loss in enumerate([2.0, 1.9, math.nan, math.inf])
    ]
    assert charts.training_loss(Training(stage="pretrain", steps=4, tokens=4, points=points))
    assert charts.training_loss(Training(stage="pretrain", steps=0, tokens=0)) is None
    assert charts.learning_rate(Training(stage="pretrain", steps=0, tokens=0)) is None


def test_every_part_of_a_loss_has_its_chart() -> None:
    points = [
        TrainingStep(step=n, tokens=n, loss_nats=2.0, loss_parts={"domain": 2.0, "kl": 0.1 * n, "once": None})
        for n in range(3)
    ]
    found = charts.loss_parts(Training(stage="pretrain", steps=3, tokens=3, points=points))
    assert list(found) == ["domain", "kl"]
    assert "from 0.000 to" in found["kl"]
    assert charts.loss_parts(Training(stage="pretrain", steps=0, tokens=0)) == {}


def test_phases_of_the_schedule_are_marked_where_they_begin(facts: Facts) -> None:
    assert facts.training is not None
    last = facts.training.points[-1].tokens
    phases = [
        SchedulePhase(name=name, tokens=round(share * last))
        for name, share in [("warmup", 0), ("stable", 0.02), ("decay", 0.7)]
    ]
    plain = charts.learning_rate(facts.training)
    marked = charts.learning_rate(facts.training.model_copy(update={"phases": phases}))
    assert plain is not None
    assert marked is not None
    assert {"stable", "decay"} <= set(words(marked))
    assert "warmup" not in words(marked)  # too short for its name
    assert "Phases: warmup, stable, decay." in marked
    assert marked.count("stroke-dasharray") - plain.count("stroke-dasharray") == 2


def test_nothing_to_compare_makes_no_chart() -> None:
    assert charts.tokens_by_source({}) is None
    assert charts.tasks_before_after({}) is None
    assert charts.bits_before_after({"domain": Probe(before=1.0, after=0.9)}) is None


def test_names_from_data_are_text_and_nothing_else() -> None:
    level = Interval(value=0.5, low=0.4, high=0.6)
    name = "<script>$x_1$</script>\x00 & co"
    svg = charts.tasks_before_after({name: Task(before=level, after=level, difference=level)})
    assert svg is not None
    assert "<script" not in svg
    assert "<script>$x_1$</script>\ufffd & co" in words(svg)
    assert "\x00" not in svg


def test_same_facts_same_bytes(facts: Facts) -> None:
    assert every_chart(facts) == every_chart(facts)


def test_charts_follow_the_page_and_say_what_they_show(facts: Facts) -> None:
    own_colours = [shade.light for shade in PALETTE.values()]
    for svg in every_chart(facts):
        root = ET.fromstring(svg)
        assert (root.get("role"), root.get("width"), root.get("height")) == ("img", None, None)
        assert root.get("viewBox", "").startswith("0 0 400 ")
        assert root.findtext("title") == root.get("aria-label")
        desc = root.find("desc")
        assert desc is not None
        assert desc.text
        assert desc.get("id") == root.get("aria-describedby")
        assert root.find(".//style") is None
        assert root.find(".//metadata") is None
        assert "font-family" not in svg
        assert not any(colour in svg for colour in own_colours)
        assert "var(--" in svg


def test_drawing_leaves_global_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with canvas(100) as (figure, axes):
        axes.plot([1, 2])
        to_svg(figure, "x", "title", "description")
    assert dict(matplotlib.rcParams) == before
