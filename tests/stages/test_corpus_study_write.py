"""The corpus stage with study texts that a model writes: from the recipe to the corpus, and its checks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY, StandIn, completion, documents, good_answer, serving
from stage_runs import Heard, model_artifact, run_stage
from tiny import write_jsonl

from cpt.corpus import read_documents, read_index
from cpt.corpus.recall import read_recall
from cpt.errors import StageFailed
from cpt.recipe.fingerprint import config_data
from cpt.recipe.load import load
from cpt.recipe.plan import make_plan
from cpt.recipe.runner import run
from cpt.recipe.store import Store
from cpt.sources import DOMAIN, QUESTIONS, READING
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE, CorpusConfig


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with serving(good_answer) as stand_in:
        yield stand_in


@pytest.fixture
def long_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with positions enough for prompts."""
    folder = tmp_path / "long"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    return folder


TERMS = (
    ("Bog", "wet ground in which plants turn into peat"),
    ("Due", "money that is paid for passing a lock"),
    ("Lock", "a chamber in which boats are lifted"),
    ("Source", "the place where a river begins"),
)
"""Short documents that the glossary miner reads and no model writes about."""


def settings(tmp_path: Path, **write: Any) -> dict[str, Any]:
    glossaries = ["\n".join(f"{term}{number}: {said}." for term, said in TERMS) for number in range(8)]
    texts = [*(document.text for document in documents(60)), *glossaries]
    domain = write_jsonl(tmp_path / "domain.jsonl", texts)
    return {
        "domain": [{"path": str(domain)}],
        "heldout": 0.1,
        "heldout_min": {"documents": 2, "bytes": 100},
        "sequence_length": 96,
        "study": {"miners": ["glossary"], "write": {"tokens": 10**6, **write}},
    }


def at(server: StandIn, **write: Any) -> dict[str, Any]:
    return {"model": server.address, "name": "writer-8b", "key_variable": "OPENAI_API_KEY", **write}


def made(base: Artifact, folder: Path, config: dict[str, Any], **more: Any) -> tuple[Path, dict[str, Any]]:
    metrics = run_stage(STAGE, config, {"model": base}, folder, **more)
    return folder / "output" / "corpus", metrics


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Artifact:
    return model_artifact("base", tiny_model, tmp_path)


def test_written_texts_and_questions_become_study_documents(
    base: Artifact, tmp_path: Path, server: StandIn
) -> None:
    kinds = ["rephrase", "questions", "strategies", "refine"]
    corpus, metrics = made(base, tmp_path / "made", settings(tmp_path, **at(server, kinds=kinds)))
    train = list(read_documents(corpus, DOMAIN, "train"))
    written = [each for each in train if each.source == "study.written"]
    assert {each.part for each in written} == {READING}
    assert {each.id.split(":")[1] for each in written} == {"rephrase", "strategies", "refine"}
    facts = metrics["study"]["written"]
    assert facts["model"] == "writer-8b"
    assert facts["kinds"]["rephrase"]["used"] == facts["passages"]
    counts = read_index(corpus).sources[DOMAIN]
    assert counts.listed["study.written"].documents_in >= len(written) > 0
    own = {each.text for each in train if each.part == "documents" and "rises" in each.text}
    assert own <= {each.text for each in documents(60)}  # refined ones stay as they are
    assert metrics["study"]["items"]["write"]["text"] > 0


def test_questions_are_trained_on_or_probed_and_never_both(
    base: Artifact, tmp_path: Path, server: StandIn
) -> None:
    corpus, _ = made(base, tmp_path / "made", settings(tmp_path, **at(server, kinds=["questions"])))
    train = list(read_documents(corpus, DOMAIN, "train"))
    asked = "\n".join(each.text for each in train if each.part == QUESTIONS)
    probes = read_recall(corpus)
    written = {
        group: [each for each in items if each.task.startswith("write.")] for group, items in probes.items()
    }
    assert written["trained"]
    assert written["untrained"]
    for each in written["untrained"]:
        assert each.fact not in asked.casefold()
    for each in written["trained"]:
        assert each.fact in asked.casefold()
    assert all(
        each.question.casefold() not in asked.casefold() for items in written.values() for each in items
    )
    held_out = {each.text for each in read_documents(corpus, DOMAIN, "heldout")}
    assert not any(text in prompt for prompt in server.prompts for text in held_out)


def test_another_corpus_of_the_run_asks_for_nothing_again(
    base: Artifact, tmp_path: Path, server: StandIn
) -> None:
    config, shared = settings(tmp_path, **at(server)), tmp_path / "shared"
    first, _ = made(base, tmp_path / "first", config, shared=shared)
    server.bodies.clear()
    second, _ = made(base, tmp_path / "second", config | {"sequence_length": 64}, shared=shared)
    assert server.bodies == []
    texts = [[each.text for each in read_documents(corpus, DOMAIN, "train")] for corpus in (first, second)]
    assert texts[0] == texts[1]


def test_the_key_is_in_no_file_and_no_message(base: Artifact, tmp_path: Path, server: StandIn) -> None:
    heard, folder = Heard(), tmp_path / "made"
    _, metrics = made(base, folder, settings(tmp_path, **at(server)), progress=heard)
    assert any(f"Bearer {KEY}" in headers.values() for headers in server.headers)
    assert KEY not in json.dumps(metrics) + "".join(heard.messages)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any("written" in path.parts for path in files)
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_a_low_yield_stops_the_stage(base: Artifact, tmp_path: Path, server: StandIn) -> None:
    server.reply = lambda body: completion("I cannot do that.")
    heard = Heard()
    with pytest.raises(StageFailed, match="least_yield"):
        made(base, tmp_path / "made", settings(tmp_path, **at(server)), progress=heard)
    assert len(server.bodies) == 3 * 16
    assert any("of the first 16 passages" in message for message in heard.messages)


def test_the_base_itself_can_write(tmp_path: Path, long_model: Path) -> None:
    base = model_artifact("base", long_model, tmp_path)
    config = settings(tmp_path, documents=2, kinds=["refine"], least_yield=0, temperature=0)
    _, metrics = made(base, tmp_path / "made", config)
    facts = metrics["study"]["written"]
    assert (facts["model"], facts["requests"]) == ("the base", 2)
    assert facts["tokens"]["read"] > 0
    assert facts["kinds"]["refine"]["used"] == 0  # it has learnt nothing yet


def recipe(tmp_path: Path, base: Path, **write: Any) -> Path:
    file = tmp_path / "recipe.yaml"
    stages = [{"corpus": settings(tmp_path, **write)}]
    file.write_text(json.dumps({"name": "rivers", "base": str(base), "stages": stages}))
    return file


def test_a_recipe_may_name_a_model_by_its_path(tmp_path: Path, tiny_model: Path, long_model: Path) -> None:
    file = recipe(tmp_path, tiny_model, model="./long", documents=1, kinds=["refine"], least_yield=0)
    loaded = load(file)
    assert loaded.steps[0].references["./long"] == str(long_model)
    summary = run(loaded, tmp_path / "runs")
    assert summary.artifacts["corpus"].metrics["study"]["written"]["model"] == str(long_model)


def test_a_plan_shows_the_cost_and_asks_nobody(tmp_path: Path, tiny_model: Path, server: StandIn) -> None:
    file = recipe(tmp_path, tiny_model, **at(server, kinds=["rephrase"], price_per_million=[1, 2]))
    plan = make_plan(load(file), Store(tmp_path / "runs" / "rivers"))
    assert "about 68 requests to writer-8b: " in plan.entries[0].forecast
    assert "written, at your prices 0.0" in plan.entries[0].forecast
    assert server.bodies == []


def problems(write: dict[str, Any]) -> dict[str | None, str]:
    config = CorpusConfig.model_validate(
        {"domain": [{"path": "a.jsonl"}], "study": {"write": {"tokens": 9, **write}}}
    )
    return {problem.key: problem.message for problem in STAGE.check(config, {})}


def test_what_is_missing_is_found_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "languages" / "xx").mkdir(parents=True)  # a language with no prompts for a model
    monkeypatch.setattr("cpt.corpus.study.language.FOLDER", tmp_path / "languages")
    unprompted = CorpusConfig.model_validate(
        {"domain": [{"path": "a.jsonl"}], "study": {"language": "xx", "write": {"tokens": 9}}}
    )
    assert "study.language" in {problem.key for problem in STAGE.check(unprompted, {})}
    monkeypatch.undo()
    assert "vllm" in problems({"engine": "vllm"})["study.write.engine"]
    (tmp_path / "empty").mkdir()
    assert "study.write.model" in problems({"model": str(tmp_path / "empty")})
    monkeypatch.setattr("cpt.corpus.study.write.endpoint.CLIENTS", ("no_such_client",))
    assert "HTTP client" in problems({"model": "http://localhost/v1", "name": "x"})["study.write.model"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"price_per_million": [0.1, 0.4]}, True),
        ({"timeout": 9}, True),
        ({"at_once": 3}, True),
        ({"key_variable": "MINE"}, True),
        ({"model": "https://example.org/v2"}, False),
        ({"name": "writer-70b"}, False),
        ({"temperature": 0.1}, False),
        ({"tokens": 999}, False),
    ],
    ids=str,
)
def test_what_only_shows_or_transports_makes_no_other_corpus(changed: dict[str, Any], same: bool) -> None:
    write = {"model": "https://example.org/v1", "name": "writer-8b", "tokens": 1000}

    def data(**more: Any) -> dict[str, Any]:
        study = {"write": write | more}
        return config_data(CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "study": study}))

    assert (data(**changed) == data()) == same
    assert {"model", "name", "tokens", "fields"} < set(data()["study"]["write"])
    assert data().keys() == config_data(CorpusConfig.model_validate({"domain": [{"path": "a"}]})).keys()
