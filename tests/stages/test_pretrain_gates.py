"""What cannot work about gates is found before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from stage_runs import artifact
from tiny import varied_texts, write_jsonl

from cpt.corpus import Document
from cpt.corpus.build import write_source
from cpt.corpus.heldout import Always
from cpt.errors import GateFailed
from cpt.monitor.gates import Gate
from cpt.stages.pretrain.config import Monitor
from cpt.stages.pretrain.results import probe_figures, require_limits
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.feature import RunFacts
from cpt.training.features.gate_controller import GateController, least_rows, may_replay
from cpt.training.settings import TrainingConfig

GATE = TypeAdapter(Gate)
PROBES: dict[str, Any] = {"domain": "text", "general": "text", "piqa": "task", "drift": "drift"}


def gate(limit: str, action: str = "warn", **options: object) -> Gate:
    return GATE.validate_python({"limit": limit, "action": action, **options})


def problems(
    *gates: Gate, batch: int = 8, rows: int = 1, replay: bool | None = True, **probes: Any
) -> list[str]:
    facts = RunFacts(TrainingConfig(gates=gates), None, probes or PROBES, batch, rows, replay)
    return [str(problem) for problem in GateController(gates).problems(facts)]


def test_gates_that_can_work_have_no_problems() -> None:
    fine = [
        gate("general <= +0.02"),
        gate("general <= +0.02", "raise-replay"),
        gate("piqa >= -1 point", "stop"),
        gate("drift <= 1", "lower-rate"),
        gate("general recovers within 20%", "roll-back", then="raise-replay"),
    ]
    assert problems(*fine) == []
    assert problems(*fine, replay=None) == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            gate("generl <= +0.02"),
            r"gates\.0\.limit: no probe is called `generl`(.|\n)*Did you mean `general`",
        ),
        (
            gate("xyz <= +0.02"),
            r"Measured are `domain`, `general`, `piqa`, `drift`; add others under `monitor`",
        ),
        (gate("piqa <= +0.02"), r"more is better: `piqa >= -1 point`"),
        (gate("drift recovers within 20%"), r"never comes back"),
        (gate("general <= 0.1", "raise-replay", most=0.15), r"gates\.0\.most: nothing is left to raise"),
        (
            gate("general <= 0.1", "raise-replay", least=0.2),
            r"gates\.0\.least: 0\.2 of 8 sequences is no less",
        ),
        (gate("general <= 0.1", "roll-back", then="raise-replay", most=0.1), r"nothing is left to raise"),
    ],
)
def test_what_cannot_work_is_named_with_its_place(bad: Gate, says: str) -> None:
    found = problems(bad)
    assert len(found) == 1
    import re

    assert re.search(says, found[0]), found


def test_the_patience_of_a_gate_may_be_a_percentage() -> None:
    shares = [gate("general <= 0.1", "stop", after=after) for after in ("30%", 0.3)]
    assert shares[0] == shares[1]
    with pytest.raises(ValidationError):
        gate("general <= 0.1", "stop", after="some%")


def test_raising_replay_needs_replay_text() -> None:
    for each in (
        gate("general <= 0.1", "raise-replay"),
        gate("general <= 0.1", "roll-back", then="raise-replay"),
    ):
        found = problems(each, replay=False)
        assert len(found) == 1
        assert "the corpus has no replay text" in found[0]
    assert problems(gate("general <= 0.1", "roll-back"), replay=False) == []


@pytest.mark.parametrize("vocabulary", [False, True])
def test_a_recipe_without_replay_text_is_found_before_its_corpus_is_made(
    tiny_model: Path, tmp_path: Path, vocabulary: bool
) -> None:
    from cpt.errors import RecipeError
    from cpt.recipe.load import load

    text = str(write_jsonl(tmp_path / "a.jsonl", varied_texts(4, "a ")))
    gates = [{"limit": "domain <= +0.02", "action": "raise-replay"}]
    source = [{"path": text}]

    def recipe(**corpus: Any) -> Path:
        stages: list[Any] = [{"corpus": {"domain": source, **corpus}}]
        stages += [{"vocabulary": {"extend": {"tokens": 8}}}] if vocabulary else []
        stages += [{"pretrain": {"tokens": 900, "replay": 0, "gates": gates}}]
        data = {"name": "gated", "base": str(tiny_model), "stages": stages}
        file = tmp_path / "recipe.yaml"
        file.write_text(json.dumps(data))
        return file

    with pytest.raises(RecipeError) as caught:
        load(recipe())
    (problem,) = caught.value.problems
    assert "the corpus has no replay text" in problem.message
    assert (problem.key or "").endswith("gates.0.action")
    load(recipe(replay={"sources": source}))


def test_stopping_at_the_best_point_needs_domain_text() -> None:
    assert "no held-out domain text" in problems(gate("general <= 0.1", "stop"), general="text")[0]


def test_a_result_is_chosen_by_a_probe_with_a_gain() -> None:
    def stop(by: str) -> Gate:
        return gate("general <= 0.1", "stop", by=by)

    assert problems(stop("piqa")) == problems(stop("domain")) == []
    told = [GateController([stop(by)]).describe() for by in ("piqa", "domain")]
    assert told == [
        "bounded: general <= 0.1 (stop, the best point by piqa)",
        "bounded: general <= 0.1 (stop)",
    ]
    (unknown,) = problems(stop("pika"))
    assert "gates.0.by: no probe is called `pika`" in unknown
    assert "Did you mean `piqa`" in unknown
    for by, reason in (("drift", "there is no gain"), ("general", "is biased on this text")):
        (unfit,) = problems(stop(by))
        assert "gates.0.by: " in unfit
        assert reason in unfit
        assert "Set `by` to a task with measure: p_gold" in unfit
    (two,) = problems(stop("piqa"), gate("drift <= 1", "stop"))
    assert "choose the result by different probes: domain, piqa" in two


def test_only_readings_of_a_task_end_a_run_by_patience() -> None:
    assert problems(gate("general <= 0.1", "stop", by="piqa", patience=3)) == []
    for options in ({}, {"by": "domain"}):
        (found,) = problems(gate("general <= 0.1", "stop", patience=3, **options))
        assert "gates.0.patience: the best of many readings of domain is biased" in found
        assert "Set `by` to a task with measure: p_gold" in found
    (text,) = problems(gate("general <= 0.1", "stop", by="general", patience=3))
    assert "gates.0.by" in text


def test_the_same_gate_twice_is_refused_and_two_actions_for_a_limit_are_not() -> None:
    twice = gate("general <= 0.1", "fail")
    assert "has 2 gates that fail" in problems(twice, twice)[0]
    assert problems(twice, gate("general <= 0.1", "raise-replay")) == []


def test_all_problems_come_at_once() -> None:
    assert len(problems(gate("a <= 1"), gate("b <= 1"), gate("piqa <= 1"))) == 3


def test_which_rows_replay_may_take() -> None:
    assert may_replay([gate("general <= 0.1", "raise-replay")])
    assert may_replay([gate("general <= 0.1", "roll-back", then="raise-replay")])
    assert not may_replay([gate("general <= 0.1", "roll-back"), gate("general <= 0.1", "stop")])
    assert least_rows([gate("general <= 0.1", "raise-replay", least=0.125)], 4, 8) == 1
    assert least_rows([gate("general <= 0.1", "raise-replay")], 4, 8) == 4


ROW = {
    "key": "learn.gates.0",
    "limit": "general <= +0.02",
    "probe": "general",
    "unit": "bits per byte",
    "verdict": "broken",
    "action": "stop",
    "value": 0.03,
    "items": 8,
    "needed_items": 111,
    "why": "general rose",
}


def failed(*rows: dict[str, Any], **monitor: Any) -> GateFailed:
    with pytest.raises(GateFailed) as found:
        require_limits({"gates": rows, "tokens": 5}, Monitor.model_validate(monitor), "learn")
    return found.value


def test_a_broken_limit_fails_the_stage_with_its_metrics() -> None:
    found = failed(ROW)
    assert found.message == "learn.gates.0: general <= +0.02 is broken: general rose"
    assert (found.exit_code, found.verdict) == (3, "broken")
    assert found.metrics["tokens"] == 5
    assert found.hint == (
        "The result is kept. Use more replay, a lower rate or fewer tokens; or widen the limit."
    )
    require_limits({"gates": [{**ROW, "action": "warn"}, {**ROW, "verdict": "held"}]}, Monitor(), "learn")


def test_a_limit_that_is_not_shown_to_be_held_has_an_exit_code_of_its_own_and_a_remedy() -> None:
    unshown = {**ROW, "verdict": "not shown"}
    found = failed(unshown)
    assert found.message == "learn.gates.0: general <= +0.02 is not shown: general rose"
    assert (found.exit_code, found.verdict) == (4, "not shown")
    assert found.hint == (
        "The result is kept. general: about 111 documents would show it, in place of 8: raise "
        "learn.monitor.tokens about 14-fold (the text must have as many), or widen the limit."
    )
    require_limits({"gates": [{**unshown, "action": "warn"}]}, Monitor(), "learn")
    both = failed(unshown, {**ROW, "key": "learn.gates.1"})
    assert (both.exit_code, both.verdict) == (3, "broken")
    assert "learn.gates.0" in both.message
    assert "learn.gates.1" in both.message


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"needed_items": None, "items": 1}, "known only from several documents: raise learn.monitor.tokens"),
        ({"needed_items": None}, "no sample shows a rise of nothing; widen the limit"),
        ({"needed_items": 7}, "the rise is too near the limit for 8 documents: lower it, or widen"),
        ({"value": None, "items": None, "needed_items": None}, "not read in time; read it more often"),
        ({"probe": "chat"}, "raise learn.monitor.texts.chat.tokens about 14-fold"),
        ({"probe": "piqa", "unit": "accuracy"}, "questions would show it"),
        ({"probe": "piqa", "unit": "accuracy"}, "raise learn.monitor.tasks.piqa.items"),
        ({"probe": "piqa", "unit": "p_gold"}, "questions would show it"),
        ({"probe": "drift", "unit": "nats per token"}, "samples would show it, in place of 8: raise learn."),
        ({"probe": "drift", "unit": "nats per token"}, "learn.monitor.drift.tokens"),
        ({"probe": "early-end", "unit": "probability"}, "raise learn.monitor.early_end.tokens"),
    ],
)
def test_the_remedy_names_the_setting(row: dict[str, Any], words: str) -> None:
    texts = {"chat": {"sources": [{"path": "chat.jsonl"}]}}
    found = failed({**ROW, "verdict": "not shown", **row}, texts=texts, tasks={"piqa": {}})
    assert words in (found.hint or "")


def test_the_trade_off_of_stop_is_a_setting_no_more() -> None:
    with pytest.raises(ValueError, match="`trade_off` is no longer a setting"):
        gate("general <= +0.02", "stop", trade_off=2)


def test_figures_are_of_the_weights_that_are_the_result() -> None:
    from types import SimpleNamespace

    from cpt.monitor.reading import Reading

    readings = [
        Reading(n, n * 10, name, "text", "bits per byte", 1 + r, 0.0, r, 0.0)
        for name, n, r in [
            ("general", 0, 0.0),
            ("rare", 0, 0.0),
            ("general", 1, 0.01),
            ("general", 2, 0.5),
            ("rare", 1, 0.3),  # read when the weights had gone back
        ]
    ]
    result: Any = SimpleNamespace(ended=None, steps=2, readings=readings)
    gates = [gate("general <= +0.02", "stop")]
    assert probe_figures(gates, result, 0.001)["gates"][0]["verdict"] == "broken"
    result.ended = {"step": 2, "result_step": 1, "action": "stop", "why": ""}
    figures = probe_figures(gates, result, 0.001)
    assert figures["gates"][0]["verdict"] == "held"
    assert figures["stability"]["general"]["permanent"] == 0.01
    assert figures["stability"]["rare"]["permanent"] == 0.3
    assert figures["ended"]["result_step"] == 1
    recovery = [gate("general recovers within 20%", "fail")]
    result.ended = {"step": 1, "result_step": 1, "action": "fail", "why": "w", "key": "learn.gates.0"}
    (row,) = probe_figures(recovery, result, 0.02, "learn")["gates"]
    assert (row["verdict"], row["why"]) == ("broken", "w")
    result.ended["key"] = "learn.gates.1"
    assert probe_figures(recovery, result, 0.02, "learn")["gates"][0]["verdict"] == "not shown"


def test_what_actions_depend_on_is_what_they_bound_and_what_stop_weighs() -> None:
    from cpt.monitor.gates import acted_upon

    assert acted_upon([gate("general <= 0.1"), gate("drift <= 1", "lower-rate")]) == {"drift"}
    assert acted_upon([gate("piqa >= -1 point", "stop")]) == {"piqa", "domain"}
    assert acted_upon([]) == frozenset()


def test_gates_without_text_to_watch_are_found_when_the_corpus_ends(tmp_path: Path) -> None:
    """Also where another model, which is not there yet, will read it."""

    def keys(action: str = "fail", *others: str, **held: int) -> list[str | None]:
        folder = tmp_path / f"{action}-{others}-{held}"
        for name, count in held.items():
            documents = [Document(str(number), f"{name} {number}") for number in range(count)]
            write_source(folder / "corpus", name, documents, Always("heldout"), set())
        gates = [{"limit": f"{name} <= +0.02", "action": action} for name in others or ("general", "domain")]
        config = PRETRAIN.Config.model_validate({"tokens": 900, "gates": gates})
        corpus = artifact("corpus", folder, "corpus")
        return [problem.key for problem in PRETRAIN.heldout_problems(config, corpus, halved=False)]

    assert keys(domain=8, general=8) == []
    assert keys(domain=8) == ["gates.0.limit"]
    assert keys(domain=7, general=8) == ["gates.1.limit"]
    assert keys("warn", domain=7, general=8) == []
    assert keys("fail", "early-end", domain=8, general=7) == ["gates.0.limit"]
    assert keys("fail", "early-end", domain=7, general=8) == []
    assert keys("fail", "early-end", domain=7) == ["gates.0.limit"]
