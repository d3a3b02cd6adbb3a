"""Every recipe that comes with cpt is right: it loads, and each of its settings is known."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl

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
    "stability": ["corpus", "pretrain", "merge", "evaluate", "report"],
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
    header = text[text.index("#   cpt run FILE name=") : text.index("\nname:")]
    overrides = [word for word in shlex.split(header.replace("#", " ").replace("\\", " ")) if "=" in word]
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


@pytest.mark.parametrize("name", ADAPTED)
def test_every_recipe_bounds_what_general_text_may_lose(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(templates()[name])
    write_data(tmp_path, templates()[name])
    (merge,) = (step.config for step in load(path).steps if isinstance(step.config, MergeConfig))
    assert [model.weight for model in merge.models] == ["auto"]
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
