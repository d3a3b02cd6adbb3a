"""The largest micro batch that fits, against trying all of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from jobs import job

from cpt.estimate.job import Job
from cpt.estimate.memory import MARGIN, Fit, fits, largest_fit


def peak(tried: Job) -> int:
    """A sum of gradients between micro batches, and activations."""
    return 1000 + 500 * (tried.accumulation > 1) + 100 * tried.settings.micro_batch


@pytest.mark.parametrize("limit", range(1200, 4600, 90))
@pytest.mark.parametrize("sequences", [1, 2, 7, 12])
def test_it_is_the_fewest_micro_batches_and_never_exceeds_the_limit(
    tiny_model: Path, sequences: int, limit: int
) -> None:
    whole = job(tiny_model, *[(8,)] * sequences)
    found = largest_fit(whole, limit, peak)
    sizes = range(1, sequences + 1)
    fitting = [size for size in sizes if fits(peak(whole.with_micro_batch(size)), limit)]
    if not fitting:
        assert found is None
        return
    assert found is not None
    fewest = min(math.ceil(sequences / size) for size in fitting)
    assert found.accumulation == fewest
    assert found.peak == peak(whole.with_micro_batch(found.micro_batch))
    assert found.peak * (1 + MARGIN) <= limit
    assert found.micro_batch * found.accumulation >= sequences


def test_processes_share_a_batch(tiny_model: Path) -> None:
    shared = job(tiny_model, *[(8,)] * 12, processes=4)
    assert shared.own_sequences == 3
    assert largest_fit(shared, 10**6, peak) == Fit(3, 1, 1300)


def test_few_sizes_are_tried(tiny_model: Path) -> None:
    tried: list[int] = []

    def counting(each: Job) -> int:
        tried.append(each.settings.micro_batch)
        return peak(each)

    largest_fit(job(tiny_model, *[(8,)] * 512), 3000, counting)
    assert len(tried) <= 7
