import pytest

from cpt.formatting import MINUS, NOTHING
from cpt.report.schema import CurvePoint, Facts, Gate, Interval, Probe
from cpt.report.summary_text import verdict
from cpt.report.tables import error_in_unit, gap_headline, in_unit, probe_headline


@pytest.mark.parametrize(
    ("general", "figure", "note"),
    [
        (Probe(depth=0.0), "none", "general text never got worse"),
        (
            Probe(depth=0.0, curve=[CurvePoint(step=s, tokens=s, value=1) for s in (0, 9)]),
            NOTHING,
            "not known: general text was read only before and after",
        ),
        (
            Probe(depth=0.034, depth_error=0.02, gap=False),
            "none proven",
            "rose by 0.034 at most, within the noise of all readings together",
        ),
        (
            Probe(depth=0.034, depth_error=0.002, gap=True),
            "+0.034",
            "bits per byte at worst, never back at the base level",
        ),
        (Probe(depth=0.034, gap=True), NOTHING, "no finding: its change has no interval"),
    ],
)
def test_a_rise_within_the_noise_is_not_called_none(
    facts: Facts, general: Probe, figure: str, note: str
) -> None:
    headline = gap_headline(facts.model_copy(update={"probes": {"general": general}}))
    assert headline is not None
    assert (headline.figure, headline.note) == (figure, note)


def test_a_change_on_one_document_is_no_headline() -> None:
    """Without an interval nothing is claimed, however large the change."""
    change = Interval(value=-0.264)
    one = Probe(before=1.1, after=0.836, difference=change, documents=1, measured_by="evaluate")
    headline = probe_headline("domain", one, relative=True)
    assert (headline.figure, headline.judgement) == (NOTHING, "")
    assert headline.note == "no finding: one document of it is held out"
    said = verdict({"domain": one, "general": one.model_copy(update={"documents": None})})
    assert said == (
        "No finding on domain text: one document of it is held out; "
        "no finding on general text: its change has no interval."
    )
    known = one.model_copy(update={"difference": Interval(value=-0.264, low=-0.3, high=-0.2)})
    assert probe_headline("domain", known, relative=True).figure == f"{MINUS}24%"
    assert verdict({"domain": known}) == "24% fewer bits per byte on domain text."


def test_a_probability_is_written_however_small() -> None:
    gate = Gate(
        limit="early-end <= 1e-4", probe="early-end", unit="probability", action="warn", verdict="held"
    )
    assert in_unit(5.1e-6, "probability") == f"5.1e{MINUS}6"
    assert error_in_unit(gate.model_copy(update={"error": 1e-6})) == f"± 2.0e{MINUS}6"
    assert error_in_unit(gate) == ""


@pytest.mark.parametrize("unit", ["accuracy", "p_gold"])
def test_changes_of_tasks_are_in_percentage_points(unit: str) -> None:
    gate = Gate(limit="piqa >= -1 point", probe="piqa", unit=unit, action="warn", verdict="not shown")
    assert in_unit(0.021, unit) == "+2.1 pts"
    assert error_in_unit(gate.model_copy(update={"error": 0.01})) == "± 2.0"
    assert gate.limits_change_of("piqa")
    assert gate.model_copy(update={"needed_items": 90}).remedy == "About 90 questions would show it."
