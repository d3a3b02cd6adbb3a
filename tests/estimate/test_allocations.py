"""Blocks over time."""

from cpt.estimate.allocations import PARTS, Timeline, by_part


def test_the_peak_is_where_most_is_held_at_once() -> None:
    timeline = Timeline()
    with timeline.moment("first"):
        weights = timeline.allocate(100, "weights")
        first = timeline.allocate(30, "activations")
        timeline.release(first)
        timeline.allocate(20, "logits")
    with timeline.moment("second"):
        timeline.release(weights)
        timeline.allocate(50, "gradients")
    assert by_part(timeline.peak("first")) == dict.fromkeys(PARTS, 0) | {"weights": 100, "activations": 30}
    assert by_part(timeline.peak("second"))["weights"] == 100, "what was held before belongs to a moment"
    assert timeline.blocks[-1] in timeline.held(timeline.blocks[-1].born)


def test_a_part_may_be_told_later() -> None:
    timeline = Timeline()
    with timeline.moment("step"):
        block = timeline.allocate(8, "activations")
        block.part = "gradients"
        timeline.release(block)
        timeline.release(block)
    assert by_part(timeline.peak("step"))["gradients"] == 8
    assert timeline.held(10**6) == []


def test_a_moment_may_come_again() -> None:
    timeline = Timeline()
    for size in (5, 50, 10):
        with timeline.moment("step"):
            timeline.release(timeline.allocate(size, "activations"))
    assert sum(block.bytes for block in timeline.peak("step")) == 50
