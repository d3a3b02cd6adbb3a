"""Whole evaluations of tiny models: against plain lm-eval, repeated, interrupted, and with faulty tasks."""

import logging
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import CHOICE, QUESTIONS, TEXT, WHOLE, task
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from cpt.errors import ReferenceUnavailable, StageFailed, UsageError
from evals.evaluation import evaluate_tasks
from evals.metrics import aggregate
from evals.models import backends, language_model
from evals.models.language_model import PackedLM
from evals.models.request_cache import FILE
from evals.preparation import PreparedTask
from evals.results import LeftOut, Results


def plain(folder: Path, prepared: list[PreparedTask]) -> dict[str, dict[str, float]]:
    """lm-eval's own evaluation with its own model."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    loaded = TaskManager(include_defaults=False).load([dict(each.config) for each in prepared])
    output = simple_evaluate(
        HFLM(pretrained=str(folder), dtype="float32", device="cpu"),
        tasks=list(loaded["tasks"].values()),
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    return output["results"]


def run(model: Path, prepared: list[PreparedTask], cache: Path, **options) -> Results:
    return evaluate_tasks(str(model), prepared, cache=cache, precision="fp32", **options)


def test_model_and_cache_may_be_paths_or_text(tiny_model: Path, tmp_path: Path) -> None:
    prepared = [task(tmp_path, "choices")]
    found = evaluate_tasks(tiny_model, prepared, cache=str(tmp_path / "cache"), precision="fp32")
    assert found.model == str(tiny_model)
    assert found.tasks == run(tiny_model, prepared, tmp_path / "cache").tasks


@pytest.fixture
def three(tmp_path: Path) -> list[PreparedTask]:
    shots = {**CHOICE, "num_fewshot": 2, "fewshot_split": "test"}
    return [
        task(tmp_path, "choices"),
        task(tmp_path, "shots", shots, metric="acc_norm", chance=1 / 3, group="g", note="Beware."),
        task(tmp_path, "texts", TEXT, metric="exact_match", suite="other", level="full"),
        task(tmp_path, "whole", WHOLE, metric="bits_per_byte", suite="other"),
    ]


def test_scores_are_plain_lm_evals(tiny_model: Path, tmp_path: Path, three: list[PreparedTask]) -> None:
    expected = plain(tiny_model, three)
    found = run(tiny_model, three, tmp_path / "cache")
    for score in found.tasks:
        theirs = expected[score.task]
        exact = score.metric != "bits_per_byte"
        assert score.score == pytest.approx(theirs[f"{score.metric},none"], abs=0 if exact else 1e-5)
        for metric, value in score.others.items():
            assert value == pytest.approx(theirs[f"{metric},none"], rel=1e-4)
    by_name = {score.task: score for score in found.tasks}
    shots = by_name["shots"]
    assert (shots.fewshot, shots.chance, shots.group, shots.note) == (2, 1 / 3, "g", "Beware")
    assert (shots.n, shots.version, shots.data) == (len(QUESTIONS), "1.0", "local abc")
    assert by_name["choices"].group == "choices"
    assert not by_name["whole"].higher_is_better
    assert by_name["choices"].others.keys() == {"acc_norm"}
    assert found.suites == {"s": "full", "other": "full"}
    assert found.averages["s"].groups == 2


def test_items_make_the_score(tiny_model: Path, tmp_path: Path, three: list[PreparedTask]) -> None:
    found = run(tiny_model, three, tmp_path / "cache")
    for score in found.tasks:
        items = found.items[score.task]
        assert len(set(items.ids)) == len(items.values) == score.n
        assert aggregate(items.aggregation, items.values) == score.score
    right = [value == 1 for value in found.items["choices"].values]
    assert found.tasks[0].stderr == pytest.approx(np.std(right, ddof=1) / np.sqrt(len(right)))


def test_the_majority_of_the_labels_is_known_where_answers_are_labels(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Choices that are the same in every item are labels, but for the letters of options."""

    def rows(choices: list[str]) -> list[dict[str, Any]]:
        return [{**QUESTIONS[0], "choices": choices, "answer": int(n < 2)} for n in range(8)]

    texts = [{**QUESTIONS[0], "choices": [["yes", "no"][n < 3]]} for n in range(8)]
    free = [{**QUESTIONS[0], "choices": [f"answer {n // 2}"]} for n in range(8)]
    prepared = [
        task(tmp_path, "labels", rows=rows(["yes", "no"])),
        task(tmp_path, "letters", rows=rows([" A", "(B)"])),
        task(tmp_path, "choices"),
        task(tmp_path, "written", TEXT, texts, metric="exact_match"),
        task(tmp_path, "free", TEXT, free, metric="exact_match"),
    ]
    found = {score.task: score.majority for score in run(tiny_model, prepared, tmp_path / "cache").tasks}
    assert found == {"labels": 0.75, "letters": None, "choices": None, "written": 0.625, "free": None}


def test_a_repeated_evaluation_does_not_load_the_model(
    tiny_model: Path, tmp_path: Path, three: list[PreparedTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tiny_model, three, tmp_path / "cache")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(backends, "_packed", refuse)
    messages: list[str] = []
    again = run(tiny_model, three, tmp_path / "cache", on_message=messages.append)
    assert (again.tasks, again.items) == (first.tasks, first.items)
    assert any("requests were answered before" in message for message in messages)
    with pytest.raises(StageFailed, match="cannot be loaded: the model was loaded"):
        evaluate_tasks(str(tiny_model), three, cache=tmp_path / "cache", precision="bf16")


def test_answers_that_the_model_does_not_tell_are_kept_too(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [{**QUESTIONS[0], "question": ""}, *QUESTIONS]
    prepared = [task(tmp_path, "whole", WHOLE, silent, metric="bits_per_byte")]
    first = run(tiny_model, prepared, tmp_path / "cache")
    monkeypatch.setattr(backends, "_packed", lambda *_: pytest.fail("loaded again"))
    assert run(tiny_model, prepared, tmp_path / "cache").items == first.items
    assert first.items["whole"].values[0] == (0.0, 0.0)


def test_an_interrupted_evaluation_continues(
    tiny_model: Path, tmp_path: Path, three: list[PreparedTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "BATCH_TOKENS", 40)
    expected = run(tiny_model, three[:2], tmp_path / "other")
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, three[:2], tmp_path / "cache", on_progress=interrupt)
    rest: list[tuple[int, int]] = []
    found = run(tiny_model, three[:2], tmp_path / "cache", on_progress=lambda *now: rest.append(now))
    for name, items in found.items.items():
        others = expected.items[name]
        assert items.model_copy(update={"measures": {}}) == others.model_copy(update={"measures": {}})
        for measure, values in items.measures.items():  # other batches round otherwise
            assert values == pytest.approx(others.measures[measure], rel=1e-5, abs=1e-6)
    assert rest[-1][1] == seen[-1][1] - seen[-1][0]


def test_a_level_takes_the_same_items_for_every_model(
    tiny_model: Path, another_model, tmp_path: Path
) -> None:
    def ids(model: Path, level: str, **options) -> tuple[str, ...]:
        prepared = [task(tmp_path, "choices", level=level, smoke=3, quick=5)]
        return run(model, prepared, tmp_path / "cache", **options).items["choices"].ids

    smoke, quick, full = (ids(tiny_model, level) for level in ("smoke", "quick", "full"))
    assert (len(smoke), len(quick), len(full)) == (3, 5, len(QUESTIONS))
    assert set(smoke) < set(quick) < set(full)
    assert [each for each in full if each in quick] == list(quick)
    assert ids(another_model("b", seed=1), "smoke") == smoke
    assert ids(tiny_model, "smoke", seed=5) != smoke


def test_equal_items_are_numbered(tiny_model: Path, tmp_path: Path) -> None:
    prepared = [task(tmp_path, "twice", rows=[QUESTIONS[0]] * 2)]
    one, other = run(tiny_model, prepared, tmp_path / "cache").items["twice"].ids
    assert other == f"{one}-2"


def test_items_about_the_same_text_are_so_marked(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{**row, "contract": f"c{number // 2}"} for number, row in enumerate(QUESTIONS)]
    plainly = run(tiny_model, [task(tmp_path, "alone", rows=rows)], tmp_path / "cache")
    found = run(tiny_model, [task(tmp_path, "about", rows=rows, cluster="contract")], tmp_path / "cache")
    marks = found.items["about"].clusters
    assert [marks.index(each) for each in marks] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert found.tasks[0].score == plainly.tasks[0].score
    assert found.tasks[0].stderr != plainly.tasks[0].stderr


def test_a_task_that_fails_is_left_out_and_the_others_are_scored(
    tiny_model: Path, tmp_path: Path, three: list[PreparedTask]
) -> None:
    def fails(document: dict, results: list) -> dict:
        raise ZeroDivisionError("no items")

    faulty = [
        task(tmp_path, "missing", {**CHOICE, "doc_to_text": "{{nothing}}"}),
        task(tmp_path, "scoring", {**CHOICE, "process_results": fails}),
        task(tmp_path, "metric", metric="f7"),
        task(tmp_path, "sampling", {**TEXT, "generation_kwargs": {"do_sample": True}}, metric="exact_match"),
        task(
            tmp_path,
            "unknown",
            {**CHOICE, "metric_list": [{"metric": "acc", "aggregation": max, "higher_is_better": True}]},
        ),
    ]
    before = LeftOut(task="hub", suite="s", why="no network")
    messages: list[str] = []
    found = run(
        tiny_model,
        [*faulty, *three],
        tmp_path / "cache",
        left_out=[before],
        on_message=messages.append,
    )
    assert [score.task for score in found.tasks] == ["choices", "shots", "texts", "whole"]
    why = {each.task: each.why for each in found.left_out}
    assert list(why) == ["hub", "missing", "scoring", "metric", "sampling", "unknown"]
    assert "nothing" in why["missing"]
    assert "ZeroDivisionError: no items" in why["scoring"]
    assert "no metric f7; it has acc" in why["metric"]
    assert "only greedy generation" in why["sampling"]
    assert "its metric `acc` is aggregated by `max`, of which no error can be computed" in why["unknown"]
    assert sum("is left out" in message for message in messages) == len(faulty)


def test_aggregations_of_our_own_are_named_in_task_files(tiny_model: Path, tmp_path: Path) -> None:
    metrics = [{"metric": "f1", "aggregation": "macro_f1", "higher_is_better": True}]
    found = run(
        tiny_model, [task(tmp_path, "f", {**CHOICE, "metric_list": metrics}, metric="f1")], tmp_path / "cache"
    )
    assert found.items["f"].aggregation == "macro_f1"
    assert found.tasks[0].score == aggregate("macro_f1", found.items["f"].values)
    assert found.tasks[0].stderr > 0


def test_a_metric_of_a_filter_and_items_without_a_value(tiny_model: Path, tmp_path: Path) -> None:
    filters = [
        {"name": "all", "filter": [{"function": "take_first"}]},
        {"name": "upper", "filter": [{"function": "uppercase"}, {"function": "take_first"}]},
    ]

    def letters(document: dict, results: list[str]) -> dict:
        return {"big": float(results[0].isupper())} if document["answer"] else {"rest": 1.0}

    settings = {
        **TEXT,
        "filter_list": filters,
        "process_results": letters,
        "metric_list": [{"metric": "big", "aggregation": "mean", "higher_is_better": True}],
    }
    [plainly] = run(tiny_model, [task(tmp_path, "a", settings, metric="big")], tmp_path / "c").tasks
    [upper] = run(tiny_model, [task(tmp_path, "a", settings, metric="big,upper")], tmp_path / "c").tasks
    assert (plainly.score, upper.score) == (0, 1)
    assert plainly.n == sum(row["answer"] > 0 for row in QUESTIONS)
    assert plainly.note == f"{len(QUESTIONS) - plainly.n} items have no value of this metric and do not count"


def test_values_that_are_no_numbers_do_not_count(tiny_model: Path, tmp_path: Path) -> None:
    def some(document: dict, results: list[str]) -> dict:
        return {"half": document["answer"] / 2 if document["answer"] else float("nan"), "none": float("nan")}

    metrics = [
        {"metric": name, "aggregation": "nanmean", "higher_is_better": True} for name in ("half", "none")
    ]
    settings = {**TEXT, "process_results": some, "metric_list": metrics}
    found = run(tiny_model, [task(tmp_path, "a", settings, metric="half")], tmp_path / "c")
    halves = [row["answer"] / 2 for row in QUESTIONS if row["answer"]]
    assert found.tasks[0].score == pytest.approx(sum(halves) / len(halves))
    assert found.items["a"].values == tuple(halves)
    assert (
        found.tasks[0].note
        == f"{len(QUESTIONS) - len(halves)} items have no value of this metric and do not count"
    )
    [left_out] = run(tiny_model, [task(tmp_path, "a", settings, metric="none")], tmp_path / "c").left_out
    assert f"none of its {len(QUESTIONS)} items has a value of none" in left_out.why


def test_nothing_is_asked_for_a_metric_whose_error_is_unknown(tiny_model: Path, tmp_path: Path) -> None:
    metrics = [{"metric": "bleu", "aggregation": "bleu", "higher_is_better": True}]
    said: list[str] = []
    prepared = [task(tmp_path, "texts", {**TEXT, "metric_list": metrics}, metric="bleu")]
    found = run(tiny_model, prepared, tmp_path / "c", on_message=said.append)
    assert "`bleu` is aggregated by `bleu`" in found.left_out[0].why
    assert not sqlite3.connect(tmp_path / "c" / FILE).execute("SELECT * FROM answers").fetchall()


def test_nothing_is_asked_for_an_aggregation_without_a_name_of_its_own(
    tiny_model: Path, tmp_path: Path
) -> None:
    def best(of: str, values: list[float]) -> float:
        raise AssertionError

    metrics = [{"metric": "exact_match", "aggregation": partial(best, "f1"), "higher_is_better": True}]
    prepared = [task(tmp_path, "texts", {**TEXT, "metric_list": metrics}, metric="exact_match")]
    found = run(tiny_model, prepared, tmp_path / "c")
    assert "`exact_match` is aggregated by `best`" in found.left_out[0].why
    assert not sqlite3.connect(tmp_path / "c" / FILE).execute("SELECT * FROM answers").fetchall()


def test_a_metric_that_a_task_of_code_lacks_is_told_before_anything_is_asked(
    tiny_model: Path, tmp_path: Path
) -> None:
    from lm_eval.api.task import ConfigurableTask

    class OfCode(ConfigurableTask):
        def __init__(self, config: dict[str, Any] | None = None) -> None:
            super().__init__(config={key: value for key, value in (config or {}).items() if key != "class"})

    plain_task = task(tmp_path, "texts", TEXT, metric="f1")
    prepared = [replace(plain_task, config={**plain_task.config, "class": OfCode})]
    found = run(tiny_model, prepared, tmp_path / "c")
    assert "it has no metric `f1`; it has exact_match" in found.left_out[0].why
    assert not sqlite3.connect(tmp_path / "c" / FILE).execute("SELECT * FROM answers").fetchall()


def test_mistakes_stop_at_once(tiny_model: Path, tmp_path: Path, three: list[PreparedTask]) -> None:
    with pytest.raises(ReferenceUnavailable):
        run(tmp_path / "nowhere", three, tmp_path / "cache")
    with pytest.raises(UsageError, match="no token '<bos>'"):
        run(tiny_model, three, tmp_path / "cache", start_token="<bos>")
    with pytest.raises(UsageError, match="no chat template"):
        run(tiny_model, three, tmp_path / "cache", chat=True)
    with pytest.raises(UsageError, match="choices: in more than one"):
        run(tiny_model, [three[0], task(tmp_path, "choices", suite="t")], tmp_path / "cache")
    with pytest.raises(UsageError, match="vllm is not installed"):
        run(tiny_model, three, tmp_path / "cache", backend="vllm")
    assert not (tmp_path / "cache" / FILE).exists()


def test_a_model_that_fails_stops_the_evaluation(
    tiny_model: Path, tmp_path: Path, three: list[PreparedTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(PackedLM, "_score", out_of_memory)
    with pytest.raises(StageFailed, match="the model fails at loglikelihood requests: out of memory"):
        run(tiny_model, three, tmp_path / "cache")


def test_nothing_to_score_is_no_error(tiny_model: Path, tmp_path: Path) -> None:
    found = run(tiny_model, [], tmp_path / "cache", left_out=[LeftOut(task="t", suite="s", why="w")])
    assert (found.tasks, found.averages, len(found.left_out)) == ((), {}, 1)
