"""Settings of a training: what does not fit together, and the rates of both stages."""

import pytest
from pydantic import ValidationError
from tiny_hypernetworks import small

from cpt.training.schedules import RewarmCosine
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig

ZETT = {"network": {"variant": "zett"}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_start": {"steps": 3}}, "warm_start goes with variant zett"),
        ({"schedule": {"kind": "constant", "unit": "tokens"}}, "progress is counted in steps"),
        ({"micro_batch": 17}, "micro_batch 17 is more than the 16 texts"),
        ({"predicted": 9_000}, "predicted 9000 is more than a vocabulary of 8192"),
        ({"dynamic": 0.2, "sampling": {"vocabulary": 4096}}, "not with dynamic"),
        ({"dynamic": 0}, "greater than 0"),
        ({"dynamic": 1.1}, "less than or equal to 1"),
        ({"shared": "copied", "lexical": 0.1}, "lexical goes with predicted rows"),
        ({"backbone": {}}, "backbone goes with a fixed tokenizer"),
        ({"tokenizer": "a/b", "backbone": {"rate": -1}}, "greater than or equal to 0"),
        ({"tokenizer": "a/b", "dynamic": 0.2}, "give one"),
        ({"tokenizer": "a/b", "sampling": {"vocabulary": 4096}}, "not with a fixed tokenizer"),
        ({"tokenizer": "a/b", **ZETT, "warm_start": {"steps": 3}}, "warm_start goes with sampled"),
        ({"tokenizer": ""}, "at least 1 character"),
        ({"probes": {"tokenizers": {"Llama 3": "x"}}}, "should match pattern"),
        ({"steps": 0}, "greater than 0"),
        ({"sequence_length": 1}, "greater than 1"),
        ({"clip": 0}, "greater than 0"),
        ({"tokens": 5}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HypernetworkTrainingConfig.model_validate(settings)


def test_the_first_stage_rises_in_a_straight_line_and_the_second_follows_its_schedule() -> None:
    schedule = {"kind": "linear", "peak": 1.0, "floor": 0.0, "warmup": 0.0}
    config = small(**ZETT, warm_start={"steps": 4, "peak": 0.8}, steps=5, schedule=schedule)
    assert [config.rate(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [config.rate(step) for step in range(4, 9)] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert (config.warm_steps, config.total_steps) == (4, 9)


def test_the_residual_variant_has_one_stage() -> None:
    config = small(steps=5)
    assert (config.first_stage, config.warm_steps, config.total_steps) == (None, 0, 5)
    assert small(**ZETT).warm_steps == 1_000


def test_the_lexical_loss_is_the_papers_for_its_variant() -> None:
    assert small().lexical_weight == 0
    assert small(**ZETT).lexical_weight == 0.5
    assert small(**ZETT, shared="copied").lexical_weight == 0
    assert small(**ZETT, lexical=0.0).lexical_weight == 0
    assert small(lexical=0.3).lexical_weight == 0.3


def test_a_fixed_tokenizer_has_the_papers_defaults() -> None:
    """The lexical loss of either variant, no first stage, and slow rates for both where the model trains."""
    fixed = {"tokenizer": "a/b", "sampling": {}, "predicted": 100_000}
    assert (small(**fixed).lexical_weight, small(**fixed, lexical=0.0).lexical_weight) == (0.5, 0.0)
    assert small(**fixed, shared="copied").lexical_weight == 0.5
    assert small(**fixed, **ZETT).warm_steps == 0
    plain = HypernetworkTrainingConfig.model_validate(fixed)
    assert (plain.schedule, plain.backbone) == (HypernetworkTrainingConfig().schedule, None)
    both = HypernetworkTrainingConfig.model_validate({**fixed, "backbone": {}})
    assert both.backbone is not None
    assert (both.backbone.rate, both.schedule.highest, plain.schedule.highest) == (3e-6, 3e-6, 6e-5)
    given = HypernetworkTrainingConfig.model_validate({**fixed, "backbone": {}, "schedule": {"peak": 1e-4}})
    assert given.schedule.highest == 1e-4


def test_runs_without_merging_are_those_from_before_it() -> None:
    """A setting that is off is in no fingerprint and in no checkpoint."""
    assert not {"dynamic", "tokenizer", "backbone"} & small().model_dump().keys()
    assert HypernetworkTrainingConfig().schedule == RewarmCosine(peak=6e-5, floor=6e-6, warmup=0.05)
    assert small(sampling={}, dynamic=0.2, predicted=9_000).model_dump()["dynamic"] == 0.2
