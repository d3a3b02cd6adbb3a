"""What the facts hold, and that they hold together when stages are missing."""

from __future__ import annotations

import dataclasses
import json

import pytest
from medical_run import RECIPE, SCORES, STAGES, compared, general_level
from ruamel.yaml import YAML

from cpt.report.facts import RunRecord, StageRecord, TokenizerRecord, gather
from cpt.report.page import render
from cpt.report.schema import Facts, SuiteAverage, SuiteGroup, SuiteTask
from cpt.report.summary_text import final_words

PROBE_KEYS = {"before", "after", "depth", "trough_step", "recovery_step", "area", "permanent"}


def test_the_vocabulary_names_who_made_its_rows_and_the_time(run: RunRecord) -> None:
    base = StageRecord("base", "base", "0" * 64)
    config = {"embeddings": {"method": "hypernetwork", "folder": "zett"}}
    metrics = {"before": 300, "after": 330}
    changed = StageRecord("v", "vocabulary", "a" * 64, 12.5, config=config, metrics=metrics)
    n_shot = StageRecord(
        "n", "hypernetwork", "b" * 64, 900.0, metrics={"steps": 3, "tokens": 9, "vocabulary": metrics}
    )
    for stages, expected in (((base, changed), ("hypernetwork", 12.5)), ((base, n_shot), (None, None))):
        facts = gather(dataclasses.replace(run, stages=list(stages)))
        found = facts.vocabulary
        assert (found.after, found.method, found.seconds) == (330, *expected)


def test_json_keeps_its_contract(facts: Facts) -> None:
    data = json.loads(facts.model_dump_json())
    assert list(data["probes"]) == ["domain", "general"]
    for probe in data["probes"].values():
        assert probe.keys() >= PROBE_KEYS
    assert data["tokens"] == {"domain": 92160, "replay": 30720}
    assert data["tokens_per_second"] == pytest.approx(394.2)
    assert data["seconds"] == {
        "corpus": 148.3,
        "vocabulary": 21.7,
        "pretrain": 338.0,
        "merge": 9.4,
        "evaluate": 96.1,
    }
    assert {
        "before": 49152,
        "after": 50176,
        "bytes_per_token_before": 4.21,
        "bytes_per_token_after": 4.89,
    }.items() <= data["vocabulary"].items()


def test_levels_come_from_evaluate_and_the_gap_from_the_training_curve(facts: Facts) -> None:
    general = facts.probes["general"]
    assert general.measured_by == "evaluate"
    assert (general.before, general.after, general.permanent) == (0.9911, 0.9903, pytest.approx(-0.0008))
    assert (general.trough_step, general.recovery_step) == (6, 40)
    assert general.depth == pytest.approx(general_level(6) - general_level(0))
    assert general.training is not None
    assert general.training.before == pytest.approx(0.991)
    assert general.training.permanent == pytest.approx(general_level(60) - 0.991)


def test_without_evaluate_levels_are_the_ends_of_the_curve(run: RunRecord) -> None:
    facts = gather(dataclasses.replace(run, scores=None))
    general = facts.probes["general"]
    assert general.measured_by == "training"
    assert (general.before, general.after) == pytest.approx((0.991, general_level(60)))
    assert general.permanent == pytest.approx(general_level(60) - 0.991)
    assert general.difference is not None
    assert not general.difference.known  # this curve has no paired errors
    assert facts.tasks == {}
    assert "no confidence interval" in facts.basis
    assert facts.basis.endswith("The merged model itself was not measured.")


def test_without_stability_figures_the_curve_still_gives_the_levels(run: RunRecord) -> None:
    assert run.training is not None
    training = dataclasses.replace(run.training, summary={})
    general = gather(dataclasses.replace(run, training=training, scores=None)).probes["general"]
    assert general.before == pytest.approx(0.991)
    assert general.depth is None
    assert len(general.curve) == 18


def test_a_text_that_only_evaluate_measured_has_no_gap(run: RunRecord) -> None:
    scores = {**SCORES, "bits_per_byte": {"wiki": SCORES["bits_per_byte"]["general"]}}
    facts = gather(dataclasses.replace(run, scores=scores, training=None))
    wiki = facts.probes["wiki"]
    assert (wiki.after, wiki.depth, wiki.training, wiki.curve) == (0.9903, None, None, [])
    assert (facts.training, facts.tokens, facts.tokens_per_second) == (None, {}, None)


def test_suites_come_from_evaluate(run: RunRecord, facts: Facts) -> None:
    assert facts.suites is not None
    assert [task.task for task in facts.suites.by_suite["medical"]] == ["pubmedqa"]
    assert facts.suites.averages["general"].verdict == "no change"
    assert facts.suites.retention["medical"].points == 7.5
    assert gather(dataclasses.replace(run, scores=None)).suites is None


def test_a_group_stands_before_its_tasks(run: RunRecord) -> None:
    assert run.scores is not None
    lines = [
        compared("general", 0.4, 0.3, "no change", task=f"m{n}", group="mmlu", metric="acc", n=5)
        for n in (1, 2)
    ]
    suites = run.scores["suites"]
    suites = {
        **suites,
        "tasks": {**suites["tasks"], **{line["task"]: line for line in lines}},
        "groups": [compared("general", 0.4, 0.3, "worse", group="mmlu", tasks=2)],
    }
    facts = gather(dataclasses.replace(run, scores={**run.scores, "suites": suites}))
    assert facts.suites is not None
    average, piqa, group, *members = facts.suites.lines["general"]
    assert isinstance(average, SuiteAverage)
    assert isinstance(group, SuiteGroup)
    assert [line.task for line in (piqa, *members) if isinstance(line, SuiteTask)] == ["piqa", "m1", "m2"]


def test_vocabulary_metrics_may_be_flat(run: RunRecord) -> None:
    nested = STAGES[2].metrics["vocabulary"]
    flat = [dataclasses.replace(stage, metrics=nested) for stage in STAGES if stage.kind == "vocabulary"]
    vocabulary = gather(dataclasses.replace(run, stages=flat)).vocabulary
    assert (vocabulary.before, vocabulary.after, vocabulary.bytes_per_token_after) == (49152, 50176, 4.89)


def test_without_a_vocabulary_stage_both_sides_are_the_base(run: RunRecord) -> None:
    stages = [stage for stage in STAGES if stage.kind != "vocabulary"]
    facts = gather(dataclasses.replace(run, stages=stages, tokenizer=TokenizerRecord(32_000, 3.9)))
    assert facts.vocabulary.model_dump(exclude={"added", "rows"}) == {
        "before": 32_000,
        "after": 32_000,
        "bytes_per_token_before": 3.9,
        "bytes_per_token_after": 3.9,
        "method": None,
        "seconds": None,
    }
    assert facts.absent == ["vocabulary"]


def test_documents_are_accounted_for(facts: Facts) -> None:
    domain = facts.documents["domain"]
    assert domain.documents_in == 16214
    assert domain.removed == {"duplicate": 241, "empty": 3, "duplicate_of_heldout": 9}
    assert domain.balanced
    assert not domain.model_copy(update={"documents_in": 16215}).balanced


def test_merge_and_its_weights(facts: Facts) -> None:
    assert facts.merge is not None
    assert facts.merge.method == "task-arithmetic"
    assert [(model.model, model.weight) for model in facts.merge.models] == [("pretrain", 0.9)]


def test_a_weight_that_varies_by_layer_is_told_as_such(run: RunRecord) -> None:
    config = {"method": "ties", "models": [{"from": "pretrain", "weight": [0.2, 0.8]}, {"from": "base"}]}
    stages = [dataclasses.replace(s, config=config) if s.kind == "merge" else s for s in run.stages]
    facts = gather(dataclasses.replace(run, stages=stages))
    assert facts.merge is not None
    assert [(model.weight, model.varied) for model in facts.merge.models] == [(None, True), (None, False)]
    assert "(ties, pretrain at weights by layer, base)" in final_words(facts)


def test_recipe_survives_as_yaml(facts: Facts) -> None:
    assert YAML(typ="safe").load(facts.recipe) == RECIPE


def test_a_version_that_changed_between_stages_shows_both(run: RunRecord) -> None:
    stages = [
        StageRecord("corpus", "corpus", "a" * 64, versions={"torch": "2.6.0", "python": "3.11.9"}),
        StageRecord("pretrain", "pretrain", "b" * 64, versions={"torch": "2.9.1", "python": "3.11.9"}),
    ]
    versions = gather(dataclasses.replace(run, stages=stages)).versions
    assert versions == {"python": "3.11.9", "torch": "2.6.0, then 2.9.1"}


def test_long_curves_are_thinned_but_keep_their_ends(run: RunRecord) -> None:
    assert run.training is not None
    steps = [{"step": n, "tokens": n * 64, "loss_nats": 2.0, "lr": 1e-4} for n in range(1, 20_001)]
    training = gather(
        dataclasses.replace(run, training=dataclasses.replace(run.training, steps=steps))
    ).training
    assert training is not None
    assert 1 < len(training.points) <= 1000
    assert (training.points[0].step, training.points[-1].step) == (1, 20_000)


def test_of_several_training_stages_the_newest_is_shown(run: RunRecord) -> None:
    stages = [*STAGES, dataclasses.replace(STAGES[3], name="anneal")]
    training = gather(dataclasses.replace(run, stages=stages)).training
    assert training is not None
    assert training.trainings == 2


def test_the_title_heads_the_page_but_does_not_rename_the_run(run: RunRecord) -> None:
    facts = gather(dataclasses.replace(run, title="Adapting to medicine"))
    assert (facts.title, facts.name) == ("Adapting to medicine", "medical")


def test_nothing_at_all_is_a_report_too(bare: RunRecord) -> None:
    facts = gather(bare)
    assert facts.verdict == "Nothing was measured on held-out text."
    assert facts.absent == ["corpus", "vocabulary", "pretrain", "merge", "evaluate"]
    assert facts.probes == {}


@pytest.mark.parametrize(("unit", "first", "tokens"), [("steps", 3, None), ("tokens", 5000, 5000)])
def test_phases_of_the_schedule_begin_at_their_tokens(
    run: RunRecord, unit: str, first: int, tokens: int | None
) -> None:
    assert run.training is not None
    phases = [{"name": "warmup", "first": 0}, {"name": "cosine", "first": first}]
    summary = {**run.training.summary, "schedule": {"unit": unit, "phases": phases}}
    training = gather(
        dataclasses.replace(run, training=dataclasses.replace(run.training, summary=summary))
    ).training
    assert training is not None
    expected = tokens or next(row["tokens"] for row in run.training.steps if row["step"] == first)
    assert [(phase.name, phase.tokens) for phase in training.phases] == [("warmup", 0), ("cosine", expected)]


def test_what_a_probe_has_read_is_known_by_its_fingerprint() -> None:
    from cpt.report.facts.monitoring import gather_texts
    from cpt.report.facts.records import TrainingRecord

    rows = [{"step": 0, "tokens": 0, "probe": "chat", "value": 1.0, "kind": "text"}]
    for summary, expected in (({"samples": {"chat": "ab"}}, "ab"), ({}, None)):
        assert gather_texts(TrainingRecord("pretrain", summary, probes=rows), {})["chat"].sample == expected


def test_further_models_have_facts_and_a_section(run: RunRecord) -> None:
    assert run.scores is not None
    found = {key: run.scores[key] for key in ("bits_per_byte", "tasks", "suites") if key in run.scores}
    assert gather(run).against == {}
    facts = gather(dataclasses.replace(run, scores={**run.scores, "against": {"org/instruct": found}}))
    other = facts.against["org/instruct"]
    assert other.texts["general"].difference == facts.probes["general"].difference
    assert (other.tasks, other.suites) == (facts.tasks, facts.suites)
    page = render(facts)
    assert 'id="against"' in page
    assert "org/instruct" in page
