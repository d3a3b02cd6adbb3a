"""Replay that a law advises: settings, plan, fingerprint, training, and laws that do not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stage_runs import Heard, artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))

from planted import DOMAIN, GENERAL, SIZED, law_of

from cpt.errors import DataError, RecipeError
from cpt.laws import Law, read_law, write_law
from cpt.laws.law import HeldOut, LawWarning
from cpt.models.weights import count_parameters
from cpt.recipe.fingerprint import identify
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.store import Store
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.continuation import Start
from cpt.stages.pretrain.stage import STAGE as PRETRAIN

STEEP = {**GENERAL, "B": 1e-9, "C": 0.1, "epsilon": 0.1, "gamma": 0.5}
START = 0.9
LIMIT = 0.05
REPLAY = (STEEP["C"] / (START + LIMIT - STEEP["E"])) ** 2 - STEEP["epsilon"]
"""The advised share in closed form (see the tests of advice): 0.344."""

SETTINGS = {
    "tokens": 1_000,
    "batch_sequences": 4,
    "checkpoint": {"every": 50},
    "monitor": {"every": 50, "probe_share": None, "samples": None, "weights": None, "early_end": None},
}


def law_for(size: int, **more: Any) -> Law:
    return law_of({**DOMAIN, "B": 0.1}, STEEP, START, size=size, tokens=(500, 5_000), **more)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    config = {"heldout": 0.1, "sequence_length": 64}
    texts = {"domain": clinical_texts(), "general": varied_texts(20, "general ")}
    for name, documents in texts.items():
        config[name] = [{"path": str(write_jsonl(folder / f"{name}.jsonl", documents))}]
    replay = write_jsonl(folder / "replay.jsonl", varied_texts(50, "replay "))
    config["replay"] = {"sources": [{"path": str(replay)}]}
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


@pytest.fixture
def law(inputs: dict[str, Artifact], tmp_path: Path) -> Path:
    """A law for the tiny model."""
    write_law(law_for(count_parameters(inputs["model"].path("model"))), tmp_path / "law.json")
    return tmp_path / "law.json"


def config_of(law: Path | str, *, tokens: int | None = 1_000, **replay: Any) -> Any:
    advised = {"advised": str(law), "limit": f"general <= +{LIMIT}", **replay}
    return PRETRAIN.Config.model_validate(SETTINGS | {"tokens": tokens, "replay": advised})


def test_the_advised_share_is_rounded_up_to_whole_sequences(law: Path) -> None:
    config = config_of(law)
    assert pytest.approx(0.344, abs=1e-3) == REPLAY
    assert config.replay.advice(1_000).replay.value == pytest.approx(REPLAY, abs=1e-7)
    assert config.replay_share == config.first_replay == 0.5  # 2 of 4
    assert config.replay_shares == {"replay": 0.5}
    larger = config.model_copy(update={"batch_sequences": 100})
    assert larger.replay_share == 0.35
    assert config_of(law, limit="general <= +0.3").replay_share == 0.0


def test_a_number_is_still_a_share() -> None:
    config = PRETRAIN.Config.model_validate({"replay": 0.25})
    assert (config.replay, config.replay_share) == (0.25, 0.25)
    for wrong in (1, -0.1, "advised"):
        with pytest.raises(ValidationError):
            PRETRAIN.Config.model_validate({"replay": wrong})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tokens": None}, "a law advises replay for a number of tokens: set `tokens`"),
        ({"limit": "domain <= +0.1"}, "bounds domain: a law predicts general text"),
        ({"limit": "general recovers within 10%"}, "no bound on a rise"),
        ({"limit": "general"}, "states no limit"),
        ({"limitt": 1}, "Extra inputs"),
        ({"parameters": 0}, "greater than 0"),
        ({"domain": "A B"}, "match pattern"),
    ],
)
def test_settings_that_ask_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config_of("law.json", **settings)


def problem_of(config: Any, inputs: dict[str, Artifact] | None = None) -> tuple[str | None, str]:
    (problem,) = PRETRAIN.check(config, inputs or {})
    return problem.key, problem.message


def test_laws_without_an_advice_are_problems_of_the_recipe(
    law: Path, inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    assert PRETRAIN.check(config_of(law), inputs) == []
    key, message = problem_of(config_of(law, limit="general <= 0"))
    assert (key, "0.9 is advised, which leaves none of 4" in message) == ("replay.advised", True)
    write_law(law_of(DOMAIN, STEEP, 0.8), tmp_path / "never.json")
    key, message = problem_of(config_of(tmp_path / "never.json"))
    assert (key, "no share of replay keeps" in message) == ("replay.advised", True)
    key, message = problem_of(config_of(law, domain="law"))
    assert (key, message) == ("replay.advised", "the law was fitted on one domain")
    assert "no such file" in problem_of(config_of(tmp_path / "none.json"))[1]
    assert "a law is a local file" in problem_of(config_of("hub:datasets/a/b/law.json"))[1]
    (tmp_path / "damaged.json").write_text("{}")
    assert "not of the form" in problem_of(config_of(tmp_path / "damaged.json"))[1]


def test_a_law_of_several_sizes_asks_for_one_and_it_must_be_the_models(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    size = count_parameters(inputs["model"].path("model"))
    write_law(law_of({**DOMAIN, **SIZED}, STEEP, START), tmp_path / "sizes.json")
    key, message = problem_of(config_of(tmp_path / "sizes.json"))
    assert (key, "100M to 1B parameters" in message) == ("replay.advised", True)
    named = config_of(tmp_path / "sizes.json", parameters=200_000_000)
    assert PRETRAIN.check(named, {}) == []
    key, message = problem_of(named, inputs)
    assert (key, f"this one has {size:,}" in message) == ("replay.parameters", True)
    write_law(law_for(2 * size), tmp_path / "other.json")
    key, message = problem_of(config_of(tmp_path / "other.json"), inputs)
    assert (key, f"a model of {2 * size:,} parameters" in message) == ("replay.advised", True)


def test_the_domain_of_a_law_of_several_is_named(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    size = count_parameters(inputs["model"].path("model"))
    term = {"F": 0.1, "mu": 0.5, "w1": 0.5, "w2": 0.5}
    one = law_for(size)
    texts = {
        text: found.model_copy(update={"coefficients": {**found.coefficients, **term}})
        for text, found in one.texts.items()
    }
    probes = {name: {"first_loss": 2.0, "decline": 1.0} for name in ("law", "medical")}
    data = one.model_copy(update={"texts": texts}).model_dump() | {
        "domains": probes,
        "probe": {"tokens": 10, "share": 1.0, "parameters": size},
    }
    write_law(Law.model_validate(data), tmp_path / "domains.json")
    assert "say which one" in problem_of(config_of(tmp_path / "domains.json"))[1]
    wider = config_of(tmp_path / "domains.json", domain="law", limit="general <= +0.2")
    assert PRETRAIN.check(wider, inputs) == []


def test_a_training_that_continues_another_has_no_advice(law: Path) -> None:
    config = config_of(law).model_copy(update={"start": Start()})
    assert "continues another" in problem_of(config)[1]


def test_it_is_trained_on_as_advised_and_the_plan_says_so(
    law: Path, inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    config = config_of(law)
    forecast = PRETRAIN.forecast(config, inputs, {})
    assert f"replay 0.5, advised {REPLAY:.4g} for general <= +0.05: predicted change" in forecast
    assert "general +0.0291" in forecast  # at the rounded share, E + C/(r + epsilon)^gamma - start
    heard, settings = Heard(), SETTINGS | {"replay": config.replay.model_dump()}
    metrics = run_stage(PRETRAIN, settings, inputs, tmp_path / "run", heard)
    ledger = metrics["ledger"]
    assert ledger["domain"]["sequences"] == ledger["replay"]["sequences"]
    said = "\n".join(heard.messages)
    assert "advised" in said
    assert "before training general is at" in said  # the tiny model is no base of the law's runs


def test_what_a_law_was_not_fitted_on_is_said_in_the_plan(law: Path, inputs: dict[str, Artifact]) -> None:
    forecast = PRETRAIN.forecast(config_of(law, tokens=9_000), {}, {})
    assert "tokens: 9k is outside of the fitted range, 500 to 5k" in forecast


def test_doubts_about_the_law_itself_are_said_in_the_plan(law: Path) -> None:
    doubt = LawWarning(kind="not_falling", message="the loss of general does not fall", text="general")
    write_law(read_law(law).model_copy(update={"warnings": [doubt]}), law)
    assert doubt.message in PRETRAIN.forecast(config_of(law), {}, {})


def test_an_advice_that_rests_on_noise_is_said_in_the_plan(law: Path) -> None:
    fitted = read_law(law)
    left = HeldOut(how="each", runs=["a"], r2=None, huber=0.0, mean_error=5.0)
    texts = {text: found.model_copy(update={"heldout": left}) for text, found in fitted.texts.items()}
    assert "rests on noise" not in PRETRAIN.forecast(config_of(law), {}, {})
    write_law(fitted.model_copy(update={"texts": texts}), law)
    forecast = PRETRAIN.forecast(config_of(law), {}, {})
    for text in ("domain", "general"):
        assert f"{text}: between the advised share and the ends of the fitted range, 0.1 and 1" in forecast
    assert forecast.count("less than the error on left-out runs, 5.0000: the advice rests on noise") == 2


def test_a_law_that_changes_after_the_plan_stops_the_stage(
    law: Path, inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    (tmp_path / "output").mkdir()
    contents = {str(law): "0" * 64}
    context = Context(tmp_path / "output", tmp_path / "work", 17, Heard(), {}, None, contents)
    with pytest.raises(DataError, match=r"law\.json"):
        PRETRAIN.run(config_of(law), inputs, context)
    assert list((tmp_path / "output").iterdir()) == []


RECIPE = """\
name: advised
base: {model}
stages:
  - corpus: {{domain: [{{path: domain.jsonl}}], replay: {{sources: [{{path: domain.jsonl}}]}}}}
  - pretrain: {{tokens: 1000, batch_sequences: 4, replay: {{advised: law.json, limit: general <= +0.05}}}}
"""


def test_the_content_of_the_law_is_in_the_fingerprint(
    law: Path, inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "domain.jsonl", clinical_texts())
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(RECIPE.format(model=inputs["model"].path("model")))
    recipe = load(recipe_file)
    step = recipe.step("pretrain")
    assert step.references == {"law.json": str(law)}
    plan = make_plan(recipe, Store(tmp_path / "runs" / "advised"))
    assert "replay 0.5, advised 0.344" in plan.entries[-1].forecast
    known = dict.fromkeys(("base", "corpus"), "0" * 64)
    before = identify(step, 17, known).fingerprint
    law.write_text(json.dumps(json.loads(law.read_text()) | {"seed": 5}))
    assert identify(step, 17, known).fingerprint != before


def test_a_recipe_with_a_wrong_law_names_it_once_with_its_line(
    law: Path, inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "domain.jsonl", clinical_texts())
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(RECIPE.format(model=inputs["model"].path("model")))
    law.write_text("{}")
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (5, "pretrain.replay.advised")
    law.unlink()
    with pytest.raises(RecipeError) as caught:
        load(recipe_file)
    (problem,) = caught.value.problems
    assert "no such file" in problem.message


def test_another_start_is_told_beyond_the_spread_of_the_law_s_own_runs(law: Path) -> None:
    """A law of several seeds knows other held-out documents of the same text."""
    from types import SimpleNamespace

    from cpt.laws import read_law
    from cpt.stages.pretrain.advised_replay import other_start

    readings: list[Any] = [SimpleNamespace(probe="general", value=START + 0.05)]
    assert "before training general is at" in other_start(config_of(law), readings)[0]
    known = read_law(law)
    write_law(known.model_copy(update={"start": [known.start[0].model_copy(update={"spread": 0.03})]}), law)
    assert other_start(config_of(law), readings) == []
