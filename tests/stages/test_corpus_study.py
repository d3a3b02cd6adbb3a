"""Study documents in the corpus stage: parts of the domain, counts, loss weights, the recall probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_runs import byte_model, problems, records, run, write
from invented import LINES, definition, glossary_text, ontology, term
from pydantic import ValidationError

from cpt.corpus import open_source, read_documents, read_index
from cpt.corpus.examples import read_examples
from cpt.corpus.recall import read_recall
from cpt.corpus.study.items import fact_key
from cpt.corpus.study.questions import prompts_and_answers
from cpt.corpus.texts import iterate_texts
from cpt.corpus.tokenise import part_names
from cpt.errors import DataError, RecipeError
from cpt.recipe.load import load
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig

STUDY = {"miners": ["glossary"], "forms": 2}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    return byte_model(tmp_path)


def glossaries(tmp_path: Path) -> dict[str, Any]:
    """Eighty documents, each with five terms of its own."""
    return write(tmp_path / "glossaries.jsonl", *map(glossary_text, range(80)))


def test_study_documents_are_parts_of_the_domain(base: Artifact, tmp_path: Path) -> None:
    corpus, metrics, heard = run(base, tmp_path, domain=[glossaries(tmp_path)], study=STUDY)
    assert part_names(corpus, "domain") == ["documents", "questions", "reading"]
    index = read_index(corpus).sources["domain"]
    parts = index.parts
    assert parts["questions"].tokens_without_loss > 0
    assert parts["documents"].tokens_without_loss == parts["reading"].tokens_without_loss == 0
    assert index.listed["study.reading"].documents_in == parts["reading"].documents
    assert index.listed["study.questions"].documents_in == parts["questions"].documents
    assert index.documents_in == 80 + parts["reading"].documents + parts["questions"].documents
    assert metrics["study"]["facts"] == 5 * parts["documents"].documents
    assert any(message.startswith("study: ") for message in heard)
    questions = open_source(corpus, "domain.questions").sequence(0)
    assert questions.weights is not None
    assert set(questions.weights.tolist()) == {0.0, 1.0}


def test_new_tokens_are_learnt_from_the_documents_alone(base: Artifact, tmp_path: Path) -> None:
    corpus, _, _ = run(base, tmp_path, domain=[glossaries(tmp_path)], study=STUDY)
    documents = [each for each in read_documents(corpus, "domain", "train") if each.part == "documents"]
    assert list(iterate_texts(corpus, "domain", "train")) == [each.text for each in documents]


def test_the_recall_probe_asks_for_trained_untrained_and_absent_facts(base: Artifact, tmp_path: Path) -> None:
    corpus, metrics, _ = run(base, tmp_path, domain=[glossaries(tmp_path)], study=STUDY | {"probe": 20})
    probe = read_recall(corpus)
    assert {group: len(items) for group, items in probe.items()} == metrics["study"]["probe"]
    assert set(probe) == {"trained", "untrained", "reversed", "absent"}
    train = "\n".join(each.text for each in read_documents(corpus, "domain", "train"))
    for item in probe["absent"]:
        assert item.fact not in train
    asked = "\n".join(
        each.text for each in read_documents(corpus, "domain", "train") if each.part == "questions"
    )
    for group, is_asked in (("trained", True), ("untrained", False), ("reversed", False)):
        for item in probe[group]:
            assert (f"{item.fact}\n" in asked or item.fact in asked.split("\n\n")) in (is_asked, is_asked)
    none, _, _ = run(base, tmp_path, "none", domain=[glossaries(tmp_path)], study=STUDY | {"probe": 0})
    assert read_recall(none) == {}


def test_what_the_probe_calls_trained_was_an_answer_in_training(base: Artifact, tmp_path: Path) -> None:
    """Also where questions are few, and where benchmark items have taken some away."""
    probed = []
    how: dict[str, Any] = {}
    for out in ("few", "clean"):
        study = STUDY | {"forms": 1, "probe": 500}
        corpus, _, _ = run(base, tmp_path, out, domain=[glossaries(tmp_path)], study=study, **how)
        documents = read_documents(corpus, "domain", "train")
        made = [each for each in documents if each.part == "questions"]
        asked = [pair for document in made for pair in prompts_and_answers(document)]
        trained = read_recall(corpus)["trained"]
        assert {item.choices[item.answer] for item in trained} <= {answer for _, answer in asked}
        probed.append(len(trained))
        items = write(tmp_path / "items.jsonl", *(prompt for prompt, _ in asked[:60]))["path"]
        how = {"decontaminate": {"files": [items], "ngram": 9}}  # of nine words six are a definition
    assert probed[0] > probed[1] > 0


def test_facts_that_replay_asks_for_are_not_probed(base: Artifact, tmp_path: Path) -> None:
    general = write(
        tmp_path / "general.jsonl", *(glossary_text(n).replace("Mills", "Wheels") for n in range(30))
    )
    other = write(tmp_path / "other.jsonl", *(f"plain text number {number}" for number in range(300)))
    mixture = [
        {"name": "text", "weight": 1, "sources": [other]},
        {"name": "tasks", "weight": 1, "sources": [general], "study": {"miners": ["glossary"]}},
    ]
    study = STUDY | {"probe": 500}
    alone, _, _ = run(base, tmp_path, "alone", domain=[glossaries(tmp_path)], study=study)
    corpus, _, _ = run(
        base, tmp_path, domain=[glossaries(tmp_path)], study=study, replay={"mixture": mixture}
    )
    asked = {fact_key(term(number, line)) for number in range(30) for line in range(LINES)}
    for group, items in read_recall(alone).items():
        named = {item.fact for item in items} & asked
        assert named
        kept = {item.fact for item in read_recall(corpus)[group]}
        assert kept == {item.fact for item in items} - (named if group != "trained" else set())


def test_settings_of_study_change_what_is_made(base: Artifact, tmp_path: Path) -> None:
    def parts(out: str, **changes: Any) -> dict[str, Any]:
        corpus, _, _ = run(base, tmp_path, out, domain=[glossaries(tmp_path)], study=STUDY | changes)
        return read_index(corpus).sources["domain"].parts

    plain = parts("plain")
    assert parts("all", trained=1)["questions"].bytes > 1.5 * plain["questions"].bytes
    with pytest.raises(DataError, match="no question or task was found"):
        parts("nothing", trained=0)
    assert parts("forms", forms=6)["questions"].bytes > 2 * plain["questions"].bytes
    assert parts("short", passage=200)["reading"].documents > plain["reading"].documents
    texts = [f"Mill {number} grinds. It is old. It stands still. Nobody comes." for number in range(60)]
    long = write(tmp_path / "long.jsonl", *texts)
    shuffled, _, _ = run(
        base, tmp_path, "shuffled", domain=[glossaries(tmp_path), long], study=STUDY | {"shuffle": True}
    )
    assert part_names(shuffled, "domain") == ["documents", "questions", "reading", "shuffled"]
    assert parts("one", tasks=1)["reading"].bytes < plain["reading"].bytes


def test_ontologies_are_asked_about_and_stand_in_no_document(base: Artifact, tmp_path: Path) -> None:
    study = STUDY | {"ontologies": [str(ontology(tmp_path / "mills.obo", 60))], "trained": 1}
    corpus, metrics, _ = run(base, tmp_path, domain=[glossaries(tmp_path)], study=study)
    assert metrics["study"]["items"]["ontology"]["define"] >= 59
    texts = {
        part: "\n".join(each.text for each in read_documents(corpus, "domain", "train") if each.part == part)
        for part in ("questions", "documents", "reading")
    }
    assert "brolum mill" in texts["questions"]
    assert "brolum mill" not in texts["documents"] + texts["reading"]
    few, drawn, _ = run(
        base, tmp_path, "few", domain=[glossaries(tmp_path)], study=study | {"ontology_terms": 10}
    )
    assert drawn["study"]["facts"] == metrics["study"]["facts"] - 50
    assert few.exists()


def test_general_text_becomes_replay_in_instruction_form(base: Artifact, tmp_path: Path) -> None:
    general = write(tmp_path / "general.jsonl", *map(glossary_text, range(100, 160)))
    plain = write(
        tmp_path / "plain.jsonl", *(f"plain text number {number} of its kind" for number in range(300))
    )
    mixture = [
        {"name": "text", "weight": 1, "sources": [plain]},
        {"name": "tasks", "weight": 1, "sources": [general], "study": {"miners": ["glossary"], "forms": 2}},
    ]
    corpus, _, heard = run(base, tmp_path, domain=[glossaries(tmp_path)], replay={"mixture": mixture})
    documents = list(read_documents(corpus, "replay.tasks", "train"))
    assert all(each.source.startswith("study.") for each in documents)
    asked = [each for each in documents if each.loss_weights]
    assert asked
    assert all(not each.part for each in documents)
    counts = read_index(corpus).sources["replay.tasks"]
    assert counts.removed["studied"].documents == 60
    assert counts.splits["train"].tokens_without_loss > 0
    assert any("replay.tasks, made into study documents" in message for message in heard)
    other = write(tmp_path / "other.jsonl", *(f"other text number {number}" for number in range(300)))
    none = [mixture[0], mixture[1] | {"sources": [other]}]
    with pytest.raises(DataError, match="no question or task was found"):
        run(base, tmp_path, "none", domain=[glossaries(tmp_path)], replay={"mixture": none})


def test_sampled_text_is_not_studied() -> None:
    part = {"name": "own", "weight": 1, "self_generated": {"tokens": 100}, "study": {}}
    with pytest.raises(ValidationError, match="study needs sources"):
        CorpusConfig.model_validate(
            {"domain": [{"path": "a.jsonl"}], "replay": {"mixture": [part, part | {"name": "b"}]}}
        )


def test_benchmark_items_are_searched_in_study_documents_too(base: Artifact, tmp_path: Path) -> None:
    items = write(tmp_path / "items.jsonl", f"A {term(3, 2)} is {definition(3, 2)}")["path"]
    how = {"files": [items], "ngram": 5}
    corpus, metrics, _ = run(
        base, tmp_path, domain=[glossaries(tmp_path)], study=STUDY | {"trained": 1}, decontaminate=how
    )
    for document in read_documents(corpus, "domain", "train"):
        assert definition(3, 2) not in document.text
    assert "decontamination" in metrics["study"]


def test_a_short_benchmark_item_is_not_asked_and_is_counted(base: Artifact, tmp_path: Path) -> None:
    """In questions, in reading tasks and in replay; an n-gram of 13 words finds none of them."""
    short = [{"q": f"Question: What is {term(n, 2)}?", "a": definition(n, 2).title()} for n in (3, 4, 130)]
    long = {"q": " ".join(definition(n, 0) for n in range(900, 903)), "a": "yes"}
    how = {"decontaminate": {"files": [records(tmp_path / "items.jsonl", *short, long)]}}
    general = write(tmp_path / "general.jsonl", *map(glossary_text, range(100, 160)))
    plain = write(tmp_path / "plain.jsonl", *(f"plain text number {number}" for number in range(300)))
    mixture = [
        {"name": "text", "weight": 1, "sources": [plain]},
        {"name": "tasks", "weight": 99, "sources": [general], "study": {"miners": ["glossary"], "forms": 99}},
    ]
    settings: dict[str, Any] = {
        "domain": [glossaries(tmp_path)],
        "heldout": 0.02,
        "study": STUDY | {"trained": 1, "forms": 99, "tasks": 9},
        "replay": {"mixture": mixture},
    }
    asked, found, messages = [], [], []
    for name, more in (("without", {}), ("with", how)):
        corpus, metrics, heard = run(base, tmp_path, name, **settings, **more)
        documents = [
            *read_documents(corpus, "domain", "train"),
            *read_documents(corpus, "replay.tasks", "train"),
        ]
        texts = [each.text for each in documents if each.source.startswith("study.")]
        asked.append([sum(f"What is {term(n, 2)}?" in text for text in texts) for n in (3, 4, 130, 5)])
        reverse = sum(f"{definition(3, 2)}" in text for text in texts)
        found.append((metrics.get("same_question"), reverse > 0))
        messages.append(heard)
    path = how["decontaminate"]["files"][0]
    assert all(asked[0])
    assert asked[1] == [0, 0, 0, asked[0][3]]
    assert found == [(None, True), ({"replay.tasks": {path: 1}, "domain": {path: 2}}, True)]
    said = f"domain: study items left out, as a benchmark asks the same with the same answer: {path} 2"
    assert said in messages[1]
    shown = [each for each in read_examples(tmp_path / "with" / "corpus") if each.block == "same_question"]
    assert sorted((each.source, each.detail) for each in shown) == [
        ("domain", f"{path}, item 1"),
        ("domain", f"{path}, item 2"),
        ("replay.tasks", f"{path}, item 3"),
    ]


def test_a_domain_without_questions_is_an_error(base: Artifact, tmp_path: Path) -> None:
    texts = write(tmp_path / "plain.jsonl", *(f"plain text {number}" for number in range(80)))
    with pytest.raises(DataError, match="no question or task was found"):
        run(base, tmp_path, domain=[texts], study=STUDY)


def test_parts_that_study_makes_are_taken() -> None:
    source = {"path": "a.jsonl", "part": "questions"}
    with pytest.raises(ValidationError, match="the part questions is made by `study`"):
        CorpusConfig.model_validate({"domain": [source], "study": STUDY})
    named = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl", "part": "books"}], "study": STUDY})
    assert named.parts == ["books", "reading", "questions"]
    open_only = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "study": {"miners": ["order"]}})
    assert open_only.parts == ["documents", "reading"]


@pytest.mark.parametrize(
    ("study", "parts"),
    [
        ({}, ["reading"]),  # of the open miners
        ({"miners": ["glossary"]}, []),
        ({"miners": ["order"]}, ["reading"]),
        ({"ontologies": ["a.obo"], "shuffle": True}, ["reading", "shuffled"]),
        ({"miners": ["glossary"], "write": {"tokens": 9, "kinds": ["questions"]}}, []),
        ({"miners": ["glossary"], "write": {"tokens": 9}}, ["reading"]),
    ],
)
def test_without_trained_facts_no_questions_are_promised(study: dict[str, Any], parts: list[str]) -> None:
    domain = {"domain": [{"path": "a.jsonl"}]}
    made = CorpusConfig.model_validate(domain | {"study": study | {"trained": 0}})
    assert made.parts == ["documents", *parts]
    half = CorpusConfig.model_validate(domain | {"study": study | {"trained": 0.5}})
    assert "reading" in half.parts
    assert ("questions" in half.parts) == (study.get("miners") != ["order"])


@pytest.mark.parametrize(
    ("study", "name", "why"),
    [
        ({"trained": 0}, "questions", "`study.trained` is 0"),
        ({"miners": ["order"]}, "questions", "no miner of `study` asks closed questions"),
        ({"trained": 0, "miners": ["glossary"]}, "reading", "`study.trained` is 0, and all miners"),
        ({}, "shuffled", "`study.shuffle` is false"),
    ],
)
def test_a_mixture_of_a_part_that_study_does_not_make_is_told_why(
    tmp_path: Path, study: dict[str, Any], name: str, why: str
) -> None:
    write(tmp_path / "notes.jsonl", "a note")
    stages = [
        {"corpus": {"domain": [{"path": "notes.jsonl"}], "study": study}},
        {"pretrain": {"tokens": 1000, "replay": 0, "mixture": {"weights": {name: 1}}, "epochs": {name: 2}}},
    ]
    recipe = {"name": "a", "base": "fake:model", "stages": stages}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "recipe.yaml")
    told = {problem.key: problem.message for problem in caught.value.problems}
    for key in ("mixture.weights", "epochs"):
        assert f"{name} is not made, as {why}" in told[f"pretrain.{key}"]


@pytest.mark.parametrize("place", ["study", "replay"])
def test_a_language_without_wordings_is_told_with_its_key(place: str) -> None:
    part = {"name": "a", "weight": 1, "sources": [{"path": "b.jsonl"}]}
    settings: dict[str, Any] = {"domain": [{"path": "a.jsonl"}]}
    if place == "study":
        settings["study"] = {"language": "xx"}
    else:
        settings["replay"] = {"mixture": [part, part | {"name": "b", "study": {"language": "xx"}}]}
    with pytest.raises(ValidationError, match="no wordings in the language 'xx': there are en"):
        CorpusConfig.model_validate(settings)


def test_terms_of_no_ontology_change_nothing() -> None:
    with pytest.raises(ValidationError, match="no ontologies are named"):
        CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], "study": {"ontology_terms": 5}})


def test_an_ontology_must_be_one_file(tmp_path: Path) -> None:
    found = problems(study={"ontologies": [str(tmp_path / "*.obo")]})
    assert any(key and key.startswith("study.ontologies.0") for key in found)
