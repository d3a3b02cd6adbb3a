import math

from cpt.monitor.probes import Reading, probe_steps, stability


def test_probe_steps_are_dense_then_regular_and_end_at_the_end() -> None:
    assert probe_steps(45, 10) == [0, 1, 2, 4, 8, 10, 20, 30, 40, 45]
    assert probe_steps(3, 10) == [0, 1, 2, 3]
    assert probe_steps(1, 1) == [0, 1]
    assert probe_steps(20, 10) == [0, 1, 2, 4, 8, 10, 20]


def test_stability_is_taken_per_probe() -> None:
    readings = [
        Reading(step, step * 10, name, value, 0.1)
        for step, values in enumerate([(1.0, 2.0), (0.5, 2.5), (0.25, 2.0)])
        for name, value in zip(("domain", "general"), values, strict=True)
    ]
    gaps = stability(readings, 0.0)
    assert gaps["domain"].permanent == -0.75
    assert (gaps["general"].depth, gaps["general"].recovery_step) == (0.5, 2)


def test_reading_survives_json_even_without_a_standard_error() -> None:
    reading = Reading(1, 10, "domain", 1.0, math.nan)
    data = reading.as_json()
    assert data["standard_error"] is None
    assert math.isnan(Reading.from_json(data).standard_error)
