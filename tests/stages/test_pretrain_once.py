"""Phases that end when their parts were trained on once, or the rate has fallen: plans, gates, kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from stage_runs import Heard, artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.corpus import open_source
from cpt.errors import GateFailed
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.data import planned
from cpt.stages.pretrain.stage import STAGE as PRETRAIN

MONITOR = {"every": 50, "probe_share": None, "samples": None, "early_end": None, "weights": {"every": 2}}
PLAIN = {"batch_sequences": 4, "checkpoint": {"every": 3}, "monitor": MONITOR, "epochs": 9}
PAPERS = {"until": "once", "weights": {"notes": 0, "papers": 1}}
NOTES = {"weights": {"notes": 1, "papers": 0}}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A domain of two parts, and replay text."""
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    texts = {
        "notes": clinical_texts(),
        "papers": varied_texts(12, "paper "),
        "replay": varied_texts(30, "other "),
    }
    paths = {name: {"path": str(write_jsonl(folder / f"{name}.jsonl", each))} for name, each in texts.items()}
    config = {
        "domain": [{**paths[name], "part": name} for name in ("notes", "papers")],
        "replay": [paths["replay"]],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate(PLAIN | settings)


def problems(inputs: dict[str, Artifact], **settings: Any) -> list[tuple[str | None, str]]:
    found = PRETRAIN.check(config_of(**settings), inputs)
    return [(problem.key, f"{problem.message} | {problem.hint}") for problem in found]


def steps_for_papers(inputs: dict[str, Artifact], rows: int = 4) -> int:
    return -(-len(open_source(inputs["corpus"].path("corpus"), "domain.papers")) // rows)


def test_a_plan_tells_the_steps_where_the_corpus_is_there_and_the_rule_where_it_is_not(
    inputs: dict[str, Artifact],
) -> None:
    config = config_of(tokens=6_000, replay=0.25, mixture=[PAPERS, NOTES])
    steps, epochs = steps_for_papers(inputs, 3), planned(config, inputs, 0)[0].by_phase(99)[0]["sources"]
    words = PRETRAIN.forecast(config, inputs, {})
    assert f"steps 1 to {steps}: notes 0% of the domain (0 tokens, 0 times), papers 100% of the dom" in words
    assert f"{epochs['domain.papers']['epochs']:.3g} times), replay 25%" in words
    assert 1 <= epochs["domain.papers"]["epochs"] < 1.1
    unknown = PRETRAIN.forecast(config, {}, {})
    assert (
        "notes 0%, papers 100% until all of it was trained on once (how many steps that takes is kn"
        in unknown
    )
    assert "with the corpus); then notes 100%, papers 0% until 100%" in unknown


def test_the_last_phase_has_no_end_of_its_own() -> None:
    for mixture in (PAPERS, [NOTES | {"until": 0.5}, PAPERS]):
        with pytest.raises(ValidationError, match="the last phase ends with the run"):
            config_of(mixture=mixture)
    with pytest.raises(ValidationError, match=r"a phase until 0\.4 comes after one until 0\.5"):
        config_of(mixture=[NOTES | {"until": 0.5}, PAPERS, NOTES | {"until": 0.4}, NOTES])


@pytest.mark.parametrize(
    "later", [[NOTES], [NOTES | {"until": "40%"}, NOTES], [NOTES | {"until": "once"}, NOTES]]
)
def test_too_few_tokens_for_once_are_told_with_those_that_are_needed(
    inputs: dict[str, Artifact], later: list[Any]
) -> None:
    steps = steps_for_papers(inputs)
    stream, _ = planned(config_of(tokens=9_000, mixture=[PAPERS, NOTES]), inputs, 0)
    settings = {"tokens": stream.tokens(steps) - 100, "mixture": [PAPERS, *later]}
    ((key, text),) = problems(inputs, **settings)
    assert key == "mixture.1"
    assert f"has none of the {steps:,} steps: the one before it, until once, ends at step {steps:,} (" in text
    assert f"({stream.tokens(steps):,} tokens)" in text
    tokens = int(text.split("at least ")[1].split(" tokens")[0].replace(",", ""))
    assert problems(inputs, **settings | {"tokens": tokens}) == []
    per_step = 4 * 64
    assert problems(inputs, **settings | {"tokens": tokens - per_step}) != []


def test_a_run_without_tokens_needs_more_epochs(inputs: dict[str, Artifact]) -> None:
    mixture = [PAPERS, {"weights": {"notes": 0, "papers": 1}}]
    ((key, text),) = problems(inputs, mixture=mixture, epochs=1)
    assert key == "mixture.1"
    assert "Set more `epochs`" in text
    assert problems(inputs, mixture=mixture, epochs=2) == []


def test_a_continued_training_counts_what_was_read_before(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    run_stage(PRETRAIN, PLAIN | {"tokens": 4_000, "mixture": [PAPERS, NOTES]}, inputs, tmp_path)
    made = artifact("first", tmp_path / "output", "model", "training")
    later = {**inputs, "model": made.model_copy(update={"parents": {"corpus": inputs["corpus"].fingerprint}})}
    more = {"from": "first", "start": {}, "tokens": 2_000, "mixture": [PAPERS, NOTES]}
    ((key, text),) = problems(later, **more)
    assert (key, "all of its text is trained on before it | Leave the phase out." in text) == (
        "mixture.0",
        True,
    )
    assert problems(later, **more | {"start": {"data": "again"}}) == []


class Killed(Heard):
    """Ends the run in the middle of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def update(self, done: int, *_: object, **facts: object) -> None:
        if done == self._step and facts:
            raise KeyboardInterrupt


def test_a_killed_run_with_gates_has_the_phases_of_one_that_was_not(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    raises = {"limit": "weights <= 0", "action": "raise-replay", "most": 0.75}
    settings = PLAIN | {"tokens": 4_000, "replay": 0.25, "mixture": [PAPERS, NOTES], "gates": [raises]}
    found = []
    for name, kills in (("whole", []), ("killed", [5, 11])):
        (tmp_path / name).mkdir()
        for number, progress in enumerate([*map(Killed, kills), Heard()]):
            output = tmp_path / name / f"output-{number}"
            output.mkdir()
            context = Context(output, tmp_path / name, 17, progress, {})
            with pytest.raises(KeyboardInterrupt if isinstance(progress, Killed) else GateFailed) as ended:
                PRETRAIN.run(PRETRAIN.Config.model_validate(settings), inputs, context)
        found.append(ended.value.metrics)
    assert found[0]["mixture"] == found[1]["mixture"]
    assert found[0]["ledger"] == found[1]["ledger"]
    first = found[0]["mixture"][0]
    assert first["until"] == "once"
    assert first["steps"] > steps_for_papers(inputs, 3), "with more replay the phase is longer"
    size = len(open_source(inputs["corpus"].path("corpus"), "domain.papers"))
    assert size <= first["sources"]["domain.papers"]["sequences"] < size + 4
    assert first["sources"]["domain.notes"]["sequences"] == 0


def test_a_phase_until_a_rate_ends_at_the_first_step_of_that_rate(inputs: dict[str, Artifact]) -> None:
    """The blend changes at the step whose rate is a fifth of the first one's, or lower."""
    phases = [
        {"until": "rate/5", "weights": {"notes": 3, "papers": 1}},
        {"weights": {"notes": 0, "papers": 1}, "replay": 0.5},
    ]
    schedule = {"kind": "reuse", "start": 1e-3}
    config = PRETRAIN.Config.model_validate({**PLAIN, "epochs": 3, "mixture": phases, "schedule": schedule})
    stream, steps = planned(config, inputs, seed=3)
    rates = [config.schedule.rate(step, steps) for step in range(steps)]
    fallen = next(step for step, rate in enumerate(rates) if rate <= 1e-3 / 5)
    assert abs(stream.phase_ends[0] - fallen) <= 1
    said = PRETRAIN.forecast(config, inputs, {"corpus": [], "model": []})
    assert "the blend stays the same" not in said
    plain = PRETRAIN.Config.model_validate({**PLAIN, "schedule": schedule})
    assert "the blend stays the same" in PRETRAIN.forecast(plain, inputs, {"corpus": [], "model": []})
