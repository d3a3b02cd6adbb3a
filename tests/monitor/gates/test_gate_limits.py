"""Limits as they are written."""

import pytest
from pydantic import TypeAdapter, ValidationError

from cpt.monitor.gates.gate import Gate, Limit
from cpt.monitor.reading import Kind

GATE = TypeAdapter(Gate)


@pytest.mark.parametrize(
    ("text", "probe", "allowed", "falls", "recovery"),
    [
        ("general <= +0.02", "general", 0.02, False, False),
        ("general ≤ 0.02 bits per byte", "general", 0.02, False, False),
        ("general<=+.5 bpb", "general", 0.5, False, False),
        ("instruction-2 <= 1e-3", "instruction-2", 1e-3, False, False),
        ("piqa >= -1 point", "piqa", 0.01, True, False),
        ("arc_easy ≥ \u22122.5 points", "arc_easy", 0.025, True, False),
        ("piqa >= 0 points", "piqa", 0.0, True, False),
        ("drift <= 0.1 nats per token", "drift", 0.1, False, False),
        ("general   recovers within 20%", "general", 0.2, False, True),
        ("general recover within 2.5 %", "general", 0.025, False, True),
    ],
)
def test_what_a_text_states(text: str, probe: str, allowed: float, falls: bool, recovery: bool) -> None:
    limit = Limit.parse(text)
    assert (limit.probe, limit.falls, limit.recovery) == (probe, falls, recovery)
    assert limit.allowed == pytest.approx(allowed)
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("general", "write it like `general <= \\+0.02`"),
        ("general < 0.02", "states no limit"),
        ("general <= lots", "states no limit"),
        ("general <= -0.02", "asks for an improvement; a limit says how far a probe may rise"),
        ("piqa >= +1 point", "asks for an improvement; a limit says how far a probe may fall"),
        ("piqa >= -0.01", "in percentage points, like `>= -1 point`"),
        ("piqa <= 1 point", "must not fall"),
        ("general recovers within 120%", "less than 100%"),
        ("general recovers within 0%", "more than 0%"),
    ],
)
def test_what_is_not_a_limit_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Limit.parse(text)
    with pytest.raises(ValidationError, match=says):
        GATE.validate_python({"limit": text, "action": "warn"})


def test_limits_that_do_not_go_with_what_is_measured() -> None:
    assert Limit.parse("general <= 0.02").misfit("text") is None
    assert Limit.parse("drift <= 0.02").misfit("drift") is None
    assert Limit.parse("piqa >= -1 point").misfit("task") is None
    assert "`piqa >= -1 point`" in str(Limit.parse("piqa <= 0.02").misfit("task"))
    assert "`general <= +0.02`" in str(Limit.parse("general >= -1 point").misfit("text"))
    assert "never comes back" in str(Limit.parse("drift recovers within 20%").misfit("drift"))
    assert Limit.parse("early-end <= +1e-4").misfit("early-end") is None
    assert Limit.parse("early-end <= +1e-4").allowed == 1e-4
    assert "is not followed" in str(Limit.parse("early-end recovers within 20%").misfit("early-end"))
    assert "measured in probability" in str(Limit.parse("early-end <= 0.1 bpb").misfit("early-end"))
    assert Limit.parse("piqa recovers within 20%").misfit("task") is None


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("drift <= 0.1 bits per byte", "drift", "measured in nats per token, not in bits per byte"),
        ("drift <= 0.1 bpb", "drift", "measured in nats per token, not in bits per byte"),
        ("general <= 0.1 Nats per token", "text", "measured in bits per byte, not in nats per token"),
        ("weights <= 0.1 nat per token", "weights", "measured in relative update, not in nats per token"),
    ],
)
def test_a_limit_in_a_unit_that_is_not_its_probes(text: str, kind: Kind, why: str) -> None:
    assert why in str(Limit.parse(text).misfit(kind))


def test_a_limit_in_the_unit_of_its_probe() -> None:
    assert Limit.parse("general <= 0.1 bit per byte").misfit("text") is None
    assert Limit.parse("drift <= 0.1 nats per token").misfit("drift") is None
    assert Limit.parse("piqa >= -1 pp").misfit("task") is None


def test_each_action_has_parameters_of_its_own() -> None:
    gate = GATE.validate_python({"limit": "general <= 0.02", "action": "raise-replay", "most": 0.25})
    assert (gate.most, gate.least, gate.limit.allowed) == (0.25, None, 0.02)
    assert gate.model_dump(mode="json")["limit"] == "general <= 0.02"
    with pytest.raises(ValidationError, match="Extra inputs"):
        GATE.validate_python({"limit": "general <= 0.02", "action": "warn", "most": 0.25})
    with pytest.raises(ValidationError, match="`factor` has no effect with then: raise-replay"):
        GATE.validate_python(
            {"limit": "general <= 0.02", "action": "roll-back", "then": "raise-replay", "factor": 0.5}
        )
    with pytest.raises(ValidationError, match="`most` has no effect with then: lower-rate"):
        GATE.validate_python({"limit": "general <= 0.02", "action": "roll-back", "most": 0.5})


def test_a_limit_must_be_text() -> None:
    with pytest.raises(ValidationError, match="a limit is a text"):
        GATE.validate_python({"limit": 0.02, "action": "warn"})
