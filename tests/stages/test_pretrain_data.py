"""What a pretrain stage trains on: how much of which text, before and after gates have changed it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from stage_runs import artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.errors import GateFailed
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.stage import STAGE as PRETRAIN

MONITOR = {"every": 2, "probe_share": None, "samples": None, "weights": {"every": 2}}
PLAIN = {"batch_sequences": 4, "replay": 0.25, "checkpoint": {"every": 4}, "monitor": MONITOR}
SELDOM = PLAIN | {"batch_sequences": 8, "checkpoint": {"every": 50}}
SELDOM |= {"monitor": MONITOR | {"every": 50, "early_end": None, "weights": {"every": 4}}}
"""Settings of runs through all of the text: with the probes of `PLAIN` they would take minutes."""

MORE = {"limit": "weights <= 0", "action": "raise-replay", "most": 0.75}
END = {"limit": "weights <= 0", "action": "stop", "after": 0.4}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Replay text has two named parts."""
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)

    def written(name: str, texts: list[str]) -> list[dict[str, str]]:
        return [{"path": str(write_jsonl(folder / f"{name}.jsonl", texts))}]

    mixture = [
        {"name": name, "weight": weight, "sources": written(name, varied_texts(50, f"{name} "))}
        for name, weight in (("a", 3), ("b", 1))
    ]
    config = {
        "domain": written("domain", clinical_texts()),
        "replay": {"mixture": mixture},
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


def trained(config: Mapping[str, Any], inputs: Mapping[str, Artifact], folder: Path) -> dict[str, Any]:
    """Train, whether or not a limit holds; returns the ledger."""
    with suppress(GateFailed):
        run_stage(PRETRAIN, config, inputs, folder)
    ledger: dict[str, Any] = read(folder, "ledger")
    return ledger


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "output" / "training" / f"{name}.json").read_text())


def test_tokens_are_reached_however_full_the_sequences_are(inputs, tmp_path: Path) -> None:
    assert run_stage(PRETRAIN, PLAIN | {"tokens": 1500}, inputs, tmp_path)["tokens"] >= 1500


def test_without_tokens_the_domain_text_is_gone_through_epochs_times(inputs, tmp_path: Path) -> None:
    settings = SELDOM | {"replay": 0.0, "epochs": 2.0}
    config = PRETRAIN.Config.model_validate(settings)
    assert PRETRAIN.check(config, inputs) == []
    forecast = PRETRAIN.forecast(config, inputs, {})
    assert "steps: 2 times the domain text, 0% replay; probes" in forecast
    metrics = run_stage(PRETRAIN, settings, inputs, tmp_path / "run")
    assert 1.9 < metrics["ledger"]["domain"]["epochs"] <= 2.0
    assert f" tokens in {metrics['steps']:,} steps" in forecast


def test_tokens_of_a_selection_are_planned_before_there_is_a_corpus() -> None:
    selected = CorpusConfig.model_validate({"domain": [{"path": "a"}], "select": {"tokens": 3_000}})
    everything = CorpusConfig.model_validate({"domain": [{"path": "a"}]})
    config = PRETRAIN.Config.model_validate({"epochs": 4, "replay": 0.25, "batch_sequences": 8})
    passes = "4 times the domain text, 25% replay"
    assert PRETRAIN.forecast(config, {}, {"corpus": [selected]}).startswith(f"about 16,000 tokens: {passes};")
    assert PRETRAIN.forecast(config, {}, {"corpus": [everything]}).startswith(f"{passes};")
    later = PRETRAIN.Config.model_validate({"from": "pretrain", "start": {}, "epochs": 4})
    # some of it may have been gone through by the training that is continued
    assert PRETRAIN.forecast(later, {}, {"corpus": [selected]}).startswith(
        "4 times the domain text, 0% replay;"
    )


def test_text_that_fills_no_batch_is_found_before_running(inputs) -> None:
    config = PRETRAIN.Config.model_validate({"batch_sequences": 8, "epochs": 0.01})
    (problem,) = PRETRAIN.check(config, inputs)
    assert problem.key == "epochs"
    assert "does not fill one batch" in problem.message


def test_the_ledger_tells_the_named_parts_of_replay(inputs, tmp_path: Path) -> None:
    ledger = trained(PLAIN | {"tokens": 1_500}, inputs, tmp_path)
    assert set(ledger["replay"]["parts"]) == {"replay.a", "replay.b"}
    assert sum(part["tokens"] for part in ledger["replay"]["parts"].values()) == ledger["replay"]["tokens"]
    assert "parts" not in ledger["domain"]
    for row in ledger.values():
        assert len(row.get("listed", ())) in (0, 2)
    listed = ledger["replay"]["listed"]
    parts = ledger["replay"]["parts"]
    for name, part in parts.items():
        [own] = [counts for path, counts in listed.items() if path.endswith(f"{name[-1]}.jsonl")]
        assert own["tokens"] == part["tokens"]
        assert own["epochs"] == pytest.approx(part["epochs"], rel=0.2)  # by tokens, not by sequences


@pytest.mark.parametrize("gate", [MORE, END], ids=["raised", "stopped"])
def test_parts_add_up_to_their_source_whatever_gates_do(inputs, tmp_path: Path, gate: dict) -> None:
    replay = trained(PLAIN | {"tokens": 3_000, "gates": [gate]}, inputs, tmp_path)["replay"]
    assert read(tmp_path, "summary")["gates"][0]["verdict"] == ("held" if gate is END else "broken")
    assert ("skipped_tokens" in replay) == (gate is END)
    for figure in ("tokens", "sequences"):
        assert sum(part[figure] for part in replay["parts"].values()) == replay[figure]


def test_steps_that_follow_from_the_text_stay_as_planned_when_replay_is_raised(
    inputs, tmp_path: Path
) -> None:
    config = PRETRAIN.Config.model_validate(SELDOM | {"gates": [MORE]})
    assert PRETRAIN.check(config, inputs) == []
    plain = trained(SELDOM, inputs, tmp_path / "plain")
    gated = trained(SELDOM | {"gates": [MORE]}, inputs, tmp_path / "gated")
    steps = read(tmp_path / "plain", "summary")["steps"]
    assert read(tmp_path / "gated", "summary")["steps"] == steps
    assert f" tokens in {steps:,} steps" in PRETRAIN.forecast(config, inputs, {})
    assert plain["domain"]["epochs"] == pytest.approx(1, abs=0.05)
    assert gated["domain"]["epochs"] < 0.9
    rows = [sum(ledger[s]["sequences"] for s in ("domain", "replay")) for ledger in (plain, gated)]
    assert rows == [8 * steps, 8 * steps]


def test_steps_that_follow_from_the_text_must_last_with_the_least_replay(inputs) -> None:
    gates = [{"limit": "weights <= 0.1", "action": "raise-replay", "least": 0.25, "most": 0.75}]
    config = PLAIN | {"replay": 0.5, "gates": gates}
    (problem,) = PRETRAIN.check(PRETRAIN.Config.model_validate(config), inputs)
    assert "as little replay as a gate allows" in problem.message
    assert problem.hint is not None
    tokens = int(problem.hint.split()[2].strip(","))
    assert PRETRAIN.check(PRETRAIN.Config.model_validate(config | {"tokens": tokens}), inputs) == []


def test_a_continued_training_goes_on_behind_the_text_of_a_gated_one(inputs, tmp_path: Path) -> None:
    first = trained(PLAIN | {"tokens": 1_500, "gates": [MORE]}, inputs, tmp_path / "first")
    (last,) = read(tmp_path / "first", "checkpoints")
    assert last["passed"] == {source: row["sequences"] for source, row in first.items()}
    made = artifact("first", tmp_path / "first" / "output", "model", "training")
    made = made.model_copy(update={"parents": {"corpus": inputs["corpus"].fingerprint}})
    more = PLAIN | {"from": "first", "start": {}, "tokens": 800, "gates": [MORE]}
    second = trained(more, {**inputs, "model": made}, tmp_path / "second")
    (last,) = read(tmp_path / "second", "checkpoints")
    assert last["passed"] == {
        source: first[source]["sequences"] + row["sequences"] for source, row in second.items()
    }
    actions = (tmp_path / "second" / "output/training/actions.jsonl").read_text().splitlines()
    assert json.loads(actions[0])["from"] == 0.25  # its gates begin anew, from its own start
    whole = sum(part["tokens"] for part in second["replay"]["parts"].values())
    assert whole == second["replay"]["tokens"]
