"""Settings of a mixture: what is refused before a corpus exists."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate({"batch_sequences": 4, **settings})


def test_replay_without_replay_text_is_found_before_the_corpus_is_made() -> None:
    corpus = CorpusConfig.model_validate({"domain": [{"path": "a"}]})
    for settings, key in (
        ({"replay": 0.25}, "replay"),
        ({"mixture": [{"until": 0.5}, {"replay": 0.5}]}, "mixture.1.replay"),
    ):
        (problem,) = PRETRAIN.check_environment(config_of(**settings), Environment(), {"corpus": [corpus]})
        assert (problem.key, "the corpus has no replay text" in problem.message) == (key, True)


def test_a_start_with_another_way_to_read_is_found_before_the_first_stage_trains() -> None:
    corpus = CorpusConfig.model_validate({"domain": [{"path": n, "part": n} for n in ("notes", "papers")]})

    def found(first: Any, second: Any, **start: str) -> list[str | None]:
        config, upstream = config_of(**second, start=start), {"model": [first], "corpus": [corpus]}
        return [problem.key for problem in PRETRAIN.check_environment(config, Environment(), upstream)]

    mixture = {"mixture": {"temperature": 2}}
    assert found(config_of(), mixture) == ["start.data"]
    assert found(config_of(**mixture), {}) == ["start.data"]
    assert found(config_of(**mixture), mixture) == found(config_of(), {}) == []
    assert found(config_of(), mixture, data="again") == []
    other = config_of(mixture={"weights": {"web": 1}})
    assert found(other, {}) == [], "its mixture is of another corpus"


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ([{"until": 0.5}, {"until": 0.4}, {}], "a phase until 0.4 comes after one until 0.5"),
        ([{}, {}], "a phase until 1 comes after one until 1"),
        ([{"until": 0.5}], "the last phase ends at 0.5"),
        ({"weights": {"a": 1}, "temperature": 2}, "either weights or a temperature"),
        ({"weights": {"a": 0, "b": 0}}, "all weights are 0"),
        ({"weights": {"a": -1}}, "greater than or equal to 0"),
        ({"temperature": 0}, "greater than 0"),
        ([], "at least 1 item"),
        ([{"until": "rate/5"}], "leave its `until: rate/5` out"),
        ([{"until": "rate/0"}, {}], "should match pattern"),
        ([{"until": "rate/2"}, {"until": 0.1}, {}], "a phase until 0.1 comes after one until 0"),
    ],
)
def test_a_mixture_that_is_none_is_refused(mixture: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config_of(mixture=mixture)


def test_a_phase_until_a_rate_needs_a_schedule_that_gets_there() -> None:
    phases = [{"until": "rate/5"}, {"replay": 0.5}]
    with pytest.raises(ValidationError, match="the rate of the constant schedule never falls so far"):
        config_of(mixture=phases, schedule={"kind": "constant"})
    with pytest.raises(ValidationError, match="the power schedule reaches rate/5 depends on `tokens`"):
        config_of(mixture=phases, schedule={"kind": "power"})
    assert config_of(mixture=phases, schedule={"kind": "power"}, tokens=10_000_000).mixture is not None


def test_epochs_by_part_need_a_mixture() -> None:
    with pytest.raises(ValidationError, match=r"epochs\n.*need a `mixture` \(temperature: 1"):
        config_of(epochs={"notes": 2})
    with pytest.raises(ValidationError, match="no part is named: give one number"):
        config_of(epochs={}, mixture={})
    with pytest.raises(ValidationError, match="1 validation error"):  # the mixture's own alone
        config_of(epochs={"notes": 2}, mixture=[])


def test_a_replay_share_that_every_phase_overrides_is_refused() -> None:
    phases = [{"until": 0.5, "replay": 0.5}, {"replay": 0.25}]
    with pytest.raises(ValidationError, match="every phase has its own `replay`"):
        config_of(replay=0.25, mixture=phases)
    config_of(mixture=phases)
    config_of(replay=0.25, mixture=[phases[0], {}])
