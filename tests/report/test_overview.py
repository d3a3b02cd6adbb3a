import pytest

from cpt.report.overview import gap_headline
from cpt.report.schema import Facts, Probe


@pytest.mark.parametrize(
    ("general", "figure", "note"),
    [
        (Probe(depth=0.0), "none", "general text never got worse"),
        (
            Probe(depth=0.034, gap=False),
            "none proven",
            "rose by 0.034 at most, within the noise of all readings together",
        ),
        (Probe(depth=0.034, gap=True), "+0.034", "bits per byte at worst, never back at the base level"),
    ],
)
def test_a_rise_within_the_noise_is_not_called_none(
    facts: Facts, general: Probe, figure: str, note: str
) -> None:
    headline = gap_headline(facts.model_copy(update={"probes": {"general": general}}))
    assert headline is not None
    assert (headline.figure, headline.note) == (figure, note)
