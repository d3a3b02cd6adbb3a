"""The work of probes, and the sizes of their samples, planned before training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from stage_runs import make_corpus, model_artifact

from cpt.corpus import read_index
from cpt.monitor.gates import Gate
from cpt.monitor.noise import needed_error
from cpt.monitor.probe_work import FORWARD, NEEDED, NEW_TOKENS, SMALLEST, WEIGHTS, planned_shares
from cpt.monitor.schedule import Moment
from cpt.recipe.load import load
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import EarlyEnd, Monitor, PretrainConfig
from cpt.stages.pretrain.data import Facts, Reading
from cpt.stages.pretrain.probe_plan import (
    DEFAULT_TOKENS,
    ITEM,
    PROMPT,
    SPREAD,
    USUAL,
    Sizes,
    documents_needed,
    over_share,
    planned_readings,
    probe_demands,
    probe_work_of,
    sizes_of,
    spread,
    tightest,
)

GATE = TypeAdapter(Gate)
MORE = GATE.validate_python({"limit": "general <= +0.01", "action": "raise-replay"})
WARN = GATE.validate_python({"limit": "general <= +0.01", "action": "warn"})
SOURCE = {"sources": [{"path": "a.jsonl"}], "tokens": 50, "every": 3}
HELD_OUT = ("domain", "general")
END = Moment(400, 10_000)
RECIPES = Path(__file__).parents[2] / "recipes"


def monitor(**settings: object) -> Monitor:
    return Monitor.model_validate({"weights": None, "samples": None, "early_end": None} | settings)


def demands(monitor: Monitor, gate: Gate, end: Moment = END):
    return probe_demands(monitor, [gate], dict.fromkeys(HELD_OUT, 1_000), end)


def test_every_probe_is_counted_with_its_work() -> None:
    asked = monitor(
        texts={"chat": SOURCE},
        drift={"tokens": 70},
        tasks={"piqa": {"items": 20}},
        weights={},
        early_end={"tokens": 60},
    )
    found = probe_demands(asked, [MORE], {"domain": 300, "general": 300, "chat": 50}, END, new_tokens=True)
    assert {name: each.work / FORWARD for name, each in found.items()} == pytest.approx(
        {
            "domain": 300,
            "general": 300,
            "chat": 50,
            "piqa": 20 * ITEM,
            "drift": 70,
            "early-end": 60,
            "weights": WEIGHTS / FORWARD,
            "new-tokens": NEW_TOKENS / FORWARD,
        }
    )
    assert [name for name, each in found.items() if each.gated] == ["general"]
    assert [name for name, each in found.items() if not each.divisible] == ["weights", "new-tokens"]
    assert (found["chat"].early, found["chat"].later) == (2, 133)
    assert "weights" not in probe_demands(asked, [], {}, END, weights=False)


def test_what_is_sampled_beside_the_training_is_counted() -> None:
    samples = {"texts": 3, "tokens": 6}
    probe_work = probe_work_of(monitor(samples=samples, drift={"tokens": 90}), sources=2)
    assert probe_work is not None
    assert probe_work.share == 0.05
    assert probe_work.other_work == pytest.approx((90 + 2 * 2 * 3 * (PROMPT + 6)) / 3)
    assert probe_work_of(monitor(probe_share=None), sources=2) is None


@pytest.mark.parametrize(
    ("allowed", "gate", "tokens", "share"),
    [(0.05, MORE, 10_000, (4 + SMALLEST * NEEDED) / 30), (0.5, MORE, 10_000, None),
     (0.05, MORE, 100_000, None), (0.05, WARN, 10_000, 4 / 30),
     (0.2, WARN, 10_000, None), (None, MORE, 10_000, None)],
)  # fmt: skip
def test_it_is_said_if_what_is_read_in_any_case_exceeds_the_share(
    allowed: float | None, gate: Gate, tokens: int, share: float | None
) -> None:
    asked = monitor(probe_share=allowed)
    found = over_share(probe_work_of(asked, 2), demands(asked, gate), tokens)
    assert (found is not None) == (share is not None)
    if found:
        assert f"take {share:.1%} of the training's work, more than the share of 5%" in found
        assert ("those that gates need (general)" in found) == (gate is MORE)


def test_no_more_readings_are_counted_than_are_due() -> None:
    asked = monitor(every=10)
    found = over_share(probe_work_of(asked, 2), demands(asked, MORE, Moment(4, 10_000)), 10_000)
    assert f"{(4 + SMALLEST * 2) / 30:.1%}" in str(found)


def test_the_plan_counts_readings_and_their_work() -> None:
    asked = monitor(every=100)
    said = planned_readings(probe_work_of(asked, 2), demands(asked, WARN), 10_000)
    work = f"{2 / 30:.1%}"
    total = f"{4 / 30:.1%} of the training's work of 5% allowed"
    assert said == f"probes domain 2 of 12 readings ({work}), general 2 of 12 readings ({work}): {total}"
    free = planned_readings(None, demands(asked, WARN), 10_000)
    assert free.startswith(f"probes domain 12 of 12 readings ({12 / 30:.1%}), ")
    assert free.endswith("of the training's work")
    part = planned_readings(
        probe_work_of(monitor(every=100, probe_share=0.4), 2), demands(asked, WARN), 10_000
    )
    assert "domain 12 of 12 readings on 31% of its sample or more (20.0%)" in part


def sizes(limit: float | None, tokens: int = 10**9, **settings: object) -> Sizes:
    gates = (
        [] if limit is None else [GATE.validate_python({"limit": f"general <= +{limit:g}", "action": "warn"})]
    )
    return sizes_of(monitor(**settings), gates, HELD_OUT, Moment(400, tokens))


def test_a_sample_grows_as_its_limit_shrinks() -> None:
    read = [sizes(limit).tokens("general", USUAL) for limit in (None, 0.08, 0.04, 0.02, 0.01)]
    assert read[:2] == [DEFAULT_TOKENS, 8 * 1024]
    assert read[1] < read[2] < read[3] < read[4]
    for limit, tokens in zip((0.02, 0.01), read[3:], strict=True):
        assert SPREAD / math.sqrt(tokens / USUAL) == pytest.approx(needed_error(limit), rel=0.02)
    assert sizes(0.01).tokens("domain", USUAL) == DEFAULT_TOKENS


def test_tokens_that_are_given_are_kept() -> None:
    assert sizes(0.01, tokens=10**9, **{"texts": {}}).tokens("general") > 100_000
    given = sizes_of(Monitor(tokens=900), [MORE], HELD_OUT, END)
    assert [given.tokens(name, USUAL) for name in HELD_OUT] == [900, 900]
    own = monitor(texts={"chat": SOURCE})
    assert sizes_of(own, [MORE], HELD_OUT, END).tokens("chat") == 50


def test_short_documents_are_taken_to_differ_more() -> None:
    assert spread(USUAL) == spread(1_000) == SPREAD
    assert spread(USUAL / 4) == pytest.approx(2 * SPREAD)
    assert documents_needed(0.02, USUAL / 4) == pytest.approx(4 * documents_needed(0.02, USUAL), rel=0.01)
    assert documents_needed(0, USUAL) is None


def test_no_more_is_read_than_the_share_pays_for() -> None:
    asked = monitor(every=100)
    for tokens in (2_000_000, 5_000_000):
        end = Moment(400, tokens)
        found = sizes_of(asked, [MORE], HELD_OUT, end)
        read = {name: found.tokens(name, USUAL) for name in HELD_OUT}
        assert DEFAULT_TOKENS < read["general"] < USUAL * (documents_needed(0.01, USUAL) or 0)
        assert read["general"] == math.ceil(found.paid)
        planned = probe_demands(asked, [MORE], read, end)
        shares = planned_shares(probe_work_of(asked, 2), tokens, planned)
        assert sum(planned[name].done(shares[name]) for name in read) <= 0.05 * tokens + 1e-6
        assert sum(share > 0 for share in shares["domain"]) > 2, "others are read, too"
    poor = sizes_of(asked, [MORE], HELD_OUT, Moment(400, 1_000))
    assert poor.tokens("general", USUAL) == 8 * 1024


def test_the_tightest_limit_of_a_text_counts() -> None:
    gates = [
        GATE.validate_python({"limit": limit, "action": "warn"})
        for limit in ("general <= +0.03", "general <= +0.02", "general recovers within 20%", "drift <= 0.1")
    ]
    found = tightest(gates, HELD_OUT)
    assert {name: each.allowed for name, each in found.items()} == {"general": 0.02}


def test_what_a_sample_can_show_is_said() -> None:
    found = sizes(0.02)
    needed = documents_needed(0.02, USUAL)
    assert needed is not None
    enough = found.shown("general", needed * USUAL, needed, 10_000)
    assert enough.startswith(f"general <= +0.02: {needed:,} documents of general are read, ")
    assert "expected standard error of 0.002: a true rise of 0.027 or more is found" in enough
    assert "takes" not in enough
    few = found.shown("general", 40 * USUAL, 40, 40)
    assert "a true rise of 0.041 or more" in few
    assert few.endswith(f"to find 0.027 takes {needed:,} documents: give the text more documents")
    assert found.shown("general", 40 * USUAL, 40, 900).endswith(
        "raise monitor.probe_share, or train on more tokens"
    )
    given = sizes_of(Monitor(tokens=900), [MORE], HELD_OUT, END)
    assert given.shown("general", 900, 5, 900).endswith("raise its `tokens`, or leave them out")
    assert "found" not in found.shown("general", 100, 1, 900)
    assert f"takes about {needed:,} documents of {USUAL} tokens; " in found.asked("general")


def test_a_corpus_that_is_made_is_planned_with_its_own_text_before_the_model_is_there(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = model_artifact("base", tiny_model, tmp_path / "base")
    inputs = {"corpus": make_corpus(base, tmp_path / "corpus")}
    gates = [{"limit": "general <= +0.02", "action": "warn"}]
    asked = PretrainConfig.model_validate({"tokens": 900, "gates": gates})
    held = read_index(inputs["corpus"].path("corpus")).sources
    facts = Facts.of(asked, inputs, {})
    assert facts.end is not None
    reading = Reading.of(asked, facts, facts.end, inputs)
    for name in HELD_OUT:
        counts = held[name].splits["heldout"]
        assert reading.tokens[name] == counts.tokens < DEFAULT_TOKENS
    documents = held["general"].splits["heldout"].documents
    (said,) = reading.limits()
    assert said.startswith(f"general <= +0.02: {documents} documents of general are read, ")
    with_model = Reading.of(asked, facts, facts.end, {**inputs, "model": base})
    assert reading.tokens["general"] == pytest.approx(with_model.tokens["general"], rel=0.05)


def test_a_text_of_unknown_length_is_planned_with_the_length_that_is_named() -> None:
    free = sizes(0.01, probe_share=None)
    needed = documents_needed(0.01, USUAL)
    assert needed is not None
    assert free.tokens("general") == needed * USUAL
    assert free.asked("general").endswith(
        f"; {needed * USUAL:,} tokens are read, about {needed:,} such documents"
    )
    given = sizes_of(Monitor(tokens=900), [MORE], HELD_OUT, END)
    assert given.asked("general").endswith("; 900 tokens are read, about 5 such documents")


def test_the_quickstart_shows_its_gap_with_eight_readings_and_more() -> None:
    recipe = load(RECIPES / "quickstart.yaml")
    corpus, pretrain = (
        next(step.located for step in recipe.steps if isinstance(step.located, kind))
        for kind in (CorpusConfig, PretrainConfig)
    )
    facts = Facts.of(pretrain, {}, {"corpus": [corpus], "model": []})
    assert facts.end is not None
    reading = Reading.of(pretrain, facts, facts.end, {})
    shares = planned_shares(reading.probe_work, facts.end.tokens, reading.demands)
    for name in HELD_OUT:
        assert 2 + sum(share > 0 for share in shares[name]) >= 8


def test_ends_in_mid_sentence_are_counted_too() -> None:
    asked = Monitor(tokens=1000)
    found = probe_demands(asked, [], {"general": 1000}, END)
    assert found["early-end"].work / FORWARD == pytest.approx(500)
    few = probe_demands(Monitor(tokens=1000, early_end=EarlyEnd(tokens=90, every=70)), [], {}, END)[
        "early-end"
    ]
    assert few.work / FORWARD == pytest.approx(90)
    assert few.between < found["early-end"].between
    assert "early-end" not in probe_demands(Monitor(early_end=None), [], {}, END)
