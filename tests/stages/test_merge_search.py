"""The merge stage that chooses its weights: by what, under which limits, and what is found wrong before."""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import write_base_and_adapted
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import Heard, make_corpus, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.corpus import read_index
from cpt.corpus.texts import heldout_texts
from cpt.errors import GateFailed
from cpt.halves import half_of
from cpt.models.bits_per_byte import score, tokenise_text
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress
from cpt.recipe.load import load
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.evaluate.stage import DOCUMENTS
from cpt.stages.evaluate.stage import STAGE as EVALUATE
from cpt.stages.merge.config import MergeSearch
from cpt.stages.merge.search import LOG, Material, MergeEvaluation
from cpt.stages.merge.stage import STAGE
from cpt.stages.vocabulary.config import VocabularyConfig
from merging.plan import plan
from merging.request import InputModel, MergeRequest
from tokenizer_tools.change import change_vocabulary

MODEL = [{"from": "one"}]
SEARCH = {"points": 5, "precision": "fp32", "tokens": 2_000}
GATE = {"limit": "general <= +0.3"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("adapted")
    base, adapted = write_base_and_adapted(folder)
    artifacts = folder / "artifacts"
    base_artifact = model_artifact("base", base, artifacts)
    return {
        "base": base_artifact,
        "model:0": model_artifact("one", adapted, artifacts),
        "corpus": make_corpus(base_artifact, folder / "corpus"),
    }


def merge(inputs, folder: Path, models: Any = MODEL, progress: Any = None, **more: Any) -> dict[str, Any]:
    return run_stage(STAGE, {"models": models} | more, inputs, folder, progress)


def card_of(folder: Path) -> str:
    return (folder / "output/model/README.md").read_text()


@pytest.fixture(scope="module")
def plain(inputs, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """The metrics and the folder of a search without limits."""
    folder = tmp_path_factory.mktemp("plain")
    return merge(inputs, folder, search=SEARCH), folder


def test_the_model_is_the_merge_with_the_chosen_weight(plain, inputs, tmp_path: Path) -> None:
    metrics, folder = plain
    weight = metrics["weights"]["one"]
    merge(inputs, tmp_path, models=[{"from": "one", "weight": weight}])
    found, expected = (load_file(each / "output/model/model.safetensors") for each in (folder, tmp_path))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert metrics["search"]["chosen"] == {"weight of one": weight}


def test_every_point_is_among_the_metrics_and_in_the_log(plain) -> None:
    metrics, folder = plain
    points = metrics["search_points"]
    assert 3 <= len(points) <= SEARCH["points"]
    assert [point["weight"] for point in points if point["chosen"]] == [metrics["weights"]["one"]]
    assert any(point["front"] for point in points)
    lines = (folder / "output/model" / LOG).read_text().splitlines()
    assert [json.loads(line)["values"] for line in lines[2:]] == [[point["weight"]] for point in points]
    card = (folder / "output/model/README.md").read_text()
    assert f"Chosen by a search over {len(points)} merges (the knee of the front)" in card


def test_gain_and_rise_are_those_of_the_half_that_is_not_reported_on(plain, inputs) -> None:
    metrics, _ = plain
    (point,) = [point for point in metrics["search_points"] if point["weight"] == 1.0]
    corpus = inputs["corpus"].path("corpus")
    start = read_index(corpus).start_token
    for name, change in (("domain", -point["domain_gain"]), ("general", point["general_rise"])):
        texts = [text for text in heldout_texts(corpus, name) if half_of(text) == "search"]
        assert 0 < len(texts) < len(heldout_texts(corpus, name))
        bits = []
        for role in ("base", "model:0"):
            folder = inputs[role].path("model")
            text = tokenise_text(load_tokenizer(folder), texts, 128, start)
            bits.append(score(PackedLanguageModel(load_model(folder)), text).bits_per_byte)
        assert change == pytest.approx(bits[1] - bits[0], abs=1e-5)
    assert point["domain_gain"] > 0 < point["general_rise"]


def test_windows_hold_the_same_bytes_for_the_base_and_for_merges(tiny_model: Path, tmp_path: Path) -> None:
    """Merges whose vocabulary has more tokens than the base's would read more of a text in one window."""
    extended, change = tmp_path / "extended", VocabularyConfig.model_validate({"extend": {"tokens": 40}})
    change_vocabulary(
        change, tiny_model, lambda: iter(clinical_texts()), extended, seed=1, progress=NullProgress()
    )
    request = MergeRequest(
        "linear", (InputModel("one", extended, parameters={"weight": 1.0}),), InputModel("b", tiny_model)
    )
    texts = {"domain": clinical_texts()[:9], "general": varied_texts(9)}
    settings = MergeSearch.model_validate(SEARCH | {"window": 16})
    measured = MergeEvaluation(
        plan(request), settings, Material(texts, lambda _: "<s>", 3), tmp_path, NullProgress()
    )
    (base, merge) = measured._tokenised.values()
    for name in texts:
        stretches = [
            [
                load_tokenizer(folder).decode(ids[context:].tolist())
                for ids, context in zip(text.windows, text.context, strict=True)
            ]
            for folder, text in ((tiny_model, base[name]), (extended, merge[name]))
        ]
        assert stretches[0] == stretches[1]
        assert len(stretches[0]) > 20
    assert merge["domain"].tokens < base["domain"].tokens
    assert measured.key["windows"]["domain"]["least_context_bytes"] == 0


def test_evaluate_reads_the_other_half(plain, inputs, tmp_path: Path) -> None:
    corpus, searched = inputs["corpus"].path("corpus"), searched_merge(plain)
    later = inputs["model:0"]  # stands for what a stage made of the merge: its own figures name no search
    runs = {
        "whole": evaluated(tmp_path / "whole", inputs, after=later),
        "merge": evaluated(tmp_path / "merge", inputs, after=searched),
        "later": evaluated(tmp_path / "later", inputs, **{"after": later, "chosen:0": searched}),
    }
    said = {run: scores.get("heldout", "") for run, scores in runs.items()}
    assert said["merge"] == said["later"] == "the half that merge weights were not chosen on"
    assert said["whole"] == ""
    for name in ("domain", "general"):
        half, whole = set(heldout_texts(corpus, name, "report")), set(heldout_texts(corpus, name))
        assert 0 < len(half) < len(whole)
        for run, texts in (("whole", whole), ("merge", half), ("later", half)):
            documents = json.loads((tmp_path / run / "output/scores" / DOCUMENTS).read_text())
            assert set(documents[name]["texts"]) == {sha256(text.encode()).hexdigest() for text in texts}


def searched_merge(plain) -> Artifact:
    metrics, folder = plain
    more = {"kinds": ("model",), "fingerprint": "m", "folder": folder / "output", "metrics": metrics}
    return Artifact(name="merge", stage="merge", **more)


def evaluated(folder: Path, inputs, **roles: Artifact) -> dict[str, Any]:
    """scores.json of an evaluation of all the held-out text that may be read."""
    roles = {"before": inputs["base"], "corpus": inputs["corpus"], **roles}
    run_stage(EVALUATE, {"heldout_tokens": 10_000, "precision": "fp32"}, roles, folder)
    scores: dict[str, Any] = json.loads((folder / "output/scores/scores.json").read_text())
    return scores


def test_evaluate_takes_every_searched_merge_that_its_model_was_made_of(
    tiny_model: Path, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "texts.jsonl", ["a"])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""\
name: tiny
base: {tiny_model}
stages:
  - corpus: {{domain: [{{path: texts.jsonl}}], sequence_length: 64}}
  - pretrain: {{name: first, tokens: 1000}}
  - merge: {{name: searched, models: [{{from: first, weight: auto}}]}}
  - pretrain: {{name: second, from: searched, tokens: 1000}}
  - pretrain: {{name: apart, from: first, tokens: 1000}}
  - merge: {{name: last, models: [{{from: second, weight: 0.5}}, {{from: apart, weight: 0.5}}]}}
  - merge: {{name: again, models: [{{from: last, weight: auto}}]}}
  - evaluate: {{name: of-searched, from: searched}}
  - evaluate: {{name: of-second, from: second}}
  - evaluate: {{name: of-apart, from: apart}}
  - evaluate: {{name: of-last, from: last}}
  - evaluate: {{name: of-again, from: again}}
"""
    )
    chosen = {
        step.name: {role: name for role, name in step.inputs.items() if role.startswith("chosen")}
        for step in load(recipe).steps
        if step.kind == "evaluate"
    }
    one = {"chosen:0": "searched"}
    assert chosen == {"of-searched": {}, "of-second": one, "of-apart": {}, "of-last": one, "of-again": one}


def test_a_limit_lowers_the_weight_until_it_holds(plain, inputs, tmp_path: Path) -> None:
    metrics, _ = plain
    rise = max(point["general_rise"] for point in metrics["search_points"])
    limit = {"limit": f"general <= +{rise / 4:.6f}"}
    held = merge(inputs, tmp_path, search=SEARCH | {"points": 8}, gates=[limit])
    (gate,) = held["gates"]
    assert gate["verdict"] == "held"
    assert gate["value"] + 1.645 * gate["error"] <= rise / 4
    assert 0 < held["weights"]["one"] < 1
    assert held["search"]["at_bounds"] == []
    assert "bound" not in card_of(tmp_path).partition("Chosen by a search")[2].partition("Limit")[0]
    assert held["search"]["why"] == "the largest gain that keeps the limit"


def test_where_no_weight_keeps_the_limit_the_best_compromise_is_kept(inputs, tmp_path: Path) -> None:
    narrow = SEARCH | {"bounds": [0.8, 1.0], "points": 3}
    with pytest.raises(
        GateFailed,
        match=r"no weights .* are shown to keep the limit: merge\.gates\.0: general <= 0 is broken",
    ) as e:
        merge(inputs, tmp_path / "fail", search=narrow, gates=[{"limit": "general <= 0"}])
    assert e.value.exit_code == 3
    assert e.value.metrics["weights"] == {"one": 0.8}
    (edge,) = e.value.metrics["search"]["at_bounds"]
    assert (edge["name"], edge["value"], edge["bound"]) == ("weight of one", 0.8, "lower")
    assert "Weight of one is at its lower bound 0.8: lower that bound" in card_of(tmp_path / "fail")
    assert e.value.metrics["gates"][0]["verdict"] == "broken"
    assert (tmp_path / "fail/output/model/model.safetensors").exists()
    warning, heard = [{"limit": "general <= 0", "action": "warn"}], Heard()
    warned = merge(inputs, tmp_path / "warn", search=narrow, gates=warning, progress=heard)
    assert any("is at its lower bound 0.8" in message for message in heard.messages)
    assert warned["gates"][0]["verdict"] == "broken"
    assert warned["weights"] == {"one": 0.8}


@pytest.fixture(scope="module")
def one_point(inputs, tmp_path_factory) -> list[Any]:
    found: list[Any] = merge(inputs, tmp_path_factory.mktemp("one"), search=SEARCH | {"points": 1})[
        "search_points"
    ]
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"points": 2},
        {"bounds": [0.0, 0.5]},
        {"groups": 2},
        {"tokens": 200},
        {"window": 16},
        {"precision": "bf16"},
    ],
)
def test_settings_change_the_search(change: dict, one_point: list[Any], inputs, tmp_path: Path) -> None:
    other = merge(inputs, tmp_path, search=SEARCH | {"points": 1} | change)
    assert other["search_points"] != one_point


def test_the_density_is_searched_where_it_is_asked_for(inputs, tmp_path: Path) -> None:
    search = SEARCH | {"density": [0.2, 1.0], "points": 4}
    metrics = merge(inputs, tmp_path, method="ties", parameters={"normalize": False}, search=search)
    assert set(metrics["search"]["chosen"]) == {"weight of one", "density"}
    assert "weight" not in metrics["search_points"][0]


@pytest.fixture
def piqa(tmp_path: Path) -> str:
    """A folder with the data of a task."""
    folder = tmp_path / "data/piqa"
    folder.mkdir(parents=True)
    items = [
        {"goal": f"cure fever {n}", "sol1": f"rest and water {n}", "sol2": f"run {n} miles"}
        for n in range(12)
    ]
    (folder / "valid.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    (folder / "valid-labels.lst").write_text("".join(f"{n % 2}\n" for n in range(12)))
    return str(folder.parent)


def test_a_task_may_have_a_limit(piqa: str, inputs, tmp_path: Path) -> None:
    search = SEARCH | {"points": 3, "tasks": {"piqa": {"items": 8}}, "data": piqa}
    gate = {"limit": "piqa >= -90 points"}
    settings = {"models": MODEL, "search": search, "gates": [gate]}
    config = STAGE.Config.model_validate(settings)
    assert STAGE.references(config) == [piqa]
    assert STAGE.check(config, inputs) == []
    metrics = run_stage(STAGE, settings, inputs, tmp_path / "run")
    (found,) = metrics["gates"]
    assert (found["probe"], found["unit"], found["allowed"]) == ("piqa", "accuracy", -0.9)
    assert round(8 * found["value"]) == pytest.approx(8 * found["value"])
    log = (tmp_path / "run/output/model" / LOG).read_text().splitlines()
    assert len(json.loads(log[1])["readings"]["piqa"]["numerators"]) == 8


def test_a_search_that_was_killed_goes_on(plain, inputs, tmp_path: Path) -> None:
    metrics, folder = plain
    lines = (folder / "output/model" / LOG).read_text().splitlines(keepends=True)
    settings = STAGE.Config.model_validate({"models": MODEL, "search": SEARCH})
    from cpt.progress import NullProgress
    from cpt.stages.base import Context

    for name in ("output", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "work" / LOG).write_text("".join(lines[:4]) + lines[4][:30])
    again = STAGE.run(
        settings, inputs, Context(tmp_path / "output", tmp_path / "work", 17, NullProgress(), {})
    )
    assert again["search_points"] == metrics["search_points"]
    assert again["checksums"] == metrics["checksums"]


def test_auto_is_a_search_with_its_defaults_and_given_weights_stay() -> None:
    config = STAGE.Config.model_validate({"models": [{"from": "one", "weight": "auto"}]})
    assert config.searching is not None
    assert config.searching.points == 12
    assert STAGE.forecast(config, {}, {}) == "weights of at most 12 merges"
    gated = STAGE.Config.model_validate({"models": MODEL, "search": {"points": 3}, "gates": [GATE]})
    assert STAGE.forecast(gated, {}, {}) == "weights of at most 3 merges so that general <= +0.3"
    assert STAGE.Config.model_validate({"models": [{"from": "one", "weight": 1}]}).searching is None


def test_a_search_takes_the_newest_corpus() -> None:
    config = STAGE.Config.model_validate({"models": MODEL, "search": {}})
    model, corpus = frozenset({"model"}), frozenset({"corpus"})
    earlier = [
        UpstreamArtifact("base", model),
        UpstreamArtifact("first", corpus),
        UpstreamArtifact("one", model),
        UpstreamArtifact("second", corpus),
    ]
    assert STAGE.wire(config, earlier)["corpus"] == "second"
    with pytest.raises(WiringError, match="makes a corpus") as raised:
        STAGE.wire(config, [each for each in earlier if "corpus" not in each.kinds])
    assert raised.value.problem.key == "search"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gates": [GATE], "models": [{"from": "one", "weight": 1}]}, "add `search: {}`"),
        ({"search": {}, "base": None}, "name one, even if it is not merged"),
        ({"search": {"points": 0}}, "greater than 0"),
        ({"search": {"data": "folder"}}, "no tasks to take data for"),
        ({"search": {"tasks": {"domain": {}}}}, "domain is the name of a text"),
        ({"search": {}, "gates": [{"limit": "general recovers within 20%"}]}, "a merge does not recover"),
        ({"search": {}, "gates": [GATE | {"action": "stop"}]}, "'fail' or 'warn'"),
        ({"search": {"bounds": [0, math.inf]}}, "finite"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate({"models": MODEL} | settings)


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        ({"models": [{"from": "one", "weight": 1}]}, None, "every model has a weight"),
        ({"search": {"bounds": [1, 0]}}, None, "hold nothing to search"),
        ({"search": {"density": [0, 1]}}, None, "task-arithmetic has no density"),
        ({"gates": [{"limit": "generl <= +0.1"}]}, "gates.0.limit", "no probe is called `generl`"),
        ({"gates": [{"limit": "general >= -1 point"}]}, "gates.0.limit", "does not go with its probe"),
        ({"gates": [GATE, {"limit": "general <= +0.2"}]}, "gates", "general has 2 limits"),
        ({"search": {"tasks": {"nonsense": {}}}}, "search.tasks.nonsense", "there is no such task"),
    ],
)
def test_what_cannot_be_searched_is_found_before_any_stage_runs(
    settings: dict, key: str | None, message: str
) -> None:
    config = STAGE.Config.model_validate({"models": MODEL, "search": {}} | settings)
    found = STAGE.check(config, {})
    assert any(message in problem.message and problem.key == key for problem in found), found


def test_too_little_held_out_text_is_found_before_the_search(inputs, tmp_path: Path) -> None:
    config = STAGE.Config.model_validate({"models": MODEL, "search": {}})
    assert STAGE.heldout_problems(config, inputs["corpus"], halved=False) == []
    without = make_corpus(inputs["base"], tmp_path, general=False)
    (problem,) = STAGE.heldout_problems(config, without, halved=False)
    assert "held-out general text is 0 documents" in problem.message
    assert problem.key == "search"


def test_groups_that_there_are_no_layers_for_are_found(inputs) -> None:
    config = STAGE.Config.model_validate({"models": MODEL, "search": {"groups": 3}})
    assert STAGE.check(config, {}) == []
    assert any("2 layers cannot be put into 3" in problem.message for problem in STAGE.check(config, inputs))
