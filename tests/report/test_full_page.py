"""The page of a run with everything: every section, its order, and what is left out when absent."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import re

import pytest
from full_run import ACTIONS, GATES, full_run
from test_page import HOSTILE, Outline

from cpt.report.charts.gap import stability_gap
from cpt.report.facts import RunRecord, TrainingRecord, gather
from cpt.report.page import draw, render, sections
from cpt.report.schema import Facts
from cpt.report.templates import script

EVERYTHING = [
    "change", "limits", "gap", "path", "accuracy", "samples", "inside", "training", "data", "vocabulary",
    "vectors", "tasks", "suites", "time", "recipe", "versions", "reproduce",
]  # fmt: skip


@pytest.fixture(scope="module")
def outline(full_page: str) -> Outline:
    return Outline(full_page)


def test_every_section_is_there_in_the_order_of_importance(outline: Outline) -> None:
    found = [attrs["id"] for tag, attrs in outline.tags if tag == "section"]
    assert found == EVERYTHING
    links = [str(attrs["href"])[1:] for tag, attrs in outline.tags if tag == "a"]
    assert links[1:] == EVERYTHING


def test_the_overview_says_what_was_learned_lost_and_bounded(outline: Outline) -> None:
    overview = outline.text[: outline.text.index("Held-out text or task")]
    for words in (
        "general text unchanged (−0.001); instruction text 2.2% worse (+0.027); 1 of 4 limits broken",
        "Stability gap +0.025",
        "Limits kept 2 of 4 held, 1 broken, 1 not shown; the controller acted 3 times broken",
    ):
        assert words in overview


def test_gates_are_told_worst_first_with_their_noise(outline: Outline) -> None:
    table = outline.text[outline.text.index("Limits of the recipe") :]
    parts = ["instruction ≤ +0.02", "+0.031 ± 0.004", "155%", "broken", "piqa ≥ -1 point"]
    parts += [
        "of 1 allowed. About 1,250 questions would show it.",
        "−0.4 pts ± 1.6",
        "not shown",
        "general ≤ +0.02",
        "10%",
        "held",
        "general recovers within 80%",
        "75.0%",
    ]
    at = 0
    for part in parts:
        at = table.index(part, at) + 1


def test_the_ledger_tells_the_parts_of_a_mixture(outline: Outline, full_page: str) -> None:
    table = outline.text[outline.text.index("Token ledger") :]
    row = table[table.index("of which replay.code") :]
    assert row.startswith("of which replay.code 180 9.4% 90,000 7.02")  # of 1,920 sequences
    assert table.index("replay") < table.index("of which replay.books") < table.index("of which replay.code")
    assert "Tokens trained, by part of replay" in full_page


def test_actions_say_what_changed_and_why(outline: Outline) -> None:
    assert (
        "Step 20 41k general ≤ +0.02 raise replay 12.5% 25.0% general rose by 0.019 ± 0.002 of 0.02 allowed"
        in outline.text
    )
    assert "lower rate 1 0.7 piqa fell by 3.3 ± 1.6 points, more than 1" in outline.text


def test_samples_are_shown_as_text(outline: Outline) -> None:
    assert "Hypertrophic cardiomyopathy: A disorder of the heart muscle in which the…" in outline.text
    assert "… left ventricular wall is abnormally thick" in outline.text


def test_the_cost_of_watching_is_told(outline: Outline) -> None:
    assert "Probes did 4.8% of the training's work, within their share of 5.0%" in outline.text
    assert "and took 6.1% of the training's time. 115 of 116 readings were made." in outline.text
    assert "piqa 12 s 0.3% 14 15 35%" in outline.text


def test_figures_that_sort_carry_their_value(full_page: str) -> None:
    tables = re.findall(r'<table class="[^"]*sortable[^"]*">.*?</table>', full_page, re.DOTALL)
    assert len(tables) >= 8
    for value in ('data-value="0.125"', 'data-value="40960"', 'data-value="-0.3091"', 'data-value="0.0246'):
        assert value in full_page


def test_what_was_not_watched_has_no_section(facts: Facts) -> None:
    shown = {section.key for section in sections(facts, draw(facts)) if section.shown}
    assert set(EVERYTHING) - shown == {"limits", "accuracy", "samples", "inside", "vectors"}
    text = Outline(render(facts)).text
    for part in ("Limits", "controller", "Drift", "Norms of new tokens", "Probes did"):
        assert part not in text


@pytest.mark.usefixtures("charts_once")
def test_limits_that_were_never_at_risk(full: Facts) -> None:
    held = [gate.model_copy(update={"verdict": "held"}) for gate in full.watched.gates]
    watched = full.watched.model_copy(update={"gates": held, "actions": [], "control": []})
    text = Outline(render(full.model_copy(update={"watched": watched}))).text
    assert "The controller never had to act." in text
    assert "Limits kept 4 of 4 held; the controller never had to act held" in text


@pytest.mark.usefixtures("charts_once")
def test_a_training_that_ended_early_says_so() -> None:
    run = full_run()
    assert run.training is not None
    ended = {"step": 200, "result_step": 180, "action": "stop", "why": "general rose by 0.03"}
    summary = {**run.training.summary, "ended": ended}
    back = {**run.training.actions[0], "action": "stop", "from": None, "to": 180}
    training = dataclasses.replace(run.training, summary=summary, actions=[back])
    text = Outline(render(gather(dataclasses.replace(run, training=training)))).text
    assert (
        text.count("ended early, at step 200: general rose by 0.03. The result is the model of step 180.")
        == 2
    )
    assert "stop – step 180" in text
    chosen = "the best point within the limits, step 180 (domain fell by 0.2)"
    back = {**back, "key": "pretrain.gates.0", "result": chosen}
    summary = {**summary, "ended": {**ended, "result": chosen}}
    training = dataclasses.replace(run.training, summary=summary, actions=[back])
    text = Outline(render(gather(dataclasses.replace(run, training=training)))).text
    assert text.count(f"The result is {chosen}. Curves of probes end with it.") == 2
    assert f"; the result is {chosen}" in text
    assert "general ≤ +0.02 pretrain.gates.0" in text


def test_curves_end_with_the_result(full: Facts) -> None:
    """The readings of the result may come last in the file, behind later ones."""
    run = full_run()
    assert run.training is not None
    at = full.probes["general"].curve[-2].step
    summary = {**run.training.summary, "ended": {"step": 200, "result_step": at, "action": "stop", "why": ""}}
    probes = sorted(run.training.probes, key=lambda row: row["step"] == at)
    stop = {**run.training.actions[0], "action": "stop", "tokens": full.probes["general"].curve[-1].tokens}
    training = dataclasses.replace(run.training, summary=summary, probes=probes, actions=[stop])
    facts = gather(dataclasses.replace(run, training=training))
    watched = facts.watched
    assert [p.curve[-1].step for p in facts.probes.values() if p.curve] == [at] * len(full.probes)
    assert watched.drift[-1].step == watched.new_tokens[-1].step == at
    assert full.watched.layers is not None
    assert watched.layers is not None
    assert watched.layers.steps == [step for step in full.watched.layers.steps if step <= at]
    assert len(watched.layers.steps) < len(full.watched.layers.steps)
    drawn = stability_gap("general", facts.probes["general"], "final", actions=watched.actions)
    assert drawn is not None
    assert "acted" not in drawn  # it acted beyond the curve's end


@pytest.mark.usefixtures("charts_once")
def test_a_text_that_evaluate_did_not_measure_is_marked() -> None:
    run = full_run()
    assert run.scores is not None
    bits = {name: row for name, row in run.scores["bits_per_byte"].items() if name != "instruction"}
    facts = gather(dataclasses.replace(run, scores={**run.scores, "bits_per_byte": bits}))
    text = Outline(render(facts)).text
    assert "instruction text bits per byte, in training" in text
    assert text.count("bits per byte, in training") == 1


def test_strings_of_the_watching_are_escaped() -> None:
    run = full_run()
    assert run.training is not None
    training = run.training
    gates = [
        {**row, "limit": HOSTILE, "why": HOSTILE, "action": HOSTILE} for row in training.summary["gates"]
    ]
    cost = {**training.summary["monitor"], "probes": {HOSTILE: {"seconds": 1.0}}}
    names = {"piqa": HOSTILE, "instruction": HOSTILE + "2"}
    steps = [{**row, "sources": {HOSTILE: row["tokens"]}} for row in training.steps]
    hostile = dataclasses.replace(
        training,
        summary={**training.summary, "gates": gates, "monitor": cost},
        probes=[{**row, "probe": names.get(row["probe"], row["probe"])} for row in training.probes],
        steps=steps,
        actions=[{**row, "limit": HOSTILE, "why": HOSTILE, "to": HOSTILE} for row in training.actions],
        samples=[
            {"source": HOSTILE, "prompt": HOSTILE, "before": HOSTILE, "after": f"\x00\u202e{HOSTILE}"},
            {"source": "x", "prompt": "", "before": " ", "after": "\n"},
        ],
    )
    page = render(gather(dataclasses.replace(run, training=hostile)))
    outline = Outline(page)
    assert outline.scripts == [script("script.js")]
    assert page.lower().count("<script") == 1
    assert "\x00" not in page
    assert outline.text.count(HOSTILE) > 20
    assert outline.text.count("nothing: the text ends here") == 2


def long_run(steps: int) -> RunRecord:
    """The full run as if it had been logged at many more steps."""
    run = full_run()
    assert run.training is not None
    rows = [
        {"step": n, "tokens": n * 64, "loss_nats": 2 + n % 97 / 97, "lr": 1e-4, "replay_share": 0.1}
        | {"sources": {"domain": n * 58, "replay": n * 6}}
        for n in range(1, steps + 1)
    ]
    weights = [row for row in run.training.probes if row["kind"] == "weights"]
    probes = [
        {"step": n, "tokens": n * 64, "probe": name, "kind": "text", "value": 1 + n % 89 / 89}
        | {"rise": n % 89 / 89 - 0.5, "rise_error": 0.01}
        for name in ("domain", "general", "instruction")
        for n in range(steps // 20)
    ]
    many = [{**row, "step": n, "tokens": n} for n in range(steps // 200) for row in weights[3:4]]
    training = dataclasses.replace(run.training, steps=rows, probes=[*probes, *many])
    return dataclasses.replace(run, training=training)


def test_a_very_long_run_makes_a_small_page() -> None:
    facts = gather(long_run(50_000))
    page = render(facts).encode()
    assert len(page) < 1_500_000
    assert len(facts.model_dump_json()) < 2_000_000
    assert facts.training is not None
    losses = [point.loss_nats for point in facts.training.points]
    assert (min(losses), max(losses)) == (2.0, 2 + 96 / 97)


@pytest.mark.usefixtures("charts_once")
def test_a_merge_weight_at_the_end_of_its_range_is_told(full_page: str) -> None:
    edge = {"name": "weight of law", "value": 0.0, "bound": "lower", "says": "law is left out of the merge"}
    run = full_run()
    stages = [
        dataclasses.replace(each, metrics={**each.metrics, "search": {"at_bounds": [edge]}})
        if each.kind == "merge"
        else each
        for each in run.stages
    ]
    assert "law is left out of the merge" not in full_page
    assert "<p>law is left out of the merge.</p>" in render(gather(dataclasses.replace(run, stages=stages)))


def several() -> RunRecord:
    """The full run after two trainings of the same recipe, and with a limit on the merge."""
    run = full_run()
    assert run.training is not None
    gates, actions = run.training.summary["gates"], run.training.actions
    first = [{**gates[0], "verdict": "broken"}]
    earlier = [
        TrainingRecord("first", {"gates": first}, actions=actions[:1]),
        TrainingRecord("second", {"gates": gates[:1]}),
    ]
    merged = {**gates[0], "limit": "general <= +0.01", "allowed": 0.01, "action": "fail"}
    stages = [
        dataclasses.replace(stage, metrics={**stage.metrics, "gates": [merged]})
        if stage.kind == "merge"
        else stage
        for stage in run.stages
    ]
    return dataclasses.replace(run, stages=stages, earlier=earlier)


@pytest.mark.usefixtures("charts_once")
def test_limits_of_all_trainings_and_of_the_merge_are_told() -> None:
    facts = gather(several())
    assert [(gate.stage, gate.limit) for gate in facts.watched.gates] == [
        ("first", "general <= +0.02"),
        ("second", "general <= +0.02"),
        *(("pretrain", gate["limit"]) for gate in GATES),
        ("merge", "general <= +0.01"),
    ]
    assert [action.stage for action in facts.watched.actions] == ["first", *["pretrain"] * len(ACTIONS)]
    broken = "general ≤ +0.02 in first, instruction ≤ +0.02 in pretrain"
    assert facts.verdict.endswith(f"; 2 of 7 limits broken: {broken}.")
    text = Outline(render(facts)).text
    assert "Limits kept 4 of 7 held, 2 broken, 1 not shown; the controller acted 4 times broken" in text
    for words in ("general ≤ +0.02 first", "general ≤ +0.02 second", "general ≤ +0.01 merge"):
        assert words in text


def test_curves_show_only_what_bounds_their_own_training() -> None:
    facts, alone = gather(several()), gather(full_run())
    assert facts.watched.bounds("pretrain") == alone.watched.bounds("pretrain")
    assert draw(facts)["gap"] == draw(alone)["gap"]
    old = facts.watched.gates[0].model_copy(update={"stage": ""})  # of a report without stages
    assert facts.watched.model_copy(update={"gates": [old]}).bounds("pretrain")[0] == [old]
