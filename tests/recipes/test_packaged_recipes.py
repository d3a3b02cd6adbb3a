"""Every recipe that comes with cpt is right: it loads, and each of its settings is known."""

import random
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl

from cpt.cli import main
from cpt.recipe.authoring import about, templates
from cpt.recipe.load import load
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.evaluate.config import EvaluateConfig
from cpt.stages.merge.config import MergeConfig
from cpt.stages.pretrain.config import PretrainConfig
from evals.registry import select

STUDY = ["corpus", "pretrain", "merge", "evaluate", "report"]
STAGES = {
    "finance-study": STUDY,
    "legal-study": STUDY,
    "medical-study": STUDY,
    "stability": STUDY,
    "instruct": STUDY,
    "infinite": ["corpus", "first", "second", "third", "merge", "evaluate", "report"],
    "zett-smollm2": ["corpus", "hypernetwork"],
}
ALL_STAGES = ["corpus", "vocabulary", "pretrain", "merge", "evaluate", "report"]

OWN_DATA = sorted(name for name, text in templates().items() if "path: data/" in text)
ADAPTED = sorted(name for name, text in templates().items() if "- pretrain:" in text)


def write_data(folder: Path, recipe: str) -> None:
    """Every file in data/ that a recipe names."""
    (folder / "data").mkdir()
    for name in re.findall(r"path: data/([\w.]+)", recipe):
        write_jsonl(folder / "data" / name, varied_texts(3))


def commands(name: str) -> list[list[str]]:
    """The words after `cpt run FILE` of each command in a recipe's header, up to the launcher's."""
    header = templates()[name].partition("\nname:")[0]
    joined = re.sub(r"\\\n#", " ", header)
    lines = [line.partition("cpt run FILE")[2] for line in joined.splitlines() if "cpt run FILE " in line]
    found = [shlex.split(line)[: line.count(" ") + 1] for line in lines if "=" in line]
    return [words[: words.index("--")] if "--" in words else words for words in found]


def tiny_overrides(name: str) -> list[str]:
    (words,) = (words for words in commands(name) if f"name={name}-tiny" in words)
    return words


@pytest.mark.parametrize("name", sorted(templates()))
def test_recipe_is_valid_once_its_data_is_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    recipe = load(path)
    assert [step.name for step in recipe.steps] == STAGES.get(name, ALL_STAGES)
    assert about(templates()[name])


@pytest.mark.parametrize("name", OWN_DATA)
def test_tiny_variant_of_the_header_is_valid(name: str, tmp_path: Path) -> None:
    text = templates()[name]
    overrides = tiny_overrides(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    write_data(tmp_path, text)
    recipe = load(path, overrides)
    assert recipe.name == f"{name}-tiny"
    configs = {type(step.config): step.config for step in recipe.steps}
    corpus, evaluate = configs[CorpusConfig], configs.get(EvaluateConfig)
    assert isinstance(corpus, CorpusConfig)
    assert not corpus.decontaminate
    if name in ADAPTED:
        assert isinstance(evaluate, EvaluateConfig)
        assert not evaluate.suites


def header_commands() -> list[tuple[str, list[str]]]:
    return [
        (name, words) for name in OWN_DATA for words in commands(name) if f"name={name}-tiny" not in words
    ]


@pytest.mark.parametrize(("name", "words"), header_commands())
def test_every_command_of_a_header_is_valid(name: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    assert load(path, [word for word in words if "=DIR" not in word])


SIZED = ["finance", "infinite", "instruct", "language", "legal", "medical", "small-clinical", "stability"]


@pytest.mark.parametrize("name", SIZED)
def test_headers_have_larger_models_and_duties(name: str) -> None:
    bases = {word for words in commands(name) for word in words if word.startswith("base=meta-llama/")}
    assert bases == {"base=meta-llama/Llama-3.2-1B", "base=meta-llama/Llama-3.1-8B"}
    header = templates()[name].partition("\nname:")[0]
    assert "# Licences: " in header or "# Duties: " in header


@pytest.mark.parametrize("name", ["infinite", "instruct", "small-clinical"])
def test_tiny_variant_runs_to_its_end(
    name: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tiny random model in place of the wheel's, short sequences and fewer tokens."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    (tmp_path / "data").mkdir()
    draw = random.Random(3)
    known = ["".join(draw.choices("abdeilmnorstu", k=draw.randint(2, 8))) for _ in range(400)]
    for file in [*re.findall(r"path: data/([\w.]+)", templates()[name]), "general.jsonl"]:
        texts = [" ".join(draw.choices(known, k=80)) + "." for _ in range(150)]
        write_jsonl(tmp_path / "data" / file, texts)
    fewer = [re.sub(r"(\.tokens=)\d+", r"\g<1>8000", word) for word in tiny_overrides(name)]
    fewer = [word for word in fewer if "sequence_length" not in word and "model=" not in word]
    words = [
        *fewer,
        f"base={tiny_model}",
        "corpus.sequence_length=64",
        "corpus.replay.self_generated.length=60",
        "corpus.replay.self_generated.tokens=2000",
        "corpus.general=[{path: data/general.jsonl}]",
        "merge.search.points=3",
        "evaluate.tasks.0.items=4",
    ]
    if name == "instruct":
        words.append(f"merge.models.1.model={tiny_model}")
    if name == "small-clinical":
        words = [word.replace("extend.tokens=8000", "extend.tokens=16") for word in words]
    code = main(["run", str(path), *words])
    assert code in (0, 3, 4)  # 3, 4: the budget of so little text cannot be shown to be held
    stages = {step.name for step in load(path, words).steps}
    finished = {folder.parent.name.split("-")[0] for folder in Path("runs").glob("*/*/artifact.json")}
    assert stages <= finished
    assert (Path("runs") / f"{name}-tiny" / "model").exists()


@pytest.mark.parametrize("name", ADAPTED)
def test_every_recipe_bounds_what_general_text_may_lose(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    (merge,) = (step.config for step in load(path).steps if isinstance(step.config, MergeConfig))
    assert merge.models[0].weight == "auto"
    assert all(model.weight == 0.5 for model in merge.models[1:])  # of another maker's training
    assert [(gate.budget.probe, gate.action) for gate in merge.gates] == [("general", "fail")]
    assert all(0 < gate.budget.limit <= 0.02 for gate in merge.gates)


QUESTIONS = {"finance-study": (0.16, 0.26), "legal-study": (0.02, 0.04)}
"""Tokens of questions in 8 forms to a token of documents, in textbooks of finance and in statutes."""


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("name", ["finance-study", "legal-study", "medical-study"])
def test_study_recipes_read_what_they_select_and_questions_no_more_than_they_may(
    name: str, share: int, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    configs = {type(step.config): step.config for step in load(path).steps}
    corpus, pretrain = configs[CorpusConfig], configs[PretrainConfig]
    assert isinstance(corpus, CorpusConfig)
    assert isinstance(pretrain, PretrainConfig)
    assert corpus.select
    assert pretrain.tokens
    assert corpus.study
    assert corpus.study.forms == 8
    questions = QUESTIONS.get(name, (1, 1))[share] * corpus.select.tokens
    domain, begin, read = pretrain.tokens * (1 - pretrain.replay), 0.0, Counter[str]()
    for phase in pretrain.mixture or []:
        end = questions if phase.until == "once" else phase.until * domain
        assert phase.weights
        for part, weight in phase.weights.items():
            read[part] += weight / sum(phase.weights.values()) * (end - begin)
        begin = end
    assert 1.08 * corpus.select.tokens < read["documents"] < 1.4 * corpus.select.tokens
    if name in QUESTIONS:
        assert isinstance(pretrain.epochs, dict)
        assert 1 < read["questions"] / questions < pretrain.epochs["questions"]
        assert pretrain.epochs["questions"] <= 20
    (chats,) = (made for _, made in corpus.self_generated() if made.form == "chat")
    assert chats.length <= corpus.sequence_length - 64  # room for the template


def tasks(suites: Iterable[str]) -> set[str]:
    return {entry.task for suite, level in select(tuple(suites)) for entry in suite.at(level)}


SUITES = ("finance", "legal", "medical")
WITH_SUITES = sorted([*SUITES, *(f"{name}-study" for name in SUITES)])


@pytest.mark.parametrize("name", [*WITH_SUITES, "language"])
def test_no_near_copy_of_held_out_text_trains(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    (corpus,) = (step.config for step in load(path).steps if isinstance(step.config, CorpusConfig))
    assert corpus.deduplicate.kind == "minhash"
    assert "pip install 'cpt-workbench[deduplicate]'" in templates()[name]


@pytest.mark.parametrize("name", WITH_SUITES)
def test_every_task_that_is_evaluated_is_searched_for_in_the_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    configs = {type(step.config): step.config for step in load(path).steps}
    corpus, evaluate = configs[CorpusConfig], configs[EvaluateConfig]
    assert isinstance(corpus, CorpusConfig)
    assert corpus.decontaminate
    assert isinstance(evaluate, EvaluateConfig)
    assert tasks(evaluate.suites) <= tasks(corpus.decontaminate.suites)
