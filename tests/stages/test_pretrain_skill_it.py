"""Online mixing in a pretrain stage: settings, plan, fingerprint, training, and graphs that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stage_runs import Heard, make_corpus, make_parted_corpus, model_artifact, run_stage

from cpt.corpus import read_index
from cpt.errors import DataError
from cpt.monitor.skill_graph import SkillGraph, write_graph
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment

MONITOR = {"every": 50, "probe_share": None, "samples": None, "early_end": None, "weights": None}
PLAIN = {
    "tokens": 1_500,
    "batch_sequences": 4,
    "monitor": MONITOR,
    "mixture": {"weights": {"notes": 1, "papers": 1}},
    "epochs": 9,
    "skill_it": {"every": 2, "eta": 1.0},
}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    return {"model": base, "corpus": make_parted_corpus(base, folder)}


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate(PLAIN | settings)


def problems(inputs: dict[str, Artifact], **settings: Any) -> list[tuple[str | None, str]]:
    return [(each.key, each.message) for each in PRETRAIN.check(config_of(**settings), inputs)]


def graph_file(path: Path, edges: dict[str, dict[str, float]], *skills: str) -> str:
    write_graph(SkillGraph(skills=list(skills or ("notes", "papers")), edges=edges), path)
    return str(path)


def test_a_training_moves_its_weights_and_writes_them(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    graph = graph_file(tmp_path / "skills.json", {"papers": {"notes": 1.0}})
    settings = PLAIN | {"skill_it": {"every": 2, "eta": 0.05, "graph": graph}}
    heard = Heard()
    metrics = run_stage(PRETRAIN, settings, inputs, tmp_path / "run", heard)
    training = tmp_path / "run/output/training"
    updates = [json.loads(line) for line in (training / "mixture.jsonl").read_text().splitlines()]
    assert [each["step"] for each in updates] == list(range(0, metrics["steps"], 2))
    assert {*updates[0]["losses"]} == {"notes"}
    assert updates[-1]["shares"]["papers"] > updates[0]["shares"]["papers"] > 0.5
    assert [(each["first"], each["steps"]) for each in metrics["mixture"]][:2] == [(0, 2), (2, 2)]
    parts = metrics["ledger"]["domain"]["parts"]
    assert parts["domain.papers"]["sequences"] > parts["domain.notes"]["sequences"]
    readings = [json.loads(line) for line in (training / "probes.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in readings if row["probe"] == "domain.notes"]
    assert steps == sorted({*range(0, metrics["steps"], 2), metrics["steps"]})


def test_a_small_probe_share_leaves_out_no_update(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    monitor = MONITOR | {"probe_share": 0.01}
    metrics = run_stage(PRETRAIN, PLAIN | {"monitor": monitor}, inputs, tmp_path / "run")
    probe = metrics["monitor"]["probes"]["domain.notes"]
    assert probe["readings"] == probe["wanted"]
    assert probe["smallest_share"] < 1
    lines = (tmp_path / "run/output/training/mixture.jsonl").read_text().splitlines()
    assert len(lines) == len(range(0, metrics["steps"], 2))


def test_the_plan_tells_how_weights_move_and_what_probes_cost(inputs: dict[str, Artifact]) -> None:
    words = PRETRAIN.forecast(config_of(), inputs, {"corpus": [], "model": []})
    assert "weights of parts follow their losses every 2 steps (Skill-It, η = 1)" in words
    assert "domain.papers" in words


def test_the_graph_belongs_to_the_fingerprint_and_must_not_change(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    graph = graph_file(tmp_path / "skills.json", {"papers": {"notes": 1.0}})
    assert PRETRAIN.references(config_of(skill_it={"graph": graph})) == [graph]
    assert PRETRAIN.references(config_of()) == []
    from cpt.stages.pretrain.skill_it import graph_read_again

    with pytest.raises(DataError, match="changed"):
        graph_read_again(config_of(skill_it={"graph": graph}), {graph: "another"})


def test_what_online_mixing_lacks_is_named(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    found = problems(inputs, mixture=None, tokens=None)
    assert [key for key, _ in found] == ["mixture", "tokens"]
    phases = [{"until": 0.5, "temperature": 1}, {"temperature": 2}]
    assert problems(inputs, mixture=phases)[0][0] == "mixture"
    assert problems(inputs, skill_it={"graph": str(tmp_path / "none.json")})[0][0] == "skill_it.graph"
    (tmp_path / "bad.json").write_text("{}")
    assert problems(inputs, skill_it={"graph": str(tmp_path / "bad.json")})[0][0] == "skill_it.graph"
    ((key, message),) = problems(inputs, mixture={"weights": {"notes": 1, "papers": 0}})
    assert (key, "two parts of the domain or more: trained on are notes" in message) == ("mixture", True)
    ((key, message),) = problems(inputs, skill_it={"every": 500})
    assert (key, "never follow" in message) == ("skill_it.every", True)


def test_graphs_that_do_not_fit_the_parts_are_named(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    other = graph_file(tmp_path / "other.json", {"notes": {"notes": 1.0}}, "notes", "web")
    ((key, message),) = problems(inputs, skill_it={"every": 2, "graph": other})
    assert (key, "the graph is of notes, web" in message) == ("skill_it.graph", True)
    empty = graph_file(tmp_path / "empty.json", {})
    ((key, message),) = problems(inputs, skill_it={"every": 2, "graph": empty})
    assert (key, "the mixture would never change" in message) == ("skill_it.graph", True)
    corpus = CorpusConfig.model_validate({"domain": [{"path": n, "part": n} for n in ("notes", "papers")]})
    asked = config_of(skill_it={"every": 2, "graph": other})
    found = PRETRAIN.check_environment(asked, Environment(), {"corpus": [corpus]})
    assert [problem.key for problem in found] == ["skill_it.graph"]


def test_every_skill_needs_held_out_text(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """One document is too little to hold one out: its loss is not known unless nobody needs it."""
    from tiny import clinical_texts

    corpus = make_parted_corpus(inputs["model"], tmp_path, notes=clinical_texts(), papers=["a paper " * 300])
    alone = {**inputs, "corpus": corpus}
    ((key, message),) = problems(alone)
    assert (key, "the loss of papers cannot be measured" in message) == ("skill_it", True)
    graph = graph_file(tmp_path / "skills.json", {"papers": {"notes": 1.0}})
    assert problems(alone, skill_it={"every": 2, "graph": graph}) == []


def test_all_parts_together_need_enough_text(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    text = read_index(inputs["corpus"].path("corpus")).sources["domain"].splits["train"].tokens
    ((key, message),) = problems(inputs, tokens=round(1.1 * text), epochs=1)
    assert (key, "notes, papers have" in message) == ("epochs", True)
    settings = PLAIN | {"tokens": round(0.9 * text), "epochs": 1, "skill_it": {"every": 2, "eta": 1.0}}
    assert problems(inputs, **settings) == []
    metrics = run_stage(PRETRAIN, settings, inputs, tmp_path)
    epochs = [part["epochs"] for part in metrics["ledger"]["domain"]["parts"].values()]
    assert max(epochs) <= 1
    assert max(epochs) > 0.9


def test_a_domain_in_one_piece_has_no_skills(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    whole = {**inputs, "corpus": make_corpus(inputs["model"], tmp_path)}
    found = problems(whole, mixture={"temperature": 1})
    assert (
        "mixture",
        "online mixing needs two parts of the domain or more: the domain has no parts",
    ) in found
