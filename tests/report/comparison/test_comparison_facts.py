"""What is said of several runs: verdict, front, who cannot be compared and why, best by figure."""
# ruff: noqa: RUF001 - the page writes true minus signs

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from made_runs import FOUR, NOISE, SETTINGS, TEXTS, a_run

from cpt.report.comparison.facts import ReportedRun, compare
from cpt.report.comparison.pareto_front import Documents
from cpt.report.comparison.schema import Comparison
from cpt.report.comparison.summary_text import listed
from cpt.report.schema import Facts, Interval, Suites, Task, Training

NOW = "2026-03-01T09:22:56+00:00"


def compared(*runs: ReportedRun) -> Comparison:
    return compare(runs, SETTINGS, NOW)


def without_scores(run: ReportedRun) -> ReportedRun:
    """A run as it would be without an evaluate stage."""
    probes = {
        name: probe.model_copy(
            update={
                "measured_by": "training",
                "difference": Interval(value=probe.training.permanent) if probe.training else None,
                "documents": None,
            }
        )
        for name, probe in run.facts.probes.items()
    }
    return dataclasses.replace(run, facts=run.facts.model_copy(update={"probes": probes, "tasks": {}}))


def test_the_verdict_names_both_ends_what_lies_between_and_what_is_beaten() -> None:
    found = compared(*FOUR)
    assert found.verdict == (
        "replay-0 gains most on domain text (−0.310, general +0.090); replay-50 keeps general text best "
        "(−0.005, domain −0.200); replay-25 is between; slow is beaten by replay-25 and replay-50."
    )
    assert found.front == ["replay-0", "replay-25", "replay-50"]
    assert [run.on_front for run in found.runs] == [True, True, True, False]
    assert found.runs[3].beaten_by == ["replay-25", "replay-50"]
    assert "intervals, taken as independent" in found.basis


def test_one_run_can_be_best_on_both() -> None:
    found = compared(a_run("good", -0.3, 0.0), a_run("bad", -0.2, 0.1))
    assert found.verdict == (
        "good is best on both; −0.300 bits per byte on domain text, 0.000 on general text."
    )
    assert found.front == ["good"]


def test_runs_within_the_noise_are_not_told_apart() -> None:
    found = compared(a_run("a", -0.300, 0.01), a_run("b", -0.305, 0.012), a_run("c", -0.302, 0.008))
    assert found.verdict == (
        "Three runs without a difference beyond the noise; domain text −0.305 to −0.300, "
        "general text +0.008 to +0.012."
    )
    assert set(found.front) == {"a", "b", "c"}
    assert "domain.change" not in found.best


def test_the_same_documents_tell_them_apart() -> None:
    rng = np.random.default_rng(2)
    sizes = np.full(100, 500.0)
    hard = rng.normal(350, 80, 100)
    texts = tuple(map(str, range(100)))

    def with_documents(run: ReportedRun, shift: float) -> ReportedRun:
        kept = Documents(texts, hard + shift + rng.normal(0, 0.5, 100), sizes)
        return dataclasses.replace(run, documents={"domain": kept, "general": kept})

    found = compared(
        with_documents(a_run("a", -0.300, 0.01), 2.0), with_documents(a_run("b", -0.305, 0.01), 0.0)
    )
    assert found.best["domain.change"].runs == ["b"]
    assert "document by document" in found.basis
    assert all(pair.paired for pair in found.pairs)
    other_base = with_documents(a_run("b", -0.305, 0.01), 0.0)
    probe = other_base.facts.probes["domain"].model_copy(update={"before": 1.3})
    probes = {**other_base.facts.probes, "domain": probe}
    moved = dataclasses.replace(other_base, facts=other_base.facts.model_copy(update={"probes": probes}))
    pairs = compared(with_documents(a_run("a", -0.300, 0.01), 2.0), moved).pairs
    assert {pair.probe: pair.paired for pair in pairs} == {"domain": False, "general": True}


def test_figures_on_other_text_are_not_compared_and_it_is_said() -> None:
    stranger = a_run("stranger", -0.9, -0.9, texts={**TEXTS, "domain": "ab" * 32})
    found = compared(*FOUR, stranger)
    assert found.front == ["replay-0", "replay-25", "replay-50"]
    row = found.runs[4]
    assert (row.on_front, row.probes["general"].apart) == (None, "")
    assert row.probes["domain"].apart == "its held-out text is another (abababab instead of d0d0d0d0)"
    assert f"stranger is not compared on domain text: {row.probes['domain'].apart}." in found.notes
    assert "stranger" not in found.verdict
    assert "stranger" not in found.best["domain.change"].runs
    assert all("stranger" not in (pair.a, pair.b) for pair in found.pairs if pair.probe == "domain")


def test_another_sample_of_the_same_text_is_not_compared_either() -> None:
    run = a_run("sampled", -0.9, 0.0)
    domain = run.facts.probes["domain"].model_copy(update={"documents": 7})
    facts = run.facts.model_copy(update={"probes": {**run.facts.probes, "domain": domain}})
    found = compared(*FOUR, dataclasses.replace(run, facts=facts))
    assert found.runs[4].probes["domain"].apart == "it was measured on another sample of the held-out text"


def test_a_corpus_that_is_gone_is_told_by_the_bases_level() -> None:
    known = compared(*(dataclasses.replace(run, texts={}) for run in FOUR))
    assert known.front == ["replay-0", "replay-25", "replay-50"]
    mixed = compared(*FOUR[:2], dataclasses.replace(FOUR[2], texts={}))
    assert "its corpus is gone" in mixed.runs[2].probes["domain"].apart


def test_no_two_runs_on_the_same_text() -> None:
    others = dict.fromkeys(TEXTS, "77" * 32)
    found = compared(a_run("a", -0.3, 0.0), a_run("b", -0.2, 0.1, texts=others))
    assert found.verdict.startswith("No two runs were measured on the same domain and general text;")
    assert [run.on_front for run in found.runs] == [None, None]
    assert found.front == []
    assert len(found.notes) == 2
    assert found.best.keys() <= {"tokens_per_second"}


def test_runs_without_evaluate_are_compared_by_their_probes() -> None:
    bare = [without_scores(run) for run in FOUR]
    found = compared(*bare)
    assert found.runs[0].probes["domain"].change == Interval(
        value=bare[0].facts.probes["domain"].training.permanent
    )  # type: ignore[union-attr]
    assert found.basis.startswith("First against last reading of the training probes")
    assert "Some changes have no interval" in found.basis
    mixed = compared(*FOUR[:3], bare[3])
    assert mixed.runs[3].probes["domain"].apart.startswith("it has no evaluate stage")
    both = compared(FOUR[0], bare[1])  # the probes are what these two share
    assert [run.probes["domain"].apart for run in both.runs] == ["", ""]
    assert both.basis.startswith("First against last reading")


def test_probes_of_training_are_compared_only_if_they_read_the_same() -> None:
    def read(run: ReportedRun, domain: str) -> ReportedRun:
        bare = without_scores(run)
        marks = {"domain": domain, "general": "same"}
        probes = {
            name: probe.model_copy(update={"sample": marks[name]})
            for name, probe in bare.facts.probes.items()
        }
        facts = bare.facts.model_copy(update={"probes": probes})
        return dataclasses.replace(bare, facts=facts)

    found = compared(read(FOUR[0], "a"), read(FOUR[1], "a"), read(FOUR[2], "b"))
    apart = [run.probes["domain"].apart for run in found.runs]
    assert apart[:2] == ["", ""]
    assert apart[2].startswith("its training probe is not known to have read the same parts")
    assert {run.probes["general"].apart for run in found.runs} == {""}
    gone = [dataclasses.replace(read(run, "a"), texts={}) for run in FOUR[:2]]
    assert {run.probes["domain"].apart for run in compared(*gone, read(FOUR[2], "a")).runs} == {""}


def test_a_training_that_began_elsewhere_has_its_gap_apart() -> None:
    run = a_run("new-words", -0.3, 0.0)
    probe = run.facts.probes["general"]
    assert probe.training is not None
    moved = probe.model_copy(update={"training": probe.training.model_copy(update={"before": 1.4})})
    facts = run.facts.model_copy(update={"probes": {**run.facts.probes, "general": moved}})
    found = compared(*FOUR, dataclasses.replace(run, facts=facts))
    assert found.runs[4].probes["general"].offset == pytest.approx(1.4 - 0.991)
    assert not found.runs[4].probes["general"].began_alike
    assert found.best["general.depth"].runs == ["slow"] or "new-words" not in found.best["general.depth"].runs
    assert any(note.startswith("Training of new-words began at another level") for note in found.notes)


def test_best_by_figure() -> None:
    best = compared(*FOUR).best
    assert best["domain.change"].runs == ["replay-0"]
    assert best["general.change"].runs == ["replay-50"]
    assert best["general.depth"].runs == ["replay-50"]
    assert best["general.recovery"].runs == ["replay-50"]
    assert best["tokens_per_second"].runs == ["replay-0", "replay-25", "replay-50"]
    assert "domain.recovery" not in best


def level(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def test_higher_is_better_of_scores_and_other_items_stand_apart() -> None:
    def scored(name: str, after: float, items: int = 100, before: float = 0.5) -> ReportedRun:
        change = level(after - before)
        task = Task(items=items, before=level(before), after=level(after), difference=change)
        return a_run(name, -0.3, 0.0, tasks={"quiz": task})

    found = compared(
        scored("a", 0.6), scored("b", 0.7), scored("c", 0.9, items=7), scored("d", 0.9, before=0.4)
    )
    assert found.best["task.quiz"].runs == ["b"]
    assert [run.other_items for run in found.runs] == [[], [], ["quiz"], ["quiz"]]
    assert "c answered other items of quiz: these are not compared." in found.notes


def test_averages_of_other_tasks_of_a_suite_are_not_compared() -> None:
    """Which tasks have a signal differs from run to run, though their number may be the same."""
    suites = FOUR[0].facts.suites
    assert suites is not None
    renamed = {
        f"other-{name}": task.model_copy(update={"task": f"other-{name}"})
        if task.suite == "medical"
        else task
        for name, task in suites.tasks.items()
    }
    third = a_run("third", -0.3, 0.0, suites=suites.model_copy(update={"tasks": renamed}))
    found = compared(FOUR[0], FOUR[1], third)
    assert [run.other_items for run in found.runs] == [[], [], ["medical"]]


def test_the_fingerprint_of_the_items_tells_better_than_their_number() -> None:
    def with_items(run: ReportedRun, mark: str) -> ReportedRun:
        return dataclasses.replace(run, items={"hpo-continuation": mark})

    found = compared(with_items(FOUR[0], "x"), with_items(FOUR[1], "x"), with_items(FOUR[2], "y"))
    assert [run.other_items for run in found.runs] == [[], [], ["hpo-continuation"]]
    mixed = compared(with_items(FOUR[0], "x"), with_items(FOUR[1], "y"), FOUR[2])
    assert [run.other_items for run in mixed.runs] == [[], [], []]


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"base": "another"}, "start from different models"),
        ({"tokens": {"domain": 5}}, "different numbers of tokens (5 to 123k)"),
        ({"confidence": 0.9}, "intervals of different confidence (95% and 90%)"),
    ],
)
def test_unlike_runs_are_pointed_out(changed: dict[str, Any], note: str) -> None:
    found = compared(a_run("a", -0.3, 0.0), a_run("b", -0.2, 0.0, **changed))
    assert any(note in each for each in found.notes)
    assert compared(a_run("a", -0.3, 0.0), a_run("b", -0.2, 0.0)).notes == []


def test_tokenizers_of_different_sizes_compare_in_bits_per_byte() -> None:
    larger = a_run("b", -0.2, 0.0)
    vocabulary = larger.facts.vocabulary.model_copy(update={"after": 60_000})
    facts = larger.facts.model_copy(update={"vocabulary": vocabulary})
    found = compared(a_run("a", -0.3, 0.0), dataclasses.replace(larger, facts=facts))
    assert any("bits per byte compare across tokenizers" in note for note in found.notes)
    assert found.front == ["a"]


def test_unfinished_runs_say_what_they_lack() -> None:
    run = dataclasses.replace(FOUR[0], state="killed", missing=("merge", "evaluate"))
    assert "replay-0 is killed: merge and evaluate have not finished." in compared(run, FOUR[1]).notes


def test_a_run_of_which_little_is_known_can_be_compared() -> None:
    training = Training(stage="pretrain", steps=3, tokens=9)
    bare = Facts(
        name="bare",
        title="bare",
        base="b",
        verdict="",
        basis="",
        created="",
        confidence=0.95,
        training=training,
    )
    found = compared(FOUR[0], ReportedRun("bare", bare))
    assert found.runs[1].probes == {}
    assert "bare is not compared on domain and general text: it was not measured." in found.notes


def test_json_holds_every_figure() -> None:
    data = json.loads(compared(*FOUR).model_dump_json())
    assert data.keys() >= {"verdict", "basis", "notes", "front", "best", "runs", "pairs", "settings"}
    row = data["runs"][0]
    assert row["probes"]["general"]["change"] == pytest.approx(
        {"value": 0.09, "low": 0.09 - NOISE, "high": 0.1}
    )
    assert row["tokens"] == {"domain": 122_880}
    assert row["suites"]["averages"].keys() == {"medical", "general"}
    assert isinstance(compared(*FOUR).runs[0].suites, Suites)


def test_many_names_are_counted() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed("abcdef") == "a, b and 4 more"
