"""What the pretrain stage measures while it trains: every setting of the monitor, and what is kept of it."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from stage_runs import Heard, artifact, make_corpus, model_artifact, run_stage
from tiny import varied_texts, write_jsonl

from cpt.errors import RecipeError, StageFailed
from cpt.stages.base import Artifact
from cpt.stages.pretrain.config import Monitor
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.stages.pretrain.stage import PretrainConfig
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY

NOTHING_MORE = {"probe_share": None, "samples": None, "weights": None, "early_end": None}
"""Of a monitor that reads the corpus's held-out text alone, as often as is due."""


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("monitored")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder / "made")}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_jsonl(tmp_path_factory.mktemp("chat") / "chat.jsonl", varied_texts(30, "answer ")))


@pytest.fixture(scope="module")
def piqa(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "piqa"
    folder.mkdir()
    items = [
        {"goal": f"cure fever {n}", "sol1": f"rest and water {n}", "sol2": f"run {n} miles"}
        for n in range(12)
    ]
    (folder / "valid.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    (folder / "valid-labels.lst").write_text("".join(f"{n % 2}\n" for n in range(12)))
    return str(folder.parent)


def config(**monitor: Any) -> dict[str, Any]:
    plain = {"tokens": 900, "batch_sequences": 4, "precision": "fp32"}
    return plain | {"schedule": {"peak": 2e-2, "warmup": 0}, "monitor": NOTHING_MORE | monitor}


def readings(
    inputs: Mapping[str, Artifact], folder: Path, probe: str | None = None, **monitor: Any
) -> list[dict[str, Any]]:
    run_stage(PRETRAIN, config(**monitor), inputs, folder)
    rows = [json.loads(line) for line in (folder / "output/training/probes.jsonl").read_text().splitlines()]
    return rows if probe is None else [row for row in rows if row["probe"] == probe]


def steps(rows: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for row in rows]


def test_probes_read_the_same_text_after_a_change_of_vocabulary(inputs, tmp_path: Path, chat: str) -> None:
    """So that curves before and after it compare: with more tokens a sample of as many would hold more."""
    run_stage(VOCABULARY, {"extend": {"tokens": 60}}, inputs, tmp_path / "vocabulary")
    changed = artifact("changed", tmp_path / "vocabulary/output", "model", "corpus")
    monitor = {"tokens": 200, "window": 24, "texts": {"chat": {"sources": [{"path": chat}], "tokens": 100}}}
    found = []
    for name, models in (("before", inputs), ("after", {"model": changed, "corpus": changed})):
        readings(models, tmp_path / name, **monitor)
        summary = json.loads((tmp_path / name / "output/training/summary.json").read_text())
        found.append(summary["samples"])
    assert found[0].keys() == {"domain", "general", "chat"}
    assert found[0] == found[1]


def test_a_text_of_ones_own_is_read_as_often_and_as_much_as_it_says(
    inputs, tmp_path: Path, chat: str
) -> None:
    text = {"sources": [{"path": chat}]}
    plain = readings(inputs, tmp_path / "plain", "chat", every=2, texts={"chat": text})

    def samples(name: str) -> dict[str, str]:
        return json.loads((tmp_path / name / "output/training/summary.json").read_text())["samples"]

    assert plain[0]["kind"] == "text"
    assert plain[0]["unit"] == "bits per byte"
    own = readings(inputs, tmp_path / "own", every=2, texts={"chat": text | {"tokens": 60, "every": 1}})
    assert len([row for row in own if row["probe"] == "chat"]) > len(plain)
    assert samples("plain").keys() == {"domain", "general", "chat"}
    assert samples("plain")["domain"] == samples("own")["domain"]
    assert samples("plain")["chat"] != samples("own")["chat"]
    assert len([row for row in own if row["probe"] == "domain"]) == len(plain)
    assert next(row for row in own if row["probe"] == "chat")["value"] != plain[0]["value"]
    tokens = readings(inputs, tmp_path / "t", "chat", every=2, texts={"chat": text | {"every_tokens": 100}})
    assert len(tokens) > len(plain)


def test_an_empty_file_is_found_before_the_run(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    made = PretrainConfig.model_validate(config(texts={"chat": {"sources": [{"path": str(empty)}]}}))
    (problem,) = PRETRAIN.check(made, {})
    assert problem.key == "monitor.texts.chat.sources.0.path"
    assert "is empty" in problem.message
    assert problem.hint


def test_a_monitor_goes_by_tokens_as_well(inputs, tmp_path: Path) -> None:
    rows = readings(inputs, tmp_path, "domain", every_tokens=100)
    assert steps(rows) == list(range(rows[-1]["step"] + 1))


def test_texts_belong_to_the_fingerprint_and_are_checked_first(chat: str) -> None:
    text = {"sources": [{"path": chat}, {"path": "notes.dat"}]}
    made = PretrainConfig.model_validate(config(texts={"chat": text}))
    assert PRETRAIN.references(made) == [chat, "notes.dat"]
    missing = PretrainConfig.model_validate(
        config(texts={"chat": {"sources": [{"path": "wheel:a==1/b.dat"}]}})
    )
    (problem,) = PRETRAIN.check(missing, {})
    assert problem.key == "monitor.texts.chat.sources.0.format"


def test_a_task_is_scored_as_lm_eval_scores_it(inputs, tmp_path: Path, piqa: str, tiny_model: Path) -> None:
    from evals.evaluation import evaluate_tasks
    from evals.preparation import prepare
    from evals.registry import Suite, suites

    run_stage(PRETRAIN, config(tasks={"piqa": {"items": 12}}, data=piqa), inputs, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "output/training/probes.jsonl").read_text().splitlines()]
    found = [row for row in rows if row["probe"] == "piqa"]
    [entry] = [entry for entry in suites()["general"].tasks if entry.task == "piqa"]
    suite = Suite(name="one", about="", tasks=(entry,))
    ready, _ = prepare([(suite, "full")], Path(piqa), tmp_path / "cache", offline=True)
    models = {0: tiny_model, found[-1]["step"]: tmp_path / "output/model"}
    for row in (found[0], found[-1]):
        score = evaluate_tasks(
            str(models[row["step"]]), ready, cache=tmp_path / "answers", precision="fp32", start_token="<s>"
        ).tasks[0]
        assert row["value"] == pytest.approx(score.score)
        assert row["unit"] == "accuracy"


def test_items_of_a_task_are_as_many_as_asked(inputs, tmp_path: Path, piqa: str) -> None:
    tasks = {"piqa": {"items": 5, "every": 1}}
    rows = readings(inputs, tmp_path, "piqa", tasks=tasks, data=piqa)
    assert {round(row["value"] * 5, 6) % 1 for row in rows} == {0.0}
    assert len(rows) == rows[-1]["step"] + 1


def test_tasks_that_are_none_or_have_no_data_are_problems(tmp_path: Path, piqa: str) -> None:
    def keys(**monitor: Any) -> list[str | None]:
        made = PretrainConfig.model_validate(config(**monitor))
        return [problem.key for problem in PRETRAIN.check(made, {})]

    assert keys(tasks={"piqa": {}}, data=piqa) == []
    assert keys(tasks={"winogrande": {}}, data=piqa) == ["monitor.data"]
    assert keys(tasks={"no-such-task": {}}) == ["monitor.tasks.no-such-task"]


def test_a_task_whose_data_are_not_to_be_had_says_so(inputs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("evals.hub.is_offline", lambda: True)
    with pytest.raises(StageFailed, match="the task piqa cannot be probed") as caught:
        run_stage(PRETRAIN, config(tasks={"piqa": {}}), inputs, tmp_path)
    assert "`data` of the monitor" in str(caught.value)


def test_drift_begins_at_nothing_and_follows_its_settings(inputs, tmp_path: Path) -> None:
    rows = readings(inputs, tmp_path / "a", "drift", drift={"tokens": 200, "length": 20, "every": 1})
    assert (rows[0]["value"], rows[0]["standard_error"]) == (0.0, 0.0)
    assert rows[-1]["value"] > 2 * rows[-1]["standard_error"] > 0
    samples = json.loads((tmp_path / "a/work/drift.json").read_text())["samples"]
    assert sum(map(len, samples)) >= 200
    assert max(map(len, samples)) == 20
    other = readings(inputs, tmp_path / "b", "drift", drift={"tokens": 100, "length": 10})
    assert len(other) < len(rows)
    assert max(map(len, json.loads((tmp_path / "b/work/drift.json").read_text())["samples"])) == 10


def test_ends_in_mid_sentence_are_read_as_often_and_as_much_as_it_says(inputs, tmp_path: Path) -> None:
    plain = readings(inputs, tmp_path / "plain", "early-end", early_end={}, tokens=1000)
    assert {(row["kind"], row["unit"]) for row in plain} == {("early-end", "probability")}
    assert 0 < plain[0]["value"] < 1
    assert plain[-1]["rise_error"] > 0
    assert 0 < plain[-1]["detail"]["anywhere"] < 1
    few = readings(inputs, tmp_path / "few", "early-end", early_end={"tokens": 100, "every": 1})
    assert few[0]["items"] < plain[0]["items"]
    assert len(few) > len(plain)
    assert readings(inputs, tmp_path / "none", "early-end") == []
    assert Monitor().early_end is not None


def test_ends_in_mid_sentence_are_read_on_domain_text_where_there_is_no_general_text(
    inputs, tmp_path: Path
) -> None:
    without = {**inputs, "corpus": make_corpus(inputs["model"], tmp_path / "made", general=False)}
    rows = readings(without, tmp_path / "without", "early-end", early_end={})
    assert rows[0]["value"] != readings(inputs, tmp_path / "with", "early-end", early_end={})[0]["value"]


def test_without_a_token_that_ends_texts_there_is_nothing_to_read(
    inputs, tmp_path: Path, tiny_model: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "endless")
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(settings | {"eos_token_id": None}))
    corpus = shutil.copytree(inputs["corpus"].folder, tmp_path / "corpus")
    index = json.loads((corpus / "corpus/corpus.json").read_text())
    (corpus / "corpus/corpus.json").write_text(json.dumps(index | {"end_token": None}))
    endless = {
        "model": model_artifact("base", model, tmp_path / "artifacts"),
        "corpus": inputs["corpus"].model_copy(update={"folder": corpus}),
    }
    heard = Heard()
    run_stage(PRETRAIN, config(early_end={}), endless, tmp_path / "run", heard)
    assert any("no token is known to end a text" in message for message in heard.messages)


def test_weights_are_read_unless_others_train_beside_them(inputs, tmp_path: Path) -> None:
    rows = readings(inputs, tmp_path / "all", "weights", weights={"every": 1})
    assert rows[0]["value"] == 0
    values = [row["value"] for row in rows]
    assert 0 < values[1] < values[-1]
    assert len(rows) == rows[-1]["step"] + 1
    assert len(readings(inputs, tmp_path / "few", "weights", weights={"every_tokens": 10**6})) < len(rows)
    for kind, what in {"lora": "an adapter trains", "expansion": "added layers train"}.items():
        heard, others = Heard(), {"trainable": {"kind": kind} | ({"every": 1} if kind == "expansion" else {})}
        run_stage(PRETRAIN, config(weights={}) | others, inputs, tmp_path / kind, heard)
        assert any(f"not probed: {what} beside them" in message for message in heard.messages)


def test_samples_show_how_the_model_went_on_before_and_after(inputs, tmp_path: Path) -> None:
    def written(name: str, **samples: int) -> list[dict[str, str]]:
        run_stage(PRETRAIN, config(samples=samples), inputs, tmp_path / name)
        return json.loads((tmp_path / name / "output/training/samples.json").read_text())

    plain = written("plain", texts=2, tokens=12)
    assert [each["source"] for each in plain] == ["domain", "domain", "general", "general"]
    assert {frozenset(each) for each in plain} == {frozenset({"source", "prompt", "before", "after"})}
    assert any(each["before"] != each["after"] for each in plain)
    assert all(each["prompt"] for each in plain)
    assert len(written("one", texts=1, tokens=12)) == 2
    short = written("short", texts=2, tokens=3)
    assert len(short[0]["before"]) < len(plain[0]["before"])
    run_stage(PRETRAIN, config(), inputs, tmp_path / "none")
    assert not (tmp_path / "none/output/training/samples.json").exists()


def test_the_probe_share_leaves_out_what_it_must_and_the_summary_says_so(inputs, tmp_path: Path) -> None:
    heard = Heard()
    metrics = run_stage(PRETRAIN, config(every=1, probe_share="0.01%"), inputs, tmp_path / "bound", heard)
    assert any("over their share of 0.0%: first and last" in message for message in heard.messages)
    count = metrics["steps"] + 1
    assert any(f"left out readings: domain {count - 2} of {count}, " in each for each in heard.messages)
    monitor = metrics["monitor"]
    assert monitor["probe_share"] == pytest.approx(0.0001)
    assert monitor["probes"]["domain"]["readings"] == 2
    assert monitor["probes"]["domain"]["wanted"] == metrics["steps"] + 1
    heard = Heard()
    free = run_stage(PRETRAIN, config(every=1), inputs, tmp_path / "free", heard)["monitor"]
    assert not any("their share" in each or "left out readings" in each for each in heard.messages)
    assert free["probe_share"] is None
    assert free["probes"]["domain"]["readings"] == free["probes"]["domain"]["wanted"]
    assert free["probes"]["domain"]["smallest_share"] == 1.0


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (2, "on one document, so its noise is not known, and no limit on it can be shown to be held"),
        (60, " standard errors beyond the limit on, and held or broken at the end only "),
    ],
)
def test_a_text_of_too_few_documents_is_told(inputs, tmp_path: Path, tokens: int, said: str) -> None:
    heard = Heard()
    run_stage(PRETRAIN, config(tokens=tokens), inputs, tmp_path, heard)
    told = [each for each in heard.messages if each.startswith("general is read on")]
    assert len(told) == 1
    assert said in told[0]


@pytest.mark.parametrize(("action", "refused"), [("fail", True), ("warn", False)])
def test_a_gate_that_acts_on_a_text_of_too_few_documents_is_refused_before_anything_runs(
    inputs, tmp_path: Path, chat: str, action: str, refused: bool
) -> None:
    def gated(probe: str, **monitor: Any) -> dict[str, Any]:
        return config(**monitor) | {"gates": [{"limit": f"{probe} <= +9", "action": action}]}

    def keys(settings: dict[str, Any]) -> list[str | None]:
        return [each.key for each in PRETRAIN.check(PretrainConfig.model_validate(settings), inputs)]

    assert keys(gated("general", tokens=60)) == ["gates.0.limit"] * refused
    assert keys(gated("domain")) == []
    own = gated("chat", texts={"chat": {"sources": [{"path": chat}], "tokens": 20}})
    assert keys(own) == ["gates.0.limit"] * refused
    if refused:
        with pytest.raises(RecipeError, match="of the 8 that a gate needs") as caught:
            run_stage(PRETRAIN, own, inputs, tmp_path)
        assert "Raise monitor.texts.chat.tokens, or give the text more documents" in str(caught.value)
        ends = gated("early-end", early_end={"tokens": 100})
        with pytest.raises(RecipeError, match=r"Raise monitor\.early_end\.tokens, or hold out more text"):
            run_stage(PRETRAIN, ends, inputs, tmp_path / "ends")
        assert not list(tmp_path.glob("**/steps.jsonl"))
    else:
        heard = Heard()
        run_stage(PRETRAIN, own, inputs, tmp_path, heard)
        assert any(each.startswith("chat is read on") for each in heard.messages)


def test_of_a_gates_own_text_no_more_is_read_before_the_run_than_shows_that_it_has_enough(
    inputs, tmp_path: Path
) -> None:
    def problems(tokens: int, *paths: object) -> list[str]:
        text = {"sources": [{"path": str(path)} for path in paths], "tokens": tokens}
        gates = [{"limit": "chat <= +9", "action": "fail"}]
        made = PretrainConfig.model_validate(config(texts={"chat": text}) | {"gates": gates})
        return [f"{problem.key}: {problem.message}" for problem in PRETRAIN.check(made, inputs)]

    good, bad = write_jsonl(tmp_path / "good.jsonl", varied_texts(8, "a ")), tmp_path / "bad.jsonl"
    bad.write_text("no JSON\n")
    assert problems(8_000, good, bad) == []
    (problem,) = problems(40, good, bad)
    assert problem.startswith("monitor.texts.chat: ")
    assert "bad.jsonl" in problem
    long = write_jsonl(tmp_path / "long.jsonl", ["word " * 90 for _ in range(9)])
    assert problems(90, long)[0].startswith("gates.0.limit: `chat <= +9` cannot be told from noise")
    short = write_jsonl(tmp_path / "short.jsonl", ["a b c"] * 8)
    assert problems(90, long, short) == []
    assert problems(40, "wheel:none==1/text.jsonl") == []  # it is not fetched for that


def test_the_plan_and_the_start_say_what_rise_a_gates_text_can_show(inputs, tmp_path: Path) -> None:
    settings = config(tokens=None) | {"gates": [{"limit": "general <= +0.02", "action": "warn"}]}
    planned = PRETRAIN.forecast(PretrainConfig.model_validate(settings), inputs, {})
    heard = Heard()
    run_stage(PRETRAIN, settings, inputs, tmp_path, heard)
    (said,) = (message for message in heard.messages if message.startswith("general <= +0.02: "))
    for text in (planned, said):
        assert "documents of general are read" in text
        assert "a true rise of " in text
        assert "documents: give the text more documents" in text
    assert any(message.startswith("probes domain ") for message in heard.messages)


def test_two_runs_and_a_slow_clock_give_the_same_readings(
    inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.perf_counter
    found = []
    for name, now in {"one": clock, "two": clock, "slow": lambda: clock() ** 3}.items():
        monkeypatch.setattr(time, "perf_counter", now)
        run_stage(PRETRAIN, config(every=1, tokens=300, probe_share="70%"), inputs, tmp_path / name)
        lines = (tmp_path / name / "output/training/probes.jsonl").read_text().splitlines()
        found.append([json.loads(line) | {"seconds": 0} for line in lines])
    assert found[0] == found[1] == found[2]
    assert 0 < min(reading["share"] for reading in found[0]) < 1


def test_what_is_said_of_the_time_is_what_was_measured(inputs, tmp_path: Path) -> None:
    metrics = run_stage(PRETRAIN, config(samples={"texts": 1, "tokens": 2}, every=1), inputs, tmp_path)
    assert metrics["monitor"]["share"] == pytest.approx(metrics["probe_seconds"] / metrics["seconds"])
    read = sum(probe["seconds"] for probe in metrics["monitor"]["probes"].values())
    assert read < metrics["probe_seconds"]


def test_the_plan_names_what_is_probed(inputs, chat: str) -> None:
    text = {"sources": [{"path": chat}]}
    made = PretrainConfig.model_validate(
        {"tokens": 900, "monitor": {"texts": {"chat": text}, "tasks": {"piqa": {}}, "drift": {}}}
    )
    probes = "probes domain, general, chat, piqa, drift, early-end, weights within 5% of the training's work"
    assert PRETRAIN.forecast(made, {}, {}) == f"900 tokens; {probes}"
    counted = PRETRAIN.forecast(made, inputs, {})
    for name in ("domain", "general", "chat", "piqa", "drift", "weights"):
        assert f"{name} 2 of " in counted
    assert "of the training's work of 5% allowed; the first and last readings take " in counted
