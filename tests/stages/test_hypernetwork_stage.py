"""The hypernetwork stage on a tiny model and a real corpus artifact."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_hypernetworks import HUB_COMMIT, hub_snapshot
from pydantic import ValidationError
from stage_runs import Heard, make_corpus, model_artifact, run_stage
from tiny import clinical_texts, write_jsonl

from cpt.errors import StageFailed
from cpt.recipe.fingerprint import config_data
from cpt.recipe.load import load
from cpt.stages.base import BASE, Artifact, Context
from cpt.stages.hypernetwork.stage import STAGE
from cpt.training.distributed.environment import Environment
from tokenizer_tools.hypernetwork.folder import load_hypernetwork, read_facts

SMALL: dict[str, Any] = {
    "network": {"layers": 1, "heads": 2},
    "sampling": {"vocabulary": 450, "queue": 16},
    "steps": 4,
    "texts": 2,
    "sequence_length": 24,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_corpus(base, folder)}


def test_the_folder_is_a_hypernetwork_with_its_curves(
    inputs: dict[str, Artifact], tmp_path: Path, another_model: Callable[..., Path]
) -> None:
    other = another_model("other", vocabulary=420)
    probes = {"tokenizers": {"other": str(other)}, "every": 2, "bytes": 400}
    config = SMALL | {"probes": probes}
    assert STAGE.references(STAGE.Config.model_validate(config)) == [str(other)]
    metrics = run_stage(STAGE, config, inputs, tmp_path / "run")
    folder = tmp_path / "run" / "output" / "hypernetwork"
    load_hypernetwork(folder, inputs["model"].path("model"))
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    readings = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    assert (metrics["steps"], len(steps)) == (4, 4)
    assert metrics["tokens"] == steps[-1]["tokens"]
    assert metrics["tokens_per_second"] == pytest.approx(metrics["tokens"] / metrics["seconds"])
    assert metrics["truncated"] == sum(step["truncated"] for step in steps)
    assert list(metrics["zero_shot"]) == ["source/domain", "source/general", "other/domain", "other/general"]
    assert list(metrics["zero_shot"]["source/domain"]) == [0]
    curve = metrics["zero_shot"]["other/domain"]
    assert list(curve) == [0, 2, 4]
    assert [r["value"] for r in readings if r["probe"] == "other/domain"] == list(curve.values())
    facts = read_facts(folder).training
    assert facts.steps == 4
    assert facts.settings["sampling"]["vocabulary"] == 450
    assert facts.figures["other/domain before"] == curve[0]
    assert facts.figures["other/domain after"] == curve[4]
    card = (folder / "README.md").read_text()
    assert "other/domain after" in card
    assert json.loads(json.dumps(metrics))["steps"] == 4


def test_the_card_names_model_and_text_as_the_recipe_does(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    base = inputs["model"].model_copy(update={"stage": BASE})
    replay = [{"path": "c.jsonl"}, {"name": "made", "self_generated": {}}]
    config = {"domain": [{"path": "a.jsonl"}, {"path": "b.jsonl"}], "replay": replay}
    corpus = inputs["corpus"].model_copy(update={"config": config})
    for name in ("output", "work"):
        (tmp_path / name).mkdir()
    recipe = {"name": "mine", "base": "org/model"}
    context = Context(tmp_path / "output", tmp_path / "work", 17, Heard(), recipe)
    STAGE.run(STAGE.Config.model_validate(SMALL), {"model": base, "corpus": corpus}, context)
    facts = read_facts(tmp_path / "output" / "hypernetwork")
    assert facts.source.model == "org/model"
    assert facts.training.data == ("a.jsonl", "b.jsonl", "c.jsonl")


def test_what_cannot_work_is_found_before_anything_runs(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    config = STAGE.Config.model_validate(SMALL | {"network": {"heads": 3}})
    (problem,) = STAGE.check(config, inputs)
    assert (problem.key, "3 heads do not divide" in problem.message) == ("network.heads", True)
    config = STAGE.Config.model_validate(SMALL)
    assert STAGE.check(config, inputs) == []
    (problem,) = STAGE.check_environment(config, Environment(processes=2, sharded=True), {})
    assert "FSDP2" in problem.message
    assert STAGE.check_environment(config, Environment(processes=2), {}) == []
    missing = {"tokenizers": {"lost": str(tmp_path / "nowhere")}}
    (problem,) = STAGE.fetch(STAGE.Config.model_validate(SMALL | {"probes": missing}), Heard())
    assert problem.key == "probes.tokenizers.lost"


def test_probes_need_held_out_text(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    (tmp_path / "corpus" / "documents").mkdir(parents=True)
    empty = Artifact(name="c", stage="corpus", kinds=("corpus",), fingerprint="c", folder=tmp_path)
    probes = {"tokenizers": {"other": "a/b"}}
    config = STAGE.Config.model_validate(SMALL | {"probes": probes})
    (problem,) = STAGE.check(config, {"corpus": empty})
    assert (problem.key, "no held-out text" in problem.message) == ("probes", True)


def test_the_length_and_what_touches_no_weights_may_change_on_the_way() -> None:
    def fingerprinted(**settings: Any) -> Any:
        return config_data(STAGE.Config.model_validate(SMALL | settings))

    assert STAGE.Config.resumable_fields == {"steps", "probes"}
    assert fingerprinted() == fingerprinted(checkpoint={"every": 3})
    assert fingerprinted() != fingerprinted(steps=5)
    with pytest.raises(ValidationError, match="Extra inputs"):
        STAGE.Config.model_validate(SMALL | {"tokens": 3})


def test_a_finished_run_is_continued(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """At a constant rate, two runs end as a single one of all steps."""
    constant = SMALL | {"schedule": {"kind": "constant", "peak": 1e-3}}
    run_stage(STAGE, constant | {"steps": 2}, inputs, tmp_path / "first")
    start = tmp_path / "first" / "output" / "hypernetwork"
    longer = constant | {"steps": 5, "start": str(start)}
    assert str(start) in STAGE.references(STAGE.Config.model_validate(longer))
    assert STAGE.check(STAGE.Config.model_validate(longer), inputs) == []
    metrics = run_stage(STAGE, longer, inputs, tmp_path / "second")
    whole = run_stage(STAGE, constant | {"steps": 5}, inputs, tmp_path / "whole")
    assert metrics["steps"] == 5
    assert metrics["tokens"] == whole["tokens"]
    weights = [
        (tmp_path / name / "output" / "hypernetwork" / "hypernetwork.safetensors").read_bytes()
        for name in ("second", "whole")
    ]
    assert weights[0] == weights[1]
    log = (tmp_path / "second" / "output" / "hypernetwork" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4, 5]
    with pytest.raises(StageFailed, match="other settings than it began with: texts was 2 and is 3"):
        run_stage(STAGE, longer | {"texts": 3}, inputs, tmp_path / "other")


def test_a_run_on_the_hub_is_continued(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = SMALL | {"schedule": {"kind": "constant", "peak": 1e-3}}
    run_stage(STAGE, constant | {"steps": 2}, inputs, tmp_path / "first")
    start = tmp_path / "first" / "output" / "hypernetwork"
    weights = {}
    for reference in (str(start), f"org/zett@{HUB_COMMIT}"):
        config = STAGE.Config.model_validate(constant | {"steps": 3, "start": reference})
        assert [*STAGE.check(config, inputs), *STAGE.fetch(config, Heard())] == []
        output = tmp_path / str(len(weights))
        assert run_stage(STAGE, constant | {"steps": 3, "start": reference}, inputs, output)["steps"] == 3
        weights[reference] = (output / "output/hypernetwork/hypernetwork.safetensors").read_bytes()
        if len(weights) == 1:
            start.rename(hub_snapshot(tmp_path / "hub", monkeypatch))
    assert len(set(weights.values())) == 1
    missing = STAGE.Config.model_validate(SMALL | {"start": "org/another"})
    (problem,) = STAGE.fetch(missing, Heard())
    assert (problem.key, "cannot get org/another" in problem.message) == ("start", True)


def test_a_start_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (problem,) = STAGE.check(STAGE.Config.model_validate(SMALL | {"start": str(tmp_path)}), {})
    assert (problem.key, "holds no checkpoint" in problem.message) == ("start", True)


def test_a_recipe_wires_the_stage_and_forecasts_its_work(tiny_model: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    recipe = {
        "name": "r",
        "base": str(tiny_model),
        "stages": [{"corpus": {"domain": [{"path": "text.jsonl"}]}}, {"hypernetwork": SMALL}, {"report": {}}],
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    loaded = load(tmp_path / "r.yaml")
    step = loaded.step("hypernetwork")
    assert step.inputs == {"model": "base", "corpus": "corpus"}
    words = step.stage.forecast(step.located, {}, {})
    assert words == "4 steps, at most 192 tokens in sampled vocabularies of 450"
    zett = STAGE.Config.model_validate(SMALL | {"network": {"variant": "zett"}})
    assert STAGE.forecast(zett, {}, {}).startswith("1,000 + 4 steps")
