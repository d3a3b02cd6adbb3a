"""Parts of the domain read by weight: shards, plans, caps, phases, gates, resumed and continued trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from stage_runs import Heard, artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.corpus import open_source, read_documents, read_index, retokenise
from cpt.corpus.tokenise import part_names
from cpt.errors import DataError, GateFailed
from cpt.estimate.job import Job
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.data import planned, stream_of
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment

MONITOR = {"every": 50, "probe_share": None, "samples": None, "early_end": None, "weights": {"every": 2}}
PLAIN = {"batch_sequences": 4, "checkpoint": {"every": 50}, "monitor": MONITOR}
PHASES = [
    {"until": "75%", "weights": {"notes": 3, "papers": 1}},
    {"weights": {"notes": 0, "papers": 1}, "replay": 0.5},
]
MORE = {"limit": "weights <= 0", "action": "raise-replay", "most": 0.75}


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A domain of two parts, of which one repeats a text of the other, and replay text of two parts."""
    folder = tmp_path_factory.mktemp("corpus")
    base = model_artifact("base", tiny_model, folder)
    notes = clinical_texts()
    papers = [*varied_texts(40, "paper "), notes[3]]
    replay = [
        {"name": name, "weight": 1, "sources": [source(folder, name, varied_texts(30, f"{name} "))]}
        for name in ("web", "books")
    ]
    config = {
        "domain": [
            {**source(folder, "notes", notes), "part": "notes"},
            {**source(folder, "papers", papers), "part": "papers"},
        ],
        "replay": {"mixture": replay},
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


@pytest.fixture(scope="module")
def without_parts(inputs: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    config = {"domain": [source(folder, "notes", clinical_texts())], "heldout": 0.1, "sequence_length": 64}
    run_stage(CORPUS, config, {"model": inputs["model"]}, folder / "made")
    return {**inputs, "corpus": artifact("plain", folder / "made" / "output", "corpus")}


def source(folder: Path, name: str, texts: list[str]) -> dict[str, str]:
    return {"path": str(write_jsonl(folder / f"{name}.jsonl", texts))}


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate(PLAIN | settings)


def problems(inputs: Mapping[str, Artifact], **settings: Any) -> list[tuple[str | None, str]]:
    found = PRETRAIN.check(config_of(**settings), inputs)
    return [(problem.key, f"{problem.message} | {problem.hint}") for problem in found]


# the corpus


def test_parts_have_shards_and_counts_of_their_own(inputs: dict[str, Artifact]) -> None:
    corpus = inputs["corpus"].path("corpus")
    assert part_names(corpus, "domain") == ["notes", "papers"]
    assert part_names(corpus, "replay") == ["books", "web"]
    counts = read_index(corpus).sources["domain"]
    assert counts.removed["duplicate"].documents == 1, "a text in two parts stays in the first"
    train = counts.splits["train"]
    for figure in ("documents", "bytes", "tokens", "pieces", "sequences"):
        assert sum(getattr(part, figure) for part in counts.parts.values()) == getattr(train, figure)
    for name, part in counts.parts.items():
        opened = open_source(corpus, f"domain.{name}")
        assert opened.name == opened.sequence(0).source == f"domain.{name}"
        assert (len(opened), opened.sequence_lengths.sum()) == (part.sequences, part.tokens)
        documents = [each for each in read_documents(corpus, "domain", "train") if each.part == name]
        assert len(documents) == part.documents
        assert all(each.text.startswith("paper") == (name == "papers") for each in documents)
    whole = open_source(corpus, "domain")
    assert whole.sequence_lengths.sum() == train.tokens
    assert list(whole.parts) == ["domain.notes", "domain.papers"]


def test_a_corpus_without_parts_has_none(without_parts: dict[str, Artifact]) -> None:
    corpus = without_parts["corpus"].path("corpus")
    assert part_names(corpus, "domain") == []
    assert "parts" not in read_index(corpus).facts()["sources"]["domain"]
    assert [path.name for path in (corpus / "tokens").iterdir()] == ["domain"]


def test_parts_stay_parts_with_another_tokenizer(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    corpus, model = inputs["corpus"].path("corpus"), inputs["model"].path("model")
    retokenise(corpus, model, tmp_path / "new", former=model)
    assert read_index(tmp_path / "new").sources["domain"] == read_index(corpus).sources["domain"]
    for name in ("domain.notes", "domain.papers"):
        before, after = open_source(corpus, name), open_source(tmp_path / "new", name)
        assert np.array_equal(before.sequence_lengths, after.sequence_lengths)


def test_all_sources_have_a_part_or_none_has() -> None:
    with pytest.raises(ValidationError, match=r"b\.txt has no part, and others have"):
        CorpusConfig.model_validate({"domain": [{"path": "a.txt", "part": "a"}, {"path": "b.txt"}]})
    config = CorpusConfig.model_validate({"domain": [{"path": n, "part": n} for n in ("b", "a", "b")]})
    assert config.parts == ["b", "a"]
    assert "the domain in parts: b, a" in CORPUS.forecast(config, {}, {})


def test_a_part_of_which_nothing_is_left_is_named_by_the_corpus_stage(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    notes = clinical_texts()
    config = {
        "domain": [
            {**source(tmp_path, "notes", notes), "part": "notes"},
            {**source(tmp_path, "papers", notes[:3]), "part": "papers"},
        ],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    with pytest.raises(
        DataError, match="part papers of the domain has no training documents: of 3 "
    ) as error:
        run_stage(CORPUS, config, {"model": inputs["model"]}, tmp_path / "made")
    assert "0 were held out, and 3 were removed or are in another part as well" in error.value.message
    assert "duplicate 3" in error.value.message
    assert error.value.hint == "Remove the part papers, or give it more text."


# a training


def test_a_training_reads_parts_by_weight_in_phases(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    settings = PLAIN | {"tokens": 4_000, "mixture": PHASES, "epochs": 4}
    heard = Heard()
    metrics = run_stage(PRETRAIN, settings, inputs, tmp_path, heard)
    ledger, steps = metrics["ledger"], metrics["steps"]
    first, last = metrics["mixture"]
    assert (first["first"], first["steps"], last["first"]) == (0, round(0.75 * steps), round(0.75 * steps))
    rows = {name: row["sequences"] for name, row in first["sources"].items()}
    assert rows["replay"] == 0
    assert rows["domain.notes"] + rows["domain.papers"] == 4 * first["steps"]
    assert abs(rows["domain.notes"] - 3 * first["steps"]) < 1
    rows = {name: row["sequences"] for name, row in last["sources"].items()}
    assert rows == {"domain.notes": 0, "domain.papers": 2 * last["steps"], "replay": 2 * last["steps"]}
    domain = ledger["domain"]
    for figure in ("sequences", "tokens"):
        assert sum(part[figure] for part in domain["parts"].values()) == domain[figure]
        for name, part in domain["parts"].items():
            assert part[figure] == sum(phase["sources"][name][figure] for phase in metrics["mixture"])
    assert set(ledger["replay"]["parts"]) == {"replay.books", "replay.web"}
    assert domain["epochs"] == pytest.approx(
        domain["sequences"] / len(open_source(inputs["corpus"].path("corpus"), "domain"))
    )
    log = (tmp_path / "output/training/steps.jsonl").read_text().splitlines()
    assert set(json.loads(log[-1])["sources"]) == {"domain.notes", "domain.papers", "replay"}
    assert not any("is read" in message for message in heard.messages)


def test_a_gate_raises_replay_within_phases(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    phases = [{"until": 0.5, "temperature": 1}, {"temperature": 5, "replay": 0.25}]
    settings = PLAIN | {"tokens": 5_000, "mixture": phases, "epochs": 4, "gates": [MORE]}
    with pytest.raises(GateFailed) as failed:
        run_stage(PRETRAIN, settings, inputs, tmp_path)
    metrics = failed.value.metrics
    actions = (tmp_path / "output/training/actions.jsonl").read_text().splitlines()
    raised = [json.loads(action) for action in actions]
    assert raised[0]["from"] == 0.0
    assert max(action["to"] for action in raised) == 0.75
    log = [json.loads(line) for line in (tmp_path / "output/training/steps.jsonl").read_text().splitlines()]
    assert log[-1]["replay_share"] == 0.75
    shares = [line["replay_share"] for line in log]
    assert 4 * sum(shares) == metrics["ledger"]["replay"]["sequences"], "each line is about its own step"
    ledger, steps = metrics["ledger"], metrics["steps"]
    assert ledger["domain"]["sequences"] + ledger["replay"]["sequences"] == 4 * steps
    assert ledger["replay"]["sequences"] > steps  # more than both phases' own shares would give


def test_without_parts_a_mixture_changes_replay_by_phase(without_parts, inputs, tmp_path: Path) -> None:
    config = config_of(tokens=2_000, replay=0.25, mixture=[{"until": 0.5}, {"replay": 0.5}], epochs=9)
    assert problems(without_parts, **config.model_dump(include={"replay", "mixture"}))[0][0] == "replay"
    stream, steps = planned(config, inputs, seed=0)
    halves = [stream.rows(0)["replay"], stream.rows(steps - 1)["replay"]]
    assert halves == [1, 2]


def test_parts_without_a_mixture_are_read_as_one_text(inputs: dict[str, Artifact]) -> None:
    stream, steps = planned(config_of(), inputs, seed=3)
    assert stream.domain_sources == ("domain",)
    assert set(stream.parts(steps)["domain"]) == {"domain.notes", "domain.papers"}
    assert "parts of domain: notes (" in PRETRAIN.forecast(config_of(), inputs, {})


def test_temperature_divides_by_the_sizes_of_parts(inputs: dict[str, Artifact]) -> None:
    corpus = inputs["corpus"].path("corpus")
    sizes = {name: len(open_source(corpus, f"domain.{name}")) for name in ("notes", "papers")}
    for temperature in (1, 2, 5):
        stream = stream_of(config_of(mixture={"temperature": temperature}), corpus, 0)
        counts = {name: stream.consumed(500)[f"domain.{name}"] for name in sizes}
        powers = {name: size ** (1 / temperature) for name, size in sizes.items()}
        for name in sizes:
            share = powers[name] / sum(powers.values())
            assert counts[name] == pytest.approx(share * 2_000, abs=1)


def test_without_tokens_a_run_ends_before_a_part_is_read_too_often(inputs: dict[str, Artifact]) -> None:
    for epochs in (1, {"notes": 2, "papers": 3}, {"papers": 2}):
        config = config_of(mixture={"weights": {"notes": 1, "papers": 2}}, epochs=epochs)
        assert PRETRAIN.check(config, inputs) == []
        stream, steps = planned(config, inputs, seed=0)
        bounds = epochs if isinstance(epochs, dict) else dict.fromkeys(("notes", "papers"), epochs)
        read = {name: stream.epochs(steps, f"domain.{name}") for name in ("notes", "papers")}
        assert all(read[name] <= bounds.get(name, 1) for name in read)
        over = {name: stream.epochs(steps + 1, f"domain.{name}") for name in read}
        assert any(over[name] > bounds.get(name, 1) for name in over)


# plans and problems


def test_the_plan_tells_tokens_and_epochs_by_phase_and_part(inputs: dict[str, Artifact]) -> None:
    config = config_of(tokens=4_000, mixture=PHASES, epochs=4)
    words = PRETRAIN.forecast(config, inputs, {})
    stream, steps = planned(config, inputs, seed=0)
    boundary = round(0.75 * steps)
    first, last = stream.by_phase(steps)
    notes, papers = (first["sources"][f"domain.{name}"] for name in ("notes", "papers"))
    expected = f"steps 1 to {boundary}: notes 75% of the domain ({notes['tokens']:,} tokens, "
    assert expected + f"{notes['epochs']:.3g} times), papers 25%" in words
    assert f"({papers['tokens']:,} tokens, {papers['epochs']:.3g} times)" in words
    replay = last["sources"]["replay"]["tokens"]
    assert f"steps {boundary + 1} to {steps}: notes 0% of the domain (0 tokens" in words
    assert f"replay 50% ({replay:,} tokens" in words
    assert "parts of replay: books (" in words
    unknown = PRETRAIN.forecast(config, {}, {})
    assert "notes 75%, papers 25% until 75%; then notes 0%, papers 100%, replay 50% until 100%" in unknown


def test_a_plan_and_a_run_warn_of_text_that_is_read_more_than_four_times(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    mixture = {"weights": {"notes": 0, "papers": 1}}
    config = config_of(mixture=mixture, epochs=5)
    stream, steps = planned(config, inputs, seed=0)
    warning = f"papers is read {stream.epochs(steps, 'domain.papers'):.1f} times: repeats beyond 4 teach"
    assert warning in PRETRAIN.forecast(config, inputs, {})
    assert "is read" not in PRETRAIN.forecast(config_of(mixture=mixture, epochs=4), inputs, {})
    heard = Heard()
    run_stage(
        PRETRAIN, PLAIN | {"mixture": mixture, "epochs": 5, "batch_sequences": 16}, inputs, tmp_path, heard
    )
    assert any(message.startswith("papers is read") for message in heard.messages)


def test_a_part_that_would_be_read_too_often_is_named_with_what_to_change(
    inputs: dict[str, Artifact],
) -> None:
    settings = {"tokens": 6_000, "mixture": {"weights": {"notes": 1, "papers": 9}}}
    ((key, text),) = problems(inputs, **settings)
    size = len(open_source(inputs["corpus"].path("corpus"), "domain.papers"))
    assert key == "epochs"
    assert f"papers has {size} sequences, and " in text
    assert "times, more than 1" in text
    assert "Give papers less weight, or train on at most" in text
    tokens = int(text.split("at most ")[1].split(" tokens")[0].replace(",", ""))
    assert problems(inputs, **settings | {"tokens": tokens - 300}) == []
    epochs = float(text.split("epochs: {papers: ")[1].split("}")[0])
    assert problems(inputs, **settings | {"epochs": {"papers": epochs}}) == []


def test_a_gate_that_may_lower_replay_counts_in_the_caps(inputs: dict[str, Artifact]) -> None:
    mixture = {"weights": {"notes": 1, "papers": 1}, "replay": 0.5}
    config = config_of(mixture=mixture)
    least = MORE | {"limit": "weights <= 0.1", "least": 0.25}
    assert problems(inputs, **config.model_dump(include={"mixture"})) == []
    ((key, text),) = problems(inputs, mixture=mixture, gates=[least])
    assert key == "epochs"
    assert "with as little replay as a gate allows" in text
    tokens = int(text.split("at most ")[1].split(" tokens")[0].replace(",", ""))
    assert problems(inputs, mixture=mixture, gates=[least], tokens=tokens) == []
    phases = [{**mixture, "until": 0.5}, {**mixture, "replay": 0.75}]
    (*_, (_, text)) = problems(inputs, mixture=phases, gates=[least])
    tokens = int(text.split("at most ")[1].split(" tokens")[0].replace(",", ""))
    assert problems(inputs, mixture=phases, gates=[least], tokens=tokens) == []


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"most": 0.5}, []),
        ({"most": 0.25}, ["gates.0.most"]),
        ({"most": 0.9, "least": 0.5}, []),
        ({"most": 0.9, "least": 0.75}, ["gates.0.least"]),
    ],
)
def test_bounds_of_gates_are_compared_with_every_phase(
    inputs: dict[str, Artifact], bounds: dict[str, float], words: list[str]
) -> None:
    gate = MORE | {"limit": "weights <= 0.1"} | bounds
    for shares in ((0.25, 0.75), (0.75, 0.25)):
        mixture = [{"until": 0.5, "replay": shares[0]}, {"replay": shares[1]}]
        found = problems(inputs, tokens=1_000, epochs=9, mixture=mixture, gates=[gate])
        assert [key for key, _ in found] == words


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"mixture": {"weights": {"notes": 1}}}, "mixture.weights", "papers has no weight"),
        (
            {"mixture": {"weights": {"notes": 1, "papers": 1, "web": 2}}},
            "mixture.weights",
            "no part is called web (its parts are notes, papers)",
        ),
        (
            {"mixture": {"temperature": 2}, "epochs": {"web": 2}},
            "epochs",
            "no part is called web",
        ),
        (
            {"tokens": 600, "mixture": [{"until": 0.01, "temperature": 1}, {"temperature": 2}]},
            "mixture.0",
            "the phase until 0.01 has none of the 3 steps",
        ),
        ({"mixture": [{"until": 0.5, "replay": 0.01}, {}]}, "mixture.0.replay", "rounds to none"),
    ],
)
def test_what_does_not_fit_the_parts_is_found_before_running(
    inputs: dict[str, Artifact], settings: dict[str, Any], key: str, words: str
) -> None:
    found = problems(inputs, **settings)
    assert found[0][0] == key
    assert words in found[0][1]


def test_parts_are_checked_before_the_corpus_is_made(without_parts: dict[str, Artifact]) -> None:
    config = config_of(mixture={"weights": {"notes": 1, "papers": 1}})
    corpus = CorpusConfig.model_validate({"domain": [{"path": "a"}]})
    (problem,) = PRETRAIN.check_environment(config, Environment(), {"corpus": [corpus]})
    assert (problem.key, "it has no parts" in problem.message) == ("mixture.weights", True)
    assert problems(without_parts, mixture={"weights": {"notes": 1, "papers": 1}})[0][0] == "mixture.weights"
    assert problems(without_parts, mixture={"temperature": 2})[0][0] == "mixture.temperature"


def test_a_mixture_that_changes_nothing_is_refused(
    inputs: dict[str, Artifact], without_parts: dict[str, Artifact]
) -> None:
    ((key, text),) = problems(without_parts, mixture={})
    assert (key, "the mixture changes nothing" in text) == ("mixture", True)
    assert problems(without_parts, mixture=[{"until": 0.5}, {}])[0][0] == "mixture"
    assert problems(inputs, mixture={}) == []


def test_sub_batches_are_the_largest_of_all_phases() -> None:
    settings: Any = SimpleNamespace(micro_batch=4)
    job = Job(None, settings, ((8,),) * 4, replay_rows=3, fewest_replay_rows=1)
    assert job.sub_batches == {"domain": (8,) * 3, "replay": (8,) * 3}


def test_a_continued_training_goes_on_in_every_part(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    mixture = {"weights": {"notes": 1, "papers": 1}}
    first = run_stage(PRETRAIN, PLAIN | {"tokens": 700, "mixture": mixture}, inputs, tmp_path / "first")
    made = artifact("first", tmp_path / "first" / "output", "model", "training")
    made = made.model_copy(update={"parents": {"corpus": inputs["corpus"].fingerprint}})
    later = {**inputs, "model": made}
    more = {"from": "first", "start": {}, "tokens": 700, "mixture": {"weights": {"notes": 3, "papers": 1}}}
    stream, _ = planned(config_of(**more), later, seed=0)
    parts = first["ledger"]["domain"]["parts"]
    assert stream.consumed(0) == {name: row["sequences"] for name, row in parts.items()}
    ((key, text),) = problems(later, **{**more, "mixture": None})
    assert key == "start.data"
    assert "read the domain in parts, and this one reads it as one text" in text
    assert problems(later, **{**more, "mixture": None, "start": {"data": "again"}}) == []
